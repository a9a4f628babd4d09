"""CloudWatch Logs subscription events: decode what Lambda passes in, encode what is stored for later.

The whole envelope is checked before any event of it is sent. An item of `logEvents` that is no log event does not spoil
its neighbours: it is returned with its fault.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from chalicelib.splunk.errors import MalformedEnvelope

# Lambda's payload limit is 1 MB, about 750 kB of gzip. Logs shrink 4 to 20 times; this allows 21 times, and all of it
# fits into a function of 128 MB.
MAX_BYTES: Final = 16 * 1024 * 1024
_GZIP: Final = 31  # zlib's window bits for a gzip header and checksum
# UTF-8 of a character beyond U+FFFF begins with one of these. With one such character, Python's text takes four bytes
# for every character; half as much is allowed then.
_WIDE: Final = b"\xf0\xf1\xf2\xf3\xf4"
_LATEST_MS: Final = 253_402_300_800_000  # the year 10000: later instants have no date


class LogEvent(NamedTuple):
    """One log event.

    Attributes:
        id: CloudWatch's id of the event, the same at each delivery of the event.
        timestamp_ms: when the event happened, milliseconds since 1970-01-01T00:00Z.
        message: the text as it was logged.
        fault: why the item is no log event, or empty. With a fault, `message` is the whole item as JSON.
    """

    id: str
    timestamp_ms: int
    message: str
    fault: str = ""


class Envelope(NamedTuple):
    """A checked subscription event, with the log events in their order."""

    log_group: str
    log_stream: str
    events: Sequence[LogEvent]


def decode(event: object, max_bytes: int = MAX_BYTES) -> Envelope:
    """Decode and check one CloudWatch Logs subscription event.

    Args:
        event: `{"awslogs": {"data": str}}`, base64 of gzipped JSON.
        max_bytes: the limit after decompression.

    Returns:
        No log events if CloudWatch Logs only checks that the destination can be reached.

    Raises:
        MalformedEnvelope: not base64, gzip or JSON, not of the documented shape, or larger than `max_bytes`.

    Source: AWS Lambda developer guide, "Using Lambda with CloudWatch Logs".
    """
    content = _parse(_decompress(_compressed(event), max_bytes))
    kind = _string(content, "messageType")
    if kind not in ("DATA_MESSAGE", "CONTROL_MESSAGE"):
        raise MalformedEnvelope("messageType is neither DATA_MESSAGE nor CONTROL_MESSAGE")
    events = content.get("logEvents")
    if not isinstance(events, list):
        raise MalformedEnvelope("logEvents is missing or not a list")
    for number, item in enumerate(events):  # in place, so that memory never holds all events twice
        events[number] = _log_event(item)
    if kind == "CONTROL_MESSAGE":
        events = []
    return Envelope(_string(content, "logGroup"), _string(content, "logStream"), events)


def encode(envelope: Envelope, events: Iterable[LogEvent]) -> bytes:
    """Encode some of an envelope's log events as a subscription event of their own.

    The same events give the same bytes, so that storing them twice stores them once.

    Returns:
        JSON that `decode` takes after `json.loads`; messages are unchanged to the last character.
    """
    deflater = zlib.compressobj(level=1, wbits=_GZIP)  # half the processor time of the default
    head = {
        "messageType": "DATA_MESSAGE",
        "logGroup": envelope.log_group,
        "logStream": envelope.log_stream,
    }
    pieces = [deflater.compress(json.dumps(head)[:-1].encode() + b', "logEvents": [')]
    for number, log in enumerate(events):
        item = {"id": log.id, "timestamp": log.timestamp_ms, "message": log.message}
        text = log.message if log.fault else json.dumps(item)
        pieces.append(deflater.compress((b", " if number else b"") + text.encode()))
    pieces += [deflater.compress(b"]}"), deflater.flush()]
    return b'{"awslogs": {"data": "' + base64.b64encode(b"".join(pieces)) + b'"}}'


def to_json(value: object) -> str:
    """Write any JSON value.

    Raises:
        MalformedEnvelope: it is nested too deep.
    """
    try:
        return json.dumps(value, separators=(",", ":"))
    except RecursionError:
        raise MalformedEnvelope("nested too deep") from None


def _compressed(event: object) -> bytes:
    awslogs = event.get("awslogs") if isinstance(event, Mapping) else None
    data = awslogs.get("data") if isinstance(awslogs, Mapping) else None
    if not isinstance(data, str):
        raise MalformedEnvelope("there is no awslogs.data")
    if not data:
        raise MalformedEnvelope("awslogs.data is empty")
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        raise MalformedEnvelope("awslogs.data is not base64") from None


def _decompress(compressed: bytes, max_bytes: int) -> str:
    """Decompress at most that much: a bomb is rejected before it fills the memory."""
    inflater = zlib.decompressobj(wbits=_GZIP)
    try:
        content = inflater.decompress(compressed, max_bytes + 1)
    except zlib.error:
        raise MalformedEnvelope("awslogs.data is not gzip, or damaged") from None
    limit_bytes = max_bytes // 2 if any(byte in content for byte in _WIDE) else max_bytes
    if len(content) > limit_bytes:
        raise MalformedEnvelope(f"larger than {limit_bytes} bytes after decompression")
    if not inflater.eof:
        raise MalformedEnvelope("the gzip data is cut off")
    if inflater.unused_data:
        raise MalformedEnvelope("there is something after the gzip data")
    # Bytes that are no UTF-8 become lone surrogates: they are valid only inside strings, and do no harm there.
    return content.decode(errors="surrogateescape")


def _parse(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except RecursionError:
        raise MalformedEnvelope("nested too deep") from None
    except ValueError:
        raise MalformedEnvelope("the content is not JSON") from None
    if not isinstance(parsed, dict):
        raise MalformedEnvelope("the content is not a JSON object")
    return parsed


def _string(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    if not isinstance(value, str):
        raise MalformedEnvelope(f"{name} is missing or not a string")
    return value


def _log_event(item: Any) -> LogEvent:
    if fault := _fault(item):
        return LogEvent("", 0, to_json(item), f"malformed: {fault}")
    return LogEvent(item["id"], item["timestamp"], item["message"])


def _fault(item: Any) -> str:
    """Why an item of `logEvents` is no log event; empty if it is one."""
    if type(item) is not dict:
        return "not an object"
    if type(item.get("id")) is not str:
        return "id is missing or not a string"
    if type(item.get("message")) is not str:
        return "message is missing or not a string"
    timestamp = item.get("timestamp")
    if type(timestamp) is not int or not 0 <= timestamp < _LATEST_MS:
        return "timestamp is missing or not in milliseconds since 1970"
    return ""
