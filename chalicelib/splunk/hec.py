"""The protocol of Splunk's HTTP Event Collector: events, batches and what its answers mean. Pure.

Sources: Splunk, "Format events for HTTP Event Collector" and "Troubleshoot HTTP Event Collector".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
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


class SetAside(NamedTuple):
    """A log event that Splunk will never accept, and why."""

    log: LogEvent
    reason: str


class Batch(NamedTuple):
    """What goes into one request.

    Attributes:
        set_aside: log events that can't be sent at all.
        blank: number of log events of white space only.
        consumed: number of log events in this and all earlier batches, whatever became of them.
    """

    events: Sequence[HecEvent]
    set_aside: Sequence[SetAside]
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

    def compose(self, log: LogEvent) -> HecEvent | SetAside | None:
        """Turn a log event into a HEC event, or into one to set aside. None means that it is blank."""
        message = log.message
        if log.fault:
            return SetAside(log, log.fault)
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
            return SetAside(log, f"too large: more than {self.limit_bytes} bytes as a HEC event")
        return HecEvent(body, log)


def batches(composer: Composer, events: Iterable[LogEvent]) -> Iterator[Batch]:
    """Group log events, in their order, into requests of at most the composer's limit before compression."""
    ready: list[HecEvent] = []
    aside: list[SetAside] = []
    size = blank = consumed = 0
    for log in events:
        composed = composer.compose(log)
        if composed is None:
            blank += 1
        elif isinstance(composed, SetAside):
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


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from the collector.

    Attributes:
        retry_after_seconds: how long to wait, by the collector.
    """

    status: int
    body: bytes
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """Every event of the request is indexed or on its way there."""


@dataclass(frozen=True, slots=True)
class Poisoned:
    """The events before `index` are indexed; that one can't be; those after it were not read.

    `may_be_size`: Splunk Cloud gives the same answer, about event 0, to a request that is too large.
    """

    index: int
    reason: str
    may_be_size: bool = False


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The request as a whole is rejected; half of it may be accepted."""

    reason: str


@dataclass(frozen=True, slots=True)
class Busy:
    """Nothing is known to be accepted; the same request may succeed later.

    `by_itself`: the collector reports that it is busy, so the events can't be the cause.
    """

    reason: str
    retry_after_seconds: float | None = None
    by_itself: bool = False


@dataclass(frozen=True, slots=True)
class Denied:
    """The HEC token was rejected: it may have been replaced since we read it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wrong:
    """Our configuration or Splunk's must be corrected before this can succeed."""

    reason: str


Verdict = Accepted | Poisoned | TooLarge | Busy | Denied | Wrong
Unwell = Busy | Denied | Wrong
"""An answer about the collector, not about the events: another of its nodes may answer otherwise."""

# Our texts for the codes: a text of the other side never reaches a log.
MEANING: Final = {
    0: "success", 1: "token disabled", 2: "token required", 3: "invalid authorization", 4: "invalid token",
    5: "no data", 6: "invalid data format", 7: "incorrect index", 8: "internal server error",
    9: "server is busy", 10: "data channel is missing", 11: "invalid data channel",
    12: "event field is required",
    13: "event field cannot be blank", 14: "acknowledgement is disabled", 15: "error in indexed fields",
    16: "query string authorization is not enabled", 17: "collector is healthy", 18: "collector is unhealthy",
    19: "acknowledgement service unavailable", 20: "collector and acknowledgement service unavailable",
    23: "server is shutting down", 24: "queue is filling up", 25: "acknowledgement queue is filling up",
    26: "queue is full", 27: "acknowledgement queue is full",
}  # fmt: skip
_SUCCESS: Final = frozenset({0, 17, 24, 25})
_FULL: Final = frozenset({9, 18, 19, 20, 23, 26, 27})
_NO_DATA: Final = 5
_INVALID_DATA_FORMAT: Final = 6
_POISON: Final = frozenset({6, 12, 13, 15})
_BUSY: Final = frozenset({HTTPStatus.OK, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


def judge(answer: Answer, count: int) -> Verdict:  # noqa: PLR0911 - one line for each row of the table
    """Return what an answer means for a request of `count` events; for none the right answer is "no data".

    An unknown answer counts as wrong configuration: the invocation fails and Lambda keeps the data.
    """
    status = answer.status
    code, index = _code_and_index(answer.body)
    reason = f"HTTP {status}"
    if code is not None:
        reason += f", code {code} ({MEANING.get(code, 'unknown')})"
    if (status == HTTPStatus.OK and code in _SUCCESS) or (not count and code == _NO_DATA):
        return Accepted()
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Denied(reason)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return TooLarge(reason)
    # Busy at event N, code 9: the events before N are in or not (decision 0011), so all of them go again.
    # A 200 without a code of success comes from something in between, or is damaged.
    if status in _BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Busy(reason, answer.retry_after_seconds, by_itself=code in _FULL)
    if status == HTTPStatus.BAD_REQUEST and code in _POISON:
        if index is not None and 0 <= index < count:
            return Poisoned(index, reason, may_be_size=code == _INVALID_DATA_FORMAT)
        return TooLarge(reason + ", no event named")  # halves lead to the event in question
    return Wrong(reason)


def _code_and_index(body: bytes) -> tuple[int | None, int | None]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(content, dict):
        return None, None
    code, index = content.get("code"), content.get("invalid-event-number")
    return (code if type(code) is int else None), (index if type(index) is int else None)
