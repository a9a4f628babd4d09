"""What a Lambda function does while it starts: in a process of its own, with the variables that Lambda sets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from dev.engine import ROOT, Engine
from tests.support.dynamodb_proxy import Fault, Proxy
from tokenctl.deployment import Deployment

STARTED = """
import sys, time, app
print(any(name == "botocore.session" and hasattr(module, "SessionVarDict") for name, module in sys.modules.items()))
"""

IDLE = """
import app
from chalicelib.entry import dynamodb
print(len(dynamodb.client()._client._endpoint._idle))
"""


@pytest.fixture
def proxy(engine: Engine, deployment: Deployment) -> Iterator[Proxy]:
    with Proxy(engine.endpoint_url) as proxy:
        yield proxy


def start(engine: Engine, proxy: Proxy, **variables: str) -> tuple[bool, list[dict[str, Any]]]:
    """Load the application as Lambda does; returns whether the real botocore was loaded, and the log."""
    environ = {**os.environ, **engine.client_environ, "STAGE": "local", "AWS_ENDPOINT_URL": proxy.url}
    environ.pop("DYNAMODB_TRANSPORT", None)
    run = subprocess.run(
        [sys.executable, "-c", STARTED],
        cwd=ROOT,
        env={**environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, loaded = run.stdout.splitlines()
    return loaded == "True", [json.loads(line) for line in lines]


def in_lambda(handler: str) -> dict[str, str]:
    return {"AWS_LAMBDA_FUNCTION_NAME": "a-function", "_HANDLER": handler}


@pytest.mark.parametrize(("handler", "asked"), [("app.app", 1), ("app.basic_auth", 1), ("app.forward_logs", 0)])
def test_a_function_opens_its_connection_while_it_starts(
    handler: str, asked: int, engine: Engine, proxy: Proxy
) -> None:
    operations: list[str] = []
    proxy.when_done = operations.append
    assert start(engine, proxy, **in_lambda(handler)) == (False, [])
    assert operations == ["GetItem"] * asked


@pytest.mark.parametrize(("kind", "kept"), [("on-demand", "1"), ("snap-start", "0")])
def test_a_snapshot_holds_no_connection(kind: str, kept: str, engine: Engine, proxy: Proxy) -> None:
    """It is restored hours later, on another machine."""
    environ = {**os.environ, **engine.client_environ, "STAGE": "local", "AWS_ENDPOINT_URL": proxy.url}
    environ.pop("DYNAMODB_TRANSPORT", None)
    environ |= {**in_lambda("app.app"), "AWS_LAMBDA_INITIALIZATION_TYPE": kind}
    operations: list[str] = []
    proxy.when_done = operations.append
    run = subprocess.run(
        [sys.executable, "-c", IDLE], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    assert (run.stdout.strip(), operations) == (kept, ["GetItem"])


@pytest.mark.parametrize("fault", [Fault.REQUEST_LOST, Fault.ERROR_500, Fault.SILENT])
def test_a_start_does_not_depend_on_the_store(fault: Fault, engine: Engine, proxy: Proxy) -> None:
    proxy.plan = lambda _: fault
    _, [line] = start(engine, proxy, **in_lambda("app.app"))
    assert (line["level"], line["message"].partition(":")[0]) == ("WARNING", "The start could not be warmed up")
    assert proxy.met[fault] == 1, "one attempt: a caller waits for this start"


def test_the_setting_loads_botocore_instead(engine: Engine, proxy: Proxy) -> None:
    operations: list[str] = []
    proxy.when_done = operations.append
    assert start(engine, proxy, DYNAMODB_TRANSPORT="botocore", **in_lambda("app.app")) == (True, [])
    assert operations == []


def test_elsewhere_nothing_is_called_before_the_first_request(engine: Engine, proxy: Proxy) -> None:
    operations: list[str] = []
    proxy.when_done = operations.append
    assert start(engine, proxy)[1] == []
    assert start(engine, proxy, DYNAMODB_TRANSPORT="slim")[1] == []
    assert operations == []


def test_a_function_without_credentials_logs_in_one_line_what_is_missing(engine: Engine, proxy: Proxy) -> None:
    variables = {**os.environ, **engine.client_environ, "STAGE": "local", **in_lambda("app.app")}
    for name in ("AWS_ACCESS_KEY_ID", "DYNAMODB_TRANSPORT"):
        variables.pop(name, None)
    run = subprocess.run(
        [sys.executable, "-c", "import app"], cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (1, "tokenservice: AWS_ACCESS_KEY_ID: missing\n")
