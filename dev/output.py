"""Lines that the local service writes: to the terminal, to a file, and to Splunk."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

Take = Callable[[bytes], object]

_REPEATED: Final = frozenset(
    {"event", "time", "level", "stage", "version", "requestId", "extendedRequestId", "sourceIp", "previous", "issuedAt"}
)
_MAX_BYTES: Final = 20_000_000
"""Of the log file; there may be as much again in the part before."""


def hand_on(lines: Iterable[bytes], takers: Sequence[Take]) -> threading.Thread:
    """Hand each line to every taker, in a thread that ends after the last line. No taker may raise."""

    def run() -> None:
        for line in lines:
            for take in takers:
                take(line)

    thread = threading.Thread(target=run, name="output", daemon=True)
    thread.start()
    return thread


def show(line: bytes) -> None:
    """Print a line for people. If the terminal is gone, nothing happens: the other takers still get their lines."""
    text = readable(line.decode("utf-8", "replace"))
    if text is not None:
        with suppress(OSError, ValueError):
            sys.stdout.buffer.write(f"{text}\n".encode())
            sys.stdout.buffer.flush()


def readable(line: str) -> str | None:
    """A line of the service's log for people, without control characters; None: they don't need it.

    Metrics are left out, and fields that repeat in every event or that only `tokenctl audit` reads. The file
    `.local/service.log` has everything.
    """
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        return printable(line.rstrip("\r\n"))
    if "Stage" in event:  # of measurements alone
        return None
    words = [str(event.get("time", ""))[11:19]]
    if event.get("level") not in (None, "INFO"):
        words.append(str(event["level"]))
    if event.get("event") == "access":
        words += [f"{event.get(name, '-')}" for name in ("status", "method", "path")]
        words.append(f"{event.get('milliseconds')} ms")
    else:
        words.append(str(event.get("event")))
        words += [f"{name}={value}" for name, value in event.items() if name not in _REPEATED]
    return printable(" ".join(words))


def printable(text: str) -> str:
    """The text with control characters as escapes: a terminal would act on them."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


class LogFile(RotatingFileHandler):
    """Appends lines to a file. A full file is renamed to `<name>.1`, which replaces the one before.

    If lines can't be written, the service goes on, and one message is printed.
    """

    _has_failed = False

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=_MAX_BYTES, backupCount=1, encoding="utf-8", delay=True)

    def write(self, line: bytes) -> None:
        self.emit(logging.makeLogRecord({"msg": line.decode("utf-8", "replace").rstrip("\n")}))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - a name of logging
        if not self._has_failed:
            self._has_failed = True
            print(
                f"tokenservice: {self.baseFilename} can't be written: {sys.exc_info()[1]}", file=sys.stderr, flush=True
            )
