"""HEC events, batches and the meaning of answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.splunk.envelope import LogEvent
from chalicelib.splunk.hec import Composer, HecEvent, RejectedEvent, batches
from chalicelib.splunk.verdicts import (
    Accepted,
    Answer,
    Busy,
    ConfigurationRejected,
    EventRejected,
    RequestRejected,
    TokenRejected,
    judge,
)
from tests.support.hec_rules import STATUS, Collector, reply, request

LAMBDA_ID = "8f5f4e8c-7d3c-4f5f-9d4b-0a1b2c3d4e5f"


def composer(limit_bytes: int = 1_000_000, index: str | None = "audit") -> Composer:
    fields = {"log_group": "/aws/lambda/service", "stage": "prod"}
    return Composer(
        host="stream", source="/aws/lambda/service", sourcetype="tokenservice", index=index, fields=fields,
        limit_bytes=limit_bytes,
    )  # fmt: skip


def compose(message: str, timestamp_ms: int = 1_700_000_000_123) -> dict[str, Any]:
    composed = composer().compose(LogEvent("id-1", timestamp_ms, message))
    assert isinstance(composed, HecEvent)
    found: dict[str, Any] = json.loads(composed.body)
    return found


def test_without_an_index_the_token_s_default_index_counts() -> None:
    composed = composer(index=None).compose(LogEvent("1", 0, "m"))
    assert isinstance(composed, HecEvent)
    assert "index" not in json.loads(composed.body)


@pytest.mark.parametrize(
    ("timestamp_ms", "text"),
    [(0, "0.000"), (1, "0.001"), (1_700_000_000_120, "1700000000.120"), (253_402_300_799_999, "253402300799.999")],
)
def test_time_is_written_in_seconds_with_exact_milliseconds(timestamp_ms: int, text: str) -> None:
    composed = composer().compose(LogEvent("1", timestamp_ms, "m"))
    assert isinstance(composed, HecEvent)
    assert composed.body.startswith(b'{"time":' + text.encode() + b",")


@pytest.mark.parametrize("message", ["", " ", "\n", "\t \r\n", "\u2003"])
def test_a_blank_message_is_counted_and_neither_sent_nor_set_aside(message: str) -> None:
    logs = [LogEvent("1", 0, message), LogEvent("2", 0, "m"), LogEvent("3", 0, message)]
    (batch,) = batches(composer(), logs)
    assert [event.log for event in batch.events] == [logs[1]]
    assert (batch.unsendable, batch.blank, batch.consumed) == ([], 2, 3)
    assert list(batches(composer(), logs[:1])) == [([], [], 1, 1)]


@pytest.mark.parametrize(
    "message",
    [
        '{"n":NaN}',
        '{"n":-Infinity}',
        '{"a":1,"a":2}',
        '{"n":9007199254740993}',
        '{"n":-123456789012345678901234567890}',
        '{"n":' + "9" * 5000 + "}",
        '{"n":1e400}',
        '{"n":1e-400}',
        '{"n":1e999999999999999999999}',
        '{"n":0.1234567890123456789}',
        '{"a":' * 31 + "1" + "}" * 31,
        '{"a":' + "[" * 30 + "]" * 30 + "}",
        '{"a":' * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"a":1} trailing',
        '{"a":1}{"b":2}',
        'X{"a":1}X',
        '\u2003{"a":1}',
        "{}",
        "{not json}",
        "[1,2]",
        "null",
        "plain text",
        " indented text",
        "café ☃ 😀",
        "a\x00b\x1f\x7f\u2028",
        '{"half a pair":"\ud800"}',
        '{"half a pair":"\\ud800"}',
        '{"half a pair":["\\uDC00\\uD800"]}',
        '{"\\udbff":"a key"}',
        "half a pair \udfff",
    ],
)
def test_json_that_a_collector_would_change_is_sent_as_text(message: str) -> None:
    assert compose(message)["event"] == message


@pytest.mark.parametrize(
    "message",
    [
        '{"a":1}',
        ' \n{"a": 1.10, "b": [true, null, "é"]}\r\n',
        '{"n":9007199254740992,"m":-9007199254740992}',
        '{"n":0.30000000000000004}',
        '{"n":1e22}',
        '{"n":0.0,"m":-0.000e5}',
        '{"escaped":"\\ud83d\\ude00 \\u0000"}',
        '{"no escape":"\\\\ud800"}',
        '{"deep":' * 30 + '"a bracket in a string: ["' + "}" * 30,
        json.dumps({"wide": [{} for _ in range(500)]}),
    ],
)
def test_a_json_object_is_sent_as_an_object_letter_by_letter(message: str) -> None:
    composed = composer().compose(LogEvent("1", 0, message))
    assert isinstance(composed, HecEvent)
    assert composed.body.decode().endswith(',"event":' + message.strip() + "}")


@pytest.mark.parametrize(
    ("message", "request_id"),
    [
        ('{"requestId":"r-1"}', "r-1"),
        ('{"type":"platform.report","record":{"requestId":"r-2"}}', "r-2"),
        (f"START RequestId: {LAMBDA_ID} Version: $LATEST", LAMBDA_ID),
        (f"REPORT RequestId: {LAMBDA_ID}\tDuration: 1 ms", LAMBDA_ID),
        (f"[INFO]\t2026-11-21T04:00:00.000Z\t{LAMBDA_ID}\thello", LAMBDA_ID),
        ('{"requestId":1}', None),
        ('{"requestId":""}', None),
        ('{"requestId":{"a":"b"}}', None),
        ('{"requestId":"' + "x" * 256 + '"}', "x" * 256),
        ('{"requestId":"' + "x" * 257 + '"}', None),
        ("no id\there", None),
    ],
)  # fmt: skip
def test_the_request_id_is_found_where_lambda_and_our_own_log_put_it(message: str, request_id: str | None) -> None:
    assert compose(message)["fields"].get("request_id") == request_id


def test_an_event_over_the_limit_is_set_aside_and_one_at_the_limit_is_sent() -> None:
    overhead = len(composer().compose(LogEvent("1", 0, "x")).body) - 1
    assert isinstance(composer().compose(LogEvent("1", 0, "x" * (1_000_000 - overhead))), HecEvent)
    aside = composer().compose(LogEvent("1", 0, "x" * (1_000_001 - overhead)))
    assert isinstance(aside, RejectedEvent)
    assert "too large" in aside.reason
    halves = [LogEvent("1", 0, "x" * (500_000 - overhead))] * 4
    assert [(len(batch.events), batch.blank) for batch in batches(composer(), halves)] == [(2, 0), (2, 0)]


any_text = st.text(st.characters(exclude_categories=()), max_size=200)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(any_text, inner, max_size=5),
    max_leaves=20,
)


@given(any_text, st.text(), st.text(), st.text(min_size=1))
def test_any_text_any_names_arrive_as_they_were(message: str, host: str, source: str, index: str) -> None:
    made = Composer(host=host, source=source, sourcetype="s", index=index, fields={"stage": source})
    composed = made.compose(LogEvent("1", 5, message))
    if composed is None:
        assert not message.strip()
        return
    assert isinstance(composed, HecEvent)
    found = json.loads(composed.body)
    assert (found["host"], found["source"], found["index"]) == (host, source, index)
    assert found["event"] == message or found["event"] == json.loads(message)
    collector = Collector()
    assert collector.answer(request(composed.body)).status == 200
    assert len(collector.indexed) == 1


@given(any_json, st.booleans())
def test_any_json_arrives_with_the_same_meaning(value: Any, pretty: bool) -> None:
    message = json.dumps(value, indent=2 if pretty else None)
    composed = composer().compose(LogEvent("1", 5, message))
    assert isinstance(composed, HecEvent)
    arrived = json.loads(composed.body)["event"]
    if isinstance(value, dict) and arrived != message:
        assert composed.body.endswith(b',"event":' + message.encode() + b"}")
    else:
        assert arrived == message


@given(st.lists(st.integers(0, 3_000), max_size=40), st.integers(600, 5_000))
def test_any_mix_of_sizes_is_batched_in_order_within_the_limit(sizes: list[int], limit: int) -> None:
    logs = [LogEvent(str(n), n, "x" * size) for n, size in enumerate(sizes)]
    made = list(batches(composer(limit), iter(logs)))
    for batch in made:
        assert sum(len(event.body) for event in batch.events) <= limit
    sent = [event.log for batch in made for event in batch.events]
    aside = [each.log for batch in made for each in batch.unsendable]
    assert sorted(sent + aside) == sorted(log for log in logs if log.message)
    assert sent == [log for log in logs if log in set(sent)]
    done = 0
    for batch in made:
        done += len(batch.events) + len(batch.unsendable) + batch.blank
        assert batch.consumed == done


@pytest.mark.parametrize("code", range(29))
def test_every_code_is_judged_as_the_facts_say(code: int) -> None:
    answer = Answer(STATUS[code], reply(code, 1).body)
    expected = {
        **dict.fromkeys((0, 17, 24, 25), Accepted),
        **dict.fromkeys((6, 12, 13, 15), EventRejected),
        **dict.fromkeys((1, 2, 3, 4), TokenRejected),
        **dict.fromkeys((8, 9, 18, 19, 20, 23, 26, 27), Busy),
    }
    assert type(judge(answer, 3)) is expected.get(code, ConfigurationRejected)


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, b"<html>", Busy),
        (200, b"{}", Busy),
        (200, b"[0]", Busy),
        (200, b'{"code": 6}', Busy),
        (200, b'{"code": false}', Busy),
        (200, b'{"code": "0"}', Busy),
        (503, b'{"code": 0}', Busy),
        (502, b"<html>", Busy),
        (500, b"[" * 100_000, Busy),
        (599, b"", Busy),
        (408, b"", Busy),
        (429, b"", Busy),
        (201, b'{"code": 0}', ConfigurationRejected),
        (307, b'{"code": 0}', ConfigurationRejected),
        (400, b"<html>", ConfigurationRejected),
        (404, b'{"code": 404}', ConfigurationRejected),
        (403, b"<html>", TokenRejected),
        (413, b"", RequestRejected),
        (400, b'{"code": 6}', RequestRejected),
        (400, b'{"code": 6, "invalid-event-number": 3}', RequestRejected),
        (400, b'{"code": 6, "invalid-event-number": -1}', RequestRejected),
        (400, b'{"code": 6, "invalid-event-number": "1"}', RequestRejected),
        (400, b'{"code": 6, "invalid-event-number": true}', RequestRejected),
        (400, b'{"code": 7, "invalid-event-number": 1}', ConfigurationRejected),
    ],
)
def test_answers_that_are_not_as_documented_never_count_as_success(status: int, body: bytes, verdict: type) -> None:
    assert type(judge(Answer(status, body), 3)) is verdict


@pytest.mark.parametrize(
    ("status", "codes", "verdict"),
    [
        (200, {"code": 0}, Accepted()),
        (403, {"code": 4}, TokenRejected("HTTP 403, code 4 (invalid token)")),
        (413, {}, RequestRejected("HTTP 413")),
        (502, {}, Busy("HTTP 502", 3.0)),
        (503, {"code": 9}, Busy("HTTP 503, code 9 (server is busy)", 3.0, by_itself=True)),
        (
            400,
            {"code": 13, "invalid-event-number": 0},
            EventRejected(0, "HTTP 400, code 13 (event field cannot be blank)"),
        ),
        (400, {"code": 6, "invalid-event-number": 2}, EventRejected(2, "HTTP 400, code 6 (invalid data format)", True)),
        (400, {"code": 6}, RequestRejected("HTTP 400, code 6 (invalid data format), no event named")),
        (404, {"code": 404}, ConfigurationRejected("HTTP 404, code 404 (unknown)")),
    ],
)
def test_a_verdict_names_status_and_code_and_repeats_no_text_of_the_server(
    status: int, codes: dict[str, int], verdict: object
) -> None:
    assert judge(Answer(status, json.dumps(codes | {"text": "the-token"}).encode(), 3.0), 3) == verdict
