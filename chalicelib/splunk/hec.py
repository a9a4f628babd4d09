"""Events and batches as Splunk's HTTP Event Collector takes them. Pure.

Source: Splunk, "Format events for HTTP Event Collector".
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from chalicelib.splunk.envelope import LogEvent

# Splunk Cloud documents "1 MB" for a request, and answers a larger one as if its first event were malformed.
BATCH_BYTES: Final = 1_000_000

# Nesting of objects and lists. At 64, the envelope included, another vendor's collector answers "Success" and drops the
# event and all after it. Our own events have a handful.
_MAX_DEPTH: Final = 30
_MAX_REQUEST_ID: Final = 256
_EXACT_INTEGER: Final = 2**53

_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# "RequestId: …" in Lambda's START, END and REPORT lines; "[INFO]\t<time>\t<id>\t" of its text logger.
_REQUEST_ID_IN_TEXT = re.compile(
    r"(?:RequestId: |^\[[A-Z]+\]\t[0-9TZ:.-]+\t)([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})\b"
)


class HecEvent(NamedTuple):
    """A log event ready to be sent: its HEC envelope as UTF-8 JSON."""

    body: bytes
    log: LogEvent


class RejectedEvent(NamedTuple):
    """A log event that Splunk will never accept, and why."""

    log: LogEvent
    reason: str


class Batch(NamedTuple):
    """What goes into one request.

    Attributes:
        unsendable: log events that can't be sent at all.
        blank: number of log events of white space only.
        consumed: number of log events in this and all earlier batches, whatever became of them.
    """

    events: Sequence[HecEvent]
    unsendable: Sequence[RejectedEvent]
    blank: int
    consumed: int


class Composer:
    """Turns the log events of one stream into HEC events.

    Args:
        fields: indexed fields, flat, the same for all events; each event's id and request id are added.
        limit_bytes: of a request before compression; a larger event is set aside.
    """

    def __init__(
        self,
        *,
        host: str,
        source: str,
        sourcetype: str,
        index: str | None,
        fields: Mapping[str, str],
        limit_bytes: int = BATCH_BYTES,
    ) -> None:
        head = {"host": host, "source": source, "sourcetype": sourcetype} | ({"index": index} if index else {})
        flat = {name: value for name, value in fields.items() if value}
        constant = "".join(f"{json.dumps(name)}:{json.dumps(value)}," for name, value in flat.items())
        # No envelope key but these: after an unknown one Splunk answers "Success" and forgets the rest.
        self._head = "," + json.dumps(head)[1:-1] + ',"fields":{' + constant
        self.limit_bytes = limit_bytes

    def compose(self, log: LogEvent) -> HecEvent | RejectedEvent | None:
        """Turn a log event into a HEC event, or into one to set aside. None means that it is blank."""
        message = log.message
        if log.fault:
            return RejectedEvent(log, log.fault)
        if not message or message.isspace():
            return None  # Splunk rejects an event without content (code 13)
        value, request_id = _event_value(message)
        request = f',"request_id":{encode_basestring_ascii(request_id)}' if request_id else ""
        # Seconds are built from whole milliseconds: a division would bring the noise of binary fractions.
        seconds, milliseconds = divmod(log.timestamp_ms, 1000)
        text = (
            f'{{"time":{seconds}.{milliseconds:03d}{self._head}"event_id":{encode_basestring_ascii(log.id)}'
            f'{request}}},"event":{value}}}'
        )
        try:
            body = text.encode()
        except UnicodeEncodeError:
            # Half a surrogate pair has no UTF-8; as an escape inside a JSON string it survives.
            body = text.replace(value, encode_basestring_ascii(message)).encode()
        if len(body) > self.limit_bytes:
            return RejectedEvent(log, f"too large: more than {self.limit_bytes} bytes as a HEC event")
        return HecEvent(body, log)


def batches(composer: Composer, events: Iterable[LogEvent]) -> Iterator[Batch]:
    """Group log events, in their order, into requests of at most the composer's limit before compression."""
    ready: list[HecEvent] = []
    aside: list[RejectedEvent] = []
    size = blank = consumed = 0
    for log in events:
        composed = composer.compose(log)
        if composed is None:
            blank += 1
        elif isinstance(composed, RejectedEvent):
            aside.append(composed)
        else:
            if ready and size + len(composed.body) > composer.limit_bytes:
                yield Batch(ready, aside, blank, consumed)
                ready, aside, size, blank = [], [], 0, 0
            ready.append(composed)
            size += len(composed.body)
        consumed += 1
    if ready or aside or blank:
        yield Batch(ready, aside, blank, consumed)


def _event_value(message: str) -> tuple[str, str | None]:
    """The `event` of the envelope as JSON text, and the request id that the message names."""
    text = message.strip(" \t\r\n")
    if text.startswith("{"):
        try:
            value, end = _STRICT.raw_decode(text)
            shallow = text.count("{") + text.count("[") <= _MAX_DEPTH or _depth(value) <= _MAX_DEPTH
            if value and shallow and end == len(text):
                if _ESCAPED_SURROGATE.search(text):
                    # Fails if one stands alone: a collector may make U+FFFD of it.
                    json.dumps(value, ensure_ascii=False).encode()
                # As it was logged: no number and no order of keys changes.
                return text, _request_id(value)
        except (ValueError, RecursionError, ArithmeticError):  # the last: an exponent beyond those of `Decimal`
            pass
    match = _REQUEST_ID_IN_TEXT.search(message) if "\t" in message or "RequestId" in message else None
    return encode_basestring(message), match[1] if match else None


def _request_id(event: Mapping[str, Any]) -> str | None:
    request_id = event.get("requestId")
    if request_id is None:
        # Lambda's own lines in its JSON log format: {"type": "platform.report", "record": {"requestId": …}}
        record = event.get("record")
        request_id = record.get("requestId") if isinstance(record, dict) else None
    if isinstance(request_id, str) and len(request_id) <= _MAX_REQUEST_ID and request_id.isprintable():
        return request_id
    return None


def _depth(value: object) -> int:
    """Nesting of objects and lists."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError  # a key occurs twice
    return members


def _exact_int(text: str) -> int:
    value = int(text)
    if abs(value) > _EXACT_INTEGER:
        raise ValueError
    return value


def _exact_float(text: str) -> float:
    value = float(text)
    if Decimal(repr(value)) != Decimal(text):
        raise ValueError
    return value


# Raises ValueError for JSON whose meaning a reader with doubles and dictionaries would change.
_STRICT: Final = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_int=_exact_int,
    parse_float=_exact_float,
    parse_constant=int,  # fails: NaN and Infinity are not JSON
)
