"""The kept connection: what it takes for an answer, what it refuses, and when it is used again."""

from __future__ import annotations

import gc
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from chalicelib.aws import connection
from chalicelib.aws.connection import Closed, Endpoint, Garbled

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
SECONDS = 30.0

# What the server does with one connection: gets its socket, and a function that reads one whole request.
Script = Callable[[socket.socket, Callable[[], bytes]], None]


class Server:
    """Takes one connection after the other; each follows the next script, the last one again and again."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = scripts
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.connections = 0
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._listening.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            try:
                stream, _ = self._listening.accept()
            except OSError:
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            with stream:
                try:
                    stream.settimeout(SECONDS)
                    if self._tls:
                        stream = self._tls.wrap_socket(stream, server_side=True)
                    script(stream, lambda stream=stream: self._read(stream))
                except OSError:
                    pass
                finally:
                    stream.close()

    def _read(self, stream: socket.socket) -> bytes:
        request = b""
        while not request.endswith((REQUEST[-6:], b"content-length: 0\r\n\r\n")):
            piece = stream.recv(65_536)
            if not piece:
                raise ConnectionResetError
            request += piece
        self.requests.append(request)
        return request

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


@contextmanager
def connected(
    *scripts: Script, tls: ssl.SSLContext | None = None, bundle: str = ""
) -> Iterator[tuple[Server, Endpoint]]:
    """A server, and what reaches it."""
    server = Server(*scripts, tls=tls)
    endpoint = Endpoint(server.url, bundle)
    try:
        yield server, endpoint
    finally:
        endpoint.close()
        server.stop()


def deadline(seconds: float = SECONDS) -> float:
    return time.monotonic() + seconds


def answering(*answers: bytes) -> Script:
    """One answer to each request, then the end of the connection."""

    def script(stream: socket.socket, read: Callable[[], bytes]) -> None:
        for answer in answers:
            read()
            stream.sendall(answer)

    return script


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK, b"{}"),
        (b"HTTP/1.1 200 OK\r\ncontent-length:  0000012 \r\nX: \xe4\r\n\r\n0123456789ab", b"0123456789ab"),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (CHUNKED + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", b"{}"),
        (CHUNKED + b"1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n", b"abcdefghijklmnopqrstuvwxyz"),
    ],
)
@pytest.mark.parametrize("piece_bytes", [65_536, 1], ids=["at once", "byte for byte"])
def test_an_answer_is_read_whole(answer: bytes, body: bytes, piece_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_PIECE_BYTES", piece_bytes)
    with connected(answering(answer)) as (server, endpoint):
        response = endpoint.exchange(REQUEST, deadline())
    assert (response.status, response.body) == (int(answer[9:12]), body)
    assert server.requests == [REQUEST]


STATUS, LENGTH, HEADER = (
    "no status line of HTTP/1.1",
    "a status or a length that is no number",
    "a header that makes no sense",
)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", STATUS),
        (b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\n{}", STATUS),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", STATUS),
        (b"\r\n\r\n", STATUS),
        (b"HTTP/1.1 \xb2\xb2\xb2 OK\r\nContent-Length: 2\r\n\r\n{}", LENGTH),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", LENGTH),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}", LENGTH),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\n{}", LENGTH),
        (b"HTTP/1.1 200 OK\r\nContent-Length: f\r\n\r\n{}", LENGTH),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{}", LENGTH),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", LENGTH),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", LENGTH),
        (CHUNKED + b"x\r\n{}\r\n0\r\n\r\n", LENGTH),
        (CHUNKED + b"-1\r\n{}\r\n0\r\n\r\n", LENGTH),
        (CHUNKED + b"1\r\n{}\r\n0\r\n\r\n", "a chunk that is longer than it says"),
        (b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n{}", HEADER),
        (b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 2\r\n\r\n{}", HEADER),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n folded: 2\r\n\r\n{}", HEADER),
        (b"HTTP/1.1 200 OK\r\n: 2\r\nContent-Length: 2\r\n\r\n{}", HEADER),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, "lines without an end"),
    ],
)
def test_an_invalid_answer_is_rejected_and_its_connection_is_not_reused(answer: bytes, why: str) -> None:
    with connected(answering(answer), answering(OK)) as (server, endpoint):
        with pytest.raises(Garbled, match=f"^{why}$"):
            endpoint.exchange(REQUEST, deadline())
        assert endpoint.exchange(REQUEST, deadline()).body == b"{}"
        assert server.connections == 2


@pytest.mark.parametrize("length", range(len(OK)))
def test_an_answer_that_ends_early_is_none(length: int) -> None:
    with connected(answering(OK[:length])) as (_, endpoint):
        with pytest.raises(ConnectionError) as refused:
            endpoint.exchange(REQUEST, deadline())
        assert not isinstance(refused.value, Closed), "nobody had kept this connection"


def test_names_of_headers_have_lower_case_and_values_of_one_name_are_joined() -> None:
    with connected(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a:b\r\nx:c\r\n\r\n{}")) as (_, endpoint):
        assert endpoint.exchange(REQUEST, deadline()).headers == {"content-length": "2", "x": "a:b, c"}


def test_a_connection_is_kept_and_used_again() -> None:
    with connected(answering(OK, OK, OK)) as (server, endpoint):
        for _ in range(3):
            assert endpoint.exchange(REQUEST, deadline()).status == 200
        assert server.connections == 1


@pytest.mark.parametrize(
    "last",
    [
        b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\n{}",
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
    ],
    ids=["it says that it closes", "it sends more than was asked for"],
)
def test_a_connection_that_can_not_be_trusted_any_more_is_not_kept(last: bytes) -> None:
    with connected(answering(last), answering(OK)) as (server, endpoint):
        assert endpoint.exchange(REQUEST, deadline()).body == b"{}"
        assert endpoint.exchange(REQUEST, deadline()).body == b"{}"
        assert server.connections == 2


def test_a_kept_connection_ends_with_its_endpoint() -> None:
    with connected(answering(OK)) as (server, _):
        endpoint = Endpoint(server.url, "")
        endpoint.exchange(REQUEST, deadline())
        [kept] = endpoint._idle
        del endpoint
        gc.collect()
        assert kept._stream.fileno() == -1


def test_a_closed_kept_connection_is_recognized_and_the_next_one_is_new() -> None:
    with connected(answering(OK)) as (_, endpoint):
        endpoint.exchange(REQUEST, deadline())
        with pytest.raises(Closed):
            endpoint.exchange(REQUEST, deadline())
        assert endpoint.exchange(REQUEST, deadline()).status == 200


def test_an_answer_that_breaks_off_on_a_kept_connection_is_no_closed_one() -> None:
    with connected(answering(OK, OK[:10])) as (_, endpoint):
        endpoint.exchange(REQUEST, deadline())
        with pytest.raises(ConnectionError) as refused:
            endpoint.exchange(REQUEST, deadline())
        assert not isinstance(refused.value, Closed)


def test_the_deadline_bounds_the_whole_and_not_each_byte() -> None:
    """Every byte comes in time, and the whole never would: ten bytes a second for forty bytes, within one second."""
    stop = threading.Event()

    def slow(stream: socket.socket, read: Callable[[], bytes]) -> None:
        read()
        for byte in OK:
            stream.sendall(bytes([byte]))
            if stop.wait(0.1):
                return

    with connected(slow) as (_, endpoint):
        with pytest.raises(TimeoutError):
            endpoint.exchange(REQUEST, deadline(1))
        stop.set()


@pytest.mark.parametrize(
    ("scheme", "request_bytes", "waiting"),
    [("http", 10, 2), ("https", 10, 0), ("http", 2**25, 0), ("http", 10, 0)],
    ids=["connecting", "shaking hands", "sending", "receiving"],
)
def test_a_server_that_does_nothing_ends_in_time(scheme: str, request_bytes: int, waiting: int) -> None:
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(waiting):  # so many that the kernel answers no further one
            stream = stack.enter_context(socket.socket())
            stream.setblocking(False)
            stream.connect_ex(listening.getsockname())
        endpoint = Endpoint(f"{scheme}://127.0.0.1:{listening.getsockname()[1]}", "")
        with pytest.raises(TimeoutError) as raised:
            endpoint.exchange(bytes(request_bytes), deadline(0.2))
        assert raised.value.errno is None, "the kernel gave up, after minutes"


def test_a_past_deadline_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    assert connection._remaining(100.5) == 0.5
    with connected(answering(OK)) as (server, endpoint):
        with pytest.raises(TimeoutError, match=r"^no answer in time$"):
            endpoint.exchange(REQUEST, 100.0)
        assert server.connections == 0


def test_a_refused_connection_fails_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(ConnectionRefusedError):
        Endpoint(url, "").exchange(REQUEST, deadline())


def test_the_next_address_is_tried_where_the_first_one_takes_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """And all of them together have the time that one request has."""
    find = socket.getaddrinfo
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = find("127.0.0.1", taken.getsockname()[1], type=socket.SOCK_STREAM)
    with connected(answering(OK)) as (_, endpoint):
        places: list[tuple[bytes, int]] = []

        def look_up(*place: Any, **kind: Any) -> list[Any]:
            places.append(place)
            return [*nobody, *find(*place, **kind)]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        assert endpoint.exchange(REQUEST, deadline()).status == 200
        assert [name for name, _ in places] == [b"127.0.0.1"]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    with pytest.raises(ConnectionError, match=r"^the name has no address$"):
        Endpoint("http://nowhere.example", "").exchange(REQUEST, deadline())


def test_the_host_header_holds_the_port_where_it_is_not_the_usual_one() -> None:
    hosts = {
        url: Endpoint(url, "").host
        for url in ("http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000/", "http://x:80", "https://x")
    }
    assert list(hosts.values()) == ["127.0.0.1:8000", "localhost", "[::1]:8000", "x", "x"]


def test_over_tls_a_connection_is_kept_and_a_closed_one_is_recognized(tmp_path: Path) -> None:
    """test_tls.py and test_aws_dynamodb.py have the servers that are not trusted."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authorities.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    with connected(answering(OK, OK), tls=tls, bundle=str(tmp_path / "authorities.pem")) as (server, endpoint):
        for _ in range(2):
            assert endpoint.exchange(REQUEST, deadline()).body == b"{}"
        assert server.connections == 1
        with pytest.raises(Closed):
            endpoint.exchange(REQUEST, deadline())
        assert endpoint.exchange(REQUEST, deadline()).status == 200


def test_closing_what_is_idle_ends_if_another_thread_takes_the_last_connection() -> None:
    class Contended(deque[object]):
        def pop(self) -> object:
            self.clear()  # the other thread comes between a look at what is idle and the taking of it
            return super().pop()

    endpoint = Endpoint("http://127.0.0.1:1", "")
    endpoint._idle = Contended([object()])
    endpoint.close()
    assert not endpoint._idle
