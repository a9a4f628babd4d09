"""Decoding of CloudWatch Logs subscription events, good and bad."""

from __future__ import annotations

import base64
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.splunk.envelope import MAX_BYTES, LogEvent, decode, encode, to_json
from chalicelib.splunk.errors import MalformedEnvelope
from tests.support.splunk_world import START_MS, content, pack, subscription


def test_an_envelope_names_the_source_of_its_events() -> None:
    envelope = decode(subscription(["a", "b"]))
    assert envelope.log_group == "/aws/lambda/service"
    assert envelope.log_stream == "2026/11/21/[$LATEST]0123456789abcdef"
    assert list(envelope.events) == [
        LogEvent("0".zfill(56), START_MS, "a"),
        LogEvent("1".zfill(56), START_MS + 1, "b"),
    ]


def gzipped(raw: bytes) -> dict[str, Any]:
    return {"awslogs": {"data": base64.b64encode(raw).decode()}}


GOOD = base64.b64decode(subscription(["a"])["awslogs"]["data"])
DAMAGED = GOOD[:-8] + bytes([GOOD[-8] ^ 1]) + GOOD[-7:]  # the checksum


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (None, "there is no awslogs.data"),
        ([], "there is no awslogs.data"),
        ({"awslogs": None}, "there is no awslogs.data"),
        ({"awslogs": {"data": 1}}, "there is no awslogs.data"),
        ({"awslogs": {"data": ""}}, "awslogs.data is empty"),
        ({"awslogs": {"data": "é"}}, "awslogs.data is not base64"),
        (
            {"awslogs": {"data": subscription(["a"])["awslogs"]["data"][:-8] + "!" + "AAAAAAA="}},
            "awslogs.data is not base64",
        ),
        (gzipped(b"plain"), "awslogs.data is not gzip, or damaged"),
        (gzipped(DAMAGED), "awslogs.data is not gzip, or damaged"),
        (gzipped(GOOD[:-5]), "the gzip data is cut off"),
        (gzipped(GOOD + b"more"), "there is something after the gzip data"),
        (pack(b""), "the content is not JSON"),
        (pack(b"[]"), "the content is not a JSON object"),
        (pack(b'{"messageType": \xff}'), "the content is not JSON"),
        (pack(content() | {"messageType": "\udcff"}), "messageType is neither DATA_MESSAGE nor CONTROL_MESSAGE"),
        (pack(json.dumps(content()).encode() + b"x"), "the content is not JSON"),
        (pack(b'{"owner": ' + b"[" * 200_000), "nested too deep"),
        (pack(content(messageType="OTHER")), "messageType is neither DATA_MESSAGE nor CONTROL_MESSAGE"),
        (pack(content(messageType=None)), "messageType is missing or not a string"),
        (pack(content(logGroup=1)), "logGroup is missing or not a string"),
        (pack(content(logEvents={})), "logEvents is missing or not a list"),
    ],
)
def test_bad_input_is_refused_with_its_reason(event: object, reason: str) -> None:
    with pytest.raises(MalformedEnvelope) as caught:
        decode(event)
    assert str(caught.value) == reason


def test_an_envelope_of_the_largest_size_is_read_and_a_larger_one_refused() -> None:
    text = json.dumps(content()).encode()
    assert len(decode(pack(text), len(text)).events) == 1
    with pytest.raises(MalformedEnvelope, match=f"^larger than {len(text) - 1} bytes after decompression$"):
        decode(pack(text), len(text) - 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" " * 100_000_000, "larger than 16777216 bytes after decompression"),
        ('["\U0001f600' + "x" * 16_000_000 + '"]', "larger than 8388608 bytes after decompression"),
    ],
    ids=["a bomb", "a text that Python holds with four bytes a character"],
)
def test_an_envelope_too_large_for_a_small_function_is_rejected(text: str, reason: str) -> None:
    event = pack(text.encode())
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


any_text = st.text(st.characters(exclude_categories=()), max_size=50)


@given(st.lists(any_text, max_size=20))
def test_any_text_survives_decoding_and_encoding(texts: list[str]) -> None:
    envelope = decode(subscription(texts))
    events = list(envelope.events)
    assert [log.message for log in events] == texts
    again = decode(json.loads(encode(envelope, events)))
    assert again == envelope


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read_but_never_crash(raw: bytes) -> None:
    for data in (raw.decode("latin-1"), base64.b64encode(raw).decode()):
        with pytest.raises(MalformedEnvelope):
            decode({"awslogs": {"data": data}})
    with pytest.raises(MalformedEnvelope):
        decode(pack(raw))


any_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.lists(any_json, max_size=10))
def test_any_json_in_place_of_the_log_events_is_read_and_encoded_as_it_was(items: list[Any]) -> None:
    envelope = decode(pack(content(logEvents=items)))
    events = list(envelope.events)
    assert json.dumps([json.loads(log.message) for log in events]) == json.dumps(items)
    assert list(decode(json.loads(encode(envelope, events))).events) == events


def test_json_is_written_without_spaces() -> None:
    assert to_json({"a": [1, 2]}) == '{"a":[1,2]}'


def test_the_same_events_are_encoded_to_the_same_bytes() -> None:
    envelope = decode(subscription(["a", "b", "c"]))
    events = list(envelope.events)
    assert encode(envelope, events[1:]) == encode(envelope, events[1:]) != encode(envelope, events)
