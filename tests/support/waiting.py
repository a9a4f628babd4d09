"""Waiting for what another process or thread does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def wait_until(look: Callable[[], Result], is_wanted: Callable[[Result], object] = bool) -> Result:
    """Return the first wanted result; after two minutes give up, so that a bug does not hang the suite."""
    deadline = time.monotonic() + 120
    while not is_wanted(result := look()):
        assert time.monotonic() < deadline, result
        time.sleep(0.02)
    return result
