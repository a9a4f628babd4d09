"""Unit tests start no engine: their API is on the stores in memory."""

from __future__ import annotations

import pytest

from tests.support.api import MemoryApi


@pytest.fixture(scope="session")
def api() -> MemoryApi:
    return MemoryApi()
