"""Instants: RFC 3339 in, cut to the millisecond. Never rounded, since a limit must not move into the future."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
# Compiled by the first instant that comes in: few functions ever read one.
_RFC3339: Final = (
    r"(\d{4}-\d\d-\d\d)[Tt ]"
    r"((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:\.(\d{1,3})\d*)?"
    r"([Zz]|[+-](?:[01]\d|2[0-3]):?[0-5]\d)"
)


def parse(text: str) -> datetime:
    """Read an instant with its offset, cut to the millisecond, however many digits its fraction has.

    Raises:
        ValueError: not RFC 3339, no offset, a day that no calendar has, or a leap second.

    Source: RFC 3339, section 5.6; a space for the T and an offset without a colon are accepted as well.
    """
    match = re.fullmatch(_RFC3339, text, re.ASCII)
    if match is None:
        raise ValueError("not an instant with an offset as RFC 3339 writes it")
    date, time, milliseconds, offset = match.groups("0")
    return datetime.fromisoformat(f"{date}T{time}.{milliseconds:0<3}{offset.upper()}")


def now() -> datetime:
    """The current instant in UTC, cut to the millisecond."""
    return cut(datetime.now(UTC))


def cut(instant: datetime) -> datetime:
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def epoch_ms(instant: datetime) -> int:
    """Whole milliseconds since 1970."""
    return (instant - EPOCH) // _MILLISECOND
