"""`chalice local` with the answers of the deployed gateway: `python -m dev.gateway --stage local --port 8000`.

Chalice's own server drops the connection on broken input, echoes the Authorization header, writes queries (which
may hold a token) to the terminal and has error bodies of its own. Here waitress reads HTTP, and Chalice's local gateway
calls the application behind it. docs/decisions/0005-chalice-local-with-the-gateways-answers.md has the reasons.
"""

from __future__ import annotations

import base64
import logging
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import chalice.cli
import chalice.local
from chalice import Chalice
from chalice.config import Config
from chalice.local import ForbiddenError, InvalidAuthorizerError, LocalGatewayException, NotAuthorizedError
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError, get_header_lines
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import InternalServerError, RequestEntityTooLarge

from chalicelib import audit
from chalicelib.errors import InternalError, ServiceError, StoreUnavailable
from chalicelib.http import parsing, problems
from chalicelib.http.problems import FieldError, InvalidRequest, MethodNotAllowed, Problem
from chalicelib.http.routes import METHODS
from chalicelib.redaction import to_line
from dev.leash import end_with_parent

MAX_BODY_BYTES: Final = 10 * 1024 * 1024
"""API Gateway's own limit; the application has a lower one and must see what lies between to answer itself."""
_MAX_HEAD_BYTES: Final = 65_536
_MAX_LOGGED_PATH: Final = 1024
_IDLE_SECONDS: Final = 75
_STOP_SECONDS: Final = 10
_THREADS: Final = 16
_CONNECTIONS: Final = 1_000

log = logging.getLogger("tokenservice.local")


class Answer(NamedTuple):
    """An answer for WSGI."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


class Authorizer(chalice.local.LocalGatewayAuthorizer):
    """Runs the application's authorizer; one that fails is a configuration error, as on AWS.

    Attributes:
        answer: of the authorizer; empty if it did not run.
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
    """Chalice's local gateway for one request, with the request ids and the access log of API Gateway.

    Args:
        address: of the caller.
    """

    def __init__(self, app_object: Chalice, config: Config, address: str) -> None:
        super().__init__(app_object, config)
        self.authorizer = self._authorizer = Authorizer(app_object)
        self._address = address
        self._begun = time.monotonic()
        # Lambda's own id is another one. On AWS a caller can choose the first of these, but not the second.
        self._ids = {
            "requestId": str(uuid.uuid4()),
            "extendedRequestId": base64.b64encode(os.urandom(11)).decode(),
        }

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes | None) -> Answer:
        """Call the application. Whatever happens, the answer is the application's or a problem."""
        if method not in METHODS:
            return self.refuse(MethodNotAllowed("The method", METHODS))
        try:
            response = self.handle_request(method, target, headers, body)
            text = response["body"]
            raw = base64.b64decode(text) if response.get("isBase64Encoded") else text.encode()
            answer = self._answer(response["statusCode"], {**response["headers"], **response["multiValueHeaders"]}, raw)
        except LocalGatewayException as error:
            answer = self._refusal(_problem(error))
        except Exception:
            log.exception("internal_error", extra={"requestId": self._ids["requestId"]})
            answer = self._refusal(InternalError())
        self._log(answer, method, target)
        return answer

    def refuse(self, error: ServiceError) -> Answer:
        answer = self._refusal(error)
        self._log(answer, "-", "-")
        return answer

    def _generate_lambda_event(self, *arguments: Any, **named: Any) -> Any:
        try:
            event = super()._generate_lambda_event(*arguments, **named)
        except ValueError:  # Chalice's own refusal quotes the Authorization header, as far as that is ASCII
            raise ForbiddenError({}) from None
        event["requestContext"].update(self._ids)
        return event

    def _refusal(self, error: ServiceError) -> Answer:
        status, headers, body = problems.answer(error, self._ids["requestId"])
        return self._answer(status, headers, to_line(body).encode())

    def _answer(self, status: int, headers: Mapping[str, Any], body: bytes) -> Answer:
        lines = [("x-amzn-RequestId", self._ids["requestId"])]
        for name, value in headers.items():
            lines += [(name, str(one)) for one in (value if isinstance(value, list) else [value])]
        return Answer(f"{status} {HTTPStatus(status).phrase}", lines, body)

    def _log(self, answer: Answer, method: str, target: str) -> None:
        """Write the access log in the form of the deployed gateway's, without the query: it may hold a token."""
        context = self.authorizer.answer.get("context", {})
        line = {
            "event": "access",
            "time": audit.timestamp(datetime.now(UTC)),
            "level": "INFO",
            **self._ids,
            "ip": self._address,
            "clientId": self.authorizer.answer.get("principalId", "-"),
            "method": method,
            "path": target.partition("?")[0][:_MAX_LOGGED_PATH],
            "status": int(answer.status[:3]),
            "milliseconds": round((time.monotonic() - self._begun) * 1000, 1),
            "reason": context.get("reason", "-"),
            "authRequestId": context.get("authRequestId", "-"),
        }
        audit.write_line(to_line(line))


