"""What the end-to-end tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.local_aws import LocalAws, Package, Stack, local_aws
from tests.support.serving import LocalService


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where packages are made, once for all processes of a run."""
    base = tmp_path_factory.getbasetemp()
    # With xdist, each of its processes has a folder in that of the run.
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "packages"


@pytest.fixture(scope="session")
def service(deployment: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the service answers over HTTP, for tests that neither stop it nor read what it writes."""
    with LocalService({}, tmp_path_factory.mktemp("service") / "output") as service:
        yield service.endpoint_url


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """An account with nothing in it."""
    with local_aws(tmp_path_factory.mktemp("aws") / "engine.log") as aws:
        yield aws


@pytest.fixture(scope="module")
def dev(aws: LocalAws, packages: Path) -> Stack:
    return Stack(aws, Package.of("dev", packages))
