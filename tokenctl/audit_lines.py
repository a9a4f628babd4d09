"""Audit events in lines of text: plain, or wrapped as CloudWatch Logs, its exports, the failure record and Splunk do.

Other lines of a log (Lambda's own, metrics, diagnostics, the access log) are passed over. A line that begins like JSON
or names an event of ours, and can't be read, is reported.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import msgspec

from chalicelib.addresses import parse_network
from chalicelib.instants import epoch_ms
from chalicelib.log_names import Event
from chalicelib.splunk.envelope import decode
from chalicelib.splunk.errors import MalformedEnvelope
from tokenctl.audit_rules import Fact, Limits
from tokenctl.redrive import MAX_BYTES

Damaged = Callable[[str], object]
"""Gets why something can't be read."""

_MOST_WRAPPINGS: Final = 8
_NAMES: Final = frozenset(Event)
_AUTH_REFUSED, _ISSUED = Event.AUTH_REFUSED, Event.ISSUED  # on Python 3.11, a member by its name is quicker
_OURS: Final = re.compile("|".join(map(re.escape, Event)).encode())
_OPENS: Final = re.compile(rb'\[?(?:"[^"]*" *: *)?\[?\{')
_LOG: Final = re.compile(rb"[\[{\"]|START |END |REPORT |INIT_START |\d{4}-\d\d-\d\d")
_RAW: Final = "_raw"
_RAW_MEMBER: Final = b'"_raw"'
_GZIP_IN_BASE64: Final = "H4sI"
_REMEMBERED: Final = 1_000  # instants: a use repeats that of its issue, events of one moment have the same


class Line(msgspec.Struct, rename="camel", gc=False):
    """What a line may hold: the members of an audit event, and those of whatever is wrapped around it."""

    event: str | Line | None = None  # an object, if Splunk's HTTP Event Collector gets it
    time: str | float | None = None
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
    # CloudWatch Logs
    message: str | Line | None = None
    events: tuple[Line, ...] = ()
    log_events: tuple[Line, ...] = ()
    insights: str | Line | None = msgspec.field(default=None, name="@message")
    awslogs: Line | None = None
    data: str | None = None
    # the failure record
    request_payload: Line | None = None
    # Splunk, without the text of the event
    result: Any = None


class Row(msgspec.Struct, gc=False):
    """An event of Splunk's export. Its other fields are what the app makes of the text."""

    raw: str | None = msgspec.field(default=None, name="_raw")
    result: Row | None = None
    results: tuple[Row, ...] = ()


_line: Final = msgspec.json.Decoder(Line).decode
_row: Final = msgspec.json.Decoder(Row).decode
_lines: Final = msgspec.json.Decoder(tuple[Line, ...]).decode

Found = tuple[str, Fact | None]
"""A token's id and what the rules need of its event; None for an event of no token."""


def read(lines: Iterable[bytes], damaged: Damaged) -> Iterator[Found]:
    """Return the audit events in the lines of one file."""
    numbered = enumerate(lines, 1)
    first = next(((number, line) for number, line in numbered if line.strip()), None)
    if first is None:
        return
    text = first[1].strip()
    rest = chain([first], numbered)
    if _RAW in _columns(text):
        yield from _read_table(rest, damaged)
        return

    def damaged_line(why: str) -> None:
        damaged(f"line {number}: {why}")

    is_empty = True
    for number, line in _objects(rest):  # noqa: B007 - damaged_line reads it
        for found in _events(line, damaged_line):
            is_empty = False
            yield found
    if is_empty and not _LOG.match(text):
        damaged("no audit event, nor does it begin like a log")


def read_text(text: str, damaged: Damaged, depth: int = 0) -> Iterable[Found]:
    """Return the audit events in one message."""
    return _events(text.strip().encode("utf-8", "replace"), damaged, depth)


def _columns(text: bytes) -> list[str]:
    """Return the names in the first line of a CSV file."""
    return next(csv.reader([text.decode("utf-8", "replace")]), []) if _RAW.encode() in text else []


def _read_table(numbered: Iterable[tuple[int, bytes]], damaged: Damaged) -> Iterator[Found]:
    rows = csv.DictReader(line.decode("utf-8", "surrogateescape") for _, line in numbered)
    for row in rows:
        yield from read_text(row[_RAW] or "", lambda why: damaged(f"line {rows.line_num}: {why}"))


