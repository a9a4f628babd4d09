"""Replays what Splunk did not take: from the S3 failure record, an SQS queue or a folder.

Nothing is deleted before the forwarder has accepted it, so a redrive may be run twice or be killed at any moment:
at worst Splunk gets again what it got just before the kill.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from chalicelib.splunk.envelope import decode
from chalicelib.splunk.errors import MalformedEnvelope, SplunkError
from chalicelib.splunk.record import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

# Where Lambda itself puts the records of failed invocations; the name can't be chosen.
# Source: AWS Lambda developer guide, "Capturing records of Lambda asynchronous invocations".
LAMBDA_PREFIX: Final = "aws/lambda/async/"
PREFIXES: Final = {Kind.FAILED: ("failed/", LAMBDA_PREFIX), Kind.POISON: ("poison/",)}

SECONDS_PER_ENTRY: Final = 120.0
_VISIBILITY_SECONDS: Final = 300  # longer than one entry may take, so that no second redrive sees it meanwhile
_QUEUE_WAIT_SECONDS: Final = 1

# One operator's machine has memory enough for what a function must refuse.
MAX_BYTES: Final = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a failure record.

    Attributes:
        name: key, path or message id.
        payload: what the forwarder takes; None where the entry can't be read.
        reason: why it is kept.
        at: when it was kept, as the entry says.
        handle: what the source needs to remove it.
    """

    name: str
    payload: Mapping[str, Any] | None
    reason: str
    at: str
    handle: str

    def summary(self) -> dict[str, Any]:
        """What a person or a program sees of it: never a message."""
        facts: dict[str, Any] = {"name": self.name, "at": self.at, "reason": self.reason}
        if self.payload is None:
            return facts | {"events": None}
        if "awslogs" not in self.payload:
            return facts | {"events": 1, "source": str(self.payload.get("source", "unknown"))}
        try:
            envelope = decode(self.payload, MAX_BYTES)
        except MalformedEnvelope:
            return facts | {"events": None}
        return facts | {"events": envelope.count, "source": envelope.log_group}


class Source(Protocol):
    """Where entries wait."""

    def entries(self, kind: Kind) -> Iterator[Entry]:
        """The entries of one kind, oldest name first."""

    def remove(self, entry: Entry) -> None:
        """Forget an entry; one that is gone already is no error."""


class Replay(Protocol):
    """The forwarder, as far as a redrive needs it: `chalicelib.splunk.forward.Forwarder`."""

    def forward(self, event: Mapping[str, Any], remaining_ms: Callable[[], int]) -> Any:
        """Forward a subscription event."""

    def forward_event(self, event: Mapping[str, Any], remaining_ms: Callable[[], int]) -> Any:
        """Forward an EventBridge event."""


@dataclass(slots=True)
class Outcome:
    """What a redrive did.

    Attributes:
        replayed: entries that were accepted and removed.
        events: log events that Splunk accepted.
        set_aside: log events that went to the poison of the failure record.
        unreadable: names of entries that hold nothing to replay; they stay.
        stopped: why it ended early.
    """

    replayed: int = 0
    events: int = 0
    set_aside: int = 0
    unreadable: list[str] | None = None
    stopped: str | None = None

    def facts(self) -> dict[str, Any]:
        """As JSON shows it."""
        return asdict(self) | {"unreadable": self.unreadable or []}