class _Request(HTTPRequestParser):
    """Waitress's parser, and checks that it lacks."""

    request_uri: str
    problem: ServiceError = InvalidRequest([FieldError("request", "malformed, or too long")])

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
            lines = get_header_lines(header_plus.partition(b"\r\n")[2])
            parsing.check_headers(line.partition(b":")[0].decode() for line in lines)
        except InvalidRequest as problem:
            # On AWS the application does this; here waitress joins the values by a comma.
            self.problem = problem
            raise ParsingError("") from None
        except ValueError:  # of a length or a host that is none
            raise ParsingError("") from None
        # Two announcements are how requests are smuggled past a proxy. Source: RFC 9112, section 6.3.
        is_ambiguous = "TRANSFER_ENCODING" in self.headers or (self.chunked and "CONTENT_LENGTH" in self.headers)
        # Raw bytes would be taken for Latin-1, and a user's name would silently be another one.
        if is_ambiguous or self.version not in ("1.0", "1.1") or not self.request_uri.isascii():
            raise ParsingError("")

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        if self.completed:
            self.expect_continue = False  # waitress would go on waiting for a body
        return consumed


class _Refusal(ErrorTask):
    """The answer to what is no request."""

    channel: Any
    request: Any

    def execute(self) -> None:
        problem: ServiceError = self.request.problem
        if isinstance(self.request.error, RequestEntityTooLarge):
            problem = Problem("payload_too_large")
        elif isinstance(self.request.error, InternalServerError):
            problem = InternalError()
        answer = self.channel.server.application.refuse(self.channel.addr[0], problem)
        self.status, self.response_headers = answer.status, answer.headers
        self.content_length = len(answer.body)
        self.set_close_on_finish()
        self.write(answer.body)


class _Task(WSGITask):
    request: Any

    @property
    def has_body(self) -> bool:
        """Whether a body follows; waitress would end one to HEAD, although there is none."""
        return bool(super().has_body) and self.request.command != "HEAD"


class _Connection(HTTPChannel):
    """A connection that is read on after its last answer: closing at once would reset it and discard the answer."""

    task_class = _Task
    error_task_class = _Refusal
    parser_class = _Request
    socket: Any
    is_ending = False

    def received(self, data: bytes) -> bool:
        return not self.is_ending and bool(super().received(data))

    def handle_close(self) -> None:
        if self.will_close and not self.is_ending:
            self.is_ending, self.will_close = True, False
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
        else:
            super().handle_close()


class Application:
    """The Chalice application as a WSGI application."""

    def __init__(self, app_object: Chalice, config: Config) -> None:
        self._app_object = app_object
        self._config = config

    def __call__(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        names = {name: name.removeprefix("HTTP_").replace("_", "-").lower() for name in environ if name.isupper()}
        headers = {header: environ[name] for name, header in names.items() if name.startswith(("HTTP_", "CONTENT_"))}
        body = environ["wsgi.input"].read() or None
        gateway = Gateway(self._app_object, self._config, environ["REMOTE_ADDR"])
        answer = gateway.answer(environ["REQUEST_METHOD"], environ["REQUEST_URI"], headers, body)
        start_response(answer.status, answer.headers)
        return [answer.body]

    def refuse(self, address: str, problem: ServiceError) -> Answer:
        return Gateway(self._app_object, self._config, address).refuse(problem)


class Server(TcpWSGIServer):
    """Serves until SystemExit. Then it answers the requests at work.

    Args:
        adjustments: more settings of waitress.
    """

    channel_class = _Connection

    def __init__(self, app_object: Chalice, config: Config, host: str, port: int, **adjustments: Any) -> None:
        settings: dict[str, Any] = {
            "ident": "tokenservice",
            "threads": _THREADS,
            "connection_limit": _CONNECTIONS,
            "channel_timeout": _IDLE_SECONDS,
            "max_request_header_size": _MAX_HEAD_BYTES,
            "max_request_body_size": MAX_BODY_BYTES + 1,
            "clear_untrusted_proxy_headers": False,
            "log_socket_errors": False,  # callers that go away; it would log paths, which may hold a token
            "asyncore_use_poll": True,  # select() ends with file descriptor 1,023
        }
        super().__init__(Application(app_object, config), host=host, port=port, **(settings | adjustments))

    def serve_forever(self) -> None:
        """What Chalice calls."""
        self.run()
        self.task_dispatcher.shutdown(timeout=_STOP_SECONDS)


def create_local_server(app_obj: Chalice, config: Config, host: str, port: int) -> Server:
    """What Chalice's function of this name does, with our server."""
    chalice.local.CustomLocalChalice.__bases__ = (chalice.local.LocalChalice, app_obj.__class__)
    app_obj.__class__ = chalice.local.CustomLocalChalice
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit())
    return Server(app_obj, config, host, port)


def main() -> int:
    """Run `chalice local` with the options given on the command line."""
    end_with_parent()
    logging.getLogger("waitress").setLevel(logging.ERROR)  # warns of requests that wait for a thread
    local: Any = chalice.local
    local.create_local_server = create_local_server
    sys.argv = ["chalice", "local", *sys.argv[1:]]
    return int(chalice.cli.main() or 0)


def _problem(error: LocalGatewayException) -> ServiceError:
    match error:
        case NotAuthorizedError():
            return Problem("unauthorized")
        case ForbiddenError(headers={"x-amzn-ErrorType": "AccessDeniedException"}):
            return Problem("unauthorized")
        case ForbiddenError():
            return Problem("route_not_found")
        case InvalidAuthorizerError():
            return StoreUnavailable()
        case _:
            return InternalError()


if __name__ == "__main__":
    sys.exit(main())
