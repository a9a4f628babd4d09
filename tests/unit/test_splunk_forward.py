"""The forwarder as a whole: every event is accepted, kept, or the invocation fails."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.settings import Splunk
from chalicelib.splunk.delivery import Deliverer
from chalicelib.splunk.envelope import decode
from chalicelib.splunk.errors import Misconfigured, OutOfTime, RecordUnavailable
from chalicelib.splunk.forward import Forwarder, forwarder
from chalicelib.splunk.hec import Answer
from chalicelib.splunk.record import Kind
from chalicelib.splunk.secret import Secret, fixed
from tests.hec_rules import Collector, Request, reply
from tests.hec_server import HecServer
from tests.splunk_world import START_MS, MarkedCollector, MemoryRecord, subscription

ROOT = Path(__file__).resolve().parents[2]
ALARM = {
    "version": "0",
    "id": "c4c1c1c9-6542-e61b-6ef0-8c4d36933a92",
    "detail-type": "CloudWatch Alarm State Change",
    "source": "aws.cloudwatch",
    "account": "123456789012",
    "time": "2026-11-21T04:05:06Z",
    "region": "eu-central-1",
    "resources": ["arn:aws:cloudwatch:eu-central-1:123456789012:alarm:errors"],
    "detail": {"alarmName": "errors", "state": {"value": "ALARM"}},
}


class Setup:
    """A forwarder whose requests go to a collector in the same process."""

    def __init__(self, record: MemoryRecord | None = None, **options: Any) -> None:
        self.collector: Collector = MarkedCollector()
        self.record = record if record is not None else MemoryRecord()
        self.script: list[Answer] = []
        self.metrics: list[tuple[dict[str, str], dict[str, tuple[float, str]]]] = []
        self.forwarder = Forwarder(
            Deliverer(self.post, Secret(fixed("the-token")), lambda seconds: None),
            stage="test",
            record=options.pop("failure_record", self.record),
            metric=lambda dimensions, values: self.metrics.append((dict(dimensions), dict(values))),
            clock_ms=lambda: START_MS + 5_000,
            **options,
        )

    def post(self, body: bytes, token: str, timeout_seconds: float) -> Answer:
        if self.script:
            return self.script.pop(0)
        headers = {"authorization": f"Splunk {token}", "content-encoding": "gzip"}
        answer = self.collector.answer(Request("POST", "/services/collector/event", headers, body))
        return Answer(answer.status, answer.body)

    def forward(self, event: Any) -> Any:
        return self.forwarder.forward(event, lambda: 60_000)

    def values(self) -> dict[str, float]:
        return {name: value for name, (value, _) in self.metrics[-1][1].items()}


def coded(code: int, index: int | None = None) -> Answer:
    answer = reply(code, index)
    return Answer(answer.status, answer.body)


def test_log_events_arrive_with_their_fields() -> None:
    setup = Setup(index="audit")
    report = setup.forward(subscription(['{"event":"token.used","requestId":"r"}', "text"]))
    assert (report.received, report.delivered, report.set_aside, report.kept) == (2, 2, 0, 0)
    first, second = setup.collector.indexed
    assert first["source"] == "/aws/lambda/service"
    assert first["host"] == "2026/11/21/[$LATEST]0123456789abcdef"
    assert first["index"] == "audit"
    assert first["sourcetype"] == "tokenservice"
    assert first["event"] == {"event": "token.used", "requestId": "r"}
    assert first["fields"] == {
        "log_group": "/aws/lambda/service",
        "stage": "test",
        "event_id": "0".zfill(56),
        "request_id": "r",
    }
    assert second["event"] == "text"
    assert setup.record.entries == {}


def test_metrics_tell_what_went_in_and_what_became_of_it() -> None:
    setup = Setup()
    setup.script = [coded(9)]
    setup.forward(subscription(["a", "", "☠06", "b"]))
    assert setup.metrics[0][0] == {"Forwarder": "logs"}
    assert setup.values() == {
        "EventsReceived": 4,
        "EventsDelivered": 2,
        "EventsSetAside": 2,
        "EventsFailed": 0,
        "RequestsRetried": 1,
        "DeliveryDelayMax": 5_000,
        "DeliveryDelayMean": 4_998.5,
    }
    assert setup.metrics[0][1]["DeliveryDelayMax"][1] == "Milliseconds"


def test_metrics_are_written_when_the_invocation_fails() -> None:
    setup = Setup()
    setup.script = [coded(7, 1)]
    with pytest.raises(Misconfigured):
        setup.forward(subscription(["a", "b"]))
    assert setup.values()["EventsFailed"] == 2


def test_poison_is_kept_with_its_reason_and_its_message_to_the_last_letter() -> None:
    setup = Setup()
    report = setup.forward(subscription(["a", " ", "☠13 \ud800 é", "b"]))
    assert (report.delivered, report.set_aside) == (2, 2)
    (kept,) = setup.record.of(Kind.POISON)
    assert [log.message for log in decode(kept["requestPayload"]).log_events()] == [" ", "☠13 \ud800 é"]
    blank = "blank: Splunk refuses an event without content (code 13)"
    refused = "HTTP 400, code 13 (event field cannot be blank)"
    assert kept["reasons"] == {blank: [0], refused: [1]}
    assert kept["reason"] == f"1 events: {blank}; 1 events: {refused}"


def test_an_event_over_a_megabyte_is_kept_and_the_others_arrive() -> None:
    setup = Setup()
    report = setup.forward(subscription(["a", "x" * 1_000_000, "b"]))
    assert (report.delivered, report.set_aside) == (2, 1)
    assert "too large" in setup.record.of(Kind.POISON)[0]["reason"]


@pytest.mark.parametrize(
    "event", [{}, {"awslogs": {"data": "?"}}, subscription(["a"], messageType="OTHER"), {"detail-type": "x"}]
)
def test_malformed_input_is_kept_as_it_came_and_the_invocation_succeeds(event: dict[str, Any]) -> None:
    setup = Setup()
    report = setup.forward(event)
    assert report.set_aside == 1
    kept = setup.record.of(Kind.POISON)[0]
    assert kept["requestPayload"] == event
    assert kept["reason"].startswith("malformed: ")


def test_a_control_message_is_skipped() -> None:
    setup = Setup()
    report = setup.forward(subscription(["check"], messageType="CONTROL_MESSAGE"))
    assert (report.delivered, report.requests, setup.record.entries) == (0, 0, {})


def test_the_forwarder_s_own_log_group_is_refused_without_failing() -> None:
    setup = Setup(own_log_group="/aws/lambda/forwarder")
    report = setup.forward(subscription(["a", "b"], log_group="/aws/lambda/forwarder"))
    assert (report.set_aside, setup.collector.indexed) == (2, [])
    assert "own log group" in setup.record.of(Kind.POISON)[0]["reason"]


def test_nothing_accepted_and_no_time_left_fails_and_keeps_nothing_twice() -> None:
    setup = Setup()
    setup.script = [Answer(503, b"", 900.0)]
    with pytest.raises(OutOfTime):
        setup.forward(subscription(["a", ""]))
    assert setup.record.entries == {}


def test_what_is_left_after_a_part_was_accepted_is_kept_and_the_invocation_succeeds() -> None:
    setup = Setup()
    texts = [f"{number} " + "x" * 300_000 for number in range(7)]
    setup.script = [coded(0), coded(7, 1)]
    report = setup.forward(subscription(texts))
    assert (report.received, report.delivered, report.kept) == (7, 3, 4)
    assert setup.record.ids(Kind.FAILED) == [f"{number:056d}" for number in (3, 4, 5, 6)]
    assert "incorrect index" in setup.record.of(Kind.FAILED)[0]["reason"]
    assert setup.values()["EventsFailed"] == 4


def test_what_is_left_in_the_middle_of_a_batch_is_kept_with_the_later_batches() -> None:
    setup = Setup()
    setup.script = [coded(13, 1), coded(7, 1)]
    texts = ["a", "bad", "", "c", "x" * 600_000, "y" * 600_000, " "]
    report = setup.forward(subscription(texts))
    assert (report.delivered, report.set_aside, report.kept) == (1, 2, 4)
    assert setup.record.ids(Kind.FAILED) == [f"{number:056d}" for number in (3, 4, 5, 6)]
    assert sorted(setup.record.ids(Kind.POISON)) == [f"{number:056d}" for number in (1, 2)]


@pytest.mark.parametrize("event", [subscription(["a", ""]), {"awslogs": {}}])
def test_a_record_that_refuses_fails_the_invocation(event: dict[str, Any]) -> None:
    setup = Setup()
    setup.record.refusals = 1
    with pytest.raises(RecordUnavailable):
        setup.forward(event)


def test_without_a_record_poison_fails_the_invocation() -> None:
    setup = Setup(failure_record=None)
    with pytest.raises(RecordUnavailable, match="no failure record"):
        setup.forward(subscription(["a", ""]))


def test_an_alarm_becomes_an_event_of_its_own_sourcetype() -> None:
    setup = Setup(index="audit")
    report = setup.forwarder.forward_event(ALARM, lambda: 60_000)
    assert report.delivered == 1
    assert setup.collector.indexed == [
        {
            "time": 1795233906.0,
            "host": "123456789012",
            "source": "aws.cloudwatch",
            "sourcetype": "aws:cloudwatch:event",
            "index": "audit",
            "event": ALARM,
            "fields": {
                "detail_type": "CloudWatch Alarm State Change",
                "region": "eu-central-1",
                "stage": "test",
                "event_id": "c4c1c1c9-6542-e61b-6ef0-8c4d36933a92",
            },
        }
    ]
    assert setup.metrics[0][0] == {"Forwarder": "events"}


@pytest.mark.parametrize(("name", "value"), [("time", "yesterday"), ("time", None), ("id", ""), ("time", "2026-11-21")])
def test_an_event_without_time_or_id_is_kept(name: str, value: str | None) -> None:
    setup = Setup()
    report = setup.forwarder.forward_event(ALARM | {name: value}, lambda: 60_000)
    assert report.set_aside == 1
    assert setup.record.of(Kind.POISON)[0]["requestPayload"] == ALARM | {name: value}


def test_an_event_that_is_not_accepted_fails_the_invocation() -> None:
    setup = Setup()
    setup.script = [coded(4), coded(4)]
    with pytest.raises(Misconfigured):
        setup.forwarder.forward_event(ALARM, lambda: 60_000)


def test_an_event_that_is_poison_is_kept_byte_for_byte() -> None:
    setup = Setup()
    setup.script = [coded(15, 0)]
    setup.forwarder.forward_event(ALARM, lambda: 60_000)
    assert setup.record.of(Kind.POISON)[0]["requestPayload"] == ALARM


def test_without_a_collector_nothing_is_forwarded_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    idle = forwarder(Splunk(None, None, None, None, "tokenservice", None), "test")
    for _ in range(3):
        assert idle.forward(subscription(["a"]), lambda: 60_000).requests == 0
        idle.forward_event(ALARM, lambda: 60_000)
    assert [record.getMessage() for record in caplog.records] == [
        "SPLUNK_HEC_URL is not set: nothing is forwarded to Splunk"
    ]


def test_a_forwarder_made_from_settings_delivers_over_http() -> None:
    with HecServer() as server:
        made = forwarder(Splunk(server.url, None, "the-token", "main", "tokenservice", None), "test")
        assert made.forward(subscription(["café"]), lambda: 60_000).delivered == 1
        assert server.collector.indexed[0]["event"] == "café"


def test_settings_that_would_give_the_token_away_are_refused() -> None:
    with pytest.raises(Misconfigured):
        forwarder(Splunk("http://splunk.example", None, "the-token", None, "tokenservice", None), "test")


def test_no_log_line_holds_a_message_or_the_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with HecServer(MarkedCollector()) as server:
        settings_ = Splunk(server.url, None, "the-token", None, "tokenservice", None)
        made = forwarder(settings_, "test", record=MemoryRecord())
        made.forward(subscription(["a private thing", "☠13 private", ""]), lambda: 60_000)
        made.forward({"awslogs": {"data": "private"}}, lambda: 60_000)
        server.collector.tokens = set()
        with pytest.raises(Misconfigured):
            made.forward(subscription(["a private thing"]), lambda: 60_000)
    assert caplog.records
    assert "private" not in caplog.text
    assert "the-token" not in caplog.text


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=()), max_size=30)
        | st.sampled_from(["☠06", "☠12", "☠13", "☠15", "", "{}", '{"a":[1,2]}'])
        | st.integers(0, 700_000).map(lambda size: "z" * size),
        max_size=12,
    )
)
def test_any_mix_of_messages_is_delivered_or_kept_each_exactly_once(texts: list[str]) -> None:
    setup = Setup()
    report = setup.forward(subscription(texts))
    every = sorted(setup.collector.ids() + setup.record.ids(Kind.POISON))
    assert every == [f"{number:056d}" for number in range(len(texts))]
    assert report.delivered + report.set_aside == report.received == len(texts)


def test_a_forwarder_loads_nothing_of_the_rest_service() -> None:
    code = (
        "import sys; import chalicelib.splunk.forward; "
        "print(*[m for m in sys.modules if m.split('.')[0] in "
        "('pynamodb', 'msgspec', 'botocore', 'boto3', 'asyncio') or m.startswith('chalicelib.')])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {name.split(".")[1] for name in run.stdout.split() if name.startswith("chalicelib.")} == {"aws", "splunk"}
    assert not {name.split(".")[0] for name in run.stdout.split()} - {"chalicelib"}


def test_a_report_is_plain_data() -> None:
    setup = Setup()
    report = setup.forward(subscription(["a", ""]))
    assert json.dumps(report.records)
    assert report.records[0].startswith("poison/")
