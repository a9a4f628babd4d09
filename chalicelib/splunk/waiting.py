"""The entries of the failure record that wait to be replayed: ours, and those of Lambda's on-failure destination."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from chalicelib.aws.errors import Refused
from chalicelib.splunk.record import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Below it Lambda itself writes the records of failed invocations. The name can't be chosen.
# Source: AWS Lambda developer guide, "Capturing records of Lambda asynchronous invocations".
LAMBDA_PREFIX: Final = "aws/lambda/async/"
PREFIXES: Final = {
    Kind.DEFERRED: ("failed/", LAMBDA_PREFIX),
    Kind.REJECTED: ("refused/",),
    Kind.POISON: ("poison/",),
}

_ATTEMPTS: Final = "attempts"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a failure record.

    Attributes:
        name: key in the bucket.
        payload: input of the forwarder; None if the entry can't be read.
        reason: why it is stored.
        at: when it was stored, by the entry itself.
    """

    name: str
    payload: Mapping[str, Any] | None
    reason: str
    at: str


def is_below_a_prefix(name: str) -> bool:
    """Whether an entry can have this name. Nothing else in a bucket may be read or removed."""
    return name.startswith(tuple(prefix for prefixes in PREFIXES.values() for prefix in prefixes))


def parse(name: str, content: bytes | str) -> Entry:
    """Parse an entry: ours, or Lambda's record of a failed invocation. If it can't be read, it has no payload."""
    try:
        fields = json.loads(content)
        payload = fields["requestPayload"]
        if not isinstance(payload, dict):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        return Entry(name, None, "not a record of a failed invocation", "")
    answer = fields.get("responsePayload")
    message = answer.get("errorMessage") if isinstance(answer, dict) else None
    context = fields.get("requestContext")
    condition = context.get("condition") if isinstance(context, dict) else None
    reason = fields.get("reason") or message or condition or "unknown"
    return Entry(name, payload, str(reason), str(fields.get("timestamp", "")))


class BucketSource:
    """A failure record in S3.

    Args:
        client: an S3 client, of AWS's library or our own.
    """

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def names(self, kind: Kind) -> Iterator[str]:
        """The names of the entries of one kind, in their order."""
        for prefix in PREFIXES[kind]:
            after, more = "", True
            while more:
                start = {"StartAfter": after} if after else {}
                page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **start)
                items = page.get("Contents", ())
                more = bool(items) and page.get("IsTruncated", False)
                for item in items:
                    after = item["Key"]
                    if not after.endswith("/"):  # else the console made it, for a folder
                        yield after

    def entries(self, kind: Kind) -> Iterator[Entry]:
        """The entries of one kind, in the order of names. Reading removes nothing."""
        # One that is gone by now was removed by another redrive.
        return filter(None, map(self.find, self.names(kind)))

    def find(self, name: str) -> Entry | None:
        """The object of this name, if it is an entry."""
        stored = self._get(name) if is_below_a_prefix(name) else None
        return parse(name, stored[0]) if stored else None

    def remove(self, entry: Entry) -> None:
        """Remove an entry; idempotent."""
        self._client.delete_object(Bucket=self._bucket, Key=entry.name)

    def count_refusal(self, name: str, most_attempts: int) -> bool:
        """Count a replay in which this entry was rejected although Splunk accepts others; move it after so many.

        A crash between the two steps of the move leaves the entry twice, never not at all.

        Returns:
            Whether it was moved to the refused ones.
        """
        stored = self._get(name)
        if stored is None:
            return False
        content, attempts = stored
        if attempts + 1 < most_attempts:
            self._put(name, content, attempts + 1)
            return False
        (prefix,) = PREFIXES[Kind.REJECTED]
        self._put(prefix + name, content, attempts + 1)
        self._client.delete_object(Bucket=self._bucket, Key=name)
        return True

    def _get(self, name: str) -> tuple[bytes, int] | None:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=name)
        except Refused as error:
            if error.why == "NoSuchKey":
                return None
            raise
        attempts = answer.get("Metadata", {}).get(_ATTEMPTS, "")
        return answer["Body"].read(), int(attempts) if attempts.isdigit() else 0

    def _put(self, name: str, content: bytes, attempts: int) -> None:
        self._client.put_object(
            Bucket=self._bucket,
            Key=name,
            Body=content,
            ContentType="application/json",
            Metadata={_ATTEMPTS: str(attempts)},
        )
