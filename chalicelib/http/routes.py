"""The HTTP API: each route parses a request, calls the service and returns its response."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import Any, Final, NamedTuple, TypeVar

from chalice import Blueprint, Response
from chalice.app import ChaliceAuthorizer, Request
from msgspec import Struct

from chalicelib.clients import Scope
from chalicelib.errors import InternalError, ServiceError, StoreUnavailable, TokenNotFound
from chalicelib.http import conversion, parsing, problems, schemas
from chalicelib.http.problems import FieldError, InvalidRequest, MethodNotAllowed, Problem
from chalicelib.redaction import to_line
from chalicelib.service import Caller, TokenService
from chalicelib.tokens import Refusal

BASE_PATH: Final = "/tokenservice/services/api"
_JSON: Final = "application/json"
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# `POST /revoke` stops when less is left of the function's time.
_RESERVE_MS: Final = 5_000

View = Callable[..., Response]
Headers = dict[str, str | list[str]]
T = TypeVar("T")

log = logging.getLogger("tokenservice.routes")


class Route(NamedTuple):
    """A method of a path. The scope check, the OpenAPI document and the tests read it.

    Attributes:
        path: below `BASE_PATH`.
        view: its docstring is the route's documentation, its name the operation's id.
        scope: what the client needs; None means any client.
        request: type of the body, or of the query of a GET; None means that nothing is read.
        response: type of the answer to a successful request; None means no body.
        status: of that answer.
    """

    method: str
    path: str
    view: View
    scope: Scope | None
    request: type[schemas.Request] | None
    response: type[schemas.Answer] | None
    status: int = 200

    @property
    def has_head(self) -> bool:
        """HEAD is answered wherever GET is, but a HEAD of `GET /use` would have to spend a use."""
        return self.method == "GET" and self.view is not use_token_by_query


class Call(NamedTuple):
    """A request whose caller has the route's scope."""

    route: Route
    request: Request
    service: TokenService
    build: schemas.VersionAnswer
    caller: Caller

    def parse(self, read: Callable[..., T | None]) -> T:
        """Parse the request by the route's type.

        Raises:
            InvalidRequest, Problem
        """
        kind: Any = self.route.request
        if self.route.method == "GET":
            # All values of each parameter, decoded by the gateway.
            query = self.request.to_original_event()["multiValueQueryStringParameters"] or {}
            return parsing.parse_query(query, kind, read)
        return parsing.parse_body(self.body(), kind, read)

    def body(self) -> bytes:
        """The JSON body as bytes.

        Raises:
            InvalidRequest, Problem
        """
        # JSON is the default, as in API Gateway.
        if parsing.parse_media_type(self.request.headers.get("content-type", _JSON)) != _JSON:
            raise Problem("unsupported_media_type")
        try:
            body = self.request.raw_body
        except ValueError as error:
            is_text = isinstance(error, UnicodeEncodeError) and error.encoding == "utf-8"
            message = "holds half of a surrogate pair" if is_text else "not base64, although it was said to be"
            raise InvalidRequest([FieldError("body", message)]) from None
        if len(body) > schemas.MAX_BODY_BYTES:
            raise Problem("payload_too_large")
        return body if isinstance(body, bytes) else body.encode()

    def idempotency_key(self) -> str | None:
        return parsing.parse_idempotency_key(self.request.headers.get("idempotency-key"))

    def has_time_left(self) -> bool:
        context: Any = self.request.lambda_context
        return bool(context.get_remaining_time_in_millis() > _RESERVE_MS)

    def json_response(self, answer: Struct | Mapping[str, Any], **headers: str) -> Response:
        sent: Headers = {"Content-Type": _JSON, "Cache-Control": "no-store", **headers}
        return Response(conversion.encode(answer), status_code=self.route.status, headers=sent)


def issue_token(call: Call) -> Response:
    """Issue a token."""
    now = call.service.now()
    terms = call.parse(partial(conversion.to_terms, now=now))
    [(secret, token)] = call.service.issue(call.caller, [terms], now)
    location = f"{call.request.context['path'].rstrip('/')}/{token.id}"
    return call.json_response(conversion.issue_answer(secret, token), Location=location)


def issue_tokens(call: Call) -> Response:
    """Issue up to 100 tokens, all or none."""
    now = call.service.now()
    terms = call.parse(partial(conversion.to_terms_of_all, now=now))
    issued = call.service.issue(call.caller, terms, now)
    answers = [conversion.issue_answer(secret, token) for secret, token in issued]
    return call.json_response(schemas.BatchAnswer(answers))


