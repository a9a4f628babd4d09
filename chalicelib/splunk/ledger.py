"""The ledger of an invocation: what became of each log event of its input."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chalicelib.log_names import Metric
from chalicelib.splunk.errors import Unaccounted

if TYPE_CHECKING:
    from chalicelib.splunk.hec import HecEvent, RejectedEvent

WriteMetrics = Callable[[Mapping[Metric, tuple[float, str]]], object]
"""Writes measurements: value and unit by name."""


@dataclass(slots=True)
class Ledger:
    """The account of one input's log events.

    Each event is in exactly one place, and a method moves it on:

        pending ──┬─▶ blank        skip()      white space only; neither sent nor stored
                  ├─▶ delivered    deliver()   accepted by Splunk
                  ├─▶ poison ────▶ set_aside   reject(), then store_poison(): in the failure record, for a person
                  ├─▶ set_aside                store_input(): the whole input, if nothing of it can be sent
                  └─▶ deferred                 defer(): in the failure record, for a redrive

    No event is lost, and none comes twice unless an answer was lost. The forwarder guarantees, in this order:

    1. An event becomes `delivered` only by an answer of Splunk that accepts this event.
    2. An event becomes `poison` only if it can't be accepted itself: by its own form, by an answer that names it, or by
       an answer to a request with this event alone.
    3. An event becomes `set_aside` or `deferred` only after the failure record has confirmed the entry that holds it.
    4. The invocation succeeds only if `close()` finds nothing pending and no poison. Otherwise it raises: Lambda still
       has the whole input, invokes again, and in the end writes it to the on-failure destination.
    5. An event is sent again only after an answer that does not accept it, or after none. Splunk gets it twice only if
       it had accepted the event and that answer was lost, or "busy" hid it (decision 0011).
    6. After Splunk has accepted a part, the rest is deferred and the invocation succeeds, so that the part is not sent
       again. It is sent again only if the failure record did not confirm the entry.
    7. If Splunk has accepted nothing, nothing is deferred: by 4 Lambda has the input, and both would be sent.
    8. An event that comes twice has the same `event_id` both times.

    Attributes:
        received: log events of the input; an input that can't be read counts as one.
        entries: names of the entries that were written to the failure record.
        requests: requests to the collector.
        retries: how many of them repeated one that had failed.
        longest_delay_ms, total_delay_ms: from a log event's own time to its acceptance.
        clock_ms: epoch milliseconds.
    """

    received: int = 0
    blank: int = 0
    delivered: int = 0
    poison: list[RejectedEvent] = field(default_factory=list)
    set_aside: int = 0
    deferred: int = 0
    entries: list[str] = field(default_factory=list)
    requests: int = 0
    retries: int = 0
    longest_delay_ms: int = 0
    total_delay_ms: int = 0
    clock_ms: Callable[[], int] = field(default=lambda: time.time_ns() // 1_000_000, repr=False)

    @property
    def unfinished(self) -> int:
        """Events that this invocation did not bring to an end: pending, poison that is not stored, and deferred."""
        return self.received - self.blank - self.delivered - self.set_aside

    @property
    def pending(self) -> int:
        return self.unfinished - self.deferred - len(self.poison)

    def skip(self, count: int) -> None:
        self.blank += count

    def deliver(self, events: Sequence[HecEvent]) -> None:
        now_ms = self.clock_ms()
        delays_ms = [max(0, now_ms - event.log.timestamp_ms) for event in events]
        self.delivered += len(events)
        self.longest_delay_ms = max(self.longest_delay_ms, *delays_ms, 0)
        self.total_delay_ms += sum(delays_ms)

    def reject(self, events: Iterable[RejectedEvent]) -> None:
        self.poison += events

    def store_poison(self, entry: str) -> None:
        """All poison is in an entry of the failure record."""
        self.set_aside += len(self.poison)
        self.poison = []
        self.entries.append(entry)

    def store_input(self, entry: str) -> None:
        """All that is pending is in an entry of the failure record."""
        self.set_aside += self.pending
        self.entries.append(entry)

    def defer(self, entry: str) -> None:
        """All that is pending is in an entry of the failure record, to be replayed."""
        self.deferred += self.pending
        self.entries.append(entry)

    def close(self) -> None:
        """Check that the invocation may succeed.

        Raises:
            Unaccounted: an event is neither delivered nor stored.
        """
        if self.pending or self.poison:
            raise Unaccounted(f"{self.pending + len(self.poison)} events are neither delivered nor stored")

    def metrics(self) -> dict[Metric, tuple[float, str]]:
        """Value and unit of each measurement of the invocation; a count of none is left out."""
        counts = {
            Metric.EVENTS_DELIVERED: self.delivered,
            Metric.EVENTS_BLANK: self.blank,
            Metric.EVENTS_SET_ASIDE: self.set_aside,
            Metric.EVENTS_FAILED: self.unfinished,
            Metric.REQUESTS_RETRIED: self.retries,
        }
        values: dict[Metric, tuple[float, str]] = {name: (count, "Count") for name, count in counts.items() if count}
        if self.delivered:
            values[Metric.DELIVERY_DELAY_MAX] = (self.longest_delay_ms, "Milliseconds")
            values[Metric.DELIVERY_DELAY_MEAN] = (round(self.total_delay_ms / self.delivered, 3), "Milliseconds")
        return values
