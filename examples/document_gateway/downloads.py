"""Limits for documents on their way at one time: each takes a thread, a connection to the content API and memory."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

EVERYBODY: Final = 32
PER_LINK: Final = 8
PER_LEASE: Final = 4
"""A browser takes one, a download manager a few."""


class TooMany(Exception):
    """As many are on their way as may be.

    Attributes:
        is_everybody: whether all of this gateway's are; otherwise those of one link or lease.
    """

    def __init__(self, *, is_everybody: bool) -> None:
        super().__init__("everybody" if is_everybody else "one")
        self.is_everybody = is_everybody


class Downloads:
    """Counts what is on its way."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()
        self._lock = threading.Lock()

    def begin(self, *, lease: str, link: str) -> Callable[[], None]:
        """Count one more; returns what ends it. To be called once.

        Raises:
            TooMany: and nothing is counted.
        """
        limits = {"everybody": EVERYBODY, f"link {link}": PER_LINK, f"lease {lease}": PER_LEASE}
        with self._lock:
            for of, limit in limits.items():
                if self._running[of] >= limit:
                    raise TooMany(is_everybody=of == "everybody")
            self._running.update(limits.keys())

        def end() -> None:
            with self._lock:
                self._running.subtract(limits.keys())
                for of in [of for of in limits if not self._running[of]]:
                    del self._running[of]

        return end
