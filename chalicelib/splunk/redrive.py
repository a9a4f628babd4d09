"""Replays entries of the failure record: by a schedule, and for a person.

    failed/…, aws/lambda/async/…   accepted → removed
                                   rejected while Splunk accepts others → stays; the schedule counts the attempt
                                   Splunk is unavailable → stays, and so do all others
    refused/…                      rejected so often that the schedule leaves it to a person
    poison/…                       events that Splunk can never accept; replayed only if a person names the entry

An entry is removed only after the forwarder has accounted for all of its events. So a redrive may be run twice, at the
same time even, or be killed at any moment: at worst Splunk gets an entry twice.
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import asdict, dataclass, field
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Protocol

from chalicelib.names import Metric
from chalicelib.splunk.errors import Busy, MalformedEnvelope, RecordUnavailable, SplunkError, Undelivered
from chalicelib.splunk.record import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from chalicelib.splunk.delivery import Budget
    from chalicelib.splunk.ledger import Ledger, WriteMetrics
    from chalicelib.splunk.waiting import BucketSource, Entry, Source

PROBE_SECONDS: Final = 10.0
# After so many rejected entries in a row, the next one has no better chance.
MOST_REFUSED: Final = 5

# Limits of one run of the schedule.
MOST_LISTED: Final = 2_000
MOST_ENTRIES: Final = 500
ENTRY_SECONDS: Final = 60.0
# Of the function's time, or a quarter of it if that is less: what an entry needs at least, and what is reserved for a
# probe and for counting the rejected entries.
LEAST_ENTRY_SECONDS: Final = 20.0
RESERVE_SECONDS: Final = 25.0
SMALL_PART: Final = 0.25
LEAST_COUNT_MS: Final = 5_000
# An entry wraps an input of Lambda, of 1 MB at most; more would fill a small function's memory.
MOST_BYTES: Final = 4_000_000
# Two hours, with a run every 15 minutes.
MOST_ATTEMPTS: Final = 8

_LOG = logging.getLogger("tokenservice.splunk")


class Replay(Protocol):
    """What a redrive needs of `chalicelib.splunk.forward.Forwarder`."""

    def forward(self, event: Mapping[str, Any], remaining_ms: Callable[[], int]) -> Ledger:
        """Forward a subscription event."""

    def forward_event(self, event: Mapping[str, Any], remaining_ms: Callable[[], int]) -> Ledger:
        """Forward an EventBridge event."""

    def probe(self, budget: Budget) -> None:
        """Check whether Splunk accepts requests; raises Undelivered."""


@dataclass(slots=True)
class Outcome:
    """The result of a redrive.

    Attributes:
        replayed: entries that were accepted and removed.
        events: log events that Splunk accepted.
        set_aside: log events that were stored as poison.
        unreadable: names of entries that hold nothing to replay.
        refused: reasons by the names of entries that were rejected while Splunk accepted requests.
        stopped: why it ended early.
    """

    replayed: int = 0
    events: int = 0
    set_aside: int = 0
    unreadable: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    stopped: str | None = None

    @property
    def is_complete(self) -> bool:
        return not (self.stopped or self.refused or self.unreadable)

    def facts(self) -> dict[str, Any]:
        return asdict(self)


def redrive(
    source: Source,
    forwarder: Replay,
    entries: Iterable[Entry],
    entry_seconds: Callable[[], float],
    *,
    most_refused: int | None = MOST_REFUSED,
    probe_seconds: Callable[[], float] = lambda: PROBE_SECONDS,
    monotonic: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Replay entries one by one. A rejected entry stops the others only if Splunk is unavailable.

    Args:
        source: has the entries.
        forwarder: the very code that the Lambda functions run.
        entries: of `source`.
        entry_seconds: how long the next entry may take; 0 ends the redrive.
        most_refused: in a row; None means any number.
        probe_seconds: seconds for the check whether Splunk is available.
        monotonic: seconds.
    """
    outcome, in_a_row = Outcome(), 0
    for entry in entries:
        if entry.payload is None:
            outcome.unreadable.append(entry.name)
            continue
        seconds = entry_seconds()
        if not seconds:
            outcome.stopped = "no time left for another entry"
            break
        try:
            _replay(source, forwarder, entry, outcome, _until(monotonic() + seconds, monotonic))
            in_a_row = 0
        except SplunkError as error:
            if _is_the_entry_s_fault(error, forwarder, lambda: _until(monotonic() + probe_seconds(), monotonic)):
                outcome.refused[entry.name] = str(error)
                in_a_row += 1
                if in_a_row == most_refused:
                    outcome.stopped = f"refused {in_a_row} in a row; the last: {error}" if in_a_row > 1 else str(error)
            else:
                outcome.stopped = str(error)
        if outcome.stopped:
            break
    return outcome


def _is_the_entry_s_fault(error: SplunkError, forwarder: Replay, budget: Callable[[], Budget]) -> bool:
    """Whether the entry causes a failure, and neither the failure record nor an unavailable Splunk."""
    if isinstance(error, MalformedEnvelope):
        return True
    if isinstance(error, Busy | RecordUnavailable):
        return False
    try:
        forwarder.probe(budget())
    except Undelivered:
        return False
    return True


