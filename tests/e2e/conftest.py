"""What the end-to-end tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where packages are made, once for all processes of a run."""
    base = tmp_path_factory.getbasetemp()
    # With xdist, each of its processes has a folder in that of the run.
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "packages"
