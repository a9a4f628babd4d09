"""What waits in the failure record to be replayed: our own entries, and those of Lambda's on-failure destination."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from chalicelib.splunk.record import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Where Lambda itself puts the records of failed invocations; the name can't be chosen.
# Source: AWS Lambda developer guide, "Capturing records of Lambda asynchronous invocations".
LAMBDA_PREFIX: Final = "aws/lambda/async/"
PREFIXES: Final = {
    Kind.FAILED: ("failed/", LAMBDA_PREFIX),
    Kind.REFUSED: ("refused/",),
    Kind.POISON: ("poison/",),
}

_ATTEMPTS: Final = "attempts"


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


class Source(Protocol):
    """Where entries wait."""

    def entries(self, kind: Kind) -> Iterator[Entry]:
        """The entries of one kind, oldest name first. Reading takes nothing away."""

    def find(self, name: str) -> Entry | None:
        """The entry of this name; None where there is none."""

    def remove(self, entry: Entry) -> None:
        """Forget an entry; one that is gone already is no error."""


def is_below_a_prefix(name: str) -> bool:
    """Whether an entry can have this name: nothing else in a bucket or a folder is ours to read and remove."""
    return name.startswith(tuple(prefix for each in PREFIXES.values() for prefix in each))


def parse(name: str, content: bytes | str, handle: str) -> Entry:
    """Read an entry: ours, or Lambda's record of a failed invocation. What can't be read has no payload."""
    try:
        found = json.loads(content)
        payload = found["requestPayload"]
        if not isinstance(payload, dict):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        return Entry(name, None, "not a record of a failed invocation", "", handle)
    answer = found.get("responsePayload")
    message = answer.get("errorMessage") if isinstance(answer, dict) else None
    context = found.get("requestContext")
    condition = context.get("condition") if isinstance(context, dict) else None
    reason = found.get("reason") or message or condition or "unknown"
    return Entry(name, payload, str(reason), str(found.get("timestamp", "")), handle)


class BucketSource:
    """A failure record in S3.

    Args:
        client: an S3 client, of AWS's library or our own.
    """

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def names(self, kind: Kind) -> Iterator[tuple[str, int]]:
        """Name and bytes of each entry of one kind, in the order of names."""
        for prefix in PREFIXES[kind]:
            after, more = "", True
            while more:
                start = {"StartAfter": after} if after else {}
                page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **start)
                items = page.get("Contents", ())
                more = bool(items) and page.get("IsTruncated", False)
                for item in items:
                    after = item["Key"]
                    if not after.endswith("/"):  # else it is what the console makes for a folder
                        yield after, item["Size"]

    def entries(self, kind: Kind) -> Iterator[Entry]:
        """The objects below the kind's prefixes."""
        for name, _ in self.names(kind):
            # Another redrive may have been quicker.
            if entry := self.find(name):
                yield entry

    def find(self, name: str) -> Entry | None:
        """The object of this name, if it is an entry."""
        found = self._get(name) if is_below_a_prefix(name) else None
        return parse(name, found[0], name) if found else None

    def remove(self, entry: Entry) -> None:
        """Delete the object."""
        self._client.delete_object(Bucket=self._bucket, Key=entry.handle)

    def blame(self, name: str, most_attempts: int) -> bool:
        """Note that an entry was refused although Splunk takes others; after so many attempts it is put aside.

        A crash between the two steps of that leaves the entry twice, never not at all.

        Returns:
            Whether it was put aside.
        """
        found = self._get(name)
        if found is None:
            return False
        content, attempts = found
        if attempts + 1 < most_attempts:
            self._put(name, content, attempts + 1)
            return False
        (prefix,) = PREFIXES[Kind.REFUSED]
        self._put(prefix + name, content, attempts + 1)
        self._client.delete_object(Bucket=self._bucket, Key=name)
        return True

    def _get(self, name: str) -> tuple[bytes, int] | None:
        from botocore.exceptions import ClientError  # noqa: PLC0415 - in Lambda, its replacement

        try:
            found = self._client.get_object(Bucket=self._bucket, Key=name)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "NoSuchKey":
                return None
            raise
        attempts = found.get("Metadata", {}).get(_ATTEMPTS, "")
        return found["Body"].read(), int(attempts) if attempts.isdigit() else 0

    def _put(self, name: str, content: bytes, attempts: int) -> None:
        self._client.put_object(
            Bucket=self._bucket,
            Key=name,
            Body=content,
            ContentType="application/json",
            Metadata={_ATTEMPTS: str(attempts)},
        )
