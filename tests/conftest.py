"""What tests share: a running engine, a stage with tables in it, and the API as the gateway calls it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader

from chalicelib.storage.client_store import ClientStore
from chalicelib.storage.token_store import TokenStore
from dev import dynamodb_local, install
from dev.engine import Engine
from tests.support.api import STAGE, Api, Credentials
from tests.support.browser import WITHOUT_BROWSER
from tests.support.memory_store import MEMORY, Memory
from tests.support.output import Output
from tests.support.store_engines import DYNAMODB_LOCAL, MINISTACK, OPEN, StoreEngine, with_tables
from tokenctl import tables
from tokenctl.deployment import Deployment, open_stage

_MEMORY = "/dev/shm"
_ROOM_BYTES = 6_000_000_000


def _is_roomy(folder: str) -> bool:
    """Whether there is a file system with room, from which programs may be loaded."""
    try:
        system = os.statvfs(folder)
    except OSError:
        return False
    return system.f_bavail * system.f_frsize > _ROOM_BYTES and not system.f_flag & os.ST_NOEXEC


if "TMPDIR" not in os.environ and _is_roomy(_MEMORY):
    # Tests unpack libraries and environments, thousands of small files each: a disk takes minutes for them.
    os.environ["TMPDIR"] = tempfile.tempdir = _MEMORY

SERVICES = ("dynamodb", "iam", "lambda", "logs", "s3", "sqs", "ssm", "sts")
"""What tokenctl and the forwarder call, and what tests need to make it."""


@pytest.fixture(scope="session", autouse=True)
def models_of_aws() -> Iterator[None]:
    """Let botocore read each of its files once, not anew for each of the hundreds of clients that are made here."""
    read = cache(JSONFileLoader().load_file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: read(path))
        yield


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """MiniStack on a free port, empty, for the whole run; this process's AWS calls go there."""
    directory = tmp_path_factory.mktemp("engine")
    with Engine(services=SERVICES, log=directory / "engine.log") as engine:
        os.environ.update(engine.client_environ)
        os.environ["STAGE"] = STAGE
        yield engine


@pytest.fixture(scope="session")
def deployment(engine: Engine) -> Deployment:
    """The stage `local`, with its tables."""
    deployment = open_stage(STAGE)
    tables.create(deployment)
    return deployment


@pytest.fixture(scope="session")
def dynamodb(deployment: Deployment) -> Any:
    """The engine itself, past our own code."""
    return deployment.aws("dynamodb")


@pytest.fixture(scope="session")
def token_store(deployment: Deployment) -> TokenStore:
    return deployment.token_store()


@pytest.fixture(scope="session")
def client_store(deployment: Deployment) -> ClientStore:
    return deployment.client_store()


WITHOUT_SECOND_ENGINE = "not run on DynamoDB Local: "


@pytest.fixture(scope="session")
def second_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreEngine]:
    """Amazon's DynamoDB Local; where it is missing, tests are left out loudly, and in CI they fail."""
    missing = dynamodb_local.why_missing()
    if missing is not None:
        (pytest.fail if install.in_ci() else pytest.skip)(WITHOUT_SECOND_ENGINE + missing)
    with OPEN[DYNAMODB_LOCAL](tmp_path_factory.mktemp("engine")) as opened:
        yield opened


@pytest.fixture(scope="session", params=[MINISTACK, DYNAMODB_LOCAL])
def store_engine(request: pytest.FixtureRequest) -> StoreEngine:
    """Each engine in turn. What the store promises, it must keep on both."""
    return opened(request)


@pytest.fixture(scope="session", params=[MEMORY, MINISTACK, DYNAMODB_LOCAL])
def stores(request: pytest.FixtureRequest) -> Memory | StoreEngine:
    """The stores in memory, and those on each engine."""
    return Memory() if request.param == MEMORY else opened(request)


def opened(request: pytest.FixtureRequest) -> StoreEngine:
    """The engine whose name is the fixture's parameter."""
    if request.param == MINISTACK:
        engine: Engine = request.getfixturevalue("engine")
        return with_tables(MINISTACK, engine.client_environ)
    second: StoreEngine = request.getfixturevalue("second_engine")
    return second


LEFT_OUT = {
    WITHOUT_SECOND_ENGINE: ("ONE ENGINE ONLY", "on Amazon's DynamoDB Local"),
    WITHOUT_BROWSER: ("NO BROWSER", "in a browser"),
    "not run as Java: ": ("NO JAVA COMPILER", "as Java"),
    "not run with curl: ": ("NO CURL", "with curl"),
    "not run on Python 3.9: ": ("NO PYTHON 3.9", "on the oldest Python of the client"),
    "not run with Node: ": ("NO NODE", "with Redocly"),
}
"""What a skip begins with, to the heading and the words that tell of it at the end."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it loudly where tests were left out; a skipped test is easily overlooked."""
    skipped = [
        report.longrepr[2] for report in terminalreporter.stats.get("skipped", ()) if isinstance(report.longrepr, tuple)
    ]
    for sign, (heading, where) in LEFT_OUT.items():
        missing = [reason.partition(sign)[2] for reason in skipped if sign in reason]
        if missing:
            terminalreporter.section(heading, red=True, bold=True)
            terminalreporter.line(f"{len(missing)} tests were not run {where}: {missing[0]}", red=True)


@pytest.fixture(scope="session")
def api(deployment: Deployment) -> Api:
    import app

    return Api(app.app, deployment.client_store())


@pytest.fixture(scope="session")
def client(api: Api) -> Credentials:
    """A client with every scope."""
    return api.client()


@pytest.fixture
def output(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Output:
    return Output(capfd, caplog)


@pytest.fixture
def asked(api: Api, client: Credentials, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The DynamoDB operations that the REST handler asks for from here on, where PynamoDB hands them over."""
    from chalicelib.entry import api as entry
    from chalicelib.entry import startup

    api.issue(client)  # makes the client
    names: list[str] = []
    connection = entry.service()._store._model._get_connection().connection
    call = connection.client._make_api_call

    def note(operation: str, request: dict[str, Any]) -> Any:
        if request.get("TableName") != startup.settings().client_table:  # the authorizer may share the client
            names.append(operation)
        return call(operation, request)

    monkeypatch.setattr(connection.client, "_make_api_call", note)
    return names
