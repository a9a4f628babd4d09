"""CloudWatch Logs subscription events: decode what Lambda hands over, encode what must be kept.

All of an envelope is checked before any of it is used: nothing is sent from input that is broken further on. The
events of an ordinary envelope are held meanwhile; those of a very large one are read again instead, so that memory
does not grow with their number. An item of `logEvents` that is no log event does not spoil its neighbours: it is
handed on with what is wrong about it.
"""

from __future__ import annotations

import base64
import codecs
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from chalicelib.splunk.errors import MalformedEnvelope

# Lambda takes 1 MB of payload, about 750 kB of gzip. Logs shrink 4 to 20 times; this allows 43 times.
MAX_BYTES: Final = 32 * 1024 * 1024
# Up to here holding the events is worth its memory: it spares a quarter of the work.
_HELD_BYTES: Final = 8 * 1024 * 1024
_HELD_EVENTS: Final = 25_000
# CloudWatch Logs takes 1 MiB an event, and JSON may write each byte as a six-character escape.
_MAX_VALUE_CHARACTERS: Final = 8 * 1024 * 1024
_INPUT_BYTES: Final = 16 * 1024
_OUTPUT_BYTES: Final = 64 * 1024
_GZIP: Final = 31  # zlib's window bits for a gzip header and checksum
_LATEST_MS: Final = 253_402_300_800_000  # the year 10000: beyond it no date can be shown

_SPACE = re.compile(r"[ \t\n\r]*")
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{}]', re.DOTALL)
_DIGITS: Final = 1_000  # of an integer; Python refuses to read more than some thousands

_DECODER = json.JSONDecoder()
_LENIENT_DECODER = json.JSONDecoder(parse_int=lambda text: int(text) if len(text) < _DIGITS else float(text))


