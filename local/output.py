"""What the local service writes: shown in the terminal, kept in a file, handed on to Splunk."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final, cast

from tokenctl.deployment import private

Take = Callable[[bytes], object]

MAX_BYTES: Final = 20_000_000
"""Of the log file; there may be as much again in the part before."""


class Output:
    """Hands each line to everyone who takes it, until there are no more.

    Args:
        lines: the service's output.
        takers: none of them may raise.
    """

    def __init__(self, lines: Iterable[bytes], takers: Iterable[Take]) -> None:
        self._lines = lines
        self._takers = tuple(takers)
        self._thread = threading.Thread(target=self._hand_on, name="output", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait until the last line was handed on."""
        self._thread.join()

    def _hand_on(self) -> None:
        for line in self._lines:
            for take in self._takers:
                take(line)


def show(line: bytes) -> None:
    """Write a line to the terminal. One that is gone is no reason to keep lines from others."""
    with suppress(OSError, ValueError):
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


class LogFile(RotatingFileHandler):
    """Keeps lines where only their owner can read them: they name documents.

    A full file becomes the part before, `<name>.1`, and the part before that goes. Where no line can be kept the
    service goes on, and it is said once.
    """

    terminator = ""  # each line has its own

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(path, maxBytes=max_bytes, backupCount=1, encoding="utf-8", errors="replace", delay=True)
        self._path = path
        self._has_failed = False

    def write(self, line: bytes) -> None:
        """Keep a line."""
        self.handle(logging.makeLogRecord({"msg": line.decode("utf-8", "replace")}))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name for it
        if not self._has_failed:
            self._has_failed = True
            why = sys.exc_info()[1]
            told = why.strerror if isinstance(why, OSError) else type(why).__name__
            print(f"tokenservice: {self._path.name} can't be written: {told}", file=sys.stderr, flush=True)

    def _open(self) -> TextIOWrapper:
        opened = open(  # noqa: SIM115 - only the plain `open` takes an opener; the handler closes it
            self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors, opener=private
        )
        return cast(TextIOWrapper, opened)
