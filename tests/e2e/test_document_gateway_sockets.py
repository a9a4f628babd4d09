"""What slow, idle and odd connections do to the document gateway, by raw sockets; and that others don't notice."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from waitress.adjustments import Adjustments

from dev.engine import HOST
from examples.document_gateway import server
from examples.document_gateway.content_server import DOCUMENTS, REPORT, ContentServer, Stored
from examples.document_gateway.downloads import EVERYBODY, PER_LEASE, PER_LINK
from tests.support.api import Credentials
from tests.support.gateway_world import ELSEWHERE, Visitor, World, gateway
from tests.support.waiting import wait_until

BIG = "big-document"
PDF = DOCUMENTS[REPORT].content
# More than the buffers of both ends hold.
BIG_BYTES = 48 * 1024 * 1024


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
    """One whose times are short."""
    monkeypatch.setattr(server, "_LOOK_EVERY_SECONDS", 1)
    for name in ("REQUEST_SECONDS", "IDLE_SECONDS", "ANSWER_SECONDS"):
        monkeypatch.setattr(server, name, 3)  # a busy machine leaves what is short lying, too
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


def wait_for_the_end(connection: socket.socket) -> None:
    """Return once the gateway has closed the connection."""
    with suppress(ConnectionError):
        while connection.recv(65_536):
            pass


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
        assert sorted(map(status_of, readers)) == [200] * PER_LEASE + [429] * (16 - PER_LEASE)
        assert_others_are_served(world)


def test_slow_readers_with_their_own_leases_do_not_block_others(world: World) -> None:
    link, first = leased(world, max_uses=16)
    visitors = [first] + [Visitor() for _ in range(15)]
    for visitor in visitors[1:]:
        visitor.press(link)
    with ExitStack() as slow:
        readers = [
            slow.enter_context(connected(world, fetching(link, visitor), receive_bytes=4096)) for visitor in visitors
        ]
        assert sorted(map(status_of, readers)) == [200] * PER_LINK + [429] * (16 - PER_LINK)
        assert_others_are_served(world)


def test_a_place_is_free_again_once_its_reader_has_gone(world: World) -> None:
    link, visitor = leased(world)
    for _ in range(3):
        with ExitStack() as slow:
            for _ in range(PER_LEASE):
                reader = slow.enter_context(connected(world, fetching(link, visitor), receive_bytes=4096))
                assert status_of(reader) == 200
            refused = visitor.fetch(link)
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")
            assert "Too many downloads" in refused.text
        wait_until(lambda: visitor.fetch(link, Range="bytes=0-0").status_code == 206)


def test_one_address_has_so_many_downloads_and_another_its_own(
    service: str, client: Credentials, content: ContentServer
) -> None:
    with gateway(service, client, content, TRUSTED_HOPS="1", DOWNLOADS_PER_ADDRESS="1") as world:
        link, _ = world.link(BIG, max_uses=3)
        here, neighbour, there = (
            Visitor({"X-Forwarded-For": address}) for address in ("2001:db8::1", "2001:db8::2", ELSEWHERE)
        )
        for visitor in (here, neighbour, there):
            visitor.press(link)
        with connected(world, fetching(link, here, X_Forwarded_For="2001:db8::1"), receive_bytes=4096) as slow:
            assert status_of(slow) == 200
            assert neighbour.fetch(link, Range="bytes=0-0").status_code == 429
            assert there.fetch(link, Range="bytes=0-0").status_code == 206


def test_a_hundred_idle_connections_do_not_block_others(world: World) -> None:
    with ExitStack() as idle:
        for _ in range(server.CONNECTIONS_PER_ADDRESS + 41):
            idle.enter_context(connected(world))
        for _ in range(105):
            idle.enter_context(connected(world, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "))
        assert_others_are_served(world)


def test_idle_connections_through_a_proxy_do_not_block_others(
    service: str, client: Credentials, content: ContentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy's address is everybody's: all have as many connections as there may be."""
    monkeypatch.setattr(server, "CONNECTIONS", 100)
    with gateway(service, client, content, TRUSTED_HOPS="1") as world, ExitStack() as idle:
        for _ in range(150):
            idle.enter_context(connected(world))
        assert requests.get(f"{world.url}/healthz", timeout=60).text == "ok\n"
        link, _ = world.link()
        reader = Visitor({"X-Forwarded-For": ELSEWHERE})
        reader.press(link)
        assert reader.fetch(link).content == PDF


