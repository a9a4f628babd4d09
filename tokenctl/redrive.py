"""Entries of the failure record: what may be shown of them, and those in a folder of the developer's machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from chalicelib.splunk.envelope import decode
from chalicelib.splunk.errors import MalformedEnvelope
from chalicelib.splunk.record import Kind
from chalicelib.splunk.waiting import PREFIXES, Entry, is_below_a_prefix, parse

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
        return parse(name, path.read_bytes())

    def remove(self, entry: Entry) -> None:
        (self._folder / entry.name).unlink(missing_ok=True)
