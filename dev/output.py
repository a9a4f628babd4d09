"""Lines that the local service writes: to the terminal, to a file, and to Splunk."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tokenctl.deployment import private

Take = Callable[[bytes], object]

_REPEATED: Final = frozenset(
    {"event", "time", "level", "stage", "version", "requestId", "extendedRequestId", "sourceIp", "previous", "issuedAt"}
)
MAX_BYTES: Final = 20_000_000
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
    words += _of_access(event) if event.get("event") == "access" else _of_event(event)
    return printable(" ".join(words))


def printable(text: str) -> str:
    """The text with control characters as escapes: a terminal would act on them."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _of_access(event: Mapping[str, Any]) -> list[str]:
    return [f"{event.get(name, '-')}" for name in ("status", "method", "path")] + [f"{event.get('milliseconds')} ms"]


def _of_event(event: Mapping[str, Any]) -> list[str]:
    return [str(event.get("event"))] + [f"{name}={event[name]}" for name in event if name not in _REPEATED]


class LogFile:
    """Appends lines to a file that only its owner can read: they name documents.

    A full file is renamed to `<name>.1`, which replaces the one before. If lines can't be written, the service goes on,
    and one message is printed.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._has_failed = False

    def write(self, line: bytes) -> None:
        try:
            with open(self._path, "ab", opener=private) as file:
                file.write(line)
                is_full = file.tell() > self._max_bytes
            if is_full:
                self._path.replace(f"{self._path}.1")
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                message = f"tokenservice: {self._path.name} can't be written: {error.strerror}"
                print(message, file=sys.stderr, flush=True)
