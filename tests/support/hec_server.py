"""A strict HEC receiver on a loopback port, with faults on request and TLS with an authority of its own."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from chalicelib.settings import Splunk
from tests.support.hec_faults import Fault, ForcedCode, happen
from tests.support.hec_rules import Collector, Reply, Request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import trustme

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class HecServer:
    """Answers by the rules of `collector`, or with the next of `faults`, one per request.

    Args:
        clients: the authority of the client certificates that it demands, with `authority`.

    Attributes:
        nodes: what each of several nodes behind the one address does to every request; as with many load balancers, a
            new connection goes to the next node and stays there.
        connections: made so far.
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
        self.nodes: list[Fault | ForcedCode | None] = [None]
        self.connections = 0
        self.requests: list[Request] = []
        self.slow_seconds = 30.0
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self._scheme = "https" if authority else "http"
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hec = self
        if authority:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(*names).configure_cert(context)
            if clients:
                clients.configure_trust(context)
                context.verify_mode = ssl.CERT_REQUIRED
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> HecServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


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


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    hec: HecServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that the client or a fault has cut are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        hec = self.server.hec
        with hec.lock:
            self.node = hec.nodes[hec.connections % len(hec.nodes)]
            hec.connections += 1

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        hec = self.server.hec
        fault = hec.faults.popleft() if hec.faults else self.node
        if fault in (Fault.REFUSED, Fault.RESET_BEFORE):
            self._reset()
            return
        length = int(self.headers.get("Content-Length") or 0)
        if fault is Fault.RESET_MID:
            self.rfile.read(length // 2)
            self._reset()
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.path, headers, self.rfile.read(length))
        hec.requests.append(request)
        reply = happen(fault, hec.collector, request).reply
        assert reply is not None
        self._answer(reply, fault if isinstance(fault, Fault) else None)

    def _answer(self, reply: Reply, fault: Fault | None) -> None:
        if fault is Fault.RESET_AFTER:
            self._reset()
            return
        if fault is Fault.SLOW:
            self.server.hec.closing.wait(self.server.hec.slow_seconds)
            self.close_connection = True
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if fault is Fault.TRUNCATED:
            self.wfile.write(reply.body[: len(reply.body) // 2])
            self.close_connection = True
        elif fault is Fault.DRIP:
            for byte in reply.body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if self.server.hec.closing.wait(self.server.hec.slow_seconds / len(reply.body)):
                    break
            self.close_connection = True
        else:
            self.wfile.write(reply.body)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.connection.close()
        self.close_connection = True
