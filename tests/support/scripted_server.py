"""An HTTP server that answers as a test wants, and takes down what it was sent."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

from chalicelib.aws.signing import Credentials, Signer

HOST: Final = "127.0.0.1"


@dataclass(frozen=True)
class Received:
    """One request, header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    content: bytes
    connection: tuple[str, int]

    @property
    def body(self) -> Any:
        """The JSON body; None if there is none."""
        return json.loads(self.content) if self.content else None


def is_signed(sent: Received, credentials: Credentials, service: str) -> bool:
    """Whether a request bears the signature of what arrived; tests/unit/test_aws_signing.py shows that ours are right.

    Args:
        service: in region eu-central-1.
    """
    instant = datetime.strptime(sent.headers["x-amz-date"], "%Y%m%dT%H%M%S%z").timestamp()
    signer = Signer(credentials, "eu-central-1", service, lambda: instant)
    names = sent.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    headers = {name: sent.headers.get(name, "") for name in names}
    path, _, query = sent.path.partition("?")
    return (
        signer.sign(sent.method, path, headers, sent.content, query)["authorization"] == sent.headers["authorization"]
    )


Move = Callable[["Handler"], None]


class Server(ThreadingHTTPServer):
    """Plays its moves, one for each request, the last one again and again."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *moves: Move, tls: ssl.SSLContext | None = None) -> None:
        super().__init__((HOST, 0), Handler)
        self.moves = list(moves)
        self.received: list[Received] = []
        self.closing = threading.Event()
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"{'https' if tls else 'http'}://{HOST}:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.closing.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that gave up: these tests cause them."""


class Handler(BaseHTTPRequestHandler):
    """Reads a request and makes the server's next move.

    Attributes:
        received: the request.
    """

    server: Server
    received: Received
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def serve(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.received = Received(self.command, self.path, headers, content, self.client_address)
        self.server.received.append(self.received)
        move = self.server.moves.pop(0) if len(self.server.moves) > 1 else self.server.moves[0]
        move(self)

    do_GET = do_POST = do_PUT = do_DELETE = do_CONNECT = serve  # noqa: N815 - names of http.server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        pass


def answer(status: int, body: Any = None, *, announced: int | None = None, **headers: str) -> Move:
    """A response.

    Args:
        body: sent as JSON, unless it is bytes already.
        announced: another length than the body's; the connection then ends.
        headers: with `_` for `-`.
    """
    raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()

    def move(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(raw) if announced is None else announced))
        handler.end_headers()
        handler.wfile.write(raw)
        handler.close_connection = announced is not None

    return move


def drop(handler: Handler) -> None:
    """Close the connection without a response."""
    handler.close_connection = True


def silent(handler: Handler) -> None:
    """Respond nothing until the server closes."""
    handler.server.closing.wait(60)
    handler.close_connection = True