def _objects(numbered: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Return each line, and in place of an object over several lines its innermost braces with what is in them."""
    opened: list[bytes] = []
    for number, line in numbered:
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


def _events(text: bytes, damaged: Damaged, depth: int = 0) -> Iterable[Found]:
    """Return the events in a text that is JSON, or has something before and after its JSON, such as a time."""
    body = text[max(0, text.find(b"{")) : text.rfind(b"}") + 1]
    try:
        if _RAW_MEMBER in body:
            return _of_row(_row(body), damaged, depth)
        try:
            line = _line(body)
        except msgspec.DecodeError:
            lines = _lines(b"[" + (body or text) + b"]")
        else:  # almost every line of a large log, so it has a short way
            return _event(line, damaged) if _is_event(line) else _unwrapped(line, damaged, depth)
    except msgspec.ValidationError as error:  # JSON, of another program perhaps
        if _OURS.search(text):
            damaged(str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if text.startswith(b'{"') or _OURS.search(text):
            damaged(str(error))
    else:
        return chain.from_iterable(_unwrapped(line, damaged, depth) for line in lines)
    return ()


def _unwrapped(line: Line, damaged: Damaged, depth: int) -> Iterator[Found]:
    """Return the event of a line, or those that are wrapped in it."""
    if _is_event(line):
        yield from _event(line, damaged)
        return
    if isinstance(line.event, str) and not line.event.startswith("{"):
        return  # another kind of line of ours, or a text that is sent to Splunk
    if depth == _MOST_WRAPPINGS:
        damaged("wrapped too often")
        return
    for inner in _inside(line, damaged):
        if isinstance(inner, str):
            yield from read_text(inner, damaged, depth + 1)
        elif inner is not None:
            yield from _unwrapped(inner, damaged, depth + 1)


def _of_row(row: Row, damaged: Damaged, depth: int) -> Iterator[Found]:
    for each in (row, row.result, *row.results):
        if each is not None and each.raw is not None:
            yield from read_text(each.raw, damaged, depth + 1)


def _is_event(line: Line) -> bool:
    return isinstance(line.event, str) and line.event in _NAMES


def _inside(line: Line, damaged: Damaged) -> Iterable[str | Line | None]:
    """Return what a line is wrapped around."""
    if line.result is not None:
        damaged("an export of Splunk without _raw")
    alone = (line.event, line.message, line.insights, line.awslogs, line.request_payload)
    if line.data is None or not line.data.startswith(_GZIP_IN_BASE64):
        return (*alone, *line.events, *line.log_events)
    try:
        return [event.message for event in decode({"awslogs": {"data": line.data}}, MAX_BYTES).events]
    except MalformedEnvelope as error:
        damaged(str(error))
        return ()


def _event(line: Line, damaged: Damaged) -> tuple[Found, ...]:
    try:
        at = _millis(line.time)
        if line.event == _AUTH_REFUSED:
            return (("", None),)
        if not line.token_id:
            raise ValueError("no tokenId")
        fact = Fact(
            str(line.event),
            at,
            line.client_id or "",
            line.user,
            line.ip_address,
            line.action,
            # A use is known by its id. A line without one is a use of its own.
            line.use_id or str(line.time),
            line.reason == "replayed",
            line.uses,
            line.previous,
            None if line.issued_at is None else _millis(line.issued_at),
            _limits(line) if line.event == _ISSUED else None,
        )
        return ((line.token_id, fact),)
    except (ValueError, OverflowError) as error:
        damaged(f"{line.event}: {error}")
        return ()


def _limits(line: Line) -> Limits | None:
    if line.max_uses is None and line.expires_at is None and line.user is None:
        return None
    for network in line.ip_addresses:
        parse_network(network)
    return Limits(
        line.max_uses,
        None if line.expires_at is None else _millis(line.expires_at),
        None if line.not_before is None else _millis(line.not_before),
        line.user,
        line.actions,
        line.ip_addresses,
        line.audience,
    )


@lru_cache(_REMEMBERED)
def _millis(time: str | float | None) -> int:
    """Milliseconds since 1970 of an instant in RFC 3339.

    Raises:
        ValueError: it is none, or has no offset.
    """
    instant = datetime.fromisoformat(time) if isinstance(time, str) else None
    if instant is None or instant.tzinfo is None:
        raise ValueError(f"{time!r} is not an instant with an offset")
    return epoch_ms(instant)
