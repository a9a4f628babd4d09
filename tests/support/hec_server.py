"""A strict HEC receiver on a loopback port, with faults on request and TLS with an authority of its own."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections import deque
from typing import TYPE_CHECKING

from chalicelib.settings import Splunk
from tests.support.hec_faults import Fault, ForcedCode, happen
from tests.support.hec_rules import Collector, Request
from tests.support.scripted_server import Handler, Server, answer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import trustme

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class HecServer(Server):
    """Answers by the rules of `collector`, or with the next of `faults`, one per request.

    Args:
        clients: the authority of the client certificates that it demands, with `authority`.

    Attributes:
        sickness: what happens to every other request.
        requests: that reached the collector.
        slow_seconds: how long SLOW and DRIP hold an answer back; closing the server ends them at once.
    """

    def __init__(
        self,
        collector: Collector | None = None,
        authority: trustme.CA | None = None,
        names: tuple[str, ...] = ("127.0.0.1", "localhost"),
        clients: trustme.CA | None = None,
    ) -> None:
        self.collector = collector or Collector()
        self.faults: deque[Fault | ForcedCode | None] = deque()
        self.sickness: Fault | ForcedCode | None = None
        self.requests: list[Request] = []
        self.slow_seconds = 30.0
        tls = None
        if authority:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(*names).configure_cert(tls)
            if clients:
                clients.configure_trust(tls)
                tls.verify_mode = ssl.CERT_REQUIRED
        super().__init__(self._serve, tls=tls)

    @property
    def connections(self) -> int:
        """Those that brought a request."""
        return len({each.connection for each in self.received})

    def _serve(self, handler: Handler) -> None:
        fault = self.faults.popleft() if self.faults else self.sickness
        received = handler.received
        request = Request(received.path, received.headers, received.content)
        reply = happen(fault, self.collector, request)
        if reply is not None:
            self.requests.append(request)
        if reply is None or fault is Fault.RESET_AFTER:
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            handler.connection.close()
            handler.close_connection = True
            return
        if fault is Fault.SLOW:
            self.closing.wait(self.slow_seconds)
        size = len(reply.body)
        at_once = {Fault.TRUNCATED: size // 2, Fault.DRIP: 0}.get(fault, size) if isinstance(fault, Fault) else size
        headers = {"Content-Type": "application/json", **reply.headers}
        answer(reply.status, reply.body[:at_once], announced=size if at_once < size else None, **headers)(handler)
        if fault is Fault.DRIP:
            for byte in reply.body:
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
                if self.closing.wait(self.slow_seconds / size):
                    break
        handler.close_connection |= fault is Fault.SLOW


def splunk_settings(url: str | None, index: str | None = None, failure_bucket: str | None = None) -> Splunk:
    """Settings of a stage whose collector is at this address and knows the token of `Collector`."""
    return Splunk(url, None, "the-token", index, "tokenservice", None, failure_bucket)


@contextlib.contextmanager
def refusing_port() -> Iterator[str]:
    """The address of a port that is taken and refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def write_authority(authority: trustme.CA, folder: Path) -> str:
    """Write an authority's certificate as a PEM bundle; return its path."""
    path = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)
