"""The forwarder as a whole: every event is accepted, kept, or the invocation fails."""

from __future__ import annotations

import base64
import gzip
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib.splunk.envelope import decode
from chalicelib.splunk.errors import MalformedEnvelope, Misconfigured, OutOfTime, RecordUnavailable, Unaccounted
from chalicelib.splunk.forward import build_forwarder
from chalicelib.splunk.ledger import Ledger
from chalicelib.splunk.record import Kind
from chalicelib.splunk.verdicts import Answer
from tests.support.hec_server import HecServer, splunk_settings
from tests.support.splunk_world import (
    ALARM,
    START_MS,
    MarkedCollector,
    MemoryRecord,
    ScriptedCollector,
    coded,
    content,
    forwarding,
    pack,
    subscription,
)

ROOT = Path(__file__).resolve().parents[2]


class Setup(ScriptedCollector):
    """A forwarder in front of a scripted collector."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.record = MemoryRecord()
        self.metrics: list[dict[str, tuple[float, str]]] = []
        self.forwarder = forwarding(
            self.post,
            write_metrics=lambda values: self.metrics.append(dict(values)),
            clock_ms=lambda: START_MS + 5_000,
            **{"record": self.record, **options},
        )

    def forward(self, event: Any) -> Any:
        return self.forwarder.forward(event, lambda: 60_000)

    def values(self) -> dict[str, float]:
        return {name: value for name, (value, _) in self.metrics[-1].items()}


def test_log_events_arrive_with_their_fields() -> None:
    setup = Setup(index="audit")
    report = setup.forward(subscription(['{"event":"token.used","requestId":"r"}', "text"]))
    assert (report.received, report.delivered, report.set_aside, report.deferred) == (2, 2, 0, 0)
    first, second = setup.collector.indexed
    assert first == {
        "time": START_MS / 1000,
        "host": "2026/11/21/[$LATEST]0123456789abcdef",
        "source": "/aws/lambda/service",
        "sourcetype": "tokenservice",
        "index": "audit",
        "event": {"event": "token.used", "requestId": "r"},
        "fields": {
            "log_group": "/aws/lambda/service",
            "stage": "test",
            "event_id": "0".zfill(56),
            "request_id": "r",
        },
    }
    assert second["event"] == "text"
    assert setup.record.entries == {}


def test_metrics_count_events_by_outcome() -> None:
    setup = Setup()
    setup.script = [coded(9)]
    setup.forward(subscription(["a", "", "☠06", None, "b", " \n", "c"]))
    assert setup.metrics == [
        {
            "EventsDelivered": (3, "Count"),
            "EventsSetAside": (2, "Count"),
            "EventsBlank": (2, "Count"),
            "RequestsRetried": (1, "Count"),
            "DeliveryDelayMax": (5_000, "Milliseconds"),
            "DeliveryDelayMean": (4_996.667, "Milliseconds"),
        }
    ]


def test_an_event_from_the_future_has_no_delay() -> None:
    setup = Setup()
    setup.forward(pack(content(logEvents=[{"id": "1", "timestamp": START_MS + 5_001, "message": "m"}])))
    assert setup.values() == {"EventsDelivered": 1, "DeliveryDelayMax": 0, "DeliveryDelayMean": 0}


def test_poison_is_stored_with_its_reason_and_its_exact_message() -> None:
    setup = Setup()
    large = "x" * 1_000_000
    report = setup.forward(subscription(["a", large, "☠13 \ud800 é", "b"]))
    assert (report.delivered, report.set_aside) == (2, 2)
    (kept,) = setup.record.of(Kind.POISON)
    assert [log.message for log in decode(kept["requestPayload"]).events] == [large, "☠13 \ud800 é"]
    too_large = "too large: more than 1000000 bytes as a HEC event"
    refused = "HTTP 400, code 13 (event field cannot be blank)"
    assert kept["reasons"] == {too_large: [0], refused: [1]}
    assert kept["reason"] == f"1 events: {too_large}; 1 events: {refused}"


GOOD = [{"id": "good", "timestamp": timestamp, "message": "m"} for timestamp in (0, 253_402_300_799_999)]
ODD = {
    "timestamp is missing or not in milliseconds since 1970": [
        '{"id": "odd", "message": "m"}',
        '{"id": "odd", "timestamp": -1, "message": "m"}',
        '{"id": "odd", "timestamp": 253402300800000, "message": "m"}',
        '{"id": "odd", "timestamp": "1700000000123", "message": "m"}',
        '{"id": "odd", "timestamp": NaN, "message": "m"}',
        '{"id": "odd", "timestamp": true, "message": "m"}',
    ],
    "message is missing or not a string": [
        '{"id": "odd", "timestamp": 1700000000123, "message": null}',
        '{"id": "odd", "timestamp": 1700000000123, "message": {"a": "é \\ud800"}}',
        '{"id": "odd", "timestamp": 1700000000123}',
    ],
    "id is missing or not a string": [
        '{"timestamp": 1700000000123, "message": "m"}',
        '{"id": 1, "timestamp": 1700000000123, "message": "m"}',
        "{}",
    ],
    "not an object": ["null", "[]"],
}


def with_odd(odd: str) -> dict[str, Any]:
    """A subscription event with an odd item between two good ones."""
    head, tail = json.dumps(content(logEvents=["?"])).split('"?"')
    first, last = map(json.dumps, GOOD)
    return pack(f"{head}{first}, {odd}, {last}{tail}".encode())


def events_of(entry: dict[str, Any]) -> list[Any]:
    """The log events of an entry of the failure record, as JSON has them."""
    raw = gzip.decompress(base64.b64decode(entry["requestPayload"]["awslogs"]["data"]))
    events: list[Any] = json.loads(raw)["logEvents"]
    return events


@pytest.mark.parametrize(("reason", "odd"), [(reason, odd) for reason in ODD for odd in ODD[reason]])
def test_one_odd_event_is_set_aside_as_it_came_and_its_neighbours_arrive(reason: str, odd: str) -> None:
    setup = Setup()
    report = setup.forward(with_odd(odd))
    assert (report.received, report.delivered, report.set_aside, report.blank) == (3, 2, 1, 0)
    assert setup.collector.ids() == ["good", "good"]
    (kept,) = setup.record.of(Kind.POISON)
    assert kept["reason"] == f"malformed: {reason}"
    assert json.dumps(events_of(kept)) == f"[{json.dumps(json.loads(odd))}]"
    # A replay of what was set aside changes nothing about it.
    assert setup.forward(kept["requestPayload"]).entries == list(setup.record.entries)
    assert setup.collector.ids() == ["good", "good"]


def test_bytes_that_are_no_text_spoil_their_own_event_alone() -> None:
    setup = Setup()
    head, tail = json.dumps(content(logEvents=["?"])).encode().split(b'"?"')
    latin = b'{"id": "good", "timestamp": 1, "message": "caf\xe9"}, {"id": "odd", "message": "caf\xe9"}'
    report = setup.forward(pack(head + latin + tail))
    assert (report.delivered, report.set_aside) == (1, 1)
    assert setup.collector.indexed[0]["event"] == "caf\ufffd"
    (entry,) = setup.record.of(Kind.POISON)
    assert events_of(entry) == [{"id": "odd", "message": "caf\udce9"}]


@pytest.mark.parametrize("event", [subscription([]), subscription(["check"], messageType="CONTROL_MESSAGE")])
def test_an_input_without_events_needs_no_request_and_writes_no_line(event: dict[str, Any]) -> None:
    setup = Setup()
    report = setup.forward(event)
    assert (report.requests, setup.record.entries, setup.metrics) == (0, {}, [])


def test_metrics_of_an_input_that_fails_count_no_blank_lines_as_failed() -> None:
    setup = Setup()
    setup.script = [coded(7, 1)]
    with pytest.raises(Misconfigured):
        setup.forward(subscription(["a", "", "b"]))
    assert (setup.values()["EventsFailed"], setup.values()["EventsBlank"]) == (2, 1)


@pytest.mark.parametrize(
    "event", [{}, {"awslogs": {"data": "?"}}, subscription(["a"], messageType="OTHER"), {"detail-type": "x"}]
)
def test_malformed_input_is_stored_unchanged_and_the_invocation_succeeds(event: dict[str, Any]) -> None:
    setup = Setup()
    report = setup.forward(event)
    assert (report.set_aside, report.entries) == (1, list(setup.record.entries))
    kept = setup.record.of(Kind.POISON)[0]
    assert kept["requestPayload"] == event
    assert kept["reason"].startswith("malformed: ")


def test_the_forwarder_s_own_log_group_is_refused_without_failing() -> None:
    setup = Setup(own_log_group="/aws/lambda/forwarder")
    event = subscription(["a", "b"], log_group="/aws/lambda/forwarder")
    assert (setup.forward(event).set_aside, setup.collector.indexed) == (2, [])
    (kept,) = setup.record.of(Kind.POISON)
    assert kept["reason"] == "the forwarder's own log group must not be subscribed"
    assert kept["requestPayload"] == event
    assert setup.forward(subscription(["c"])).delivered == 1


def test_if_nothing_was_accepted_in_time_the_invocation_fails_and_stores_nothing() -> None:
    setup = Setup()
    setup.script = [Answer(503, b"", 900.0)]
    with pytest.raises(OutOfTime):
        setup.forward(subscription(["a", None]))
    assert setup.record.entries == {}


def test_the_rest_of_a_batch_is_deferred_with_the_later_batches() -> None:
    setup = Setup()
    setup.script = [coded(13, 1), coded(7, 1)]
    texts = ["a", "bad", None, "", "c", "x" * 600_000, "y" * 600_000, None]
    report = setup.forward(subscription(texts))
    assert (report.delivered, report.set_aside, report.blank, report.deferred) == (1, 2, 1, 4)
    assert setup.values()["EventsFailed"] == 4
    assert report.entries == list(setup.record.entries)
    assert "incorrect index" in setup.record.of(Kind.DEFERRED)[0]["reason"]
    assert setup.record.ids(Kind.DEFERRED) == [f"{number:056d}" for number in (4, 5, 6, 7)]
    assert sorted(setup.record.ids(Kind.POISON)) == [f"{number:056d}" for number in (1, 2)]


@pytest.mark.parametrize("event", [subscription(["a", None]), {"awslogs": {}}])
def test_a_record_that_refuses_fails_the_invocation(event: dict[str, Any]) -> None:
    setup = Setup()
    setup.record.refusals = 1
    with pytest.raises(RecordUnavailable):
        setup.forward(event)


def test_without_a_record_poison_fails_the_invocation() -> None:
    setup = Setup(record=None)
    with pytest.raises(RecordUnavailable, match="no failure record"):
        setup.forward(subscription(["a", None]))


def test_an_alarm_becomes_an_event_with_its_own_sourcetype() -> None:
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


def test_an_aws_event_needs_no_more_than_id_and_time() -> None:
    setup = Setup()
    setup.forwarder.forward_event({"id": "1", "time": "1970-01-01T00:00:00Z"}, lambda: 60_000)
    (event,) = setup.collector.indexed
    assert (event["host"], event["source"]) == ("unknown", "unknown")
    assert event["fields"] == {"stage": "test", "event_id": "1"}
    assert event["time"] == 0


@pytest.mark.parametrize("call", ["forward", "forward_event"])
def test_an_input_too_deep_to_be_written_stays_with_lambda(call: str) -> None:
    setup = Setup()
    deep: dict[str, Any] = {}
    for _ in range(200_000):
        deep = {"a": deep}
    with pytest.raises(MalformedEnvelope, match=r"^nested too deep$"):
        getattr(setup.forwarder, call)(ALARM | {"detail": deep}, lambda: 60_000)
    while deep:  # without recursion either
        deep = deep.popitem()[1]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("time", "yesterday", "time is no RFC 3339 time with offset"),
        ("time", "2026-11-21", "time is no RFC 3339 time with offset"),
        ("time", None, "time is missing or not a string"),
        ("id", "", "id is missing or not a string"),
    ],
)
def test_an_event_without_time_or_id_is_set_aside(name: str, value: str | None, reason: str) -> None:
    setup = Setup()
    report = setup.forwarder.forward_event(ALARM | {name: value}, lambda: 60_000)
    assert report.set_aside == 1
    (kept,) = setup.record.of(Kind.POISON)
    assert (kept["requestPayload"], kept["reason"]) == (ALARM | {name: value}, f"malformed: {reason}")


def test_an_event_that_is_poison_is_stored_unchanged() -> None:
    setup = Setup()
    setup.script = [coded(15, 0)]
    setup.forwarder.forward_event(ALARM, lambda: 60_000)
    assert setup.record.of(Kind.POISON)[0]["requestPayload"] == ALARM


def test_without_a_collector_nothing_is_forwarded_and_that_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    idle = build_forwarder(splunk_settings(None), "test")
    with pytest.raises(Misconfigured, match=r"^SPLUNK_HEC_URL is not set: nothing is forwarded to Splunk$"):
        idle.probe(lambda: 60.0)
    for _ in range(3):
        assert idle.forward(subscription(["a"]), lambda: 60_000).requests == 0
    assert [record.getMessage() for record in caplog.records] == [
        "SPLUNK_HEC_URL is not set: nothing is forwarded to Splunk"
    ]


def test_a_forwarder_made_from_settingsuses_them_over_http() -> None:
    def get_parameter(**arguments: object) -> dict[str, Any]:
        return {"Parameter": {"Value": "the-token" if arguments["Name"] == "/splunk/token" else ""}}

    record, metrics = MemoryRecord(), list[Any]()
    with HecServer() as server:
        settings = splunk_settings(server.url, index="main")._replace(
            hec_token=None, hec_token_parameter="/splunk/token", sourcetype="ours"
        )
        ssm = SimpleNamespace(get_parameter=get_parameter)
        made = build_forwarder(
            settings, "dev", ssm=ssm, record=record, write_metrics=metrics.append, own_log_group="/own", max_bytes=1_000
        )
        assert made.forward(subscription(["café"]), lambda: 60_000).delivered == 1
        (event,) = server.collector.indexed
    assert (event["event"], event["index"], event["sourcetype"]) == ("café", "main", "ours")
    assert event["fields"]["stage"] == "dev"
    assert metrics[0]["EventsDelivered"] == (1, "Count")
    for own, larger in (("/own", "a"), ("/other", "a" * 1_000)):
        assert made.forward(subscription([larger], log_group=own), lambda: 60_000).set_aside == 1


@pytest.mark.parametrize("setting", ["ca_bundle", "client_certificate"])
def test_a_file_for_tls_that_is_missing_is_named(setting: str) -> None:
    missing = splunk_settings("https://splunk.example")._replace(**{setting: "/missing.pem"})
    with pytest.raises(Misconfigured, match=f"SPLUNK_{setting.upper()}: there is no such file"):
        build_forwarder(missing, "test")


def test_what_was_not_accepted_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup()
    setup.script = [coded(13, 1), coded(7, 1), coded(7, 1)]
    setup.forward(subscription(["a", "bad", "c", None]))
    setup.forward({})
    with pytest.raises(Misconfigured):
        setup.forward(subscription(["a"]))
    refused = "the collector refuses the events: HTTP 400, code 7 (incorrect index)"
    reasons = "1 events: malformed: message is missing or not a string; 1 events: "
    assert [record.getMessage() for record in caplog.records] == [
        f"Splunk accepted only a part: 1 events are stored for a redrive: {refused}",
        f"2 events are set aside in the failure record: {reasons}HTTP 400, code 13 (event field cannot be blank)",
        "an input is set aside in the failure record: malformed: there is no awslogs.data",
        f"the events stay with Lambda: {refused}",
    ]


def test_no_log_line_holds_a_message_or_the_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with HecServer(MarkedCollector()) as server:
        settings = splunk_settings(server.url)
        made = build_forwarder(settings, "test", record=MemoryRecord())
        made.forward(subscription(["a private thing", "☠13 private", "", None]), lambda: 60_000)
        made.forward({"awslogs": {"data": "private"}}, lambda: 60_000)
        server.collector.tokens = set()
        with pytest.raises(Misconfigured):
            made.forward(subscription(["a private thing"]), lambda: 60_000)
    assert caplog.records
    assert "private" not in caplog.text
    assert "the-token" not in caplog.text


@pytest.mark.parametrize("bug", ["reject", "deliver", "store_poison"])
def test_an_event_that_a_bug_mislays_fails_the_invocation(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, bug, lambda *_: None)
    setup = Setup()
    with pytest.raises(Unaccounted, match=r"^1 events are neither delivered nor stored"):
        setup.forward(subscription(["a", None]))
    assert setup.values()["EventsFailed"] == 1
