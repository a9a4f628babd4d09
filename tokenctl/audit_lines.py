"""Audit events in lines of text: plain, or wrapped as CloudWatch Logs, its exports, the failure record and Splunk do.

Other lines of a log (Lambda's own, metrics, diagnostics, the access log) are passed over. A line that begins like JSON
or names an event of ours, and can't be read, is reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from chalicelib.addresses import parse_network
from chalicelib.instants import epoch_ms
from chalicelib.log_names import Event
from chalicelib.splunk.envelope import decode
from chalicelib.splunk.errors import MalformedEnvelope
from tokenctl.audit_rules import Fact
from tokenctl.splunk import MAX_BYTES

Damaged = Callable[[str], object]
"""Gets why something can't be read."""
Found = tuple[str, Fact | None]
"""A token's id and what the rules need of its event; None for an event of no token."""

_NAMES: Final = frozenset(Event)
_AUTH_REFUSED: Final = Event.AUTH_REFUSED  # on Python 3.11, a member by its name is quicker
_OURS: Final = re.compile("|".join(map(re.escape, Event)).encode())
_OPENS: Final = re.compile(rb'\[?(?:"[^"]*" *: *)?\[?\{')
_LOG: Final = re.compile(rb"[\[{\"]|START |END |REPORT |INIT_START |\d{4}-\d\d-\d\d")
_RAW: Final = "_raw"
_RAW_MEMBER: Final = b'"_raw"'
_WRAPPINGS: Final = (
    *("message", "events", "logEvents", "@message"),  # CloudWatch Logs
    *("requestPayload", "awslogs", "data"),  # the failure record, and an envelope
    *("event", "result", "results"),  # Splunk's HTTP Event Collector, and its exports
)
"""The members that hold events, or texts with events."""
_GZIP_IN_BASE64: Final = "H4sI"
_REMEMBERED: Final = 1_000  # instants: a use repeats that of its issue, events of one moment have the same


class Line(msgspec.Struct, rename="camel", gc=False):
    """The members of an audit event that count."""

    event: str = ""
    time: str = ""
    client_id: str | None = None
    token_id: str | None = None
    user: str | None = None
    ip_address: str | None = None
    action: str | None = None
    reason: str | None = None
    use_id: str | None = None
    uses: int | None = None
    previous: str | None = None
    issued_at: str | None = None
    max_uses: int | None = None
    expires_at: str | None = None
    not_before: str | None = None
    actions: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()


_line: Final = msgspec.json.Decoder(Line).decode
_values: Final = msgspec.json.Decoder(list[Any]).decode


def read(lines: Iterable[bytes], damaged: Damaged) -> Iterator[Found]:
    """Return the audit events in the lines of one file."""

    def damaged_line(why: str) -> None:
        damaged(f"line {number}: {why}")

    first, is_empty = b"", True
    for number, line in _objects(lines):  # noqa: B007 - damaged_line reads it
        first = first or line
        for found in _events(line, damaged_line):
            is_empty = False
            yield found
    if is_empty and first and not _LOG.match(first):
        damaged("no audit event, nor does it begin like a log")


def read_text(text: str, damaged: Damaged) -> Iterable[Found]:
    """Return the audit events in one message."""
    return _events(text.strip().encode("utf-8", "replace"), damaged)


def _objects(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Return each line with its number, and in place of an object over several lines its innermost braces."""
    opened: list[bytes] = []
    number = 0
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text.endswith(b"{") and _OPENS.fullmatch(text):
            opened = [b"{"]
        elif not opened or text.startswith(b"{"):
            opened = []
            yield number, text
        else:
            opened.append(text)
            if text.startswith(b"}"):
                yield number, b"".join(opened)
                opened = []
    if opened:
        yield number, b"".join(opened)


def _events(text: bytes, damaged: Damaged) -> Iterable[Found]:
    """Return the events in a text that is JSON, or has something before and after its JSON, such as a time."""
    body = text[max(0, text.find(b"{")) : text.rfind(b"}") + 1]
    try:
        line = _line(body)  # almost every line of a large log is an event by itself, so it has a short way
        if line.event in _NAMES and _RAW_MEMBER not in body:
            return _event(line, damaged)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return _wrapped(text, body, damaged)


def _wrapped(text: bytes, body: bytes, damaged: Damaged) -> Iterator[Found]:
    try:
        yield from _inside(_values(b"[" + (body or text) + b"]"), damaged)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if text.startswith(b'{"') or _OURS.search(text):
            damaged(str(error))


def _inside(value: Any, damaged: Damaged) -> Iterator[Found]:
    """Return the events in a value of JSON, however they are wrapped in it."""
    if isinstance(value, list):
        for member in value:
            yield from _inside(member, damaged)
    elif isinstance(value, str) and value.startswith(_GZIP_IN_BASE64):
        try:
            logged = decode({"awslogs": {"data": value}}, MAX_BYTES).events
        except MalformedEnvelope as error:
            damaged(str(error))
        else:
            for event in logged:
                yield from read_text(event.message, damaged)
    elif isinstance(value, str):
        yield from read_text(value, damaged)
    elif isinstance(value, dict):
        yield from _of_object(value, damaged)


def _of_object(value: dict[str, Any], damaged: Damaged) -> Iterator[Found]:
    name, result = value.get("event"), value.get("result")
    if _RAW in value:  # the other members are texts that Splunk's app makes of it
        yield from _inside(value[_RAW], damaged)
    elif isinstance(result, dict) and _RAW not in result:
        damaged("an export of Splunk without _raw")
    elif not isinstance(name, str) or name.startswith("{"):
        for member in _WRAPPINGS:
            if member in value:
                yield from _inside(value[member], damaged)
    elif name in _NAMES:
        yield from _event(msgspec.convert(value, Line), damaged)
    # Else it is another kind of line of ours, or a text that is sent to Splunk.


def _event(line: Line, damaged: Damaged) -> tuple[Found, ...]:
    try:
        return ((line.token_id or "", _fact(line)),)
    except (ValueError, OverflowError) as error:
        damaged(f"{line.event}: {error}")
        return ()


def _fact(line: Line) -> Fact | None:
    """Return what the rules need of an event; None if it is of no token.

    Raises:
        ValueError, OverflowError: a member can't be read.
    """
    at = _millis(line.time)
    if line.event == _AUTH_REFUSED:
        return None
    if not line.token_id:
        raise ValueError("no tokenId")
    return Fact(
        line.event,
        at,
        line.client_id or "",
        line.user,
        line.ip_address,
        line.action,
        # A use is known by its id. A line without one is a use of its own.
        line.use_id or line.time,
        line.reason == "replayed",
        line.uses,
        line.previous,
        None if line.issued_at is None else _millis(line.issued_at),
        line.max_uses,
        None if line.expires_at is None else _millis(line.expires_at),
        None if line.not_before is None else _millis(line.not_before),
        line.actions,
        tuple(str(parse_network(network)) for network in line.ip_addresses),
        line.audience,
    )


@lru_cache(_REMEMBERED)
def _millis(time: str) -> int:
    """Return milliseconds since 1970 of an instant in RFC 3339.

    Raises:
        ValueError: it is none, or has no offset.
    """
    instant = datetime.fromisoformat(time)
    if instant.tzinfo is None:
        raise ValueError(f"{time!r} is not an instant with an offset")
    return epoch_ms(instant)