class LogEvent(NamedTuple):
    """One log event.

    Attributes:
        id: CloudWatch's id of the event, the same each time the event is delivered.
        timestamp_ms: when the event happened, milliseconds since 1970-01-01T00:00Z.
        message: the text as it was logged.
        fault: why the item is no log event; empty where it is one. `message` is then the whole item as JSON.
    """

    id: str
    timestamp_ms: int
    message: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A checked subscription event.

    Attributes:
        is_control: whether CloudWatch Logs only checks that the destination can be reached.
        owner: the AWS account of the log group.
        count: number of log events.
    """

    is_control: bool
    owner: str
    log_group: str
    log_stream: str
    subscription_filters: tuple[str, ...]
    count: int
    _compressed: bytes = field(repr=False)
    _max_bytes: int = field(repr=False)
    _held: tuple[LogEvent, ...] | None = field(repr=False)

    def log_events(self) -> Iterator[LogEvent]:
        """The log events in their order; may be asked for more than once."""
        return self._read_again() if self._held is None else iter(self._held)

    def _read_again(self) -> Iterator[LogEvent]:
        reader = _Reader(self._compressed, self._max_bytes)
        for key in reader.each_key():
            if key != "logEvents":
                reader.value()
                continue
            yield from reader.each_log_event()


def decode(event: Mapping[str, Any], max_bytes: int = MAX_BYTES) -> Envelope:
    """Decode and check one CloudWatch Logs subscription event.

    Args:
        event: `{"awslogs": {"data": str}}`, base64 of gzipped JSON.
        max_bytes: refuse more than this many bytes after decompression.

    Raises:
        MalformedEnvelope: not base64, gzip or JSON, not of the documented shape, or larger than `max_bytes`.

    Source: AWS Lambda developer guide, "Using Lambda with CloudWatch Logs".
    """
    reader = _Reader(_compressed(event), max_bytes)
    head: dict[str, Any] = {}
    count = 0
    held: list[LogEvent] | None = []
    for key in reader.each_key():
        if key in head:
            raise MalformedEnvelope("a name stands there twice")
        if key == "logEvents":
            head[key] = True
            for log in reader.each_log_event():
                count += 1
                if held is not None:
                    held.append(log)
                    if reader.bytes_read > _HELD_BYTES or count > _HELD_EVENTS:
                        held = None
        else:
            head[key] = reader.value()
    reader.end()
    filters = head.get("subscriptionFilters", [])
    if not isinstance(filters, list) or not all(isinstance(name, str) for name in filters):
        raise MalformedEnvelope("subscriptionFilters is not a list of strings")
    kind = _string(head, "messageType")
    if kind not in ("DATA_MESSAGE", "CONTROL_MESSAGE"):
        raise MalformedEnvelope("messageType is neither DATA_MESSAGE nor CONTROL_MESSAGE")
    if "logEvents" not in head:
        raise MalformedEnvelope("logEvents is missing")
    return Envelope(
        is_control=kind == "CONTROL_MESSAGE",
        owner=_string(head, "owner"),
        log_group=_string(head, "logGroup"),
        log_stream=_string(head, "logStream"),
        subscription_filters=tuple(filters),
        count=count,
        _compressed=reader.compressed,
        _max_bytes=max_bytes,
        _held=None if held is None else tuple(held),
    )


def encode(envelope: Envelope, events: Iterable[LogEvent]) -> bytes:
    """Write some of an envelope's log events as a subscription event of their own.

    The same events give the same bytes, so that keeping them twice keeps them once.

    Returns:
        JSON that `decode` takes after `json.loads`; messages are what they were to the last character.
    """
    deflater = zlib.compressobj(level=1, wbits=_GZIP)  # half the processor time of the default
    head = {
        "messageType": "DATA_MESSAGE",
        "owner": envelope.owner,
        "logGroup": envelope.log_group,
        "logStream": envelope.log_stream,
        "subscriptionFilters": envelope.subscription_filters,
    }
    pieces = [deflater.compress(json.dumps(head)[:-1].encode() + b', "logEvents": [')]
    for number, log in enumerate(events):
        item = {"id": log.id, "timestamp": log.timestamp_ms, "message": log.message}
        text = log.message.encode(errors="surrogateescape") if log.fault else json.dumps(item).encode()
        pieces.append(deflater.compress((b", " if number else b"") + text))
    pieces += [deflater.compress(b"]}"), deflater.flush()]
    return b'{"awslogs": {"data": "' + base64.b64encode(b"".join(pieces)) + b'"}}'


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


def _string(head: Mapping[str, Any], name: str) -> str:
    value = head.get(name)
    if not isinstance(value, str):
        raise MalformedEnvelope(f"{name} is missing or not a string")
    return value


def _fault(item: Any) -> str:
    """Why an item of `logEvents` is no log event; empty where it is one."""
    if type(item) is not dict:
        return "not an object, or nested too deep"
    if type(item.get("id")) is not str:
        return "id is missing or not a string"
    if type(item.get("message")) is not str:
        return "message is missing or not a string"
    timestamp = item.get("timestamp")
    if type(timestamp) is not int or not 0 <= timestamp < _LATEST_MS:
        return "timestamp is missing or not in milliseconds since 1970"
    return ""


def _inflate(compressed: bytes, max_bytes: int) -> Iterator[bytes]:
    """Decompress piece by piece: a bomb is refused as it passes the limit, before it fills the memory."""
    inflater = zlib.decompressobj(wbits=_GZIP)
    total = 0
    try:
        for start in range(0, len(compressed), _INPUT_BYTES):
            rest = compressed[start : start + _INPUT_BYTES]
            while True:
                piece = inflater.decompress(rest, _OUTPUT_BYTES)
                rest = inflater.unconsumed_tail
                total += len(piece)
                if total > max_bytes:
                    raise MalformedEnvelope(f"larger than {max_bytes} bytes after decompression")
                if piece:
                    yield piece
                # A full piece may leave more inside the inflater although all input is taken.
                if not rest and len(piece) < _OUTPUT_BYTES:
                    break
            if inflater.eof and (inflater.unused_data or start + _INPUT_BYTES < len(compressed)):
                raise MalformedEnvelope("there is something after the gzip data")
    except zlib.error:
        raise MalformedEnvelope("awslogs.data is not gzip, or damaged") from None
    if not inflater.eof:
        raise MalformedEnvelope("the gzip data is cut off")


class _Reader:
    """Reads a JSON object of any size, one value of it in memory at a time."""

    def __init__(self, compressed: bytes, max_bytes: int) -> None:
        self.compressed = compressed
        self.bytes_read = 0
        self._pieces = _inflate(compressed, max_bytes)
        # Bytes that are no UTF-8 become lone surrogates: in a message they do no harm, and elsewhere there are none.
        self._utf8 = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text = ""
        self._start = 0  # of the value that was read last
        self._at = 0
        self._finished = False

    def each_key(self) -> Iterator[str]:
        """The keys of the object; after each, its value must be read."""
        self._take("{")
        if self._peek() == "}":
            self._at += 1
            return
        while True:
            key = self.value()
            if not isinstance(key, str):
                raise MalformedEnvelope("the content is not JSON")
            self._take(":")
            yield key
            if self._peek() != ",":
                break
            self._at += 1
        self._take("}")

    def each_log_event(self) -> Iterator[LogEvent]:
        """The items of the array that comes next."""
        if self._peek() != "[":
            raise MalformedEnvelope("logEvents is not a list")
        self._at += 1
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            item = self.value()
            if fault := _fault(item):
                yield LogEvent("", 0, self._text[self._start : self._at], f"malformed: {fault}")
            else:
                yield LogEvent(item["id"], item["timestamp"], item["message"])
            # Mostly the comma is at hand: thousands of events are worth a shorter way.
            if not self._text.startswith(",", self._at) and self._peek() != ",":
                break
            self._at += 1
        self._take("]")

    def value(self) -> Any:
        """The value that comes next, whole; None for one that is nested too deep."""
        if not self._text.startswith("{", self._at):
            self._peek()
        decoder = _DECODER
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._at)
            except RecursionError:
                value, end = None, self._end_of_nested()
            except json.JSONDecodeError:
                # Cut off at the end of what was read so far, or no JSON at all: more text tells.
                self._more_or_malformed()
                continue
            except ValueError:
                decoder = _LENIENT_DECODER
                continue
            # A number that ends where the text ends may go on in the next piece.
            if end == len(self._text) and not isinstance(value, str | list | dict) and self._more():
                continue
            self._start, self._at = self._at, end
            return value

    def _end_of_nested(self) -> int:
        """Where the value ends that comes next: by counting brackets, as deep as they may be."""
        while True:
            depth = 0
            for part in _STRING_OR_BRACKET.finditer(self._text, self._at):
                if part[0] == '"':  # a string that goes on in the next piece
                    break
                depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(part[0], 0)
                if not depth:
                    return part.end()
            self._more_or_malformed()

    def _more_or_malformed(self) -> None:
        if not self._more(at_least=len(self._text) - self._at):
            raise MalformedEnvelope("the content is not JSON")

    def end(self) -> None:
        """Check that nothing follows."""
        if self._peek():
            raise MalformedEnvelope("there is something after the JSON object")

    def _peek(self) -> str:
        """The next character that is no white space, or nothing at the end."""
        while True:
            at = self._at
            if at < len(self._text):
                character = self._text[at]
                if character not in " \t\n\r":
                    return character
                match = _SPACE.match(self._text, at)
                self._at = match.end() if match else at
            elif not self._more():
                return ""

    def _take(self, character: str) -> None:
        if self._peek() != character:
            raise MalformedEnvelope("the content is not JSON")
        self._at += 1

    def _more(self, at_least: int = 1) -> bool:
        """Read on; `at_least` as much as is pending keeps the work linear for one very long value."""
        if self._finished:
            return False
        pieces = [self._text[self._at :]]
        if len(pieces[0]) > _MAX_VALUE_CHARACTERS:
            raise MalformedEnvelope(f"a value is longer than {_MAX_VALUE_CHARACTERS} characters, or not JSON")
        self._text, self._at = "", 0
        gained = 0
        while gained < max(at_least, 1) and not self._finished:
            piece = next(self._pieces, None)
            self._finished = piece is None
            self.bytes_read += len(piece or b"")
            pieces.append(self._utf8.decode(piece or b"", final=self._finished))
            gained += len(pieces[-1])
        self._text = "".join(pieces)
        return gained > 0
