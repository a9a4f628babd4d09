"""`chalice local` with the answers of the deployed gateway.

Chalice's own server drops the connection on broken input, echoes the Authorization header, writes queries (which
may hold a token) to the terminal and has error bodies of its own. This module puts a stricter HTTP side in front of
the same application and then runs Chalice's own command: `python -m dev.gateway --stage local --port 8000`.

What differs from API Gateway is said where it differs. Transfer-Encoding: chunked is read, as API Gateway does.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import signal
import socket
import socketserver
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from types import MappingProxyType
from typing import Any, Final

import chalice.cli
import chalice.local
from chalice import Chalice
from chalice.config import Config
from chalice.local import ForbiddenError, InvalidAuthorizerError, LocalGatewayException, NotAuthorizedError

from chalicelib import audit
from chalicelib.errors import InternalError, ServiceError, StoreUnavailable
from chalicelib.http import parsing, problems
from chalicelib.http.problems import (
    FieldError,
    InvalidRequest,
    MethodNotAllowed,
    PayloadTooLarge,
    RouteNotFound,
    Unauthorized,
)
from chalicelib.http.routes import METHODS
from dev.leash import end_with_parent

MAX_BODY_BYTES: Final = 10 * 1024 * 1024
"""API Gateway's own limit; the application has a lower one and must see what lies between to answer itself."""

_MAX_AT_WORK: Final = 16
_LINGER_SECONDS: Final = 2
_STOP_SECONDS: Final = 10
_MAX_LINE_BYTES: Final = 65_536
_MAX_TRAILERS: Final = 100
_MAX_LOGGED_PATH: Final = 1024
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;.*)?\r?\n", re.DOTALL)

log = logging.getLogger("tokenservice.local")


class Authorizer(chalice.local.LocalGatewayAuthorizer):
    """Runs the application's authorizer; one that fails is a configuration error, as on AWS.

    Attributes:
        answer: what it answered to the current request; empty until it was asked.
    """

    answer: Mapping[str, Any] = MappingProxyType({})

    def _check_can_invoke_view_function(self, arn: str, auth_result: Any) -> bool:
        self.answer = auth_result
        allows: bool = super()._check_can_invoke_view_function(arn, auth_result)
        return allows

    def authorize(self, raw_path: str, lambda_event: Any, lambda_context: Any) -> Any:
        try:
            return super().authorize(raw_path, lambda_event, lambda_context)
        except LocalGatewayException:
            raise
        except Exception as error:
            log.exception("the authorizer failed")
            raise InvalidAuthorizerError({}) from error


class Gateway(chalice.local.LocalGateway):
    """Chalice's stand-in for API Gateway, with the request ids that API Gateway gives a request.

    Attributes:
        request_id: of the current request; Lambda's own id is another one.
        extended_request_id: the same; on AWS a caller can choose the first one, but not this one.
    """

    def __init__(self, app_object: Chalice, config: Config) -> None:
        super().__init__(app_object, config)
        self.authorizer = self._authorizer = Authorizer(app_object)
        self.next_request()

    def next_request(self) -> None:
        """Forget the request before, and give the next one its ids."""
        self.request_id = str(uuid.uuid4())
        self.extended_request_id = base64.b64encode(os.urandom(11)).decode()
        self.authorizer.answer = {}

    def _generate_lambda_event(self, *arguments: Any, **named: Any) -> Any:
        event = super()._generate_lambda_event(*arguments, **named)
        ids = {"requestId": self.request_id, "extendedRequestId": self.extended_request_id}
        event["requestContext"].update(ids)
        return event