def redrive(
    source: Source,
    forwarder: Replay,
    entries: Iterable[Entry],
    monotonic: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Replay entries one by one, and stop at the first that Splunk does not take.

    Args:
        source: where the entries wait.
        forwarder: the very code that the Lambda functions run.
        entries: of `source`.
        monotonic: seconds.
    """
    outcome = Outcome()
    for entry in entries:
        if entry.payload is None:
            outcome.unreadable = [*(outcome.unreadable or []), entry.name]
            continue
        try:
            _replay(source, forwarder, entry, outcome, monotonic)
        except SplunkError as error:
            outcome.stopped = str(error)
        if outcome.stopped:
            break
    return outcome


def _replay(source: Source, forwarder: Replay, entry: Entry, outcome: Outcome, monotonic: Callable[[], float]) -> None:
    assert entry.payload is not None  # noqa: S101 - the caller looked
    deadline = monotonic() + SECONDS_PER_ENTRY
    call = forwarder.forward if "awslogs" in entry.payload else forwarder.forward_event
    report = call(entry.payload, lambda: int((deadline - monotonic()) * 1000))
    # Poison that is poison still has just been written again, under the same name.
    if entry.name not in report.records:
        source.remove(entry)
        outcome.replayed += 1
    outcome.events += report.delivered
    outcome.set_aside += report.set_aside
    if report.kept:
        # The forwarder has kept what is left under a new name; the next entry would fare no better.
        outcome.stopped = f"Splunk took only a part: {report.kept} events are kept for the next run"


def parse(name: str, content: bytes | str, handle: str) -> Entry:
    """Read an entry: ours, or Lambda's record of a failed invocation. What can't be read is told as such."""
    try:
        found = json.loads(content)
        payload = found["requestPayload"]
        if not isinstance(payload, dict):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        return Entry(name, None, "not a record of a failed invocation", "", handle)
    answer = found.get("responsePayload")
    told = answer.get("errorMessage") if isinstance(answer, dict) else None
    context = found.get("requestContext")
    condition = context.get("condition") if isinstance(context, dict) else None
    reason = found.get("reason") or told or condition or "unknown"
    return Entry(name, payload, str(reason), str(found.get("timestamp", "")), handle)


class BucketSource:
    """A failure record in S3: our own entries, and those of Lambda's on-failure destination."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def entries(self, kind: Kind) -> Iterator[Entry]:
        """The objects below the kind's prefixes. Listing takes nothing away."""
        pages = self._client.get_paginator("list_objects_v2")
        for prefix in PREFIXES[kind]:
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                for item in page.get("Contents", ()):
                    body = self._client.get_object(Bucket=self._bucket, Key=item["Key"])["Body"].read()
                    yield parse(item["Key"], body, item["Key"])

    def remove(self, entry: Entry) -> None:
        """Delete the object."""
        self._client.delete_object(Bucket=self._bucket, Key=entry.handle)


class QueueSource:
    """An SQS queue as Lambda's on-failure destination. It holds failed invocations, never poison.

    Reading a message hides it from others for five minutes; unless it is removed, it comes back.
    """

    def __init__(self, client: Any, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def entries(self, kind: Kind) -> Iterator[Entry]:
        """The messages that are visible now."""
        seen: set[str] = set()
        while kind is Kind.FAILED:
            answer = self._client.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=1,
                VisibilityTimeout=_VISIBILITY_SECONDS,
                WaitTimeSeconds=_QUEUE_WAIT_SECONDS,
            )
            messages = answer.get("Messages", ())
            if not messages or messages[0]["MessageId"] in seen:
                return
            for message in messages:
                seen.add(message["MessageId"])
                yield parse(message["MessageId"], message["Body"], message["ReceiptHandle"])

    def count(self) -> int:
        """About how many messages wait; counting takes none."""
        answer = self._client.get_queue_attributes(
            QueueUrl=self._queue_url, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    def remove(self, entry: Entry) -> None:
        """Delete the message."""
        self._client.delete_message(QueueUrl=self._queue_url, ReceiptHandle=entry.handle)


class FolderSource:
    """The failure record of a service on one's own machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def entries(self, kind: Kind) -> Iterator[Entry]:
        """The files below the kind's folders."""
        for prefix in PREFIXES[kind]:
            for path in sorted((self._folder / prefix).rglob("*.json")):
                yield parse(path.relative_to(self._folder).as_posix(), path.read_bytes(), str(path))

    def remove(self, entry: Entry) -> None:
        """Delete the file."""
        Path(entry.handle).unlink(missing_ok=True)