def _until(deadline: float, monotonic: Callable[[], float]) -> Budget:
    return lambda: max(0.0, deadline - monotonic())


def _replay(source: Source, forwarder: Replay, entry: Entry, outcome: Outcome, budget: Budget) -> None:
    assert entry.payload is not None  # noqa: S101 - the caller looked
    call = forwarder.forward if "awslogs" in entry.payload else forwarder.forward_event
    ledger = call(entry.payload, lambda: int(budget() * 1000))
    # Poison that is still poison was just written again, under the same name.
    if entry.name not in ledger.entries:
        source.remove(entry)
        outcome.replayed += 1
    outcome.events += ledger.delivered
    outcome.set_aside += ledger.set_aside
    if ledger.deferred:
        # The forwarder has stored the rest under a new name; the next entry would have no more success.
        outcome.stopped = f"Splunk accepted only a part: {ledger.deferred} events are stored for the next run"


class ScheduledRedrive:
    """The redrive of a schedule, in bounded time and at bounded cost.

    Args:
        source: None means that nothing is forwarded, so nothing can wait.
    """

    def __init__(self, source: BucketSource | None, forwarder: Replay, metric: WriteMetrics) -> None:
        self._source = source
        self._forwarder = forwarder
        self._metric = metric

    def run(self, remaining_ms: Callable[[], int]) -> Outcome | None:
        """Replay waiting entries while Splunk accepts requests and the time lasts.

        Args:
            remaining_ms: how long the invocation may still run.

        Returns:
            None if nothing waits or Splunk is unavailable.
        """
        source, small = self._source, remaining_ms() / 1000 * SMALL_PART

        def probe_seconds() -> float:
            return min(PROBE_SECONDS, remaining_ms() / 1000 / 2)

        def entry_seconds() -> float:
            seconds = remaining_ms() / 1000 - min(RESERVE_SECONDS, small)
            return min(seconds, ENTRY_SECONDS) if seconds >= min(LEAST_ENTRY_SECONDS, small) else 0.0

        listed = list(islice(source.names(Kind.FAILED), MOST_LISTED)) if source else []
        if source is None:
            return None
        if not listed:
            # The alarm needs it: that there is no value means that the redrive does not run.
            self._metric({Metric.ENTRIES_WAITING: (0, "Count")})
            return None
        try:
            self._forwarder.probe(_until(time.monotonic() + probe_seconds(), time.monotonic))
        except Undelivered as error:
            self._report(len(listed), Outcome(stopped=str(error)), 0)
            return None
        entries = _in_turn(source, listed)
        outcome = redrive(source, self._forwarder, entries, entry_seconds, probe_seconds=probe_seconds)
        too_large = {name: f"{size} bytes are too many for this function" for name, size in listed if size > MOST_BYTES}
        put_aside = _count_refusals(source, outcome, remaining_ms)
        outcome.refused |= too_large
        self._report(len(listed) - outcome.replayed - put_aside, outcome, put_aside + len(too_large))
        return outcome

    def _report(self, waiting: int, outcome: Outcome, refused: int) -> None:
        _LOG.warning(
            "the redrive replayed %d entries and put %d aside; %d wait%s",
            outcome.replayed,
            refused,
            waiting,
            f"; it stopped: {outcome.stopped}" if outcome.stopped else "",
        )
        for name, reason in outcome.refused.items():
            _LOG.warning("rejected, although Splunk accepts others: %s: %s", name, reason)
        put_aside: dict[Metric, tuple[float, str]] = {Metric.EVENTS_SET_ASIDE: (refused, "Count")} if refused else {}
        self._metric({Metric.ENTRIES_WAITING: (waiting, "Count"), **put_aside})


def _in_turn(source: BucketSource, listed: list[tuple[str, int]]) -> Iterator[Entry]:
    """The smallest first, as a further probe; the others shuffled, so that no entry always blocks another."""
    names = [name for name, size in sorted(listed, key=itemgetter(1)) if size <= MOST_BYTES]
    others = names[1:]
    random.shuffle(others)
    for name in names[:1] + others[: MOST_ENTRIES - 1]:
        # Another redrive may have been quicker.
        if entry := source.find(name):
            yield entry


def _count_refusals(source: BucketSource, outcome: Outcome, remaining_ms: Callable[[], int]) -> int:
    """Count the rejected and the unreadable entries; return how many were moved to the refused ones by that."""
    attempts = dict.fromkeys(outcome.refused, MOST_ATTEMPTS) | dict.fromkeys(outcome.unreadable, 1)
    put_aside = 0
    for name, most_attempts in attempts.items():
        if remaining_ms() < LEAST_COUNT_MS:
            break
        if source.count_refusal(name, most_attempts):
            _LOG.error("an entry is put aside for a person: %s", name)
            put_aside += 1
    return put_aside
