"""The errors that the service and its stores raise. `http.problems` has a row for the code of each."""

from __future__ import annotations


class ServiceError(Exception):
    """Base of all errors that a caller gets as an answer.

    Attributes:
        code: names the error to programs, and its row in `http.problems.TABLE`.
        detail: what is particular to this case, never a secret; empty if the row suffices.
    """

    code: str

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.code)
        self.detail = detail


class InsufficientScope(ServiceError):
    """The client lacks the scope for this operation."""

    code = "insufficient_scope"


class TokenNotFound(ServiceError):
    """No token has this id."""

    code = "token_not_found"


class StoreUnavailable(ServiceError):
    """No trustworthy response from DynamoDB; the caller may try again."""

    code = "store_unavailable"


class InternalError(ServiceError):
    """A bug in the service, or an item that was altered in the table."""

    code = "internal_error"
