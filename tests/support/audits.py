"""Audits that write nothing."""

from __future__ import annotations

from datetime import datetime


class RecordingAudit:
    """An audit that keeps the events and counts it gets."""

    def __init__(self) -> None:
        self.events: list[tuple[str, datetime, str, dict[str, object]]] = []
        self.counts: list[tuple[str, dict[str, str]]] = []

    def event(self, name: str, now: datetime, level: str = "INFO", **facts: object) -> None:
        self.events.append((name, now, level, {key: value for key, value in facts.items() if value is not None}))

    def count(self, name: str, **dimensions: str) -> None:
        self.counts.append((name, dimensions))

    def clear(self) -> None:
        self.events.clear()
        self.counts.clear()


class SilentAudit:
    """An audit that ignores what it gets."""

    def event(self, name: str, now: datetime, level: str = "INFO", **facts: object) -> None: ...

    def count(self, name: str, **dimensions: str) -> None: ...
