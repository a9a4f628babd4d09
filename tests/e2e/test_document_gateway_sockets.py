"""What slow, idle and odd connections do to the document gateway, by raw sockets; and that others don't notice."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from dev.engine import HOST
from examples.document_gateway import __main__ as server
from examples.document_gateway.content_server import DOCUMENTS, REPORT, ContentServer, Stored
from examples.document_gateway.downloads import PER_LINK
from tests.support.api import Credentials
from tests.support.gateway_world import Visitor, World, gateway
from tests.support.waiting import wait_until

BIG = "big-document"
PDF = DOCUMENTS[REPORT].content
# More than the buffers of both ends hold.
BIG_BYTES = 16 * 1024 * 1024


@pytest.fixture(scope="module")
def content() -> Iterator[ContentServer]:
    big = Stored("big.bin", "application/octet-stream", bytes(BIG_BYTES))
    with ContentServer("gateway", "the content's password", {**DOCUMENTS, BIG: big}) as content:
        yield content


@pytest.fixture(scope="module")
def world(service: str, client: Credentials, content: ContentServer) -> Iterator[World]:
    with gateway(service, client, content) as world:
        yield world


@pytest.fixture
def impatient(
    service: str, client: Credentials, content: ContentServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """One that waits less for a reader."""
    monkeypatch.setattr(server, "ANSWER_SECONDS", 3)  # a busy machine leaves what is short lying, too
    with gateway(service, client, content) as world:
        yield world


@contextmanager
def connected(world: World, sent: bytes = b"", *, receive_bytes: int | None = None) -> Iterator[socket.socket]:
    with socket.socket() as connection:
        if receive_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.settimeout(60)
        connection.connect((HOST, urlsplit(world.url).port))
        connection.sendall(sent)
        yield connection


def fetching(link: str, visitor: Visitor, **headers: str) -> bytes:
    """The request of a browser that holds a lease."""
    cookies = "; ".join(f"{name}={value}" for name, value in visitor.session.cookies.items())
    lines = [f"GET {urlsplit(link).path}/content HTTP/1.1", "Host: x", f"Cookie: {cookies}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def leased(world: World, **terms: Any) -> tuple[str, Visitor]:
    link, _ = world.link(BIG, **terms)
    visitor = Visitor()
    assert visitor.press(link).status_code == 303
    return link, visitor


def status_of(connection: socket.socket) -> int:
    return int(connection.recv(12).split()[1])


def assert_others_are_served(world: World) -> None:
    assert requests.get(f"{world.url}/healthz", timeout=60).text == "ok\n"
    link, _ = world.link()
    reader = Visitor()
    reader.press(link)
    assert reader.fetch(link).content == PDF


def test_sixteen_slow_readers_of_one_link_do_not_block_others(world: World) -> None:
    link, visitor = leased(world)
    with ExitStack() as slow:
        readers = [slow.enter_context(connected(world, fetching(link, visitor), receive_bytes=4096)) for _ in range(16)]
        assert sorted(map(status_of, readers)) == [200] * PER_LINK + [429] * (16 - PER_LINK)
        assert_others_are_served(world)


def test_a_place_is_free_again_once_its_reader_has_gone(world: World) -> None:
    link, visitor = leased(world)
    with ExitStack() as slow:
        for _ in range(PER_LINK):
            reader = slow.enter_context(connected(world, fetching(link, visitor), receive_bytes=4096))
            assert status_of(reader) == 200
        refused = visitor.fetch(link)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")
        assert "Too many downloads" in refused.text
    wait_until(lambda: visitor.fetch(link, Range="bytes=0-0").status_code == 206)


def test_a_hundred_idle_connections_do_not_block_others(world: World) -> None:
    with ExitStack() as idle:
        for _ in range(105):
            idle.enter_context(connected(world))
        for _ in range(105):
            idle.enter_context(connected(world, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "))
        assert_others_are_served(world)


def test_a_reader_that_takes_nothing_ends_and_its_place_is_free(impatient: World) -> None:
    link, visitor = leased(impatient)
    with ExitStack() as slow:
        for _ in range(PER_LINK):
            reader = slow.enter_context(connected(impatient, fetching(link, visitor), receive_bytes=4096))
            assert status_of(reader) == 200
        wait_until(lambda: visitor.fetch(link, Range="bytes=0-0").status_code == 206)


HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"BREW /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET /d/a%00b HTTP/1.1\r\nHost: a b\r\n\r\n", 404),
    ],
)
def test_every_refusal_has_the_headers_of_a_page(world: World, sent: bytes, status: int) -> None:
    with connected(world, sent) as connection:
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65_536), b"")).decode("latin-1")
    head, _, body = answer.partition("\r\n\r\n")
    assert int(head.split()[1]) == status
    for name, value in HEADERS.items():
        assert f"\r\n{name}: {value}\r\n" in head + "\r\n"
    assert "\r\nContent-Security-Policy: default-src 'none'" in head
    assert "waitress" not in answer
    assert body


@pytest.mark.parametrize("path", ["//d//{}", "/d//{}", "/d/{}//content", "//evil.example/d/{}", "/d/{}/", "/healthz/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_redirect_uses_the_host_of_the_request(world: World, method: str, path: str) -> None:
    head = f"{method} {path.format('ab' * 32)} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    with connected(world, head.encode()) as connection:
        answer = b"".join(iter(lambda: connection.recv(65_536), b"")).decode()
    assert "evil.example" not in answer
    assert "\r\nLocation: http" not in answer
