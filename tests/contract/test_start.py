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

LOADED = "any(name == 'botocore.session' and hasattr(it, 'SessionVarDict') for name, it in sys.modules.items())"
"""Whether the real botocore was loaded."""
IDLE = "len(startup.dynamodb()._client._endpoint._idle)"
"""The number of open connections."""


@pytest.fixture
def proxy(engine: Engine, deployment: Deployment) -> Iterator[Proxy]:
    with Proxy(engine.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def operations(proxy: Proxy) -> list[str]:
    """What DynamoDB is sent."""
    operations: list[str] = []
    proxy.when_done = operations.append
    return operations


def run(code: str, engine: Engine, proxy: Proxy, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program as Lambda does, with the application at hand."""
    environ = {**os.environ, **engine.client_environ, "STAGE": "local", "AWS_ENDPOINT_URL": proxy.url}
    environ.pop("DYNAMODB_TRANSPORT", None)
    command = [sys.executable, "-c", f"import sys, app\nfrom chalicelib.entry import startup\n{code}"]
    return subprocess.run(command, cwd=ROOT, env={**environ, **variables}, capture_output=True, text=True, check=False)


def start(shown: str, engine: Engine, proxy: Proxy, **variables: str) -> tuple[str, list[dict[str, Any]]]:
    """Load the application; returns a value of that process, and its log."""
    ended = run(f"print({shown})", engine, proxy, **variables)
    assert ended.returncode == 0, ended.stderr
    *lines, value = ended.stdout.splitlines()
    return value, [json.loads(line) for line in lines]


def in_lambda(handler: str) -> dict[str, str]:
    return {"AWS_LAMBDA_FUNCTION_NAME": "a-function", "_HANDLER": handler}


@pytest.mark.parametrize(("handler", "asked"), [("app.app", 1), ("app.basic_auth", 1), ("app.forward_logs", 0)])
def test_a_function_opens_its_connection_while_it_starts(
    handler: str, asked: int, engine: Engine, proxy: Proxy, operations: list[str]
) -> None:
    assert start(LOADED, engine, proxy, **in_lambda(handler)) == ("False", [])
    assert operations == ["GetItem"] * asked


@pytest.mark.parametrize(("kind", "kept"), [("on-demand", "1"), ("snap-start", "0")])
def test_a_snapshot_holds_no_connection(
    kind: str, kept: str, engine: Engine, proxy: Proxy, operations: list[str]
) -> None:
    """It is restored hours later, on another machine."""
    variables = {**in_lambda("app.app"), "AWS_LAMBDA_INITIALIZATION_TYPE": kind}
    assert start(IDLE, engine, proxy, **variables) == (kept, [])
    assert operations == ["GetItem"]


@pytest.mark.parametrize(
    ("fault", "why"),
    [(Fault.REQUEST_LOST, "Connection"), (Fault.ERROR_500, "InternalServerError"), (Fault.SILENT, "TimeoutError")],
)
def test_a_start_does_not_depend_on_the_store(fault: Fault, why: str, engine: Engine, proxy: Proxy) -> None:
    proxy.plan = lambda _: fault
    _, [line] = start(LOADED, engine, proxy, **in_lambda("app.app"))
    assert line["level"] == "WARNING"
    assert line["message"].startswith(f"The start could not be warmed up: {why}")
    assert proxy.met[fault] == 1, "one attempt: a caller waits for this start"


def test_elsewhere_nothing_is_called_before_the_first_request(
    engine: Engine, proxy: Proxy, operations: list[str]
) -> None:
    assert start(LOADED, engine, proxy, DYNAMODB_TRANSPORT="slim")[1] == []
    assert operations == []


def test_one_setting_puts_botocore_in_the_place_of_our_own_client(engine: Engine, proxy: Proxy) -> None:
    variables = {**in_lambda("app.app"), "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
    assert start(LOADED, engine, proxy, DYNAMODB_TRANSPORT="botocore", **variables) == ("True", [])


def test_a_function_without_credentials_logs_in_one_line_what_is_missing(engine: Engine, proxy: Proxy) -> None:
    ended = run("", engine, proxy, AWS_ACCESS_KEY_ID="", **in_lambda("app.app"))
    assert (ended.returncode, ended.stderr) == (1, "tokenservice: AWS_ACCESS_KEY_ID: missing\n")


FORWARD = """
from chalicelib.entry.forwarder import forwarder
from chalicelib.entry.redrive import redriver
event = {"id": "1", "time": "2026-11-28T00:00:00Z"}
for call in (lambda: forwarder().forward_event(event, lambda: 3_000), lambda: redriver().run(lambda: 40_000)):
    try:
        call()
        print("nothing")
    except Exception as error:
        print(error)
"""
CLOSED = {"SPLUNK_HEC_URL": "https://127.0.0.1:1", "SPLUNK_HEC_TOKEN": "t"}


@pytest.mark.parametrize(
    ("variables", "forwarded", "redriven"),
    [
        ({}, "nothing", "nothing"),
        (CLOSED, "the port is closed", "nothing"),
        ({**CLOSED, "SPLUNK_FAILURE_BUCKET": "nobodys"}, "the port is closed", "403"),
    ],
    ids=["no Splunk", "no bucket", "a bucket of somebody else"],
)
def test_forwarders_do_nothing_without_splunk_and_fail_if_it_or_the_bucket_does_not_answer(
    variables: dict[str, str], forwarded: str, redriven: str, engine: Engine, proxy: Proxy
) -> None:
    ended = run(FORWARD, engine, proxy, **variables, **in_lambda("app.forward_events"))
    said = [line for line in ended.stdout.splitlines() if not line.startswith("{")]
    assert ended.returncode == 0, ended.stderr
    assert (forwarded in said[0], redriven in said[1]) == (True, True), said
