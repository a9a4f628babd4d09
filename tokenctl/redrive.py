"""Sources of entries beside the bucket: an SQS queue, and a folder on the developer's machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chalicelib.splunk.envelope import decode
from chalicelib.splunk.errors import MalformedEnvelope
from chalicelib.splunk.record import Kind
from chalicelib.splunk.waiting import PREFIXES, Entry, is_below_a_prefix, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS_PER_ENTRY: Final = 120.0
_VISIBILITY_SECONDS: Final = 300  # longer than one entry may take, so that no second redrive gets it meanwhile
_QUEUE_WAIT_SECONDS: Final = 1

# An operator's machine has the memory for inputs that a function must reject.
MAX_BYTES: Final = 1024 * 1024 * 1024


def summary(entry: Entry) -> dict[str, Any]:
    """The facts of an entry that may be shown: never a message."""
    facts: dict[str, Any] = {"name": entry.name, "at": entry.at, "reason": entry.reason}
    if entry.payload is None:
        return facts | {"events": None}
    if "awslogs" not in entry.payload:
        return facts | {"events": 1, "source": str(entry.payload.get("source", "unknown"))}
    try:
        envelope = decode(entry.payload, MAX_BYTES)
    except MalformedEnvelope:
        return facts | {"events": None}
    return facts | {"events": len(envelope.events), "source": envelope.log_group}


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

    def find(self, name: str) -> Entry | None:
        """None: a queue has an order of its own, and searching for a message would hide the others."""
        return None

    def count(self) -> int:
        """About how many messages wait. Reads none."""
        answer = self._client.get_queue_attributes(
            QueueUrl=self._queue_url, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    def remove(self, entry: Entry) -> None:
        self._client.delete_message(QueueUrl=self._queue_url, ReceiptHandle=entry.handle)


class FolderSource:
    """The failure record of a service on the developer's machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def entries(self, kind: Kind) -> Iterator[Entry]:
        for prefix in PREFIXES[kind]:
            for path in sorted((self._folder / prefix).rglob("*.json")):
                if entry := self.find(path.relative_to(self._folder).as_posix()):
                    yield entry

    def find(self, name: str) -> Entry | None:
        """The file of this name, if it is an entry."""
        path = self._folder / name
        try:
            exists = is_below_a_prefix(name) and ".." not in path.parts and path.is_file()
        except OSError:  # a name that no file can have
            exists = False
        if not exists:
            return None
        return parse(name, path.read_bytes(), str(path))

    def remove(self, entry: Entry) -> None:
        Path(entry.handle).unlink(missing_ok=True)
