"""One request and its answer over HTTP/1.1, on a connection that is kept.

It reads a status line, headers and a body of a stated length or in plain chunks. Anything else is `Garbled`.
The standard library's reader builds an e-mail message of the headers, which alone costs as much as the rest of a call.
"""

from __future__ import annotations

import socket
import ssl
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

_LINES_BYTES: Final = 64 * 1024
_HEX: Final = frozenset("0123456789abcdefABCDEF")
_MAX_DIGITS: Final = 7  # the longest answer of DynamoDB has 16 MB
_STATUS_DIGITS: Final = 3
_PIECE_BYTES: Final = 64 * 1024
_NO_CONTENT: Final = 204
_CLOSED: Final = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


class Garbled(OSError):
    """What came is no answer that we can trust."""


class Closed(ConnectionError):
    """The other side closed a connection while nobody used it; it may have got the request all the same."""


class Answer(NamedTuple):
    """An answer as it came.

    Attributes:
        headers: with lower-case names.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Endpoint:
    """An address, and the idle connections to it.

    Args:
        url: scheme, host and port; a path is not looked at.
        ca_bundle: PEM file with the authorities to trust, for https.

    Attributes:
        host: for the Host header: with the port where it is not the scheme's own.
    """

    def __init__(self, url: str, ca_bundle: str) -> None:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        name = parts.hostname or ""
        self._name = name.encode("ascii")  # for a text, Python would load what writes names of other alphabets
        self._port = parts.port or (443 if secure else 80)
        self._tls = _tls_context(ca_bundle) if secure else None
        self.host = f"[{name}]" if ":" in name else name
        if self._port != (443 if secure else 80):
            self.host += f":{self._port}"
        # The end of a deque is taken and given back in one step each, so threads can share it.
        self._idle: deque[_Connection] = deque()
        weakref.finalize(self, _close_all, self._idle)

    def exchange(self, request: bytes, deadline: float) -> Answer:
        """Send a request and read its answer.

        Args:
            request: head and body as they go over the wire.
            deadline: by `time.monotonic()`; all of it must be over by then, looking up the name excepted.

        Raises:
            Closed: the connection had been kept, and the other side has closed it; a new one may well work.
            OSError: there is no answer, or none that can be trusted.
        """
        try:
            connection, is_kept = self._idle.pop(), True
        except IndexError:
            connection, is_kept = _Connection(self._connect(deadline)), False
        try:
            answer, lives = connection.exchange(request, deadline)
        except BaseException as error:
            connection.close()
            if is_kept and isinstance(error, _CLOSED) and not connection.has_answered:
                self.close()  # the others have been idle for longer
                raise Closed from error
            raise
        if lives:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        """Close what is idle."""
        _close_all(self._idle)

    def _connect(self, deadline: float) -> socket.socket:
        """A connection to the first of the name's addresses that takes one."""
        refused: OSError = ConnectionError("the name has no address")
        for family, *_, address in socket.getaddrinfo(self._name, self._port, type=socket.SOCK_STREAM):
            stream = socket.socket(family)
            try:
                stream.settimeout(_remaining(deadline))
                stream.connect(address)
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls is None:
                    return stream
                stream.settimeout(_remaining(deadline))
                return self._tls.wrap_socket(stream, server_hostname=self._name)
            except OSError as error:
                stream.close()
                refused = error
        raise refused


def _tls_context(ca_bundle: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_bundle)
    # By default OpenSSL takes a common name where a certificate has no alternative names (RFC 9525, section 6.3).
    context.hostname_checks_common_name = False
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _close_all(connections: deque[_Connection]) -> None:
    while True:
        try:
            connection = connections.pop()
        except IndexError:  # asking first whether there is one would be too early: another thread may take it
            return
        connection.close()


class _Connection:
    """One connection and the answers that come over it.

    Attributes:
        has_answered: whether anything came back for the request that was sent last.
    """

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._received = bytearray()

    def close(self) -> None:
        self._stream.close()

    def exchange(self, request: bytes, deadline: float) -> tuple[Answer, bool]:
        """The answer to a request, and whether the connection can take another one."""
        self.has_answered = False
        self._stream.settimeout(_remaining(deadline))
        self._stream.sendall(request)
        status, headers = _parse(self._until(b"\r\n\r\n", deadline))
        if status == _NO_CONTENT:
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = self._chunks(deadline)
        else:
            body = self._read(_number(headers.get("content-length", ""), 10), deadline)
        lives = not self._received and headers.get("connection", "").lower() != "close"
        return Answer(status, headers, body), lives

    def _chunks(self, deadline: float) -> bytes:
        pieces = []
        while size := _number(self._until(b"\r\n", deadline).decode("iso-8859-1"), 16):
            pieces.append(self._read(size, deadline))
            self._end_of_line(deadline)
        self._end_of_line(deadline)
        return b"".join(pieces)

    def _end_of_line(self, deadline: float) -> None:
        if self._read(2, deadline) != b"\r\n":
            raise Garbled("a chunk that is longer than it says")

    def _until(self, end: bytes, deadline: float) -> bytes:
        while (at := self._received.find(end)) < 0:
            if len(self._received) > _LINES_BYTES:
                raise Garbled("lines without an end")
            self._receive(deadline)
        found = bytes(self._received[:at])
        del self._received[: at + len(end)]
        return found

    def _read(self, size: int, deadline: float) -> bytes:
        while len(self._received) < size:
            self._receive(deadline)
        found = bytes(self._received[:size])
        del self._received[:size]
        return found

    def _receive(self, deadline: float) -> None:
        self._stream.settimeout(_remaining(deadline))
        piece = self._stream.recv(_PIECE_BYTES)
        if not piece:
            raise ConnectionResetError("closed by the other side")
        self.has_answered = True
        self._received += piece


def _number(text: str, base: int) -> int:
    try:
        if len(text) <= _MAX_DIGITS and _HEX.issuperset(text):
            return int(text, base)
    except ValueError:
        pass
    raise Garbled("a status or a length that is no number")


def _parse(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("iso-8859-1").split("\r\n")
    version, _, rest = first.partition(" ")
    status = rest.partition(" ")[0]
    if version != "HTTP/1.1" or len(status) != _STATUS_DIGITS:
        raise Garbled("no status line of HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not name or name != name.strip():
            raise Garbled("a header that makes no sense")
        value = value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return _number(status, 10), headers


def _remaining(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in time")
    return left
