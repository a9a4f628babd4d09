"""Every error the service can tell, in one table (RFC 9457, Problem Details for HTTP APIs).

```
Problem                          carries its code and what is to be said of this case
├── InvalidRequest               what came in can't be understood; names each field
├── Unauthorized                 no client stands behind the request
├── InsufficientScope            the client may not do this
├── TokenNotFound                there is no such token
├── RouteNotFound                there is nothing at this path; only a gateway says this
├── UseRefused                   a token was refused; its code is the reason
├── MethodNotAllowed
├── PayloadTooLarge
├── UnsupportedMediaType
├── TooManyRequests              the caller should slow down; only a gateway says this
├── StoreUnavailable             DynamoDB gave no answer that can be trusted
└── InternalError                a defect of ours
```
Any other exception is a defect of ours too, and told as `internal_error` without its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

MEDIA_TYPE: Final = "application/problem+json"
CHALLENGE: Final = 'Basic realm="tokenservice", charset="UTF-8"'
RETRY_AFTER_SECONDS: Final = 1
MAX_ERRORS: Final = 50
"""Fields named in one answer: a body of nothing but mistakes must not make an answer many times its size."""


@dataclass(frozen=True, slots=True)
class Row:
    """What holds for every problem with one code.

    Attributes:
        status: HTTP status.
        title: the same words for every problem with this code.
        detail: what is said where a problem has nothing of its own to say.
    """

    status: int
    title: str
    detail: str


TABLE: Final = MappingProxyType(
    {
        "invalid_request": Row(400, "Invalid request", "The request can't be understood."),
        "unauthorized": Row(401, "Unauthorized", "Basic credentials of a client are needed."),
        "insufficient_scope": Row(403, "Insufficient scope", "The client may not do this."),
        "user_mismatch": Row(403, "Wrong user", "The token is for another user."),
        "ip_mismatch": Row(403, "Wrong address", "The token may not be used from this address."),
        "action_not_permitted": Row(403, "Wrong action", "The token is not for this action."),
        "audience_mismatch": Row(403, "Wrong application", "The token is not for this application."),
        "token_not_yet_valid": Row(403, "Not yet valid", "The token may not be used yet."),
        "token_not_found": Row(404, "Not found", "There is no such token."),
        "route_not_found": Row(404, "No such route", "There is nothing at this path."),
        "method_not_allowed": Row(405, "Method not allowed", "This path has other methods."),
        "token_expired": Row(410, "Expired", "The token's time is over."),
        "token_exhausted": Row(410, "Used up", "The token was used as often as it may be."),
        "token_revoked": Row(410, "Revoked", "The token was revoked."),
        "token_locked": Row(410, "Locked", "The token was tried for the wrong user, address or action too often."),
        "payload_too_large": Row(413, "Payload too large", "The body is larger than allowed."),
        "unsupported_media_type": Row(415, "Unsupported media type", "The body must be application/json."),
        "idempotency_key_reused": Row(
            422, "Idempotency key reused", "The key was used for another request, or over 10 minutes ago."
        ),
        "too_many_requests": Row(429, "Too many requests", "Slow down and try again."),
        "internal_error": Row(500, "Internal error", "The service failed; the request id finds it in the log."),
        "store_unavailable": Row(503, "Store unavailable", "The store gave no answer; try again."),
    }
)


class FieldError(NamedTuple):
    """What is wrong with one field, parameter or header of a request."""

    field: str
    message: str


class Errors(list[FieldError]):
    """What is wrong with one request, collected until there is enough to answer.

    Raises:
        InvalidRequest: by `add()`, as soon as there are `MAX_ERRORS`; by `check()`, if there are any.
    """

    def add(self, field: str, message: str) -> None:
        self.append(FieldError(field, message))
        if len(self) == MAX_ERRORS:
            raise InvalidRequest(self)

    def check(self) -> None:
        if self:
            raise InvalidRequest(self)


class Problem(Exception):
    """Base of all errors that have a row in the table.

    Attributes:
        code: the row.
        detail: what is to be said of this case; never holds a secret.
        errors: what is wrong with each field; only for `invalid_request`.
        headers: response headers that belong to the problem.
    """

    code: str

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or TABLE[self.code].detail)
        self.detail = str(self)
        self.errors: Sequence[FieldError] = ()
        self.headers: dict[str, str] = {}


class InvalidRequest(Problem):
    """What came in can't be understood.

    Args:
        errors: what is wrong with each field; at least one. The first ones are told.
    """

    code = "invalid_request"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        told = tuple(errors[:MAX_ERRORS])
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in told))
        self.errors = told


class Unauthorized(Problem):
    """No client stands behind the request."""

    code = "unauthorized"

    def __init__(self) -> None:
        super().__init__()
        self.headers = {"WWW-Authenticate": CHALLENGE}


class InsufficientScope(Problem):
    """The client may not do this."""

    code = "insufficient_scope"


class TokenNotFound(Problem):
    """There is no such token."""

    code = "token_not_found"


class RouteNotFound(Problem):
    """There is nothing at this path. Only a gateway says this: the application is not asked."""

    code = "route_not_found"


class UseRefused(Problem):
    """A token was refused; `code` is the reason."""

    def __init__(self, reason: str) -> None:
        self.code = reason
        super().__init__()


class MethodNotAllowed(Problem):
    """The path has other methods; the answer names them."""

    code = "method_not_allowed"

    def __init__(self, method: str, allowed: Sequence[str]) -> None:
        super().__init__(f"{method} is not one of {', '.join(allowed)}.")
        self.headers = {"Allow": ", ".join(allowed)}


class PayloadTooLarge(Problem):
    """The body is larger than allowed."""

    code = "payload_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The body may hold {limit_bytes} bytes.")


class UnsupportedMediaType(Problem):
    """The body is said not to be JSON."""

    code = "unsupported_media_type"


class TooManyRequests(Problem):
    """The caller should slow down. Only a gateway says this: the application is not asked."""

    code = "too_many_requests"

    def __init__(self) -> None:
        super().__init__()
        self.headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}


class StoreUnavailable(Problem):
    """DynamoDB gave no answer that can be trusted; the caller may try again."""

    code = "store_unavailable"

    def __init__(self) -> None:
        super().__init__()
        self.headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}


class InternalError(Problem):
    """A defect of ours."""

    code = "internal_error"


def body(problem: Problem, request_id: str) -> dict[str, Any]:
    """The body of a problem's answer, as RFC 9457 shapes it, with `code` and `requestId` of our own."""
    row = TABLE[problem.code]
    members: dict[str, Any] = {
        "type": f"urn:tokenservice:problem:{problem.code}",
        "title": row.title,
        "status": row.status,
        "detail": problem.detail,
        "code": problem.code,
        "requestId": request_id,
    }
    if problem.errors:
        members["errors"] = [{"field": error.field, "message": error.message} for error in problem.errors]
    return members
