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
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from chalicelib.log_names import Metric
from chalicelib.splunk.errors import MalformedEnvelope, RecordUnavailable, SplunkBusy, SplunkError, Undelivered
from chalicelib.splunk.record import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chalicelib.splunk.delivery import Budget
    from chalicelib.splunk.forward import Forwarder
    from chalicelib.splunk.ledger import WriteMetrics
    from chalicelib.splunk.waiting import BucketSource, Entry

PROBE_SECONDS: Final = 10.0
# After so many rejected entries in a row, the next one has no better chance.
MOST_REJECTED: Final = 5

# Limits of one run of the schedule.
MOST_LISTED: Final = 2_000
MOST_ENTRIES: Final = 500
LEAST_ENTRY_SECONDS: Final = 20.0
MOST_ENTRY_SECONDS: Final = 60.0
# For a probe after the last entry, and for counting the rejected entries.
RESERVE_SECONDS: Final = 25.0
LEAST_COUNT_MS: Final = 5_000
# Runs of the schedule in which an entry is tried: two hours, if it runs every 15 minutes.
MOST_ATTEMPTS: Final = 8

_LOG = logging.getLogger("tokenservice.splunk")


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


def redrive(
    source: BucketSource,
    forwarder: Forwarder,
    entries: Iterable[Entry],
    entry_seconds: Callable[[], float],
    most_rejected: int | None = MOST_REJECTED,
) -> Outcome:
    """Replay entries one by one. A rejected entry stops the others only if Splunk is unavailable.

    Args:
        source: has the entries.
        forwarder: the very code that the Lambda functions run.
        entries: of `source`.
        entry_seconds: how long the next entry may take; 0 ends the redrive.
        most_rejected: in a row; None means any number.
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
            _replay(source, forwarder, entry, outcome, _budget(seconds))
            in_a_row = 0
        except SplunkError as error:
            if _is_the_entry_s_fault(error, forwarder):
                outcome.refused[entry.name] = str(error)
                in_a_row += 1
                if in_a_row == most_rejected:
                    outcome.stopped = f"refused {in_a_row} in a row; the last: {error}"
            else:
                outcome.stopped = str(error)
        if outcome.stopped:
            break
    return outcome


def _is_the_entry_s_fault(error: SplunkError, forwarder: Forwarder) -> bool:
    """Whether the entry causes a failure, and neither the failure record nor an unavailable Splunk."""
    if isinstance(error, MalformedEnvelope):
        return True
    if isinstance(error, SplunkBusy | RecordUnavailable):
        return False
    try:
        forwarder.probe(_budget(PROBE_SECONDS))
    except Undelivered:
        return False
    return True


def _budget(seconds: float) -> Budget:
    """So many seconds, from now on."""
    deadline = time.monotonic() + seconds
    return lambda: max(0.0, deadline - time.monotonic())


def _replay(source: BucketSource, forwarder: Forwarder, entry: Entry, outcome: Outcome, budget: Budget) -> None:
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

    def __init__(self, source: BucketSource | None, forwarder: Forwarder, metric: WriteMetrics) -> None:
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

        def entry_seconds() -> float:
            seconds = remaining_ms() / 1000 - RESERVE_SECONDS
            return min(seconds, MOST_ENTRY_SECONDS) if seconds >= LEAST_ENTRY_SECONDS else 0.0

        if self._source is None:
            return None
        names = list(islice(self._source.names(Kind.DEFERRED), MOST_LISTED))
        if not names:
            # The alarm needs it: that there is no value means that the redrive does not run.
            self._metric({Metric.ENTRIES_WAITING: (0, "Count")})
            return None
        try:
            self._forwarder.probe(_budget(PROBE_SECONDS))
        except Undelivered as error:
            self._report(len(names), Outcome(stopped=str(error)), 0)
            return None
        random.shuffle(names)  # so that no entry always blocks another
        # An entry may be gone: another redrive was quicker.
        entries = filter(None, map(self._source.find, names[:MOST_ENTRIES]))
        outcome = redrive(self._source, self._forwarder, entries, entry_seconds)
        put_aside = _count_refusals(self._source, outcome, remaining_ms)
        self._report(len(names) - outcome.replayed - put_aside, outcome, put_aside)
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
