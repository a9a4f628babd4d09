"""Writes entries to the failure record for one input, in bounded time.

    reserve       of the time of an invocation; deliveries leave it alone
      entry         the rest of an input of which Splunk accepted a part
      entry         events that are poison, each with its reason
      the end       a tenth, to return in

An entry that takes too long (a bucket that drips its answer, a processor share that makes loading its client slow) is
given up in time. The invocation then fails, and Lambda still has the input.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from chalicelib.splunk.errors import RecordUnavailable, Undelivered
from chalicelib.splunk.record import PUT_SECONDS, FailureRecord, Kind

if TYPE_CHECKING:
    from chalicelib.splunk.envelope import LogEvent
    from chalicelib.splunk.ledger import Ledger

RESERVE_SECONDS: Final = 20.0
LARGEST_RESERVE: Final = 0.25  # of the time there is, if a function has a short time-out
_ENTRY: Final = PUT_SECONDS / RESERVE_SECONDS  # of the reserve, which has time for two entries
_END: Final = 1 - 2 * _ENTRY

_EVENTS_BETWEEN_CHECKS: Final = 500  # of the time

_LOG = logging.getLogger("tokenservice.splunk")

Encode = Callable[[Iterable["LogEvent"]], bytes]


class TimeLeft:
    """How long an invocation may still deliver, and store what was not delivered.

    Args:
        remaining_ms: how long it may still run.
    """

    def __init__(self, remaining_ms: Callable[[], int]) -> None:
        self._remaining_ms = remaining_ms
        self._reserve = min(RESERVE_SECONDS, self.seconds() * LARGEST_RESERVE)

    def seconds(self) -> float:
        """Until Lambda ends the invocation."""
        return self._remaining_ms() / 1000

    def budget(self) -> float:
        """Seconds that are left for deliveries."""
        return max(0.0, self.seconds() - self._reserve)

    def entry_seconds(self) -> float:
        """How long an entry that is begun now may take: its share of the reserve, or more if there is more."""
        share = max(self._reserve * _ENTRY, min(self.budget(), PUT_SECONDS))
        return max(0.0, min(share, self.seconds() - self._reserve * _END))


class EntryWriter:
    """Writes events of one input to the failure record, and into the ledger what the record has confirmed.

    Args:
        record: None means that the invocation fails if something has to be stored.
        time_left: of the invocation.
        ledger: of the input.
    """

    def __init__(self, record: FailureRecord | None, time_left: TimeLeft, ledger: Ledger) -> None:
        self.time_left = time_left
        self._record = record
        self._ledger = ledger

    def write_poison(self, encode: Encode) -> None:
        """Write the poison of an input, if any, as one entry."""
        if not self._ledger.poison:
            return
        # An order that depends on the events alone: the same events make the same entry.
        poison = sorted(self._ledger.poison)
        reasons: defaultdict[str, list[int]] = defaultdict(list)
        for number, (_, reason) in enumerate(poison):
            reasons[reason].append(number)
        counts = [f"{len(numbers)} events: {reason}" for reason, numbers in reasons.items()]
        summary = next(iter(reasons)) if len(reasons) == 1 else "; ".join(counts)
        logs = [event.log for event in poison]
        self._ledger.store_poison(self._put(Kind.POISON, logs, encode, summary, reasons))
        _LOG.warning("%d events are set aside in the failure record: %s", len(poison), summary)

    def write_rest(self, events: Iterable[LogEvent], encode: Encode, failure: Undelivered) -> None:
        """Write the pending events of an input that was accepted in part.

        If Lambda tried the whole of it again, Splunk would get the accepted part twice.
        """
        count = self._ledger.pending
        self._ledger.defer(self._put(Kind.DEFERRED, events, encode, str(failure)))
        _LOG.error("Splunk accepted only a part: %d events are stored for a redrive: %s", count, failure)

    def write_input(self, body: bytes, reason: str) -> None:
        """Write an input of which nothing can be sent."""
        self._ledger.store_input(self._put(Kind.POISON, (), lambda _: body, reason))
        _LOG.error("an input is set aside in the failure record: %s", reason)

    def _put(
        self,
        kind: Kind,
        events: Iterable[LogEvent],
        encode: Encode,
        reason: str,
        reasons: dict[str, list[int]] | None = None,
    ) -> str:
        if self._record is None:
            raise RecordUnavailable(f"there is no failure record to store events in: {reason}")
        until = self.time_left.seconds() - self.time_left.entry_seconds()
        body = encode(self._while_there_is_time(events, until))
        return self._record.put(kind, body, reason, reasons, self._seconds_left(until))

    def _while_there_is_time(self, events: Iterable[LogEvent], until: float) -> Iterator[LogEvent]:
        """The events. Encoding them takes its time with the small share of a processor that a function may have."""
        for number, event in enumerate(events):
            if number % _EVENTS_BETWEEN_CHECKS == 0:
                self._seconds_left(until)
            yield event

    def _seconds_left(self, until: float) -> float:
        """Seconds until so many seconds are left of the invocation."""
        seconds = self.time_left.seconds() - until
        if seconds <= 0:
            raise RecordUnavailable("no time left to write to the failure record")
        return seconds
