"""What a stage's service wrote of its decisions, read back: from CloudWatch Logs, or from the log of `make run`.

The store knows every use. Why uses were refused only the log knows, for as long as it keeps its lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.audit import timestamp
from tokenctl import deployment as deployment_
from tokenctl.deployment import LOCAL_STAGE, Deployment

Event = Mapping[str, Any]


class TrailUnreadable(Exception):
    """The log can't be read; the message says why."""


class Trail(Protocol):
    """Where a stage's audit events are."""

    place: str

    def events(self, term: str, since: datetime) -> Iterator[Event]:
        """Audit events in whose line the term stands, roughly in the order of time.

        Args:
            term: letters, digits, `.`, `_` and `-`.
            since: nothing older.

        Raises:
            TrailUnreadable: while reading, too.
        """


def open_trail(deployment: Deployment) -> Trail:
    """The trail of a stage's REST function."""
    if deployment.stage == LOCAL_STAGE:
        return FileTrail(deployment_.LOCAL_LOG)
    return CloudWatchTrail(deployment.aws("logs"), f"/aws/lambda/tokenservice-{deployment.stage}")


class CloudWatchTrail:
    """A log group in CloudWatch Logs."""

    def __init__(self, client: Any, group: str) -> None:
        self.place = f"log group {group}"
        self._client = client
        self._group = group

    def events(self, term: str, since: datetime) -> Iterator[Event]:
        pages = self._client.get_paginator("filter_log_events").paginate(
            logGroupName=self._group, startTime=int(since.timestamp() * 1000), filterPattern=f'"{term}"'
        )
        try:
            for page in pages:
                yield from _found((event["message"] for event in page["events"]), term, since)
        except ClientError as error:
            raise TrailUnreadable(f"{self.place}: {error.response.get('Error', {}).get('Code', 'refused')}") from None
        except BotoCoreError as error:
            raise TrailUnreadable(f"{self.place}: {error}") from None


class FileTrail:
    """The file of a service on one's own machine, and the part before it."""

    def __init__(self, path: Path) -> None:
        self.place = f"{path.parent.name}/{path.name}"
        self._path = path

    def events(self, term: str, since: datetime) -> Iterator[Event]:
        parts = [path for path in (self._path.with_name(f"{self._path.name}.1"), self._path) if path.exists()]
        if not parts:
            raise TrailUnreadable(f"{self.place}: not there; 'make run' writes it")
        for path in parts:
            try:
                with path.open(encoding="utf-8", errors="replace") as lines:
                    yield from _found(lines, term, since)
            except OSError as error:
                raise TrailUnreadable(f"{self.place}: {error.strerror}") from None


def _found(lines: Iterator[str], term: str, since: datetime) -> Iterator[Event]:
    """The audit events among lines. Emulators let more through than was asked for, and a line may be cut off."""
    earliest = timestamp(since)
    for line in lines:
        if term not in line:
            continue
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("time"), str) and event["time"] >= earliest:
            yield event