def test_a_connection_that_waits_for_its_answer_is_not_closed_for_a_new_one(
    client: Credentials, content: ContentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_PER_ADDRESS", 2)
    look = f"GET /d/{'ab' * 32} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with (
        silent_service() as (url, listening),
        gateway(url, client, content) as world,
        connected(world, look) as first,
        connected(world, look) as second,
    ):
        calls = [listening.accept()[0] for _ in range(2)]
        with connected(world) as third:
            wait_for_the_end(third)
        for connection in calls:
            connection.close()
        listening.close()
        assert (status_of(first), status_of(second)) == (503, 503)


def test_health_is_answered_while_every_thread_waits_for_the_token_service(
    client: Credentials, content: ContentServer
) -> None:
    look = f"GET /d/{'ab' * 32} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with silent_service() as (url, listening), gateway(url, client, content) as world, ExitStack() as waiting:
        for _ in range(EVERYBODY + 30):
            waiting.enter_context(connected(world, look))
        for _ in range(3):
            assert requests.get(f"{world.url}/healthz", timeout=60).text == "ok\n"
        listening.close()


@contextmanager
def silent_service() -> Iterator[tuple[str, socket.socket]]:
    """A token service that takes requests and never answers; closing its socket has it go away."""
    with socket.create_server((HOST, 0), backlog=200) as listening, pytest.MonkeyPatch.context() as patch:
        patch.setattr("examples.document_gateway.__main__.PATIENCE_SECONDS", 0)
        yield f"http://{HOST}:{listening.getsockname()[1]}", listening


UNFINISHED = [
    b"",
    b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    b"POST /d/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nvis",
    b"POST /d/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nvi",
    b"POST /d/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
]


def test_requests_that_are_never_finished_end_with_their_connections(impatient: World) -> None:
    with ExitStack() as slow:
        for connection in [slow.enter_context(connected(impatient, begun)) for begun in UNFINISHED]:
            wait_for_the_end(connection)


def test_a_byte_now_and_then_leaves_no_connection_open(impatient: World) -> None:
    with connected(impatient, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ") as slow:
        while True:
            try:
                slow.sendall(b"x")
            except ConnectionError:
                return
            time.sleep(0.05)


def test_a_reader_that_takes_nothing_ends_and_its_place_is_free(
    impatient: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    link, visitor = leased(impatient)
    with ExitStack() as slow:
        for _ in range(PER_LEASE):
            reader = slow.enter_context(connected(impatient, fetching(link, visitor), receive_bytes=4096))
            assert status_of(reader) == 200
        wait_until(lambda: visitor.fetch(link, Range="bytes=0-0").status_code == 206)
    facts = [record.facts for record in caplog.records if record.getMessage() == "gateway.closed"]
    assert {"reason": "slow reader", "address": HOST} in facts


def test_an_answer_that_waits_at_one_look_is_not_a_slow_readers() -> None:
    """However long its connection was open before."""
    ours, theirs = socket.socketpair()
    listener = SimpleNamespace(active_channels={})
    with ours, theirs:
        connection = server._Connection(listener, ours, (HOST, 1), Adjustments(), map={})
        looks = [time.time() + seconds for seconds in (10, 500, 550, 561)]
        assert connection.why_overdue(looks[0]) is None
        connection.total_outbufs_len = 800
        assert [connection.why_overdue(now) for now in looks[1:]] == [None, None, "slow reader"]
        connection._bytes_sent += server.ANSWER_BYTES  # slow, but enough
        assert [connection.why_overdue(looks[-1] + seconds) for seconds in (61, 122)] == [None, "slow reader"]
        connection.handle_close()


HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 413),
        # No byte more: a connection with unread bytes is reset, and the answer is lost.
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: ".ljust(16 * 1024, b"x"), 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
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
