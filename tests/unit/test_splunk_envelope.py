"""Decoding of CloudWatch Logs subscription events, good and bad."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.splunk.envelope import MAX_BYTES, LogEvent, decode, encode
from chalicelib.splunk.errors import MalformedEnvelope
from tests.support.splunk_world import START_MS, content, pack, subscription


def test_an_envelope_names_the_source_of_its_events() -> None:
    envelope = decode(subscription(["a", "b"]))
    assert not envelope.is_control
    assert envelope.owner == "123456789012"
    assert envelope.log_group == "/aws/lambda/service"
    assert envelope.log_stream == "2026/11/21/[$LATEST]0123456789abcdef"
    assert envelope.subscription_filters == ("splunk",)
    assert len(envelope.events) == 2
    assert list(envelope.events) == [
        LogEvent("0".zfill(56), START_MS, "a"),
        LogEvent("1".zfill(56), START_MS + 1, "b"),
    ]


def test_a_control_message_is_recognized() -> None:
    assert decode(subscription(["check"], messageType="CONTROL_MESSAGE")).is_control


def test_events_are_found_wherever_they_stand_in_the_object() -> None:
    parts = content()
    first = {"logEvents": parts.pop("logEvents"), **parts}
    assert [log.message for log in decode(pack(first)).events] == ["a"]


def test_an_envelope_without_events_is_no_error() -> None:
    assert list(decode(pack(content(logEvents=[]))).events) == []


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
        (pack(b"[]"), "not a JSON object"),
        (pack(b'{"a" 1}'), "not JSON"),
        (pack(b'{1: 1}'), "not JSON"),
        (pack(b'{"messageType": \xff}'), "not JSON"),
        (pack(content() | {"messageType": "\udcff"}), "messageType is neither"),
        (pack(json.dumps(content()).encode() + b"x"), "not JSON"),
        (pack(b'{"owner": ' + b"[" * 200_000), "nested too deep"),
        (pack(content(messageType="OTHER")), "messageType is neither"),
        (pack(content(messageType=None)), "messageType is missing"),
        (pack(content(logGroup=1)), "logGroup is missing or not a string"),
        (pack(content(logEvents={})), "logEvents is missing or not a list"),
        (pack({k: v for k, v in content().items() if k != "logEvents"}), "logEvents is missing or not a list"),
        (pack(content(subscriptionFilters="x")), "subscriptionFilters"),
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


def bomb(megabytes: int) -> dict[str, Any]:
    deflater = zlib.compressobj(9, wbits=31)
    megabyte = b" " * 1_000_000
    packed = b"".join(deflater.compress(megabyte) for _ in range(megabytes)) + deflater.flush()
    return {"awslogs": {"data": base64.b64encode(packed).decode()}}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: bomb(300), "larger than 16777216 bytes after decompression"),
        (lambda: subscription(["x" * 40_000_000]), "larger than 16777216 bytes after decompression"),
        (
            lambda: pack(content(logEvents=["\U0001f600" + "x" * 16_000_000]), ensure_ascii=False),
            "larger than 8388608 bytes after decompression",
        ),
    ],
    ids=["a bomb", "a bomb inside one message", "a text that Python holds with four bytes a character"],
)
def test_an_envelope_too_large_for_a_small_function_is_rejected(make: Callable[[], Any], reason: str) -> None:
    event = make()
    tracemalloc.start()
    with pytest.raises(MalformedEnvelope, match=reason):
        decode(event)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 70_000_000


def test_the_largest_input_fits_into_a_small_function() -> None:
    """The worst there can be: as many events as possible, and a character that widens the text to its limit."""
    item = {"id": "0" * 56, "timestamp": START_MS, "message": ""}
    count = int(MAX_BYTES / 2.1) // len(json.dumps(item))
    event = pack(content(logEvents=[item | {"message": "\U0001f600"}] + [item] * count), ensure_ascii=False)
    tracemalloc.start()
    assert len(decode(event).events) == count + 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 70_000_000


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 200_000, 1_048_576])
def test_messages_around_the_size_of_a_piece_are_complete(size: int) -> None:
    texts = ["x" * size, "é" * (size // 2), "😀" * (size // 4)]
    assert [log.message for log in decode(subscription(texts)).events] == texts


any_text = st.text(st.characters(exclude_categories=()), max_size=50)


@given(st.lists(any_text, max_size=20))
def test_any_text_survives_decoding_and_encoding(texts: list[str]) -> None:
    envelope = decode(subscription(texts))
    events = list(envelope.events)
    assert [log.message for log in events] == texts
    again = decode(json.loads(encode(envelope, events)))
    assert list(again.events) == events
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
    assert len(envelope.events) == len(value)
    events = list(envelope.events)
    assert [same_json(log.message, item) for log, item in zip(events, value, strict=True)] == [True] * len(value)
    assert list(decode(json.loads(encode(envelope, events))).events) == events


def test_the_same_events_are_encoded_to_the_same_bytes() -> None:
    envelope = decode(subscription(["a", "b", "c"]))
    events = list(envelope.events)
    assert encode(envelope, events[1:]) == encode(envelope, events[1:]) != encode(envelope, events)


@pytest.mark.parametrize("event", [[], None, "x", 1])
def test_an_input_that_is_no_object_is_refused_like_any_other(event: Any) -> None:
    with pytest.raises(MalformedEnvelope, match="awslogs"):
        decode(event)
