"""The protocol of Splunk's HTTP Event Collector: events, batches and what its answers mean. Pure.

Sources: Splunk, "Format events for HTTP Event Collector" and "Troubleshoot HTTP Event Collector".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from chalicelib.splunk.envelope import LogEvent

# Splunk Cloud documents "1 MB" a request and answers a larger one as if its first event were malformed.
BATCH_BYTES: Final = 1_000_000
# A batch ends at so many events that can't be sent as well: they take memory until they are set aside.
_BATCH_SET_ASIDE: Final = 2_500

# Of objects and lists in each other. At 64, the envelope included, another vendor's collector answers "Success" and
# drops the event and all after it; ours are a handful.
_MAX_DEPTH: Final = 30
_MAX_REQUEST_ID: Final = 256
_EXACT_DIGITS: Final = 15  # a decimal of up to 15 digits survives a double; IEEE 754
_EXACT_INTEGER: Final = 2**53
_SMALLEST_NORMAL: Final = 2.2250738585072014e-308

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
        set_aside: log events met on the way that can't be sent at all.
        blank: how many were met that hold nothing but white space.
        consumed: how many log events, counted from the first, this and all earlier batches have dealt with.
    """

    events: Sequence[HecEvent]
    set_aside: Sequence[SetAside]
    blank: int
    consumed: int


class Composer:
    """Turns the log events of one stream into HEC events.

    Args:
        fields: indexed fields, flat, the same for each event; the event's id (and request id) join them.
        limit_bytes: an event above it is set aside.
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
        self._limit_bytes = limit_bytes

    def compose(self, log: LogEvent) -> HecEvent | SetAside | None:
        """Turn one log event into a HEC event, or say why Splunk would refuse it; None: it holds nothing to send."""
        message = log.message
        if log.fault:
            return SetAside(log, log.fault)
        if not message or message.isspace():
            return None  # Splunk refuses an event without content (code 13), and nobody would miss it
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
        if len(body) > self._limit_bytes:
            reason = f"too large: more than {self._limit_bytes} bytes as a HEC event"
            return SetAside(log, reason)
        return HecEvent(body, log)


def batches(composer: Composer, events: Iterable[LogEvent], limit_bytes: int = BATCH_BYTES) -> Iterator[Batch]:
    """Group log events, in their order, into requests of at most `limit_bytes` before compression."""
    ready: list[HecEvent] = []
    aside: list[SetAside] = []
    size = aside_size = blank = consumed = 0
    for log in events:
        composed = composer.compose(log)
        if composed is None:
            blank += 1
        elif isinstance(composed, SetAside):
            aside.append(composed)
            aside_size += len(log.message)
        else:
            if ready and size + len(composed.body) > limit_bytes:
                yield Batch(ready, aside, blank, consumed)
                ready, aside, size, aside_size, blank = [], [], 0, 0, 0
            ready.append(composed)
            size += len(composed.body)
        consumed += 1
        if len(aside) >= _BATCH_SET_ASIDE or aside_size >= limit_bytes:
            yield Batch(ready, aside, blank, consumed)
            ready, aside, size, aside_size, blank = [], [], 0, 0, 0
    if ready or aside or blank:
        yield Batch(ready, aside, blank, consumed)


class _WouldNotSurvive(ValueError):
    """JSON whose meaning a reader with doubles and dictionaries would change."""


def _event_value(message: str) -> tuple[str, str | None]:
    """The `event` of the envelope as JSON text, and the request id that the message names."""
    if message[0] in "{ \t\r\n":
        text = message.strip(" \t\r\n")
        if text.startswith("{"):
            try:
                found, end = _STRICT.raw_decode(text)
                shallow = text.count("{") + text.count("[") <= _MAX_DEPTH or _depth(found) <= _MAX_DEPTH
                if found and shallow and end == len(text):
                    if _ESCAPED_SURROGATE.search(text):
                        # Fails where one stands alone: a collector may make U+FFFD of it.
                        json.dumps(found, ensure_ascii=False).encode()
                    # As it was written, not as we would write it: no number and no order of keys changes.
                    return text, _request_id(found)
            except (ValueError, RecursionError):
                pass
    match = _REQUEST_ID_IN_TEXT.search(message) if "\t" in message or "RequestId" in message else None
    return encode_basestring(message), match[1] if match else None


def _request_id(found: Mapping[str, Any]) -> str | None:
    request_id = found.get("requestId")
    if request_id is None:
        # Lambda's own lines in its JSON log format: {"type": "platform.report", "record": {"requestId": …}}
        record = found.get("record")
        request_id = record.get("requestId") if isinstance(record, dict) else None
    if isinstance(request_id, str) and 0 < len(request_id) <= _MAX_REQUEST_ID and request_id.isprintable():
        return request_id
    return None


def _depth(value: object) -> int:
    """How many objects and lists lie in each other."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _WouldNotSurvive("a key stands there twice")
    return found


def _exact_int(text: str) -> int:
    if len(text) > _EXACT_DIGITS and (len(text) > _EXACT_DIGITS + 2 or abs(int(text)) > _EXACT_INTEGER):
        raise _WouldNotSurvive("an integer beyond 2^53")
    return 0


def _exact_float(text: str) -> float:
    value = float(text)
    digits = re.split("[eE]", text)[0].replace(".", "").lstrip("-0")
    if not digits:
        return value
    too_long = len(digits) > _EXACT_DIGITS and repr(value) != text
    if too_long or not _SMALLEST_NORMAL <= abs(value) < float("inf"):
        raise _WouldNotSurvive("a decimal that a double can't hold")
    return value


def _no_constant(name: str) -> object:
    raise _WouldNotSurvive(f"{name} is not JSON")


_STRICT: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_exact_int, parse_float=_exact_float, parse_constant=_no_constant
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from the collector.

    Attributes:
        retry_after_seconds: how long the collector asks us to wait.
    """

    status: int
    body: bytes
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """Every event of the request is indexed or on its way there."""


@dataclass(frozen=True, slots=True)
class Poisoned:
    """The events before `index` are indexed; that one can't be; those after it were not looked at.

    `may_be_size`: Splunk Cloud says the same, of event 0, where a request is too large.
    """

    index: int
    reason: str
    may_be_size: bool = False


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The request as a whole is refused, and half of it may not be."""

    reason: str


@dataclass(frozen=True, slots=True)
class Busy:
    """Nothing is known to be taken; the same request may succeed later.

    `by_itself`: the collector says so of itself; it can't be for what it was sent.
    """

    reason: str
    retry_after_seconds: float | None = None
    by_itself: bool = False


@dataclass(frozen=True, slots=True)
class Denied:
    """The HEC token was refused: it may have been replaced since we read it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wrong:
    """Our configuration or Splunk's must be mended before this can succeed."""

    reason: str


Verdict = Accepted | Poisoned | TooLarge | Busy | Denied | Wrong
Unwell = Busy | Denied | Wrong
"""An answer about the collector, not about the events: another node of it may answer otherwise."""

# Our words for the codes: what the other side wrote never reaches a log.
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
    """Say what an answer means for a request of `count` events; a request of none is to be answered "no data".

    What is in no table counts as wrong configuration: the invocation fails and Lambda keeps the data.
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
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(found, dict):
        return None, None
    code, index = found.get("code"), found.get("invalid-event-number")
    return (code if type(code) is int else None), (index if type(index) is int else None)
