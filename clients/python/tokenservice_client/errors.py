"""Errors of a call, one class for each family of the service's codes.

No message holds a token, a password or a part of the request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
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
        code: for programs: the service's code, or one of this client's own.
        detail: for people.
        status: HTTP status; None means that there was no response.
        request_id: of the request in the service's log; None if the response has none.
    """

    def __init__(self, code: str, detail: str, status: int | None = None, request_id: str | None = None) -> None:
        # All of them as arguments, so that the error can be pickled.
        super().__init__(code, detail, status, request_id)
        self.code = code
        self.detail = detail
        self.status = status
        self.request_id = request_id

    def __str__(self) -> str:
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.code}: {self.detail}{request}"


class NoAnswer(TokenServiceError):
    """No complete response in time: the request may or may not have been executed.

    A use repeated with the same idempotency key within ten minutes counts once.
    """


class UntrustedServer(TokenServiceError):
    """The server's certificate can't be verified. Nothing was sent."""


class UnexpectedAnswer(TokenServiceError):
    """The response is not the token service's, or another version's: a redirect, a page, a missing member."""


class Problem(TokenServiceError):
    """An error that the service returns (RFC 9457)."""


class InvalidRequest(Problem):
    """The request is invalid.

    Attributes:
        errors: one for each invalid field; empty if the request as a whole is invalid.
    """

    errors: Sequence[FieldError] = ()


class Unauthorized(Problem):
    """The credentials are wrong."""


class InsufficientScope(Problem):
    """The client lacks a scope."""


class Refused(Problem):
    """The token is refused; `code` is the reason. Nothing was spent."""


class InternalError(Problem):
    """A bug in the service. The request is not repeated."""


class ServiceUnavailable(Problem):
    """The service is temporarily unavailable. The request was repeated until `patience_seconds` ended.

    Attributes:
        retry_after: seconds to wait before the next request; None if the response does not state it.
    """

    retry_after: float | None = None


class TooManyRequests(ServiceUnavailable):
    """The client sends too many requests."""


_BY_CODE: Final[Mapping[str, type[Problem]]] = {
    "insufficient_scope": InsufficientScope,
    "route_not_found": InvalidRequest,
}
"""Codes that are not of the family of their status."""
_BY_STATUS: Final[Mapping[int, type[Problem]]] = {
    401: Unauthorized,
    **dict.fromkeys((403, 404, 410, 422), Refused),
    429: TooManyRequests,
    500: InternalError,
}
_NOT_NOW: Final = (429, 502, 503, 504)  # proxies and gateways send these with bodies of their own


def family(code: str, status: int) -> type[Problem]:
    """The class of a problem with this code and status, which is 400 or above."""
    fallback = InvalidRequest if status < HTTPStatus.INTERNAL_SERVER_ERROR else ServiceUnavailable
    return _BY_CODE.get(code) or _BY_STATUS.get(status, fallback)


def problem(
    status: int,
    body: Any,
    request_id: str | None = None,
    retry_after: float | None = None,
    hide: Callable[[str], str] = str,
) -> TokenServiceError:
    """Convert a response whose status is not a success.

    Args:
        body: parsed JSON; None if it is not JSON.
        request_id: from the response's header; one in the body takes precedence.
        retry_after: seconds, from the response's header.
        hide: removes secrets from the response's texts.
    """

    def text(value: Any) -> str | None:
        return hide(value)[:_MAX_TEXT] if isinstance(value, str) and value else None

    members: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
    request_id = text(members.get("requestId")) or request_id
    if status < HTTPStatus.BAD_REQUEST:
        detail = f"status {status}, perhaps a redirect; credentials are not sent elsewhere"
        return UnexpectedAnswer("unexpected_answer", detail, status, request_id)
    code = text(members.get("code"))
    if code is None:
        if status not in _NOT_NOW:
            return UnexpectedAnswer(
                "unexpected_answer", f"status {status} without a code of the service", status, request_id
            )
        code = "too_many_requests" if status == HTTPStatus.TOO_MANY_REQUESTS else "service_unavailable"
    detail = text(members.get("detail")) or f"The service returned {status}."
    error = family(code, status)(code, detail, status, request_id)
    if isinstance(error, InvalidRequest):
        entries = members.get("errors")
        error.errors = tuple(
            FieldError(text(entry.get("field")) or "", text(entry.get("message")) or "")
            for entry in (entries if isinstance(entries, list) else ())
            if isinstance(entry, Mapping)
        )
    if isinstance(error, ServiceUnavailable):
        error.retry_after = retry_after
    return error