class Handler(chalice.local.ChaliceRequestHandler):
    """One connection. Whatever comes in gets an answer, and every answer of ours is a problem or the application's."""

    server: Server
    local_gateway: Gateway
    timeout: float = 75  # seconds in which nothing comes
    body_timeout: float = 10  # the same in the midst of a body
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one piece
    server_version = "tokenservice"
    sys_version = ""

    def __init__(self, request: Any, client_address: Any, server: Any, app_object: Chalice, config: Config) -> None:
        self.local_gateway = Gateway(app_object, config)
        # Not Chalice's own initializer: it would put its own gateway in place and serve right away.
        BaseHTTPRequestHandler.__init__(self, request, client_address, server)

    def handle(self) -> None:
        # A caller that goes away is not an error of ours.
        with suppress(ConnectionError, TimeoutError):
            super().handle()

    def handle_one_request(self) -> None:
        # http.server may refuse a request before it has set any of these.
        self.command, self.path = "", ""
        self.local_gateway.next_request()
        self._begun = time.monotonic()
        super().handle_one_request()

    def parse_request(self) -> bool:
        """Read the request line and the headers, http.server's way, and say no to what it is too kind to."""
        self._begun = time.monotonic()  # once more: the connection may have been idle
        if not super().parse_request():
            return False
        if self.request_version == "HTTP/0.9":
            self._refuse(_invalid("request line", "no HTTP version"))
            return False
        if not self.path.isascii():
            # http.server takes the bytes for Latin-1, and a user's name would silently be another one.
            self._refuse(_invalid("request line", "must be ASCII; percent-encode other characters as UTF-8"))
            return False
        # http.server would take the rest of the headers for the next request, or miss a "Content-Length :".
        if self.headers.defects or not all(_TOKEN.fullmatch(name) for name in self.headers):
            self._refuse(_invalid("headers", "malformed"))
            return False
        return True

    def handle_expect_100(self) -> bool:
        # Said once we know that we want the body.
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Called by http.server for what it can't understand."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._refuse(MethodNotAllowed("The method", METHODS))
        elif code == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            self._refuse(_invalid("headers", "too many, or one is too long"))
        else:
            self._refuse(_invalid("request line", "malformed or too long"))

    def _serve(self) -> None:
        with self.server.at_work():
            try:
                body = self._read_body()
            except ServiceError as error:
                self._refuse(error)
                return
            try:
                # On AWS the application does this; here Chalice would hand it the first of two values alone.
                parsing.check_headers(self.headers.keys())
                with self.server.turns:
                    response = self.local_gateway.handle_request(self.command, self.path, dict(self.headers), body)
                text = self._handle_binary(response)["body"]
                self._send(response["statusCode"], {**response["headers"], **response["multiValueHeaders"]}, text)
            except LocalGatewayException as error:
                self._send_problem(_problem(error))
            except ServiceError as error:
                self._send_problem(error)
            except OSError:
                raise
            except Exception:
                log.exception("internal_error", extra={"requestId": self.local_gateway.request_id})
                self._send_problem(InternalError())

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815

    def _read_body(self) -> bytes | None:
        """Read what the headers announce.

        Raises:
            InvalidRequest: the announcement is wrong or not kept.
            PayloadTooLarge: more than API Gateway takes.
        """
        encodings = self.headers.get_all("Transfer-Encoding", [])
        lengths = set(self.headers.get_all("Content-Length", []))
        # Two announcements are how requests are smuggled past a proxy. Source: RFC 9112, section 6.3.
        if len(lengths) > 1 or (encodings and lengths):
            raise _invalid("Content-Length", "given more than once, or together with Transfer-Encoding")
        if encodings and [encoding.strip().lower() for encoding in encodings] != ["chunked"]:
            raise _invalid("Transfer-Encoding", "only chunked is understood")
        length = lengths.pop().strip() if lengths else "0"
        if not _LENGTH.fullmatch(length):
            raise _invalid("Content-Length", "not a whole number")
        if int(length) > MAX_BODY_BYTES:
            raise PayloadTooLarge(MAX_BODY_BYTES)
        if not encodings and not int(length):
            return None
        if self.headers.get("Expect", "").lower() == "100-continue":
            super().handle_expect_100()
            self.wfile.flush()
        self.connection.settimeout(self.body_timeout)
        try:
            return self._read_chunks() if encodings else self._read(int(length))
        except TimeoutError:
            raise _invalid("body", f"nothing came for {self.body_timeout:g} seconds") from None
        finally:
            self.connection.settimeout(self.timeout)

    def _read(self, length: int) -> bytes:
        body: bytes = self.rfile.read(length)
        if len(body) < length:
            raise _invalid("body", "shorter than announced")
        return body

    def _read_chunks(self) -> bytes:
        """Read a chunked body; chunk extensions and trailers are passed over. Source: RFC 9112, section 7.1."""
        body = bytearray()
        while True:
            size = _CHUNK_SIZE.fullmatch(self.rfile.readline(_MAX_LINE_BYTES))
            if size is None:
                raise _invalid("body", "malformed chunk")
            length = int(size[1], 16)
            if not length:
                break
            if len(body) + length > MAX_BODY_BYTES:
                raise PayloadTooLarge(MAX_BODY_BYTES)
            body += self._read(length)
            if self.rfile.readline(3).rstrip(b"\r\n"):
                raise _invalid("body", "malformed chunk")
        for _ in range(_MAX_TRAILERS):
            if self.rfile.readline(_MAX_LINE_BYTES) in (b"\r\n", b"\n"):
                return bytes(body)
        raise _invalid("body", "malformed trailer")

    def _refuse(self, error: ServiceError) -> None:
        """Answer and end the connection: where this request ends and the next one begins is not known."""
        self.close_connection = True
        self._send_problem(error)
        self.wfile.flush()
        self._linger()

    def _linger(self) -> None:
        """Take in what is still coming: closing at once would reset the connection and take our answer with it."""
        deadline = time.monotonic() + _LINGER_SECONDS
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                self.connection.settimeout(left)
                if not self.connection.recv(_MAX_LINE_BYTES):
                    break

    def _send_problem(self, error: ServiceError) -> None:
        status, headers, body = problems.answer(error, self.local_gateway.request_id)
        self._send(status, headers, audit.to_line(body))

    def _send(self, status: int, headers: Mapping[str, Any], body: str | bytes | None) -> None:
        # http.server writes no head where it could not read the version of the request.
        self.request_version = "HTTP/1.1"
        raw = body.encode() if isinstance(body, str) else body or b""
        self.send_response(status)
        self.send_header("x-amzn-RequestId", self.local_gateway.request_id)
        for name, values in headers.items():
            for value in values if isinstance(values, list) else [values]:
                self.send_header(name, value)
        # An answer to HEAD has no body, and does not say how long that of GET would be.
        if status != HTTPStatus.NO_CONTENT and (raw or self.command != "HEAD"):
            self.send_header("Content-Length", str(len(raw)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD" and status != HTTPStatus.NO_CONTENT:
            self.wfile.write(raw)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Write the access log, without the query: it may hold a token. Names are those of the deployed gateway's."""
        answer = self.local_gateway.authorizer.answer
        line = {
            "event": "access",
            "time": audit.timestamp(datetime.now(UTC)),
            "level": "INFO",
            "requestId": self.local_gateway.request_id,
            "extendedRequestId": self.local_gateway.extended_request_id,
            "ip": self.client_address[0],
            "clientId": answer.get("principalId", "-"),
            "method": self.command or "-",
            "path": self.path.partition("?")[0][:_MAX_LOGGED_PATH] or "-",
            "status": int(code),
            "milliseconds": round((time.monotonic() - self._begun) * 1000, 1),
            "reason": answer.get("context", {}).get("reason", "-"),
            "authRequestId": answer.get("context", {}).get("authRequestId", "-"),
        }
        audit.write_line(audit.to_line(line))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Nothing besides the access log: http.server would write request lines."""


class Turns:
    """Lets so many in at once, and the others one by one as they came.

    threading.Semaphore does not: who has just left and comes again passes those who wait.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: deque[threading.Lock] = deque()
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            called = threading.Lock()
            called.acquire()
            self._waiting.append(called)
        called.acquire()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1


class Server(chalice.local.ThreadedHTTPServer):
    """Serves many connections at once and stops once the requests at work are answered."""

    request_queue_size = 1024

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._at_work = 0
        self._changed = threading.Condition()
        self.turns = Turns(_MAX_AT_WORK)
        super().__init__(*arguments, **named)

    def server_bind(self) -> None:
        # Without http.server's look-up of the host's full name, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with self._changed:
            self._at_work += 1
        try:
            yield
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    def serve_forever(self, poll_interval: float = 0.1) -> None:
        super().serve_forever(poll_interval)
        self.server_close()
        with self._changed:
            self._changed.wait_for(lambda: not self._at_work, _STOP_SECONDS)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.error("a connection failed", exc_info=sys.exception())


def create_local_server(app_obj: Chalice, config: Config, host: str, port: int) -> chalice.local.LocalDevServer:
    """What Chalice's function of this name does, with our handler and server."""
    chalice.local.CustomLocalChalice.__bases__ = (chalice.local.LocalChalice, app_obj.__class__)
    app_obj.__class__ = chalice.local.CustomLocalChalice
    return chalice.local.LocalDevServer(app_obj, config, host, port, Handler, Server)


def _create_and_obey_signals(app_obj: Chalice, config: Config, host: str, port: int) -> chalice.local.LocalDevServer:
    made = create_local_server(app_obj, config, host, port)

    def stop(*_: object) -> None:
        # shutdown() waits for the loop that this very thread runs.
        threading.Thread(target=made.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return made


def main() -> int:
    """Run `chalice local` with the options given on the command line."""
    end_with_parent()
    chalice.local.create_local_server = _create_and_obey_signals
    sys.argv = ["chalice", "local", *sys.argv[1:]]
    return int(chalice.cli.main() or 0)


def _invalid(field: str, message: str) -> InvalidRequest:
    return InvalidRequest([FieldError(field, message)])


def _problem(error: LocalGatewayException) -> ServiceError:
    """What API Gateway's refusal is called in our table."""
    match error:
        case NotAuthorizedError():
            return Unauthorized()
        case ForbiddenError(headers={"x-amzn-ErrorType": "AccessDeniedException"}):
            return Unauthorized()
        case ForbiddenError():
            return RouteNotFound()
        case InvalidAuthorizerError():
            return StoreUnavailable()
        case _:
            return InternalError()


if __name__ == "__main__":
    sys.exit(main())
