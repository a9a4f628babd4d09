"""DynamoDB's API for PynamoDB, in the place of botocore's client.

PynamoDB asks its client for one thing: `_make_api_call(operation, request)`, with an answer as JSON gives it and the
errors of botocore. Binary attributes are the one difference, and nothing stored here has any: bytes are no JSON.

Source: Amazon DynamoDB developer guide, "DynamoDB low-level API" and "Error handling with DynamoDB".
"""

from __future__ import annotations

import json
import os
import random
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.connection import Answer, Closed, Endpoint, Garbled
from chalicelib.aws.signing import Credentials, Signer, region_from_environ

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

AMAZON_ROOTS: Final = Path(__file__).with_name("amazon_roots.pem")
"""The authorities that AWS's own endpoints have their certificates from, out of the hundred and more of a browser."""

_THROTTLED: Final = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingException",
        "TransactionInProgressException",
    }
)
_SERVER_ERROR: Final = 500
_TOO_MANY_REQUESTS: Final = 429
_OK: Final = 200


class NoAnswer(BotoCoreError):  # type: ignore[misc] # botocore has no types
    """DynamoDB gave no answer that can be trusted; whether it did what it was asked is not known."""

    fmt = "DynamoDB gave no answer: {why}"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try.

    Attributes:
        attempts: how often a request is sent.
        attempt_seconds: how long one may take, connecting included.
        total_seconds: how long all of them may take, with the pauses between them.
        pause_seconds: the longest pause before the second attempt; it doubles with each further one, and the pause
            is random below it, so that callers who failed together do not come back together. A connection that was
            closed while it was idle is no sign of trouble: no pause then.
    """

    attempts: int = 2
    attempt_seconds: float = 1.3
    total_seconds: float = 2.7
    pause_seconds: float = 0.1


PATIENCE: Final = Patience()
"""A caller learns within three seconds that the store is away. Each attempt may count one mismatch more, hence two."""


class DynamoDbClient:
    """Sends requests signed, checks the answers, and repeats what failed on the way or was throttled.

    Every request of the service may arrive twice; a transaction gets a token by which DynamoDB knows it again.

    Args:
        endpoint: where DynamoDB is.
        signer: for the service `dynamodb`.
        patience: how long to try.
        sleep: waits that many seconds.
    """

    # PynamoDB takes a client whose signer found no credentials for a broken one. Ours is never made without.
    _request_signer = None

    def __init__(
        self,
        endpoint: Endpoint,
        signer: Signer,
        patience: Patience = PATIENCE,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._endpoint = endpoint
        self._signer = signer
        self._patience = patience
        self._sleep = sleep

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], patience: Patience = PATIENCE) -> DynamoDbClient:
        """A client for the region, the credentials and the endpoint that the standard variables name.

        Raises:
            NoCredentials: a variable is missing.
        """
        region = region_from_environ(environ)
        url = environ.get("AWS_ENDPOINT_URL_DYNAMODB") or environ.get("AWS_ENDPOINT_URL")
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        endpoint = Endpoint(
            url or f"https://dynamodb.{region}.{suffix}", environ.get("AWS_CA_BUNDLE") or str(AMAZON_ROOTS)
        )
        return cls(endpoint, Signer(Credentials.from_environ(environ), region, "dynamodb"), patience)

    def warm_up(self, table_name: str, key: str) -> None:
        """Open a connection by asking, in one attempt, for an item that there is not.

        Args:
            key: name of the table's partition key.

        Raises:
            ClientError, OSError: that failed. Nothing depends on it.
        """
        request = {"TableName": table_name, "Key": {key: {"S": "warm-up"}}}
        deadline = time.monotonic() + self._patience.attempt_seconds
        answer, document = self._ask("GetItem", json.dumps(request).encode(), deadline)
        if answer.status != _OK:
            raise ClientError(_refusal(answer, document), "GetItem")

    def close(self) -> None:
        """Close idle connections."""
        self._endpoint.close()

    def _make_api_call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Called by PynamoDB.

        Raises:
            ClientError: DynamoDB refused, was throttling or had an error of its own until our patience ended.
            NoAnswer: it gave no answer that can be trusted.
        """
        if operation == "TransactWriteItems":
            request.setdefault("ClientRequestToken", os.urandom(16).hex())
        body = json.dumps(request).encode()
        answer, document = self._send(operation, body)
        if answer.status == _OK:
            return document
        raise ClientError(_refusal(answer, document), operation)

    def _send(self, operation: str, body: bytes) -> tuple[Answer, dict[str, Any]]:
        patience = self._patience
        last = time.monotonic() + patience.total_seconds
        attempt = 0
        while True:
            attempt += 1
            told: tuple[Answer, dict[str, Any]] | None = None
            failed: OSError | None = None
            try:
                told = self._ask(operation, body, min(last, time.monotonic() + patience.attempt_seconds))
            except OSError as error:
                failed = error
            if told is not None and not _is_worth_repeating(*told):
                return told
            longest = 0.0 if isinstance(failed, Closed) else patience.pause_seconds * 2 ** (attempt - 1)
            pause = random.uniform(0, longest)  # noqa: S311 - nobody gains by guessing it
            if attempt < patience.attempts and time.monotonic() + pause < last:
                self._sleep(pause)
                continue
            if told is not None:
                return told
            raise NoAnswer(why=type(failed).__name__) from failed

    def _ask(self, operation: str, body: bytes, deadline: float) -> tuple[Answer, dict[str, Any]]:
        answer = self._endpoint.exchange(self._signed(operation, body), deadline)
        return answer, _document(answer)

    def _signed(self, operation: str, body: bytes) -> bytes:
        headers = {
            "content-type": "application/x-amz-json-1.0",
            "host": self._endpoint.host,
            "x-amz-target": f"DynamoDB_20120810.{operation}",
        }
        signed = self._signer.sign("POST", "/", headers, body)
        lines = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
        return f"POST / HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body


def _document(answer: Answer) -> dict[str, Any]:
    """The answer's JSON; of a page that something on the way answered in DynamoDB's place: nothing.

    Raises:
        Garbled: it is not what DynamoDB sent.
    """
    told = answer.headers.get("x-amz-crc32")
    if told is not None and told != str(zlib.crc32(answer.body)):
        raise Garbled("the checksum does not fit")
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = None
    if isinstance(document, dict):
        return document
    if answer.status >= _SERVER_ERROR:
        return {}
    raise Garbled("no JSON object")


def _is_worth_repeating(answer: Answer, document: Mapping[str, Any]) -> bool:
    return (
        answer.status >= _SERVER_ERROR or answer.status == _TOO_MANY_REQUESTS or _code(answer, document) in _THROTTLED
    )


def _code(answer: Answer, document: Mapping[str, Any]) -> str:
    """The error's name, of which DynamoDB tells the namespace as well."""
    return str(document.get("__type", answer.status)).rpartition("#")[2]


def _refusal(answer: Answer, document: Mapping[str, Any]) -> dict[str, Any]:
    """The answer as botocore's errors hold it."""
    return {
        **document,
        "Error": {
            "Code": _code(answer, document),
            "Message": document.get("message") or document.get("Message") or "",
        },
        "ResponseMetadata": {"HTTPStatusCode": answer.status, "HTTPHeaders": answer.headers},
    }