def use_token(call: Call) -> Response:
    """Spend one use of a token.

    A refusal spends nothing.
    """
    return _use(call)


def use_token_by_query(call: Call) -> Response:
    """Use a token given in the query.

    For existing callers. URLs end up in access logs: prefer POST. HTTP clients and proxies retry a lost GET; without
    `Idempotency-Key` the retry is refused.
    """
    return _use(call)


def _use(call: Call) -> Response:
    read = partial(conversion.to_use, client_id=call.caller.client_id, idempotency_key=call.idempotency_key())
    decision = call.service.use(call.caller, call.parse(read))
    if isinstance(decision, Refusal):
        raise Problem(decision.reason)
    headers = {"Idempotent-Replayed": "true"} if decision.replayed else {}
    return call.json_response(conversion.use_answer(decision), **headers)


def introspect_token(call: Call) -> Response:
    """Return what a use would return, and change nothing.

    It returns the node id without spending a use, so each call is an audit event.
    """
    use = call.parse(partial(conversion.to_use, client_id=call.caller.client_id))
    decision = call.service.introspect(call.caller, use)
    return call.json_response(conversion.introspect_answer(decision))


def get_token(call: Call, token_id: str) -> Response:
    """Return a token's limits and uses."""
    if not schemas.TOKEN_ID.fullmatch(token_id):
        raise TokenNotFound
    token = call.service.status(call.caller, token_id)
    return call.json_response(conversion.status_answer(token, call.service.counts_as_revoked(token)))


def revoke_token(call: Call, token_id: str) -> Response:
    """Revoke a token.

    Idempotent: 204 also if the token was already revoked or does not exist.
    """
    if not schemas.TOKEN_ID.fullmatch(token_id):
        # 204 would confirm a revocation if, for example, the token itself were sent in place of its id.
        raise InvalidRequest([FieldError("tokenId", "must be tok_ and 32 lower-case hex characters")])
    call.service.revoke(call.caller, token_id)
    return Response("", status_code=call.route.status)


def revoke_tokens(call: Call) -> Response:
    """Revoke every live token of a node or of a user.

    Reads an index that lags behind writes by moments. If `more` is true, time ran out: call again.
    """
    whose = call.parse(conversion.to_revocation)
    revocation = call.service.revoke_all(call.caller, **whose, time_left=call.has_time_left)
    return call.json_response(schemas.RevokeAnswer(revocation.revoked, revocation.more))


def get_version(call: Call) -> Response:
    """Return the deployed version."""
    return call.json_response(call.build)


def get_open_api(call: Call) -> Response:
    """Return this document."""
    # A deployed API has its stage's name, or a domain's own path, before the base path.
    path: str = call.request.context["path"]
    root = path.rstrip("/").removesuffix(f"{BASE_PATH}/openapi.json") or "/"
    return call.json_response({**_openapi(), "servers": [{"url": root}]})


@cache
def _openapi() -> dict[str, Any]:
    """The document, read at its first request and not at the start. `make reference` writes it."""
    path = os.path.join(os.path.dirname(__file__), "openapi.json")  # noqa: PTH118, PTH120 - pathlib loads slowly
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - the same
        document: dict[str, Any] = json.load(file)
    return document


ROUTES: Final = (
    Route("POST", "/token", issue_token, Scope.ISSUE, schemas.IssueRequest, schemas.IssueAnswer, 201),
    Route("POST", "/tokens", issue_tokens, Scope.ISSUE, schemas.BatchRequest, schemas.BatchAnswer, 201),
    Route("GET", "/use", use_token_by_query, Scope.USE, schemas.UseRequest, schemas.UseAnswer),
    Route("POST", "/use", use_token, Scope.USE, schemas.UseRequest, schemas.UseAnswer),
    Route("POST", "/introspect", introspect_token, Scope.INTROSPECT, schemas.UseRequest, schemas.IntrospectAnswer),
    Route("GET", "/token/{token_id}", get_token, Scope.MANAGE, None, schemas.StatusAnswer),
    Route("DELETE", "/token/{token_id}", revoke_token, Scope.MANAGE, None, None, 204),
    Route("POST", "/revoke", revoke_tokens, Scope.MANAGE, schemas.RevokeRequest, schemas.RevokeAnswer),
    Route("GET", "/version", get_version, None, None, schemas.VersionAnswer),
    Route("GET", "/openapi.json", get_open_api, None, None, schemas.OpenApiAnswer),
)


