"""A pytest plugin: test runs use one engine that runs already, each in a region of its own.

Starting an engine takes longer than most mutants live. MiniStack keeps regions apart, so a run sees no table of another
run.
"""

from __future__ import annotations

import json
import os

import pytest

from dev import engine

ENVIRON_VARIABLE = "SHARED_ENGINE_ENVIRON"
"""Holds the engine's `client_environ` as JSON."""


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart() -> None:
    """Here and not at import: each mutant's run is a fork of a process that imported everything."""
    environ = json.loads(os.environ[ENVIRON_VARIABLE]) | {"AWS_DEFAULT_REGION": f"mutant-{os.getpid()}"}

    engine.Engine.start = lambda self: self
    engine.Engine.stop = lambda self: None
    engine.Engine.client_environ = environ
