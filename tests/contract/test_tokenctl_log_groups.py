"""`tokenctl logs query` and `tokenctl splunk resend`: log groups on the local AWS, and a strict HEC receiver."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.resources import of_type, stage_template
from tests.support.hec_faults import ForcedCode
from tests.support.hec_server import HecServer
from tests.support.operator import Run, Tokenctl
from tests.support.splunk_world import MarkedCollector
from tokenctl.deployment import Deployment
from tokenctl.logs import FILTER_NAME, LOG_GROUPS

GROUP = "/aws/lambda/tokenservice-test"
FORWARDER = "arn:aws:lambda:us-east-1:000000000000:function:tokenservice-test-forward_logs"
HOUR_MS = 3_600_000
BUCKET = "resent-poison"


@pytest.fixture
def logs(deployment: Deployment) -> Iterator[Any]:
    """The log group of the REST function of stage `test`, subscribed to the forwarder."""
    client = deployment.aws("logs")
    client.create_log_group(logGroupName=GROUP)
    client.put_subscription_filter(logGroupName=GROUP, filterName="splunk", filterPattern="", destinationArn=FORWARDER)
    yield client
    client.delete_log_group(logGroupName=GROUP)


def write(logs: Any, stream: str, *messages: str, hours_ago: float = 0.5, group: str = GROUP) -> None:
    """Write lines into a stream, as a function does."""
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    at = int(time.time() * 1000 - hours_ago * HOUR_MS)
    events = [{"timestamp": at + number, "message": message} for number, message in enumerate(messages)]
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def line(number: int) -> str:
    return json.dumps({"event": "token.used", "time": "2026-11-21T12:00:00.000Z", "useId": f"use_{number}"})


def test_the_log_groups_of_the_commands_are_those_of_the_template() -> None:
    template = stage_template("dev")
    groups = {group["LogGroupName"]["Fn::Sub"] for group in of_type(template, "AWS::Logs::LogGroup").values()}
    assert groups == {name.replace("{stage}", "${Stage}") for name in LOG_GROUPS.values()}
    subscriptions = of_type(template, "AWS::Logs::SubscriptionFilter").values()
    assert {subscription["FilterName"] for subscription in subscriptions} == {FILTER_NAME}


class TestQuery:
    def test_the_lines_that_match_are_shown(self, tokenctl: Tokenctl, logs: Any) -> None:
        write(logs, "a", "one \x1b[2J", "two")
        write(logs, "b", "too old", hours_ago=3)
        run = tokenctl("logs", "query", "api", "fields @timestamp, @message | sort @timestamp asc", "--stage", "test")
        assert run.code == 0, run.err
        head, *rows = run.out.splitlines()
        assert head.split() == ["@timestamp", "@message"]
        assert [row.split(maxsplit=2)[2].strip() for row in rows] == ["one \\x1b[2J", "two"]
        longer = ("logs", "query", "api", "fields @message", "--since", "4h", "--until", "2h", "--stage", "test")
        assert tokenctl(*longer, "--json").json == [{"@message": "too old"}]

    def test_several_groups_are_searched_at_once(self, tokenctl: Tokenctl, logs: Any) -> None:
        other = f"{GROUP}-basic_auth"
        logs.create_log_group(logGroupName=other)
        write(logs, "a", "of the function")
        write(logs, "b", "of the authorizer", group=other)
        run = tokenctl("logs", "query", "api,authorizer", "fields @message", "--stage", "test", "--json")
        logs.delete_log_group(logGroupName=other)
        assert sorted(row["@message"] for row in run.json) == ["of the authorizer", "of the function"]

    def test_an_empty_result_is_reported(self, tokenctl: Tokenctl, logs: Any) -> None:
        run = tokenctl("logs", "query", "api", "fields @message", "--stage", "test")
        assert (run.code, run.out) == (0, "No matching events.\n")

    def test_a_failed_search_is_reported(self, tokenctl: Tokenctl) -> None:
        query = ("logs", "query", "access", "fields @message")
        tokenctl(*query, "--stage", "test").assert_refused("/tokenservice/test/access", "ResourceNotFoundException")
        tokenctl(*query).assert_refused("'local'", "--stage")
        for wrong in ("other", "api,other", "", "api,"):
            tokenctl("logs", "query", wrong, "fields @message").assert_refused(f"'{wrong}'", "authorizer", code=2)

    @pytest.mark.parametrize(
        "wrong", ["", "yesterday", "1", "h", "-1h", "2026-11-21", "2026-11-21T12:00:00", "999999d"]
    )
    def test_an_invalid_time_is_rejected(self, tokenctl: Tokenctl, wrong: str) -> None:
        for option in ("--since", "--until"):
            run = tokenctl("logs", "query", "api", "fields @message", option, wrong, "--stage", "test")
            run.assert_refused(option, "2026-01-31T12:00:00Z", code=2)


class TestResend:
    @pytest.fixture
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[HecServer]:
        with HecServer(MarkedCollector()) as server:
            monkeypatch.setenv("SPLUNK_HEC_URL", server.url)
            monkeypatch.setenv("SPLUNK_HEC_TOKEN", "the-token")
            yield server

    @pytest.fixture
    def resend(self, tokenctl: Tokenctl) -> Any:
        def resend(*arguments: str, group: str = "api") -> Run:
            return tokenctl(
                "splunk", "resend", group, "--bucket", BUCKET, "--stage", "test", "--since", "1h", *arguments
            )

        return resend

    def test_the_lines_of_a_time_go_to_splunk_as_the_forwarder_sends_them(
        self, logs: Any, server: HecServer, resend: Any
    ) -> None:
        write(logs, "a", line(1), line(2), "no JSON")
        write(logs, "b", line(3))
        write(logs, "c", line(4), hours_ago=2)
        run = resend("--json")
        assert run.code == 0, run.err
        assert run.json == {"logGroup": GROUP, "events": 4, "setAside": 0, "deferred": 0}
        found = logs.filter_log_events(logGroupName=GROUP, startTime=int(time.time() * 1000 - HOUR_MS))["events"]
        indexed = {event["fields"]["event_id"]: event for event in server.collector.indexed}
        assert set(indexed) == {event["eventId"] for event in found}
        for event in found:
            sent = indexed[event["eventId"]]
            assert (sent["source"], sent["host"]) == (GROUP, event["logStreamName"])
            assert (sent["fields"]["stage"], sent["time"]) == ("test", event["timestamp"] / 1000)
        human = resend()
        assert human.out == f"{GROUP}: 4 events accepted by Splunk, 0 set aside, 0 stored for the redrive.\n"

    def test_if_splunk_is_unavailable_it_prints_where_to_continue(
        self, logs: Any, server: HecServer, resend: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(logs, "a", line(1))
        server.faults.extend([ForcedCode(7)])
        run = resend()
        assert run.code == 1
        assert "go on with --since 20" in run.err
        since = run.err.split("--since ")[1].strip()
        again = resend("--since", since, "--json")
        assert again.json["events"] == 1

    def test_an_event_that_splunk_can_not_take_is_set_aside(
        self, logs: Any, server: HecServer, resend: Any, deployment: Deployment
    ) -> None:
        s3 = deployment.aws("s3")
        s3.create_bucket(Bucket=BUCKET)
        write(logs, "a", line(1), "☠06", line(2))
        assert resend("--json").json == {"logGroup": GROUP, "events": 2, "setAside": 1, "deferred": 0}
        assert s3.list_objects_v2(Bucket=BUCKET, Prefix="poison/")["KeyCount"] == 1

    def test_a_group_that_is_not_sent_to_splunk_is_refused(self, logs: Any, server: HecServer, resend: Any) -> None:
        logs.delete_subscription_filter(logGroupName=GROUP, filterName="splunk")
        resend().assert_refused(GROUP, "no subscription 'splunk'")
        resend(group="authorizer").assert_refused(f"{GROUP}-basic_auth", "ResourceNotFoundException")
        resend(group="forwarder").assert_refused("'forwarder'", code=2)

    def test_a_stage_without_splunk_is_refused(self, logs: Any, resend: Any) -> None:
        resend().assert_refused("SPLUNK_HEC_URL")