def blueprint(
    authorizer: ChaliceAuthorizer, service: Callable[[], TokenService], build: schemas.VersionAnswer
) -> Blueprint:
    """All routes, to be registered under `BASE_PATH`.

    Unsupported methods are registered as well, since API Gateway answers them as an unknown route.

    Args:
        authorizer: checks the credentials before any view is called.
        service: returns the service; called with the first request.
        build: the answer of `GET /version`.
    """
    api = Blueprint(__name__)

    def register(path: str, methods: Iterable[str], name: str, handler: Callable[..., Response]) -> None:
        def endpoint(**parameters: str) -> Response:
            return _handle(api.current_request, handler, parameters)

        # Chalice compares media types letter by letter and has its own error bodies: `Call.body` does it instead.
        api.route(path, methods=list(methods), authorizer=authorizer, content_types=[], name=name)(endpoint)

    for path in dict.fromkeys(route.path for route in ROUTES):
        routes = [route for route in ROUTES if route.path == path]
        for route in routes:
            handler = partial(_call_view, route, service, build)
            register(path, ["GET", "HEAD"] if route.has_head else [route.method], route.view.__name__, handler)
        allowed = [route.method for route in routes] + ["HEAD" for route in routes if route.has_head]
        register(
            path,
            [method for method in METHODS if method not in allowed],
            "other_method",
            partial(_other_method, allowed),
        )
    return api


def _call_view(
    route: Route,
    service: Callable[[], TokenService],
    build: schemas.VersionAnswer,
    request: Request,
    request_id: str,
    **parameters: str,
) -> Response:
    caller = _caller(request.context, request_id)
    if route.scope is not None:
        service().require(caller, route.scope)
    return route.view(Call(route, request, service(), build, caller), **parameters)


def _caller(context: Mapping[str, Any], request_id: str) -> Caller:
    """The client that the authorizer found.

    Raises:
        Problem: the request passed no authorizer.
    """
    client = context.get("authorizer") or {}
    if not client.get("clientId"):
        raise Problem("unauthorized")
    named = str(client.get("scopes", "")).split()
    scopes = frozenset(scope for scope in Scope if scope in named)
    source_ip = context.get("identity", {}).get("sourceIp")
    return Caller(str(client["clientId"]), scopes, request_id, source_ip, context.get("extendedRequestId"))


def _other_method(allowed: list[str], request: Request, request_id: str, **_: str) -> Response:
    if request.method == "OPTIONS":
        return Response("", status_code=204, headers={"Allow": ", ".join(allowed)})
    raise MethodNotAllowed(request.method, allowed)


def _handle(request: Request, handler: Callable[..., Response], parameters: dict[str, str]) -> Response:
    """Call a handler; an error becomes its problem."""
    context: Any = request.lambda_context
    # The gateway's id is in its access log and in its answers' headers. Bare `chalice local` gives none.
    request_id: str = request.context.get("requestId") or context.aws_request_id
    ids = {"requestId": request_id, "lambdaRequestId": context.aws_request_id}
    try:
        parsing.check_headers(_header_names(request.to_original_event()))
        response = handler(request, request_id, **parameters)
    except ServiceError as problem:
        if isinstance(problem, StoreUnavailable | InternalError):
            log.error("%s", problem.code, exc_info=problem, extra=ids)
        response = _problem(problem, request_id)
    except Exception:
        log.exception("internal_error", extra=ids)
        response = _problem(InternalError(), request_id)
    if request.method == "HEAD":
        response.body = ""
    return response


def _header_names(event: Mapping[str, Any]) -> list[str]:
    """The names of all headers, with repetitions. In `headers` API Gateway keeps only the last value of each."""
    values: Mapping[str, list[str]] | None = event.get("multiValueHeaders")
    return [name for name in values for _ in values[name]] if values else list(event["headers"] or ())


def _problem(error: ServiceError, request_id: str) -> Response:
    status, headers, body = problems.answer(error, request_id)
    # Redact secrets: an error may contain the name of an unknown field, and that name may be a token.
    return Response(to_line(body), status_code=status, headers=dict[str, str | list[str]](headers))
