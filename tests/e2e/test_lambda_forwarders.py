"""The forwarders and the redrive, invoked as Lambda does, in front of the strict receiver."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from chalice.test import Client

from chalicelib.entry import process
from chalicelib.entry.forwarder import forwarder
from chalicelib.entry.redrive import redriver
from chalicelib.settings import Settings
from chalicelib.splunk.errors import Undelivered
from tests.support.api import Api
from tests.support.hec_faults import ForcedCode
from tests.support.hec_server import HecServer
from tests.support.local_aws import SCHEDULED
from tests.support.splunk_world import subscription
from tokenctl.deployment import Deployment


@pytest.fixture
def hec(api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[HecServer]:
    """A receiver, and the application with settings that name it."""
    with HecServer() as server:
        environ = {"STAGE": "local", "SPLUNK_HEC_URL": server.url, "SPLUNK_HEC_TOKEN": "the-token"}
        settings = Settings.from_environ({**environ, "SPLUNK_FAILURE_BUCKET": "failures"})
        monkeypatch.setattr(process, "settings", lambda: settings)
        for built in (forwarder, redriver):
            built.cache_clear()
        yield server
        for built in (forwarder, redriver):
            built.cache_clear()


@pytest.fixture
def functions(api: Api) -> Iterator[Client]:
    with Client(api.app) as client:
        yield client


def test_log_events_reach_splunk(hec: HecServer, functions: Client) -> None:
    functions.lambda_.invoke("forward_logs", subscription(['{"event":"token.used"}', "plain"]))
    assert [event["event"] for event in hec.collector.indexed] == [{"event": "token.used"}, "plain"]
    assert {event["fields"]["stage"] for event in hec.collector.indexed} == {"local"}


def test_a_change_of_an_alarms_state_reaches_splunk(hec: HecServer, functions: Client) -> None:
    event: dict[str, Any] = functions.events.generate_cw_event(
        source="aws.cloudwatch",
        detail_type="CloudWatch Alarm State Change",
        detail={"alarmName": "a"},
        resources=["arn:aws:cloudwatch:eu-central-1:123456789012:alarm:a"],
        region="eu-central-1",
    )
    event["time"] = "2026-11-21T04:00:00Z"
    functions.lambda_.invoke("forward_events", event)
    [indexed] = hec.collector.indexed
    assert (indexed["sourcetype"], indexed["event"]["detail"]) == ("aws:cloudwatch:event", {"alarmName": "a"})


def test_what_waits_in_the_bucket_reaches_splunk(hec: HecServer, functions: Client, deployment: Deployment) -> None:
    s3 = deployment.aws("s3")
    s3.create_bucket(Bucket="failures")
    # More than one page of a listing, and names that must be encoded.
    for number in range(3):
        record = {"requestPayload": subscription([f"waited {number}"], first_id=number)}
        s3.put_object(Bucket="failures", Key=f"failed/a+b c&{number}.json", Body=json.dumps(record).encode())
    functions.lambda_.invoke("redrive", SCHEDULED)
    assert sorted(event["event"] for event in hec.collector.indexed) == ["waited 0", "waited 1", "waited 2"]
    assert s3.list_objects_v2(Bucket="failures")["KeyCount"] == 0


def test_a_redrive_without_a_splunk_does_nothing(api: Api, functions: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.from_environ({"STAGE": "local"})
    monkeypatch.setattr(process, "settings", lambda: settings)
    redriver.cache_clear()
    functions.lambda_.invoke("redrive", SCHEDULED)
    redriver.cache_clear()


def test_what_splunk_refuses_fails_the_invocation_so_that_lambda_keeps_it(hec: HecServer, functions: Client) -> None:
    hec.faults.extend([ForcedCode(7, 1)] * 5)
    with pytest.raises(Undelivered):
        functions.lambda_.invoke("forward_logs", subscription(["a"]))
    assert hec.collector.indexed == []
