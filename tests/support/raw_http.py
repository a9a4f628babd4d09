"""Bytes as they are to the service that `make run` serves, and its answers."""

from __future__ import annotations

import json
import socket
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPResponse, parse_headers
from typing import Any

from dev.engine import HOST
from tests.support.api import BASE_PATH
from tests.support.serving import LocalService


@dataclass(frozen=True)
class Reply:
    """One answer, header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    closed: bool

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Service(LocalService):
    """The service, for bytes as they are."""

    @property
    def address(self) -> tuple[str, int]:
        return HOST, int(self.endpoint_url.rpartition(":")[2])

    def send(self, raw: bytes) -> Reply:
        with socket.create_connection(self.address, timeout=30) as connection:
            connection.sendall(raw)
            return receive(connection)


def receive(connection: socket.socket) -> Reply:
    with closing(HTTPResponse(connection)) as response:
        response.begin()
        body = response.read()
        closed = response.getheader("Connection") == "close"
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, body, closed)


def request(head: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([head, "Host: localhost", *headers, "", ""]).encode("latin-1") + body


def post(path: str, client: Any, body: bytes, *headers: str) -> bytes:
    return request(
        f"POST {BASE_PATH}{path} HTTP/1.1",
        f"Authorization: {client.header}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
        body=body,
    )


def answers(service: Service, raw: bytes) -> list[tuple[int, str | None]]:
    """Status and problem code of every answer up to that to a last request, which closes the connection."""
    received: list[tuple[int, str | None]] = []
    with socket.create_connection(service.address, timeout=30) as connection, connection.makefile("rb") as stream:
        connection.sendall(raw + request("GET /last HTTP/1.1", "Connection: close"))
        while line := stream.readline():
            length = parse_headers(stream)["Content-Length"]
            body = json.loads(stream.read(int(length))) if length else {}
            if not line.startswith(b"HTTP/1.1 100 "):
                received.append((int(line.split()[1]), body.get("code")))
    return received
