"""What the service writes about itself: audit events, metrics and diagnostics, one JSON object a line.

Everything goes through `redact()` on its way out: a token or a client secret that a caller put where it does not
belong (into a user name, say) never reaches a log.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

NAMESPACE: Final = "TokenService"

_TOKEN = re.compile(r"[0-9A-Fa-f]{64,}")
_CLIENT_SECRET = re.compile(r"tss_[A-Za-z0-9_-]{43}")
# Case is ignored in the schemes' names alone: it makes a K of the Kelvin sign, and that is no base64.
_BASIC = re.compile(r"\b((?i:basic)\s+)([A-Za-z0-9+/]{3,}={0,2})")
_OTHER_SCHEME = re.compile(r"\b((?i:bearer|splunk)\s+)[A-Za-z0-9+/=._~-]{16,}")
_LONG_HEX = re.compile(r"[0-9A-Fa-f]{64}")
_IDS = ("requestId", "lambdaRequestId")
_SIGNS = ("tss_", "basic", "bearer", "splunk")

Write = Callable[[str], object]


def redact(text: str) -> str:
    """Replace whatever looks like a token, a client secret or credentials.

    A token is replaced by its id in brackets, which still tells an auditor which one it was.
    """
    text = _TOKEN.sub(_token_id, text)
    text = _CLIENT_SECRET.sub("[secret]", text)
    text = _BASIC.sub(_credentials, text)
    return _OTHER_SCHEME.sub(r"\1[credentials]", text)


def redact_all(value: Any) -> Any:
    """The same for every text in a JSON value, names included.

    It must come before the value is written as JSON: the letter of an escape would else become part of what follows.
    """
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(name): redact_all(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [redact_all(member) for member in value]
    return value


def to_line(members: Mapping[str, Any]) -> str:
    """One JSON object in one line, without secrets."""
    line = _as_json(members)
    return _as_json(redact_all(members)) if _is_suspect(line) else line


def _is_suspect(line: str) -> bool:
    """Whether one of the patterns may match in a text of this JSON; most lines hold none, and looking once is cheap.

    What every match begins with stands in the JSON as it is: escapes part no digits and no names. Beyond ASCII, letters
    have more cases than two.
    """
    if not line.isascii():
        return True
    lowered = line.lower()
    return any(sign in lowered for sign in _SIGNS) or _LONG_HEX.search(line) is not None


_as_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _token_id(found: re.Match[str]) -> str:
    # The rule of `tokens.token_id`, stated here again because audit is loaded where tokens are not.
    return f"[tok_{hashlib.sha256(found[0].encode()).hexdigest()[:32]}]"


def _credentials(found: re.Match[str]) -> str:
    """Basic credentials hold a colon; words that merely follow the word "basic" don't."""
    encoded = found[2].rstrip("=")
    decoded = binascii.a2b_base64(encoded + "=" * (-len(encoded) % 4)) if len(encoded) % 4 != 1 else b""
    return f"{found[1]}[credentials]" if b":" in decoded else found[0]


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
        stage: the deployment, a dimension of every metric.
        version: the service's version.
        write: takes one line without its line break.
    """

    def __init__(self, stage: str, version: str, write: Write = write_line) -> None:
        self._stage = stage
        self._version = version
        self._write = write

    def event(self, name: str, now: datetime, level: str = "INFO", **facts: str | None) -> None:
        """Write one audit event.

        Args:
            name: `token.used` and the like.
            now: when it happened.
            level: `INFO` or `WARNING`.
            facts: requestId, clientId, tokenId and so on; None is left out.
        """
        line: dict[str, object] = {"event": name, "time": timestamp(now), "level": level}
        line.update((key, value) for key, value in facts.items() if value is not None)
        line["stage"] = self._stage
        line["version"] = self._version
        self._line(line)

    def count(self, name: str, **dimensions: str) -> None:
        """Count one occurrence; with dimensions it is counted both with and without them."""
        self._metric(name, 1, "Count", dimensions)

    def latency(self, operation: str, milliseconds: float) -> None:
        """Record how long the store took for one operation."""
        self._metric("StoreLatency", round(milliseconds, 3), "Milliseconds", {"Operation": operation})

    def _metric(self, name: str, value: float, unit: str, dimensions: Mapping[str, str]) -> None:
        self.metrics(dimensions, {name: (value, unit)})

    def metrics(self, dimensions: Mapping[str, str], values: Mapping[str, tuple[float, str]]) -> None:
        """Write metrics in CloudWatch's embedded metric format.

        Args:
            dimensions: besides the stage; each metric is kept with them and with the stage alone.
            values: name to value and unit.

        Source: Amazon CloudWatch user guide, "Embedded metric format specification".
        """
        sets = [["Stage"], ["Stage", *dimensions]] if dimensions else [["Stage"]]
        line: dict[str, object] = {
            "_aws": {
                "Timestamp": time.time_ns() // 1_000_000,
                "CloudWatchMetrics": [
                    {
                        "Namespace": NAMESPACE,
                        "Dimensions": sets,
                        "Metrics": [{"Name": name, "Unit": unit} for name, (_, unit) in values.items()],
                    }
                ],
            },
            "Stage": self._stage,
            **dimensions,
        }
        line.update((name, value) for name, (value, _) in values.items())
        self._line(line)

    def _line(self, line: Mapping[str, object]) -> None:
        self._write(to_line(line))


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
