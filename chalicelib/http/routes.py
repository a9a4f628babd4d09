"""The HTTP API: a request comes in, the service is called, an answer goes out."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from chalice import Blueprint, Response
from chalice.app import ChaliceAuthorizer, Request

from chalicelib.audit import to_line
from chalicelib.clients import Scope
from chalicelib.errors import InternalError, ServiceError, StoreUnavailable, TokenNotFound
from chalicelib.http import conversion, parsing, problems, schemas
from chalicelib.http.problems import (
    FieldError,
    InvalidRequest,
    MethodNotAllowed,
    PayloadTooLarge,
    Unauthorized,
    UnsupportedMediaType,
    UseRefused,
)
from chalicelib.service import Caller, TokenService
from chalicelib.tokens import Refusal, Use

BASE_PATH: Final = "/tokenservice/services/api"
_JSON: Final = "application/json"
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# What `POST /revoke` leaves of the function's time for the answer's way back.
_RESERVE_MS: Final = 5_000

log = logging.getLogger("tokenservice.routes")


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way through the API."""

    request: Request
    service: TokenService
    build: schemas.VersionAnswer
    request_id: str

    def caller(self, scope: Scope | None = None) -> Caller:
        """The client that the authorizer found. Called first by every view: nothing is read for who may not send it.

        Args:
            scope: what the client needs; None: nothing.

        Raises:
            Unauthorized: there was no authorizer before us.
            InsufficientScope
        """
        context: Mapping[str, Any] = self.request.context
        found = context.get("authorizer") or {}
        if not found.get("clientId"):
            raise Unauthorized
        scopes = frozenset(each for each in Scope if each in str(found.get("scopes", "")).split())
        source_ip = context.get("identity", {}).get("sourceIp")
        extended_id = context.get("extendedRequestId")
        caller = Caller(str(found["clientId"]), scopes, self.request_id, source_ip, extended_id)
        if scope is not None:
            self.service.require(caller, scope)
        return caller

    def body(self) -> bytes:
        """The JSON body as bytes.

        Raises:
            InvalidRequest, UnsupportedMediaType, PayloadTooLarge
        """
        # Without the header we take JSON for granted, as API Gateway does.
        if parsing.parse_media_type(self.request.headers.get("content-type", _JSON)) != _JSON:
            raise UnsupportedMediaType
        try:
            body = self.request.raw_body
        except ValueError as error:
            is_text = isinstance(error, UnicodeEncodeError) and error.encoding == "utf-8"
            message = "holds half of a surrogate pair" if is_text else "not base64, although it was said to be"
            raise InvalidRequest([FieldError("body", message)]) from None
        if len(body) > schemas.MAX_BODY_BYTES:
            raise PayloadTooLarge(schemas.MAX_BODY_BYTES)
        return body if isinstance(body, bytes) else body.encode()

    def query(self) -> Mapping[str, list[str]]:
        """All values of each parameter, as the gateway decoded them."""
        return self.request.to_original_event()["multiValueQueryStringParameters"] or {}

    def idempotency_key(self) -> str | None:
        return parsing.parse_idempotency_key(self.request.headers.get("idempotency-key"))

    def has_time_left(self) -> bool:
        context: Any = self.request.lambda_context
        return bool(context.get_remaining_time_in_millis() > _RESERVE_MS)


View = Callable[..., Response]
Headers = dict[str, str | list[str]]


def issue(call: Call) -> Response:
    caller = call.caller(Scope.ISSUE)
    read = partial(conversion.to_terms, now=call.service.now())
    [(secret, token)] = call.service.issue(caller, [parsing.parse_body(call.body(), schemas.IssueRequest, read)])
    location = f"{call.request.context['path'].rstrip('/')}/{token.id}"
    return _json(201, conversion.issue_answer(secret, token), Location=location)


def issue_batch(call: Call) -> Response:
    caller = call.caller(Scope.ISSUE)
    read = partial(conversion.to_terms_of_all, now=call.service.now())
    issued = call.service.issue(caller, parsing.parse_body(call.body(), schemas.BatchRequest, read))
    answers = [conversion.issue_answer(secret, token) for secret, token in issued]
    return _json(201, schemas.BatchAnswer(answers))


def use_by_query(call: Call) -> Response:
    caller = call.caller(Scope.USE)
    read = partial(conversion.to_use, client_id=caller.client_id, idempotency_key=call.idempotency_key())
    return _use(call, caller, parsing.parse_query(call.query(), schemas.UseRequest, read))


def use(call: Call) -> Response:
    caller = call.caller(Scope.USE)
    read = partial(conversion.to_use, client_id=caller.client_id, idempotency_key=call.idempotency_key())
    return _use(call, caller, parsing.parse_body(call.body(), schemas.UseRequest, read))


def _use(call: Call, caller: Caller, use: Use) -> Response:
    decision = call.service.use(caller, use)
    if isinstance(decision, Refusal):
        raise UseRefused(decision.reason)
    headers = {"Idempotent-Replayed": "true"} if decision.replayed else {}
    return _json(200, conversion.use_answer(decision), **headers)


def introspect(call: Call) -> Response:
    caller = call.caller(Scope.INTROSPECT)
    read = partial(conversion.to_use, client_id=caller.client_id)
    decision = call.service.introspect(caller, parsing.parse_body(call.body(), schemas.UseRequest, read))
    return _json(200, conversion.introspect_answer(decision))


