"""Keeps what Splunk did not take of one input, in bounded time and memory.

    reserve       of the time of an invocation; deliveries leave it alone
      entry         the rest of an input of which Splunk took a part
      entry         events that are poison, each with its reason
      the end       a tenth, to return in

Whatever an entry meets (a bucket that drips its answer, a processor share that makes loading its client slow), it is
given up in time; the invocation then fails, and Lambda still has the input.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, TypeVar

from chalicelib.splunk.errors import OutOfTime, RecordUnavailable, Undelivered
from chalicelib.splunk.record import PUT_SECONDS, FailureRecord, Kind

if TYPE_CHECKING:
    from chalicelib.splunk.envelope import LogEvent
    from chalicelib.splunk.hec import SetAside
    from chalicelib.splunk.ledger import Report

RESERVE_SECONDS: Final = 20.0
LARGEST_RESERVE: Final = 0.25  # of the time there is, where a function has a short time-out
_ENTRY: Final = PUT_SECONDS / RESERVE_SECONDS  # of the reserve; it holds two of them
_END: Final = 1 - 2 * _ENTRY

# What an entry of poison holds at most, and so what is held in memory until it is written.
MOST_EVENTS: Final = 5_000
MOST_CHARACTERS: Final = 2_000_000

_EVENTS_BETWEEN_LOOKS: Final = 500  # at the clock

_LOG = logging.getLogger("tokenservice.splunk")

Encode = Callable[[Iterable["LogEvent"]], bytes]
T = TypeVar("T")


class TimeLeft:
    """How long an invocation may still deliver, and keep what was not delivered.

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

    def has_room(self) -> bool:
        """Whether an entry could be written now and leave the reserve alone."""
        return self.budget() >= self._reserve * _ENTRY

    def entry_seconds(self) -> float:
        """How long an entry that is begun now may take: its share of the reserve, or more where there is more."""
        share = max(self._reserve * _ENTRY, min(self.budget(), PUT_SECONDS))
        return max(0.0, min(share, self.seconds() - self._reserve * _END))


class Keeper:
    """Keeps events of one input.

    Args:
        record: None where there is none: what would be kept there fails the invocation.
        time_left: of the invocation.
        report: is told what was kept.
    """

    def __init__(self, record: FailureRecord | None, time_left: TimeLeft, report: Report) -> None:
        self.time_left = time_left
        self._record = record
        self._report = report
        self._held: list[SetAside] = []
        self._characters = 0
        self._until = 0.0  # of the time left; what an entry in hand may not go below

    def hold(self, aside: Iterable[SetAside]) -> None:
        """Take events that are poison; they are written later."""
        for each in aside:
            self._held.append(each)
            self._characters += len(each.log.message)

    @property
    def left(self) -> int:
        """Events of the input that are neither delivered nor blank nor poison."""
        return self._report.left - len(self._held)

    def make_room(self, encode: Encode) -> Undelivered | None:
        """Write so much of what is held that it does not fill the memory, or say that there is no time for it."""
        while len(self._held) > MOST_EVENTS or (len(self._held) > 1 and self._characters > MOST_CHARACTERS):
            if not self.time_left.has_room():
                return OutOfTime("no time left to set more events aside")
            count = characters = 0
            # Full entries, and full ones only: an entry that is replayed and still is poison makes itself again.
            for each in self._held[:MOST_EVENTS]:
                characters += len(each.log.message)
                if count and characters > MOST_CHARACTERS:
                    break
                count += 1
            self._write(self._held[:count], encode)
            del self._held[:count]
            self._characters = sum(len(each.log.message) for each in self._held)
        return None

    def keep_held(self, encode: Encode) -> None:
        """Write all that is held, as one entry."""
        if self._held:
            self._write(self._held, encode)
            self._held = []

    def keep_rest(self, events: Iterable[LogEvent], encode: Encode, failure: Undelivered) -> None:
        """Keep what is left of an input that was accepted in part.

        If Lambda tried the whole of it again, Splunk would get the accepted part twice.
        """
        kept = self.left
        self._put(Kind.FAILED, lambda: encode(self._while_there_is_time(events)), failure.reason)
        self._report.kept = kept
        _LOG.error("Splunk took only a part: %d events are kept for a redrive: %s", kept, failure.reason)

    def keep_input(self, body: bytes, reason: str) -> None:
        """Keep an input of which nothing can be sent."""
        self._put(Kind.POISON, lambda: body, reason)
        self._report.set_aside = self._report.received
        _LOG.error("an input is set aside in the failure record: %s", reason)

    def _write(self, aside: Iterable[SetAside], encode: Encode) -> None:
        # An order that depends on the events alone: the same events make the same entry.
        ordered = sorted(aside, key=lambda each: (each.log.timestamp_ms, each.log.id, each.log.message))
        reasons: defaultdict[str, list[int]] = defaultdict(list)
        for number, (_, reason) in enumerate(ordered):
            reasons[reason].append(number)
        told = [f"{len(numbers)} events: {reason}" for reason, numbers in reasons.items()]
        summary = next(iter(reasons)) if len(reasons) == 1 else "; ".join(told)
        events = self._while_there_is_time(each.log for each in ordered)
        self._put(Kind.POISON, lambda: encode(events), summary, reasons)
        self._report.set_aside += len(ordered)
        _LOG.warning("%d events are set aside in the failure record: %s", len(ordered), summary)

    def _put(
        self, kind: Kind, body: Callable[[], bytes], reason: str, reasons: dict[str, list[int]] | None = None
    ) -> None:
        if self._record is None:
            raise RecordUnavailable(f"there is no failure record to keep events in: {reason}")
        self._until = self.time_left.seconds() - self.time_left.entry_seconds()
        encoded = body()
        self._report.records.append(self._record.put(kind, encoded, reason, reasons, self._entry_seconds_left()))

    def _while_there_is_time(self, events: Iterable[T]) -> Iterator[T]:
        """The events; with the small share of a processor that a function may have, encoding them takes its time."""
        for number, each in enumerate(events):
            if number % _EVENTS_BETWEEN_LOOKS == 0:
                self._entry_seconds_left()
            yield each

    def _entry_seconds_left(self) -> float:
        seconds = self.time_left.seconds() - self._until
        if seconds <= 0:
            raise RecordUnavailable("no time left to write to the failure record")
        return seconds
