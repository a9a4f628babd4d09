"""One request to an AWS service: signed, sent, read, and repeated where that may help.

Source: AWS general reference, "Error retries and exponential backoff in AWS".
"""

from __future__ import annotations

import os
import random
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from chalicelib.aws.connection import Answer, Closed, Endpoint
from chalicelib.aws.errors import NoAnswer, Refused
from chalicelib.aws.signing import Credentials, Signer, region_from_environ

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chalicelib.aws.signing import Source

AMAZON_ROOTS: Final = os.path.join(os.path.dirname(__file__), "amazon_roots.pem")  # noqa: PTH118, PTH120 - pathlib loads slowly
"""The authorities that AWS's own endpoints have their certificates from, out of the hundred and more of a browser."""

_PASSING: Final = {
    *("LimitExceededException", "ProvisionedThroughputExceededException", "ReplicatedWriteConflictException"),
    *("RequestLimitExceeded", "SlowDown", "ThrottlingException", "TransactionConflictException"),
    "TransactionInProgressException",
}
_PASSING_REASONS: Final = {
    *("ProvisionedThroughputExceeded", "ReplicatedWriteConflict", "RequestLimitExceeded", "ThrottlingError"),
    "TransactionConflict",
}
_SERVER_ERROR: Final = 500
_TOO_MANY_REQUESTS: Final = 429

T = TypeVar("T")


class Patience(NamedTuple):
    """How long to try.

    Attributes:
        attempts: how often a request is sent.
        attempt_seconds: how long one may take, connecting included.
        total_seconds: how long all of them may take, with the pauses between them.
        pause_seconds: the longest pause before the second attempt; it doubles with each further one, and the pause
            is random below it, so that callers who failed together do not come back together. A connection that was
            closed while it was idle is no sign of trouble: no pause then.
    """

    attempts: int
    attempt_seconds: float
    total_seconds: float
    pause_seconds: float


class Request(NamedTuple):
    """What is sent, but for what proves who sends it.

    Attributes:
        path: percent-encoded, without the query.
        headers: with lower-case names.
        query: percent-encoded and in the order of names.
    """

    method: str
    path: str
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""
    query: str = ""


class AwsClient:
    """Sends requests to one service.

    Whatever is sent may arrive twice: callers send only what does no harm then.

    Args:
        service: as in the credential scope, `dynamodb` for example.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        service: str,
        endpoint: Endpoint,
        signer: Signer,
        patience: Patience,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._service = service
        self._endpoint = endpoint
        self._signer = signer
        self._patience = patience
        self._sleep = sleep

    @classmethod
    def from_environ(cls, service: str, environ: Mapping[str, str], patience: Patience) -> AwsClient:
        """A client for the region, the credentials and the endpoint that the standard variables name.

        Raises:
            NoCredentials: a variable is missing.
        """
        region = region_from_environ(environ)
        url = environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or environ.get("AWS_ENDPOINT_URL")
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        fips = environ.get("AWS_USE_FIPS_ENDPOINT", "").strip().lower() == "true"
        # In GovCloud the only endpoint of Systems Manager is a FIPS one.
        name = f"{service}-fips" if fips and (service, region[:7]) != ("ssm", "us-gov-") else service
        endpoint = Endpoint(url or f"https://{name}.{region}.{suffix}", environ.get("AWS_CA_BUNDLE") or AMAZON_ROOTS)
        return cls(service, endpoint, Signer(_credentials(environ), region, service), patience)

    def close(self) -> None:
        self._endpoint.close()

    def send(self, request: Request, read: Callable[[Answer], T], attempts: int | None = None) -> T:
        """Send a request until it is answered or our patience ends.

        Args:
            read: makes of the answer what the caller wants of it. Raises Refused where the service refused, and
                OSError where the answer can't be trusted.
            attempts: how often it is sent; None means as often as our patience allows.

        Raises:
            Refused: the service refused, was throttling or had an error of its own.
            NoAnswer: it gave no answer that can be trusted.
        """
        last = time.monotonic() + self._patience.total_seconds
        attempt = 0
        while True:
            attempt += 1
            failed: OSError | Refused
            try:
                return self._attempt(request, read, last)
            except Refused as error:
                if not may_pass(error.response):
                    raise
                failed = error
            except OSError as error:
                failed = error
            longest = 0.0 if isinstance(failed, Closed) else self._patience.pause_seconds * 2 ** (attempt - 1)
            # Of the kernel: functions that are restored from one snapshot share the state of Python's own generator.
            pause = random.SystemRandom().uniform(0, longest)
            if attempt < (attempts or self._patience.attempts) and time.monotonic() + pause < last:
                self._sleep(pause)
            elif isinstance(failed, OSError):
                raise NoAnswer(self._service, type(failed).__name__) from failed
            else:
                raise failed

    def _attempt(self, request: Request, read: Callable[[Answer], T], last: float) -> T:
        headers = {**request.headers, "host": self._endpoint.host}
        signed = self._signer.sign(request.method, request.path, headers, request.body, request.query)
        lines = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
        target = f"{request.path}?{request.query}" if request.query else request.path
        head = f"{request.method} {target} HTTP/1.1\r\n{lines}content-length: {len(request.body)}\r\n\r\n"
        deadline = min(last, time.monotonic() + self._patience.attempt_seconds)
        return read(self._endpoint.exchange(head.encode() + request.body, deadline))


def _credentials(environ: Mapping[str, str]) -> Source:
    if environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI") and not environ.get("AWS_ACCESS_KEY_ID"):
        from chalicelib.aws.container import ContainerCredentials  # noqa: PLC0415 - under SnapStart alone

        return ContainerCredentials(environ)
    return Credentials.from_environ(environ)


def refusal(answer: Answer, code: str, message: str, operation: str, more: Mapping[str, Any]) -> Refused:
    """An answer as `Refused` holds it.

    Args:
        code: the error's name.
        more: what else the answer says.
    """
    response = {
        **more,
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": answer.status, "HTTPHeaders": answer.headers},
    }
    return Refused(response, operation)


def may_pass(response: Mapping[str, Any]) -> bool:
    """Whether a request may succeed when it is repeated after this refusal.

    Args:
        response: as `Refused` holds it.

    Source: Amazon DynamoDB developer guide, "Error handling with DynamoDB"; API reference, TransactWriteItems.
    """
    code = response["Error"]["Code"]
    if code == "TransactionCanceledException":
        reasons = cancellation_reasons(response)
        return bool(reasons) and reasons <= _PASSING_REASONS
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    return status >= _SERVER_ERROR or status == _TOO_MANY_REQUESTS or code in _PASSING


def cancellation_reasons(response: Mapping[str, Any]) -> frozenset[str]:
    """Why a transaction was cancelled; empty for any other refusal."""
    return frozenset(reason.get("Code", "None") for reason in response.get("CancellationReasons", ())) - {"None"}