def status(call: Call, token_id: str) -> Response:
    caller = call.caller(Scope.MANAGE)
    if not schemas.TOKEN_ID.fullmatch(token_id):
        raise TokenNotFound
    token = call.service.status(caller, token_id)
    return _json(200, conversion.status_answer(token, call.service.counts_as_revoked(token)))


def revoke(call: Call, token_id: str) -> Response:
    caller = call.caller(Scope.MANAGE)
    if not schemas.TOKEN_ID.fullmatch(token_id):
        # 204 would say that a token is revoked, where a token itself, say, was given for its id.
        raise InvalidRequest([FieldError("tokenId", "must be tok_ and 32 lower-case hex characters")])
    call.service.revoke(caller, token_id)
    return Response("", status_code=204)


def revoke_all(call: Call) -> Response:
    caller = call.caller(Scope.MANAGE)
    whose = parsing.parse_body(call.body(), schemas.RevokeRequest, conversion.to_revocation)
    done = call.service.revoke_all(caller, **whose, time_left=call.has_time_left)
    return _json(200, schemas.RevokeAnswer(done.revoked, done.more))


def version(call: Call) -> Response:
    call.caller()
    return _json(200, call.build)


def openapi(call: Call) -> Response:
    call.caller()
    # A deployed API has its stage's name, or a domain's own path, before the base path.
    path: str = call.request.context["path"]
    root = path.rstrip("/").removesuffix(f"{BASE_PATH}/openapi.json") or "/"
    return _json(200, {**_openapi(), "servers": [{"url": root}]})


@cache
def _openapi() -> dict[str, Any]:
    """The document, read at its first request and not at the start. `make reference` writes it."""
    document: dict[str, Any] = json.loads(Path(__file__).with_name("openapi.json").read_text("utf-8"))
    return document


ROUTES: Final[Mapping[str, Mapping[str, View]]] = {
    "/token": {"POST": issue},
    "/tokens": {"POST": issue_batch},
    "/use": {"GET": use_by_query, "POST": use},
    "/introspect": {"POST": introspect},
    "/token/{token_id}": {"GET": status, "DELETE": revoke},
    "/revoke": {"POST": revoke_all},
    "/version": {"GET": version},
    "/openapi.json": {"GET": openapi},
}
"""Path below `BASE_PATH` to method to view."""


def blueprint(
    authorizer: ChaliceAuthorizer, service: Callable[[], TokenService], build: schemas.VersionAnswer
) -> Blueprint:
    """All routes, to be registered under `BASE_PATH`.

    Methods that a path does not have are registered as well: API Gateway would answer them as an unknown route.

    Args:
        authorizer: checks the credentials before any view is called.
        service: gives the service; called with the first request.
        build: what `GET /version` tells.
    """
    api = Blueprint(__name__)

    def register(path: str, methods: list[str], view: View) -> None:
        def answer(**parameters: str) -> Response:
            return _answer(api.current_request, service, build, view, parameters)

        # Chalice compares media types letter by letter and has its own error bodies: `Call.body` does it instead.
        api.route(path, methods=methods, authorizer=authorizer, content_types=[], name=view.__name__)(answer)

    for path, views in ROUTES.items():
        allowed = list(views)
        for method, view in views.items():
            register(path, [method], view)
            if method == "GET" and view is not use_by_query:  # a HEAD of it would have to spend a use
                register(path, ["HEAD"], view)
                allowed.append("HEAD")
        register(path, [method for method in METHODS if method not in allowed], _other_method(allowed))
    return api


def _other_method(allowed: list[str]) -> View:
    def other_method(call: Call, **_: str) -> Response:
        if call.request.method == "OPTIONS":
            return Response("", status_code=204, headers={"Allow": ", ".join(allowed)})
        raise MethodNotAllowed(call.request.method, allowed)

    return other_method


def _answer(
    request: Request,
    service: Callable[[], TokenService],
    build: schemas.VersionAnswer,
    view: View,
    parameters: dict[str, str],
) -> Response:
    context: Any = request.lambda_context
    # The gateway's id is in its access log and in its answers' headers. Bare `chalice local` gives none.
    request_id: str = request.context.get("requestId") or context.aws_request_id
    ids = {"requestId": request_id, "lambdaRequestId": context.aws_request_id}
    try:
        parsing.check_headers(_header_names(request.to_original_event()))
        response = view(Call(request, service(), build, request_id), **parameters)
    except ServiceError as error:
        if isinstance(error, StoreUnavailable | InternalError):
            log.error("%s", error.code, exc_info=error, extra=ids)
        response = _problem(error, request_id)
    except Exception:
        log.exception("internal_error", extra=ids)
        response = _problem(InternalError(), request_id)
    if request.method == "HEAD":
        response.body = ""
    return response


def _header_names(event: Mapping[str, Any]) -> list[str]:
    """The names of all headers, as often as they came; API Gateway keeps only the last value of each in `headers`."""
    values: Mapping[str, list[str]] | None = event.get("multiValueHeaders")
    return [name for name in values for _ in values[name]] if values else list(event["headers"] or ())


def _json(status_code: int, answer: Any, **headers: str) -> Response:
    sent: Headers = {"Content-Type": _JSON, "Cache-Control": "no-store", **headers}
    return Response(conversion.encode(answer), status_code=status_code, headers=sent)


def _problem(error: ServiceError, request_id: str) -> Response:
    status, headers, body = problems.answer(error, request_id)
    # What an answer says of a broken request may repeat the name of a field, and that name may be a token.
    return Response(to_line(body), status_code=status, headers=dict[str, str | list[str]](headers))
