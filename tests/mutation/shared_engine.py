"""A pytest plugin: test runs use one engine that runs already, each in an account of its own.

Starting an engine takes longer than most mutants live. MiniStack takes an access key of twelve digits for the number
of an account and keeps accounts apart, so a run sees no table of another run.
"""

from __future__ import annotations

import os

import pytest

from local import engine

PORT_VARIABLE = "SHARED_ENGINE_PORT"


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart() -> None:
    """Here and not at import: each mutant's run is a fork of a process that imported everything."""
    port = int(os.environ[PORT_VARIABLE])

    def attach(self: engine.Engine) -> engine.Engine:
        self._port = port
        return self

    engine.Engine.start = attach  # type: ignore[method-assign]
    engine.Engine.stop = lambda self: None  # type: ignore[method-assign]
    engine.CREDENTIALS = {**engine.CREDENTIALS, "AWS_ACCESS_KEY_ID": f"{os.getpid():012d}"}  # type: ignore[misc]
