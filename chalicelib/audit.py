"""What the service writes about itself: audit events, metrics and diagnostics, one JSON object a line.

Events and diagnostics are redacted. Metrics hold texts of ours alone.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from chalicelib.log_names import KEPT, WATCHED_REASON, Event, Metric
from chalicelib.redaction import as_json, to_line

NAMESPACE: Final = "TokenService"
_IDS = ("requestId", "lambdaRequestId")

Write = Callable[[str], object]


def timestamp(instant: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, `2026-01-31T12:00:00.000Z`."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_line(text: str) -> None:
    """Write one line to standard output in one piece, so that lines of parallel requests don't mix."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Audit:
    """Writes audit events and metrics of one deployment.

    Args:
        stage: the deployment, the dimension of every metric.
        version: the service's version.
        write: takes one line without its line break.
    """

    def __init__(self, stage: str, version: str, write: Write = write_line) -> None:
        self._stage = stage
        self._version = version
        self._write = write

    def event(self, name: Event, now: datetime, level: str = "INFO", **facts: object) -> None:
        """Write one audit event.

        Args:
            name: `token.used` and the like.
            now: when it happened.
            level: `INFO` or `WARNING`.
            facts: requestId, clientId, tokenId and so on: texts, numbers, instants, lists of texts; None is left out.
        """
        line: dict[str, object] = {"event": name, "time": timestamp(now), "level": level}
        for key, value in facts.items():
            if value is not None:
                line[key] = timestamp(value) if isinstance(value, datetime) else value
        line["stage"] = self._stage
        line["version"] = self._version
        self._write(to_line(line))

    def count(self, name: Metric, **facts: str) -> None:
        """Count one occurrence; facts are further members of the line."""
        self.metrics({name: (1, "Count")}, **facts)

    def latency(self, operation: str, milliseconds: float) -> None:
        """Record how long the store took for one operation."""
        self.metrics({Metric.STORE_LATENCY: (round(milliseconds, 3), "Milliseconds")}, Operation=operation)

    def metrics(self, values: Mapping[Metric, tuple[float, str]], **facts: str) -> None:
        """Write measurements as one line, in CloudWatch's embedded metric format if CloudWatch keeps one of them.

        Args:
            values: name to value and unit.
            facts: further members, no dimensions: each value of a dimension would be charged as a metric. They are
                texts of ours, never of a caller: nothing in the line is redacted.

        Source: Amazon CloudWatch user guide, "Embedded metric format specification".
        """
        line: dict[str, object] = {}
        if kept := [{"Name": name, "Unit": unit} for name, (_, unit) in values.items() if name in KEPT]:
            sets = [["Stage"], ["Stage", "Reason"]] if facts.get("Reason") == WATCHED_REASON else [["Stage"]]
            line["_aws"] = {
                "Timestamp": time.time_ns() // 1_000_000,
                "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": sets, "Metrics": kept}],
            }
        line["Stage"] = self._stage
        line.update(facts)
        line.update((name, value) for name, (value, _) in values.items())
        self._write(as_json(line))


class JsonFormatter(logging.Formatter):
    """Diagnostics as one JSON object a line: what failed and where, never the values that were at hand."""

    def __init__(self, stage: str, version: str) -> None:
        super().__init__()
        self._stage = stage
        self._version = version

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "event": "log",
            "time": timestamp(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "stage": self._stage,
            "version": self._version,
        }
        line.update((name, getattr(record, name)) for name in _IDS if hasattr(record, name))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return to_line(line)


class _LineHandler(logging.Handler):
    """Writes where audit events go, and in one piece like them."""

    def emit(self, record: logging.LogRecord) -> None:
        write_line(self.format(record))


def configure_logging(stage: str, version: str, level: str) -> None:
    """Let all diagnostics of this process go to standard output as JSON lines.

    Only our own logger follows `level`. Libraries stay at WARNING: at DEBUG botocore writes signed requests.
    """
    handler = _LineHandler()
    handler.setFormatter(JsonFormatter(stage, version))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("tokenservice").setLevel(level)
