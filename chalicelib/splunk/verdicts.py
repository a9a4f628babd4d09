"""What the answers of Splunk's HTTP Event Collector mean. Pure.

Source: Splunk, "Troubleshoot HTTP Event Collector".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final


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
class EventRejected:
    """The events before `index` are indexed; that one can't be; those after it were not read.

    `may_be_size`: Splunk Cloud gives the same answer, about event 0, to a request that is too large.
    """

    index: int
    reason: str
    may_be_size: bool = False


@dataclass(frozen=True, slots=True)
class RequestRejected:
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
class TokenRejected:
    """The HEC token was rejected: it may have been replaced since we read it."""

    reason: str


@dataclass(frozen=True, slots=True)
class ConfigurationRejected:
    """Our configuration or Splunk's must be corrected before this can succeed."""

    reason: str


Verdict = Accepted | EventRejected | RequestRejected | Busy | TokenRejected | ConfigurationRejected
CollectorVerdict = Busy | TokenRejected | ConfigurationRejected
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
    if status == HTTPStatus.OK and code in _SUCCESS:
        return Accepted()
    if status == HTTPStatus.BAD_REQUEST and code == _NO_DATA and not count:
        return Accepted()
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return TokenRejected(reason)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return RequestRejected(reason)
    # Busy at event N, code 9: the events before N are in or not (decision 0011), so all of them go again.
    # A 200 without a code of success comes from something in between, or is damaged.
    if status in _BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Busy(reason, answer.retry_after_seconds, by_itself=code in _FULL)
    if status == HTTPStatus.BAD_REQUEST and code in _POISON:
        if index is not None and 0 <= index < count:
            return EventRejected(index, reason, may_be_size=code == _INVALID_DATA_FORMAT)
        return RequestRejected(reason + ", no event named")  # halves lead to the event in question
    return ConfigurationRejected(reason)


def _code_and_index(body: bytes) -> tuple[int | None, int | None]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(content, dict):
        return None, None
    code, index = content.get("code"), content.get("invalid-event-number")
    return (code if type(code) is int else None), (index if type(index) is int else None)
