"""Entries of the failure record: what may be shown of them."""

from __future__ import annotations

from typing import Any, Final

from chalicelib.splunk.envelope import decode
from chalicelib.splunk.errors import MalformedEnvelope
from chalicelib.splunk.waiting import Entry

SECONDS_PER_ENTRY: Final = 120.0

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
