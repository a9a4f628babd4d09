"""Everything that can go wrong in a call, one class for each family of the service's codes.

```
TokenServiceError            code, status, detail, request_id
├── NoAnswer                 nothing came in time, or not all of it; what was asked may have been done
├── UntrustedServer          the other side can't prove who it is; nothing was sent
├── UnexpectedAnswer         what answered is not the token service, or another version of it
└── Problem                  the service says no
    ├── InvalidRequest       the request can't be understood; `errors` names the fields
    ├── Unauthorized         no client stands behind the credentials
    ├── InsufficientScope    the client may not do this
    ├── Refused              the token is refused; `code` is the reason. Nothing was spent
    ├── InternalError        a defect of the service
    └── ServiceUnavailable   not now; it was tried again until patience ended
        └── TooManyRequests
```
No message holds a token, a password or what a request was made of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

_MAX_TEXT: Final = 500


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field, parameter or header of a request."""

    field: str
    message: str


class TokenServiceError(Exception):
    """Base of all errors of this client.

    Attributes:
        code: what programs read: the service's code, or one of this client's own.
        detail: what people read.
        status: the HTTP status; None where nothing was answered.
        request_id: finds the request in the service's log; None where it told none.
    """

    def __init__(self, code: str, detail: str, status: int | None = None, request_id: str | None = None) -> None:
        # All of them as arguments: what can be pickled can cross to another process.
        super().__init__(code, detail, status, request_id)
        self.code = code
        self.detail = detail
        self.status = status
        self.request_id = request_id

    def __str__(self) -> str:
        found_by = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.code}: {self.detail}{found_by}"


class NoAnswer(TokenServiceError):
    """Nothing came in time, or not all of it. What was asked may have been done.

    A use may be repeated with the same idempotency key for ten minutes and counts once.
    """


class UntrustedServer(TokenServiceError):
    """The other side's certificate can't be verified. Nothing was sent to it."""


class UnexpectedAnswer(TokenServiceError):
    """What answered is not the token service, or another version of it: a redirect, a page, a missing member."""


class Problem(TokenServiceError):
    """The service says no (RFC 9457)."""


class InvalidRequest(Problem):
    """The request can't be understood.

    Attributes:
        errors: what is wrong with each field; empty where it is the request as a whole.
    """

    errors: Sequence[FieldError] = ()


class Unauthorized(Problem):
    """No client stands behind the credentials."""


class InsufficientScope(Problem):
    """The client may not do this."""


class Refused(Problem):
    """The token is refused; `code` is the reason. Nothing was spent."""


class InternalError(Problem):
    """A defect of the service. It is not tried again: a defect stays."""


class ServiceUnavailable(Problem):
    """The service can't answer now. It was tried again until patience ended.

    Attributes:
        retry_after: how many seconds the service asks to wait; None where it does not say.
    """

    retry_after: float | None = None


class TooManyRequests(ServiceUnavailable):
    """The client should slow down."""


FAMILIES: Final[Mapping[str, type[Problem]]] = MappingProxyType(
    {
        "invalid_request": InvalidRequest,
        "route_not_found": InvalidRequest,
        "method_not_allowed": InvalidRequest,
        "payload_too_large": InvalidRequest,
        "unsupported_media_type": InvalidRequest,
        "unauthorized": Unauthorized,
        "insufficient_scope": InsufficientScope,
        "user_mismatch": Refused,
        "ip_mismatch": Refused,
        "action_not_permitted": Refused,
        "audience_mismatch": Refused,
        "token_not_yet_valid": Refused,
        "token_not_found": Refused,
        "token_expired": Refused,
        "token_exhausted": Refused,
        "token_revoked": Refused,
        "token_locked": Refused,
        "idempotency_key_reused": Refused,
        "too_many_requests": TooManyRequests,
        "internal_error": InternalError,
        "store_unavailable": ServiceUnavailable,
    }
)
"""The table of codes in the service's README, by family."""

_BY_STATUS: Final[Mapping[int, type[Problem]]] = MappingProxyType(
    {
        HTTPStatus.UNAUTHORIZED: Unauthorized,
        HTTPStatus.FORBIDDEN: Refused,
        HTTPStatus.NOT_FOUND: Refused,
        HTTPStatus.GONE: Refused,
        HTTPStatus.UNPROCESSABLE_ENTITY: Refused,
        HTTPStatus.TOO_MANY_REQUESTS: TooManyRequests,
        HTTPStatus.INTERNAL_SERVER_ERROR: InternalError,
    }
)
# What stands between the client and the service answers with these, in words of its own.
_NOT_NOW: Final = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


def family(code: str, status: int) -> type[Problem]:
    """The class of a problem; a code that this version does not know goes by its status, 400 and above."""
    if code in FAMILIES:
        return FAMILIES[code]
    fallback = InvalidRequest if status < HTTPStatus.INTERNAL_SERVER_ERROR else ServiceUnavailable
    return _BY_STATUS.get(status, fallback)


def problem(
    status: int,
    body: Any,
    request_id: str | None = None,
    retry_after: float | None = None,
    hide: Callable[[str], str] = str,
) -> TokenServiceError:
    """Read an answer with a status that is no success.

    Args:
        body: what was parsed of the answer; None where it was no JSON.
        request_id: from the answer's header; one in the body goes first.
        retry_after: seconds, from the answer's header.
        hide: takes secrets out of what the other side wrote.
    """

    def text(value: Any) -> str | None:
        return hide(value)[:_MAX_TEXT] if isinstance(value, str) and value else None

    members: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
    request_id = text(members.get("requestId")) or request_id
    if status < HTTPStatus.BAD_REQUEST:
        said = f"{status}, perhaps a redirect; credentials go to no other place"
        return UnexpectedAnswer("unexpected_answer", said, status, request_id)
    code = text(members.get("code"))
    if code is None:
        if status not in _NOT_NOW:
            return UnexpectedAnswer("unexpected_answer", f"{status}, and no word of the service", status, request_id)
        code = "too_many_requests" if status == HTTPStatus.TOO_MANY_REQUESTS else "service_unavailable"
    detail = text(members.get("detail")) or f"The service answers {status}."
    error = family(code, status)(code, detail, status, request_id)
    if isinstance(error, InvalidRequest):
        told = members.get("errors")
        each = [one for one in told if isinstance(one, Mapping)] if isinstance(told, list) else []
        error.errors = tuple(FieldError(text(one.get("field")) or "", text(one.get("message")) or "") for one in each)
    if isinstance(error, ServiceUnavailable):
        error.retry_after = retry_after
    return error
