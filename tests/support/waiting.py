"""Waiting for what another process or thread does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def wait_until(happened: Callable[[], Result]) -> Result:
    """Return the first true result; after two minutes give up, so that a bug does not hang the suite."""
    deadline = time.monotonic() + 120
    while not (result := happened()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return result
