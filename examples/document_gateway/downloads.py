"""Limits for documents on their way at one time: each takes a thread, a connection to the content API and memory."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

EVERYBODY: Final = 32
PER_LINK: Final = 8


class TooMany(Exception):
    """As many are on their way as may be, of this link or of all."""


class Downloads:
    """Counts what is on its way."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def one_more(self, token_id: str) -> Iterator[None]:
        """Count a download of a link until the end of the block.

        Raises:
            TooMany: and nothing is counted.
        """
        with self._lock:
            if self._running[token_id] >= PER_LINK or self._running.total() >= EVERYBODY:
                raise TooMany
            self._running[token_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= Counter([token_id])  # forgets links without downloads
