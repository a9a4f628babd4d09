"""Everything that this process writes: standard output, standard error and log records."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from _pytest.logging import LogCaptureHandler

from chalicelib import audit


class Output:
    """What this process writes while a test runs."""

    def __init__(self, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
        self._capfd = capfd
        self._caplog = caplog

    def read(self) -> str:
        """Everything since the last call."""
        written = self._capfd.readouterr()
        text: str = written.out + written.err + self._caplog.text
        self._caplog.clear()
        return text


@contextmanager
def level(name: str) -> Iterator[None]:
    """Let the process log as with that LOG_LEVEL."""
    root, ours = logging.getLogger(), logging.getLogger("tokenservice")
    before, levels = list(root.handlers), (root.level, ours.level)
    audit.configure_logging("local", "1", name)
    # Log records are captured as well, and each line is written once.
    root.handlers += [handler for handler in before if isinstance(handler, LogCaptureHandler)]
    try:
        yield
    finally:
        root.handlers = before
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
