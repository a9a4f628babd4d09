"""Bytes as they are to the service that `make run` serves, and its answers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

from dev.engine import HOST
from tests.support.serving import serving

BASE = "/tokenservice/services/api"
NODE = "f2f42052-6e24-4c54-bc15-1e0bb6dce9f7"


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


class Service:
    """`python -m dev.gateway` and what it wrote."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log

    def send(self, raw: bytes) -> Reply:
        """Send bytes as they are."""
        with socket.create_connection((HOST, self.port), timeout=30) as connection:
            connection.sendall(raw)
            return receive(connection)

    def output(self) -> str:
        return self._log.read_text()


def receive(connection: socket.socket) -> Reply:
    with closing(HTTPResponse(connection)) as response:
        response.begin()
        body = response.read()
        closed = response.getheader("Connection") == "close"
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, body, closed)


@contextmanager
def running(log: Path, environ: dict[str, str]) -> Iterator[Service]:
    with serving(log, **environ) as url:
        yield Service(int(url.rpartition(":")[2]), log)


def request(head: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([head, "Host: localhost", *headers, "", ""]).encode("latin-1") + body


def post(path: str, client: Any, body: bytes, *headers: str) -> bytes:
    return request(
        f"POST {BASE}{path} HTTP/1.1",
        f"Authorization: {client.header}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
        body=body,
    )


def answers(service: Service, raw: bytes) -> list[tuple[int, str | None]]:
    """Status and problem code of every answer up to that to a last request, which closes the connection."""
    received: list[tuple[int, str | None]] = []
    with socket.create_connection((HOST, service.port), timeout=30) as connection:
        connection.sendall(raw + request("GET /last HTTP/1.1", "Connection: close"))
        stream = connection.makefile("rb")
        while stream.peek(1):
            with closing(HTTPResponse(_Stream(stream))) as response:
                response.begin()
                text = response.read()
                body = json.loads(text) if text else {}
                received.append((response.status, body.get("code")))
        stream.close()
    return received


class _Stream:
    """Lets several answers be read from one connection: `HTTPResponse` would close what it reads from."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def makefile(self, mode: str) -> _Stream:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None: ...
