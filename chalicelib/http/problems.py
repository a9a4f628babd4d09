"""Every error of the API in one table (RFC 9457, Problem Details for HTTP APIs).

An exception that is no `ServiceError` is a bug: its answer is `internal_error` without its text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from msgspec import Struct

from chalicelib.errors import ServiceError

MEDIA_TYPE: Final = "application/problem+json"
CHALLENGE: Final = 'Basic realm="tokenservice", charset="UTF-8"'
MAX_ERRORS: Final = 50
"""Fields named in one answer: a body of nothing but mistakes must not make an answer many times its size."""
_RETRY: Final = MappingProxyType({"Retry-After": "1"})  # seconds


class Row(NamedTuple):
    """The answer to every error with one code.

    Attributes:
        status: HTTP status.
        title: the same text for every error with this code.
        detail: used if an error has no detail of its own.
        headers: of the response.
    """

    status: int
    title: str
    detail: str
    headers: Mapping[str, str] = MappingProxyType({})


TABLE: Final = MappingProxyType(
    {
        "invalid_request": Row(400, "Invalid request", "The request is malformed."),
        "unauthorized": Row(
            401, "Unauthorized", "Valid Basic credentials are required.", {"WWW-Authenticate": CHALLENGE}
        ),
        "insufficient_scope": Row(403, "Insufficient scope", "The client lacks the required scope."),
        "user_mismatch": Row(403, "Wrong user", "The token is for another user."),
        "ip_mismatch": Row(403, "Wrong address", "The token is not valid from this address."),
        "action_not_permitted": Row(403, "Wrong action", "The token does not permit this action."),
        "audience_mismatch": Row(403, "Wrong application", "The token is for another application."),
        "token_not_yet_valid": Row(403, "Not yet valid", "The token is not valid yet."),
        "token_not_found": Row(404, "Not found", "The token does not exist."),
        "route_not_found": Row(404, "No such route", "No route has this path."),
        "method_not_allowed": Row(405, "Method not allowed", "The path does not support this method."),
        "token_expired": Row(410, "Expired", "The token has expired."),
        "token_exhausted": Row(410, "Used up", "All uses of this token are spent."),
        "token_revoked": Row(410, "Revoked", "The token was revoked."),
        "token_locked": Row(
            410, "Locked", "The token is locked after too many uses with a wrong user, address or action."
        ),
        "payload_too_large": Row(413, "Payload too large", "The body is larger than 64 KB."),
        "unsupported_media_type": Row(415, "Unsupported media type", "The body must be application/json."),
        "idempotency_key_reused": Row(
            422, "Idempotency key reused", "The key belongs to another request, or was first used over 10 minutes ago."
        ),
        "too_many_requests": Row(429, "Too many requests", "Too many requests. Retry later.", _RETRY),
        "internal_error": Row(500, "Internal error", "Unexpected error. Find it in the log by the request id."),
        "store_unavailable": Row(503, "Store unavailable", "The store did not respond. Retry the request.", _RETRY),
    }
)


class Problem(ServiceError):
    """An error that its code explains.

    Args:
        code: of `TABLE`; for a token that was refused, the reason.
    """

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__()


class FieldError(Struct, frozen=True):
    """What is wrong with one field, parameter or header of a request."""

    field: str
    message: str


class Errors(list[FieldError]):
    """What is wrong with one request, collected until there is enough to answer.

    Raises:
        InvalidRequest: by `add()`, as soon as there are `MAX_ERRORS`.
    """

    left = MAX_ERRORS

    def add(self, field: str, message: str) -> None:
        self.append(FieldError(field, message))
        self.left -= 1
        if not self.left:
            raise InvalidRequest(self)


class InvalidRequest(ServiceError):
    """The request is malformed.

    Args:
        errors: what is wrong with each field; at least one. The answer names the first `MAX_ERRORS`.
    """

    code = "invalid_request"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = tuple(errors[:MAX_ERRORS])
        super().__init__("; ".join([f"{error.field}: {error.message}" for error in self.errors]))


class MethodNotAllowed(ServiceError):
    """The path does not support the method; the response lists those it supports."""

    code = "method_not_allowed"

    def __init__(self, method: str, allowed: Sequence[str]) -> None:
        self.allowed = ", ".join(allowed)
        super().__init__(f"{method} is not supported. This path supports {self.allowed}.")


def detail(error: ServiceError) -> str:
    return error.detail or TABLE[error.code].detail


def answer(error: ServiceError, request_id: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    """The answer that reports an error.

    Returns:
        Status, headers and JSON object: as RFC 9457 shapes it, with `code` and `requestId` of our own.
    """
    row = TABLE[error.code]
    headers = {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store", **row.headers}
    body: dict[str, Any] = {
        "type": f"urn:tokenservice:problem:{error.code}",
        "title": row.title,
        "status": row.status,
        "detail": detail(error),
        "code": error.code,
        "requestId": request_id,
    }
    if isinstance(error, InvalidRequest):
        body["errors"] = [{"field": wrong.field, "message": wrong.message} for wrong in error.errors]
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = error.allowed
    return row.status, headers, body
