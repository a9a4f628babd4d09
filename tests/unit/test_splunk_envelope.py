"""Decoding of CloudWatch Logs subscription events, good and bad."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.splunk.envelope import LogEvent, decode, encode
from chalicelib.splunk.errors import MalformedEnvelope
from tests.support.splunk_world import START_MS, content, pack, subscription


def test_an_envelope_tells_where_its_events_come_from() -> None:
    envelope = decode(subscription(["a", "b"]))
    assert not envelope.is_control
    assert envelope.owner == "123456789012"
    assert envelope.log_group == "/aws/lambda/service"
    assert envelope.log_stream == "2026/11/21/[$LATEST]0123456789abcdef"
    assert envelope.subscription_filters == ("splunk",)
    assert envelope.count == 2
    assert list(envelope.log_events()) == [
        LogEvent("0".zfill(56), START_MS, "a"),
        LogEvent("1".zfill(56), START_MS + 1, "b"),
    ]


def test_events_can_be_read_more_than_once() -> None:
    envelope = decode(subscription(["a", "b"]))
    assert list(envelope.log_events()) == list(envelope.log_events())


def test_a_control_message_is_told_apart() -> None:
    assert decode(subscription(["check"], messageType="CONTROL_MESSAGE")).is_control


def test_events_are_found_wherever_they_stand_in_the_object() -> None:
    parts = content()
    first = {"logEvents": parts.pop("logEvents"), **parts}
    assert [log.message for log in decode(pack(first)).log_events()] == ["a"]


def test_an_envelope_without_events_is_no_error() -> None:
    assert list(decode(pack(content(logEvents=[]))).log_events()) == []


def cut(event: dict[str, Any], drop: int) -> dict[str, Any]:
    raw = base64.b64decode(event["awslogs"]["data"])
    return {"awslogs": {"data": base64.b64encode(raw[:-drop]).decode()}}


def trailing(event: dict[str, Any], extra: bytes) -> dict[str, Any]:
    raw = base64.b64decode(event["awslogs"]["data"])
    return {"awslogs": {"data": base64.b64encode(raw + extra).decode()}}


def one_event(**changes: Any) -> Any:
    return pack(content(logEvents=[{"id": "1", "timestamp": 1, "message": "m"} | changes]))


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({}, "there is no awslogs.data"),
        ({"awslogs": None}, "there is no awslogs.data"),
        ({"awslogs": {"data": 1}}, "there is no awslogs.data"),
        ({"awslogs": {"data": ""}}, "awslogs.data is empty"),
        ({"awslogs": {"data": "not base64!"}}, "awslogs.data is not base64"),
        ({"awslogs": {"data": "é"}}, "awslogs.data is not base64"),
        ({"awslogs": {"data": subscription(["a"])["awslogs"]["data"][:-8] + "!" + "AAAAAAA="}}, "is not base64"),
        ({"awslogs": {"data": base64.b64encode(b"plain").decode()}}, "not gzip"),
        (cut(subscription(["a"]), 5), "cut off"),
        (trailing(subscription(["a"]), b"more"), "after the gzip data"),
        (pack(b""), "not JSON"),
        (pack(b"{"), "not JSON"),
        (pack(b"{}"), "messageType is missing"),
        (pack(b"not json"), "not JSON"),
        (pack(b"[]"), "not JSON"),
        (pack(b'{"a" 1}'), "not JSON"),
        (pack(b'{1: 1}'), "not JSON"),
        (pack(b'{"messageType": \xff}'), "not JSON"),
        (pack(content() | {"messageType": "\udcff"}), "messageType is neither"),
        (pack(json.dumps(content()).encode() + b"x"), "something after the JSON object"),
        (pack(b'{"owner": ' + b"[" * 200_000), "not JSON"),
        (pack(b'{"owner": ' + b"[" * 200_000 + b'"'), "not JSON"),
        (pack(json.dumps(content(owner="?")).replace('"?"', "[" * 9_000 + "]" * 9_000).encode()), "owner is missing"),
        (pack(content(messageType="OTHER")), "messageType is neither"),
        (pack(content(messageType=None)), "messageType is missing"),
        (pack(content(logGroup=1)), "logGroup is missing or not a string"),
        (pack(content(logEvents={})), "logEvents is not a list"),
        (pack({k: v for k, v in content().items() if k != "logEvents"}), "logEvents is missing"),
        (pack(content(subscriptionFilters="x")), "subscriptionFilters"),
        (pack(b'{"logEvents": [], "logEvents": []}'), "a name stands there twice"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_its_reason(event: dict[str, Any], reason: str) -> None:
    with pytest.raises(MalformedEnvelope, match=reason):
        decode(event)


def test_damage_inside_the_gzip_data_is_found_by_its_checksum() -> None:
    raw = bytearray(base64.b64decode(subscription(["a" * 1000])["awslogs"]["data"]))
    raw[-8] ^= 1  # the checksum itself
    with pytest.raises(MalformedEnvelope, match="not gzip, or damaged"):
        decode({"awslogs": {"data": base64.b64encode(raw).decode()}})


def test_the_reason_never_holds_the_content() -> None:
    with pytest.raises(MalformedEnvelope) as caught:
        decode(pack(b'{"messageType": "DATA_MESSAGE", "owner": secret'))
    assert "secret" not in str(caught.value)


def test_a_bomb_of_300_megabytes_is_refused_without_filling_the_memory() -> None:
    deflater = zlib.compressobj(9, wbits=31)
    megabyte = b" " * 1_000_000
    bomb = b"".join(deflater.compress(megabyte) for _ in range(300)) + deflater.flush()
    event = {"awslogs": {"data": base64.b64encode(bomb).decode()}}
    tracemalloc.start()
    with pytest.raises(MalformedEnvelope, match=r"larger than 33554432 bytes"):
        decode(event)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_bomb_inside_one_message_is_refused_as_well() -> None:
    with pytest.raises(MalformedEnvelope, match=r"larger than|longer than"):
        decode(subscription(["x" * 40_000_000]))


def test_more_events_than_are_worth_holding_are_read_again_with_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    event = subscription(f"line {n} of the log" for n in range(20_000))
    held = list(decode(event).log_events())
    monkeypatch.setattr("chalicelib.splunk.envelope._HELD_BYTES", 100_000)
    tracemalloc.start()
    assert sum(1 for _ in decode(event).log_events()) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # 2.5 MB of JSON went through; held are the compressed input and a few pieces.
    assert peak < 1_500_000
    envelope = decode(event)
    assert list(envelope.log_events()) == list(envelope.log_events()) == held


def test_a_value_longer_than_any_log_event_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(MalformedEnvelope, match=r"longer than 8388608 characters"):
        decode(subscription(["x" * 20_000_000]))


@pytest.mark.parametrize("shift", range(12))
def test_a_number_is_read_whole_wherever_a_piece_ends(shift: int) -> None:
    head = b'{"pad": "' + b"x" * (65_536 - 30 + shift) + b'", "extra": 1234567890, '
    envelope = decode(pack(head + json.dumps(content()).encode()[1:]))
    assert envelope.count == 1


@pytest.mark.parametrize("shift", range(0, 60, 7))
@pytest.mark.parametrize("odd", ['["\\"]", ' * 9_000 + "0" + "]" * 9_000, "9" * 5_000, '"' + "x" * 70_000 + '"'])
def test_an_odd_item_is_read_whole_wherever_a_piece_ends(shift: int, odd: str) -> None:
    """Nested too deep for a parser, or an integer of too many digits."""
    good = '{"id": "1", "timestamp": 1, "message": "m"}'
    pad = {"id": "0", "timestamp": 1, "message": "x" * (65_536 - 300 + shift)}
    head, tail = json.dumps(content(logEvents=[pad, "?"])).split('"?"')
    events = list(decode(pack(f"{head}{odd}, {good}{tail}".encode())).log_events())
    assert [log.message for log in events[1:]] == [odd, "m"]


@pytest.mark.parametrize("size", range(131_072 - 300, 131_072 + 300, 31))
def test_content_that_ends_near_the_end_of_a_piece_is_read_whole(size: int) -> None:
    overhead = len(json.dumps(content(logEvents=[]))) + len('{"id": "1", "timestamp": 1, "message": ""}')
    envelope = decode(one_event(message="x" * (size - overhead)))
    assert envelope.count == 1


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 200_000, 1_048_576])
def test_messages_around_the_size_of_a_piece_arrive_whole(size: int) -> None:
    texts = ["x" * size, "é" * (size // 2), "😀" * (size // 4)]
    assert [log.message for log in decode(subscription(texts)).log_events()] == texts


any_text = st.text(st.characters(exclude_categories=()), max_size=50)


@given(st.lists(any_text, max_size=20))
def test_any_text_survives_decoding_and_encoding(texts: list[str]) -> None:
    envelope = decode(subscription(texts))
    events = list(envelope.log_events())
    assert [log.message for log in events] == texts
    again = decode(json.loads(encode(envelope, events)))
    assert list(again.log_events()) == events
    assert (again.log_group, again.log_stream, again.owner) == (
        envelope.log_group,
        envelope.log_stream,
        envelope.owner,
    )


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read_but_never_crash(raw: bytes) -> None:
    for data in (raw.decode("latin-1"), base64.b64encode(raw).decode()):
        with pytest.raises(MalformedEnvelope):
            decode({"awslogs": {"data": data}})
    with pytest.raises(MalformedEnvelope):
        decode(pack(raw))


def same_json(text: str, value: Any) -> bool:
    return json.dumps(json.loads(text)) == json.dumps(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_json_in_place_of_the_log_events_is_refused_or_read(value: Any) -> None:
    try:
        envelope = decode(pack(content(logEvents=value)))
    except MalformedEnvelope:
        assert not isinstance(value, list)
        return
    assert envelope.count == len(value)
    events = list(envelope.log_events())
    assert [same_json(log.message, item) for log, item in zip(events, value, strict=True)] == [True] * len(value)
    assert list(decode(json.loads(encode(envelope, events))).log_events()) == events


def test_the_same_events_are_encoded_to_the_same_bytes() -> None:
    envelope = decode(subscription(["a", "b", "c"]))
    events = list(envelope.log_events())
    assert encode(envelope, events[1:]) == encode(envelope, events[1:]) != encode(envelope, events)


@pytest.mark.parametrize("event", [[], None, "x", 1])
def test_an_input_that_is_no_object_is_refused_like_any_other(event: Any) -> None:
    with pytest.raises(MalformedEnvelope, match="awslogs"):
        decode(event)
