"""Unit tests start no engine: their API is on the stores in memory."""

from __future__ import annotations

import pytest

from tests.support.api import Credentials, MemoryApi


@pytest.fixture(scope="session")
def api() -> MemoryApi:
    return MemoryApi()


# pytest makes a session's fixture once: a client of the engine's API would be none of this API's.
@pytest.fixture(scope="session")
def client(api: MemoryApi) -> Credentials:
    return api.client()
