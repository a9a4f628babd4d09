"""The audit events of a stage: in CloudWatch Logs, or in the log of `make run`.

They are read, since only they record why uses were refused. The operator's own decisions are added to them, so that
Splunk gets these as well.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from chalicelib.audit import timestamp
from tokenctl import deployment as deployment_
from tokenctl.deployment import LOCAL_STAGE, Deployment, private
from tokenctl.errors import DeploymentError, aws_errors
from tokenctl.terminal import Terminal, plain

Event = Mapping[str, Any]

_STREAM: Final = "tokenctl"
_MOST_AT_ONCE: Final = 100


def open_trail(deployment: Deployment) -> Trail:
    """Return the trail of a stage's REST function."""
    if deployment.stage == LOCAL_STAGE:
        return FileTrail(deployment_.LOCAL_LOG)
    return CloudWatchTrail(deployment.aws("logs"), f"/aws/lambda/tokenservice-{deployment.stage}")


class CloudWatchTrail:
    """Audit events in a log group of CloudWatch Logs."""

    def __init__(self, client: Any, group: str) -> None:
        self.place = f"log group {group}"
        self._client = client
        self._group = group

    def lines(self, term: str, since: datetime) -> Iterator[str]:
        """Lines in which the term occurs, roughly in the order of time.

        Args:
            term: letters, digits, `.`, `_` and `-`.
            since: nothing that was logged before; emulators and files may have more.

        Raises:
            DeploymentError: while reading, too.
        """
        pages = self._client.get_paginator("filter_log_events").paginate(
            logGroupName=self._group, startTime=int(since.timestamp() * 1000), filterPattern=f'"{term}"'
        )
        with aws_errors(self.place):
            for page in pages:
                yield from (event["message"] for event in page["events"] if term in event["message"])

    def add(self, lines: Sequence[str]) -> None:
        """Write audit events, at most a hundred, a line of JSON each.

        Raises:
            DeploymentError: perhaps none of them was written.
        """
        at_ms = time.time_ns() // 1_000_000
        stream = {"logGroupName": self._group, "logStreamName": _STREAM}
        with aws_errors(self.place):
            with suppress(self._client.exceptions.ResourceAlreadyExistsException):
                self._client.create_log_stream(**stream)
            self._client.put_log_events(**stream, logEvents=[{"timestamp": at_ms, "message": line} for line in lines])


class FileTrail:
    """Audit events in the log file of `make run`, and in the part before it."""

    def __init__(self, path: Path) -> None:
        self.place = f"{path.parent.name}/{path.name}"
        self._path = path

    def lines(self, term: str, since: datetime) -> Iterator[str]:
        parts = [path for path in (self._path.with_name(f"{self._path.name}.1"), self._path) if path.exists()]
        if not parts:
            raise DeploymentError(f"{self.place}: missing; 'make run' writes it")
        for path in parts:
            try:
                with path.open(encoding="utf-8", errors="replace") as lines:
                    yield from (line for line in lines if term in line)
            except OSError as error:
                raise DeploymentError(f"{self.place}: {error.strerror}") from None

    def add(self, lines: Sequence[str]) -> None:
        try:
            with open(self._path, "a", encoding="utf-8", opener=private) as file:
                file.write("".join(f"{line}\n" for line in lines))
        except OSError as error:
            raise DeploymentError(f"{self.place}: {error.strerror}") from None


Trail = CloudWatchTrail | FileTrail


class Record:
    """Adds audit events to a trail, a hundred at a time; `flush()` adds the last.

    Args:
        open_trail: opens the trail when there is something to add.
        otherwise: gets the reason and the events that could not be added.
    """

    def __init__(self, open_trail: Callable[[], Trail], otherwise: Callable[[str], object]) -> None:
        self._open = open_trail
        self._otherwise = otherwise
        self._lines: list[str] = []

    def write(self, line: str) -> None:
        self._lines.append(line)
        if len(self._lines) == _MOST_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            self._open().add(lines)
        except DeploymentError as error:
            self._otherwise(f"Store these audit events; they are not in the log of the stage ({error}):")
            for line in lines:
                self._otherwise(_without_node(line))


def _without_node(line: str) -> str:
    """Return an audit event for a terminal, without the document's id; the token's id identifies it."""
    return json.dumps({name: value for name, value in json.loads(line).items() if name != "nodeId"}, ensure_ascii=False)


def audit_events(trail: Trail, term: str, since: datetime) -> Iterator[Event]:
    """Audit events in whose line the term occurs, none older than an instant. A line may be cut off: it is left out.

    Raises:
        DeploymentError: while reading, too.
    """
    earliest = timestamp(since)
    for line in trail.lines(term, since):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and isinstance(event.get("time"), str) and event["time"] >= earliest:
            yield event


def read(terminal: Terminal, trail: Trail, term: str, since: datetime) -> tuple[list[Event], str | None]:
    """Return the events and None, or those that could be read and the error."""
    found: list[Event] = []
    try:
        # What was read before an error stays in the list.
        found.extend(terminal.tracked(audit_events(trail, term, since), f"Reading {trail.place}"))
    except DeploymentError as error:
        return found, str(error)
    return found, None


def show_unread(console: Console, unread: str | None) -> None:
    if unread:
        console.print()
        console.print(plain(f"Refusals are missing. {unread}", "yellow"))
