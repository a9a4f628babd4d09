"""The failure record and its redrive on a real S3 interface: the local AWS engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from chalicelib.splunk.forward import build_forwarder
from chalicelib.splunk.record import Kind, S3Record
from chalicelib.splunk.secret import from_parameter
from chalicelib.splunk.waiting import BucketSource
from tests.support.hec_faults import ForcedCode
from tests.support.hec_server import HecServer, splunk_settings
from tests.support.splunk_world import MarkedCollector, subscription
from tokenctl.deployment import Deployment
from tokenctl.splunk import splunk
from tokenctl.terminal import Terminal

BUCKET = "failure-record"


@pytest.fixture(scope="module")
def s3(deployment: Deployment) -> Any:
    client = deployment.aws("s3")
    client.create_bucket(Bucket=BUCKET)
    return client


@pytest.fixture
def server() -> Iterator[HecServer]:
    with HecServer(MarkedCollector()) as server:
        yield server


def command(deployment: Deployment, server: HecServer, *arguments: str) -> Any:
    """What `tokenctl splunk … --json` prints."""
    settings = splunk_settings(server.url, failure_bucket=BUCKET)
    stage = SimpleNamespace(settings=SimpleNamespace(splunk=settings), stage="test", aws=deployment.aws)
    stage.with_deployed_splunk = lambda: stage

    class At(Terminal):
        def deployment(self) -> Any:
            return stage

    run = CliRunner().invoke(splunk, [*arguments, "--json"], obj=At())
    assert run.exit_code == 0, run.output
    return json.loads(run.stdout)


def test_poison_and_rest_go_through_a_bucket_and_the_rest_comes_back(
    deployment: Deployment, s3: Any, server: HecServer
) -> None:
    settings = splunk_settings(server.url)
    # The record makes its client itself here, as on Lambda.
    made = build_forwarder(settings, "test", record=S3Record(BUCKET))
    # The first batch is refused for its poison, then taken without it; the second batch is not taken.
    server.faults.extend([None, None, ForcedCode(7, 1)])
    report = made.forward(subscription(["☠13", "x" * 600_000, "y" * 600_000, "café \ud800"]), lambda: 60_000)
    assert (report.delivered, report.set_aside, report.deferred) == (1, 1, 2)
    assert [row["kind"] for row in command(deployment, server, "failed")] == ["failed", "poison"]

    reported = command(deployment, server, "redrive")[f"s3://{BUCKET}"]
    assert (reported["replayed"], reported["events"], reported["stopped"]) == (1, 2, None)
    assert server.collector.indexed[-1]["event"] == "café \ufffd"
    assert [row["kind"] for row in command(deployment, server, "failed")] == ["poison"]
    assert command(deployment, server, "redrive")[f"s3://{BUCKET}"]["replayed"] == 0


def test_a_record_of_lambda_s_own_in_the_bucket_is_replayed(deployment: Deployment, s3: Any, server: HecServer) -> None:
    key = "aws/lambda/async/service-dev-forward_logs/2026/11/21/2026-11-21T04.00.00-a+b c&"
    body = json.dumps({"version": "1.0", "requestPayload": subscription(["from Lambda"])}).encode()
    s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    assert command(deployment, server, "redrive")[f"s3://{BUCKET}"]["replayed"] == 1
    assert server.collector.indexed[0]["event"] == "from Lambda"
    assert key not in [entry.name for entry in BucketSource(s3, BUCKET).entries(Kind.FAILED)]


def test_the_hec_token_is_read_from_a_secure_string(deployment: Deployment) -> None:
    ssm = deployment.aws("ssm")
    ssm.put_parameter(Name="/tokenservice/hec", Value="0000-1111", Type="SecureString")
    assert from_parameter("/tokenservice/hec")() == "0000-1111"
