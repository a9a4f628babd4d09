"""The gateway's own log: one JSON object a line, without paths, because every path holds a token."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final

_TOKEN: Final = re.compile(r"[0-9A-Fa-f]{64,}")


class JsonFormatter(logging.Formatter):
    """Writes a record and its `facts`; what looks like a token is left out, whoever wrote it."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _TOKEN.sub("[token]", json.dumps(line, ensure_ascii=False))


def to_standard_output() -> None:
    """Have every logger of this process write that way."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
