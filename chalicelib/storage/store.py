"""What both stores share: one DynamoDB request a call, and `StoreUnavailable` where no answer can be trusted."""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pynamodb.connection.base import BOTOCORE_EXCEPTIONS
from pynamodb.exceptions import PynamoDBException
from pynamodb.models import Model

from chalicelib.aws.client import cancellation_reasons, may_pass
from chalicelib.aws.errors import AwsError, NoAnswer
from chalicelib.errors import StoreUnavailable
from chalicelib.storage.model import Meta

if TYPE_CHECKING:
    from chalicelib.aws.dynamodb import DynamoDbClient

_CONDITION_FAILED: Final = "ConditionalCheckFailedException"
# DynamoDB's answer to a request that makes no sense, and won't the next time: by itself, or in a transaction.
_DEFECTS: Final = frozenset(
    {
        "IdempotentParameterMismatchException",
        "ItemCollectionSizeLimitExceeded",
        "ItemCollectionSizeLimitExceededException",
        "SerializationException",
        "ValidationError",
        "ValidationException",
    }
)
_LONGEST_PAUSE_SECONDS: Final = 0.1
# PynamoDB wraps some of botocore's errors and lets others through. Outside Lambda ours are none of botocore's.
_FAILURES: Final = (PynamoDBException, *BOTOCORE_EXCEPTIONS, AwsError)

Observe = Callable[[str, float], object]


class Store:
    """A connection, a clock for latencies and the translation of errors.

    Args:
        observe: receives each operation's name and its milliseconds.
        client: what PynamoDB calls DynamoDB with; None means a botocore client of its own.
    """

    def __init__(self, model: type[Model], observe: Observe, client: DynamoDbClient | None) -> None:
        self._model = model
        self._client = client
        self._checked: Any = client
        self._observe = observe
        if client is not None:
            self._model._get_connection().connection._client = client  # type: ignore[assignment] # in place of botocore

    def warm_up(self) -> None:
        """Open the connection, where our own client has one, so that no request needs to.

        Raises:
            Exception: that failed; nothing depends on it.
        """
        if self._client is not None:
            self._client.warm_up(self._model.Meta.table_name, str(self._model._hash_keyname))

    @contextmanager
    def _request(self, operation: str) -> Iterator[None]:
        """Time one DynamoDB request and let only `ConditionFailed` and `StoreUnavailable` out."""
        started = time.perf_counter()
        try:
            self._have_answers_checked()
            yield
        except _FAILURES as error:
            response = _response(error)
            code = response.get("Error", {}).get("Code")
            if code == _CONDITION_FAILED:
                raise ConditionFailed(response.get("Item")) from None
            if _DEFECTS & {code, *cancellation_reasons(response)}:
                raise
            raise StoreUnavailable from error
        finally:
            self._observe(operation, (time.perf_counter() - started) * 1000)

    def _call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Call DynamoDB past PynamoDB's signals, which nobody receives."""
        answer: dict[str, Any] = self._model._get_connection().connection._make_api_call(operation, request)
        return answer

    def _have_answers_checked(self) -> None:
        """Our own client does it by itself. PynamoDB makes botocore's with the first request, and may make another."""
        client = self._model._get_connection().connection.client
        if client is not self._checked:
            client.meta.events.register("after-call.dynamodb", _check_sum)
            client.meta.events.register("needs-retry.dynamodb", _repeat)
            self._checked = client


class ConditionFailed(Exception):
    """A conditional write was refused; `item` is what the store holds instead; None if nothing."""

    def __init__(self, item: dict[str, Any] | None) -> None:
        super().__init__()
        self.item = item or None


def _check_sum(http_response: Any, **_: Any) -> None:
    """Refuse an answer that is not what DynamoDB sent.

    botocore repeats a request whose answer fails this check, but hands on the answer to the last attempt. It reads
    what is no JSON as an empty answer, and an empty answer is how DynamoDB says that there is no such item.
    """
    checksum = http_response.headers.get("x-amz-crc32")
    if checksum not in (None, str(zlib.crc32(http_response.content))):
        raise NoAnswer("dynamodb", "the checksum does not fit")


def _repeat(response: tuple[Any, dict[str, Any]] | None, attempts: int, **_: Any) -> float | None:
    """Let botocore repeat what it takes for final and our own client repeats: conflicts, and what cancels transactions.

    Args:
        response: the HTTP response and what botocore made of it; None if there is none.
        attempts: how many were made.

    Returns:
        Seconds to wait before the next attempt; None means no further attempt of ours.
    """
    if response is None or attempts > Meta.max_retry_attempts or "Error" not in response[1]:
        return None
    # Of the kernel, as in aws/client.py.
    return random.SystemRandom().uniform(0, _LONGEST_PAUSE_SECONDS) if may_pass(response[1]) else None


def _response(error: BaseException | None) -> dict[str, Any]:
    """DynamoDB's own answer, which PynamoDB and botocore keep at the bottom of the chain of causes."""
    found: dict[str, Any] = {}
    while error is not None:
        # botocore's errors of connections have a `response` as well, and it is None.
        found = getattr(error, "response", None) or found
        error = getattr(error, "cause", None) or error.__cause__
    return found
