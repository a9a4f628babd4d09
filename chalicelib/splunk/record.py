"""The failure record: entries with the events that Splunk did not accept, for a redrive or a person.

An entry has the shape of Lambda's own record of a failed asynchronous invocation, so that one reader serves both.

    {"version": "1.0", "timestamp": …, "requestContext": {"condition": "SetAside" | "Undelivered"},
     "reason": …, "reasons": {<reason>: [<number of an event>, …], …},
     "requestPayload": <the forwarder's input, byte for byte>}

`reasons` is in entries of poison: the numbers of the events, from 0, by the reason of each.

Source: AWS Lambda developer guide, "Capturing records of Lambda asynchronous invocations".
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from chalicelib.aws.errors import AwsError
from chalicelib.splunk.errors import RecordUnavailable
from chalicelib.splunk.transport import within

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PUT_SECONDS: Final = 9.0  # how long the S3 client below tries


class Kind(StrEnum):
    """Why an entry is stored; also the first part of its name."""

    DEFERRED = "failed"  # not accepted in time: replay it
    REJECTED = "refused"  # rejected in each of many replays, although Splunk accepted others: for a person
    POISON = "poison"  # can't be accepted as it is: for a person


_CONDITION = {Kind.DEFERRED: "Undelivered", Kind.REJECTED: "Undelivered", Kind.POISON: "SetAside"}


def name_of(kind: Kind, body: bytes) -> str:
    """The name follows from the content: storing the same events again overwrites their entry."""
    return f"{kind.value}/{hashlib.sha256(body).hexdigest()[:40]}.json"


def entry(
    kind: Kind, body: bytes, reason: str, at: datetime, reasons: Mapping[str, Sequence[int]] | None = None
) -> bytes:
    """Write an entry around a body, which stands in it unchanged; `at` is aware. See `FailureRecord.put`."""
    head: dict[str, Any] = {
        "version": "1.0",
        "timestamp": at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "requestContext": {"condition": _CONDITION[kind]},
        "reason": reason,
    }
    if reasons:
        head["reasons"] = reasons
    return json.dumps(head)[:-1].encode() + b', "requestPayload": ' + body + b"}"


def _utc_now() -> datetime:
    return datetime.now(UTC)


class FailureRecord(ABC):
    """Stores entries; `now` gives an aware time."""

    def __init__(self, now: Callable[[], datetime] = _utc_now) -> None:
        self._now = now

    def put(
        self,
        kind: Kind,
        body: bytes,
        reason: str,
        reasons: Mapping[str, Sequence[int]] | None = None,
        within_seconds: float = PUT_SECONDS,
    ) -> str:
        """Store a body. The same body under the same kind is stored once.

        Args:
            kind: why it is stored.
            body: JSON that the forwarder takes.
            reason: why Splunk did not accept it.
            reasons: numbers of the body's events by reason.
            within_seconds: how long that may take.

        Returns:
            The entry's name.

        Raises:
            RecordUnavailable: the entry is not stored, or is not known to be.
        """
        name = name_of(kind, body)
        self._store(name, entry(kind, body, reason, self._now(), reasons), within_seconds)
        return name

    @abstractmethod
    def _store(self, name: str, content: bytes, within_seconds: float) -> None:
        """Store an entry, or raise RecordUnavailable."""


class S3Record(FailureRecord):
    """Stores entries in an S3 bucket.

    Args:
        client: called like botocore's S3 client, but raises our errors; None means our own,
            made at the first entry, since most processes never need it.
    """

    def __init__(self, bucket: str, client: Any = None, now: Callable[[], datetime] = _utc_now) -> None:
        super().__init__(now)
        self._bucket = bucket
        self._client = client

    def _store(self, name: str, content: bytes, within_seconds: float) -> None:
        try:
            # The client's own time-outs count from byte to byte, and loading the client takes time, too.
            within(within_seconds, lambda: self._put_object(name, content))
        except (AwsError, TimeoutError) as error:
            why = error.why if isinstance(error, AwsError) else "no answer in time"
            raise RecordUnavailable(f"the failure record s3://{self._bucket} did not take an entry: {why}") from None

    def _put_object(self, name: str, content: bytes) -> None:
        if self._client is None:
            from chalicelib.aws.services import S3  # noqa: PLC0415 - most processes never come here

            self._client = S3.from_environ(os.environ)
        self._client.put_object(Bucket=self._bucket, Key=name, Body=content, ContentType="application/json")
