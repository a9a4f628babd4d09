"""Races for tokens: many callers at once, some of them disturbed, and their outcome.

A race is one token, 32 racers that try to spend it at the same moment, and interferers: one that revokes it, or
strangers whose mismatches lock it. Afterwards the answers to the racers are compared with the claims of the token.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from chalicelib.tokens import LOCKED_AFTER_MISMATCHES, Claim, Reason

RACERS: Final = 32
STRANGERS: Final = LOCKED_AFTER_MISMATCHES + 1
MAX_USES: Final = (1, 2, 5)


class Kind(StrEnum):
    """What happens to the token while it is raced for."""

    PLAIN = "plain"
    BOUND = "bound to addresses"  # a claim in two calls
    KEYED = "shared keys"  # several racers bear one idempotency key
    REVOKED = "revoked"
    LOCKED = "locked"
    EXPIRING = "expiring"


ALLOWED_REFUSALS: Final = {
    Kind.PLAIN: {Reason.EXHAUSTED},
    Kind.BOUND: {Reason.EXHAUSTED},
    Kind.KEYED: {Reason.EXHAUSTED},
    Kind.REVOKED: {Reason.EXHAUSTED, Reason.REVOKED},
    Kind.LOCKED: {Reason.EXHAUSTED, Reason.LOCKED},
    Kind.EXPIRING: {Reason.EXHAUSTED, Reason.EXPIRED},
}
_ENDED_BY: Final = {Kind.REVOKED: Reason.REVOKED, Kind.LOCKED: Reason.LOCKED, Kind.EXPIRING: Reason.EXPIRED}
# Racers of a disturbed race come one after the other, a while after those who interfere: its end falls between them.
_BEHIND_SECONDS: Final = {Kind.REVOKED: 0.02, Kind.LOCKED: 0.2}
_SPREAD_SECONDS: Final = {Kind.REVOKED: 0.06, Kind.LOCKED: 0.15, Kind.EXPIRING: 0.08}
_INTERFERENCE_SECONDS: Final = 0.003
_WEIGHTS: Final = {
    Kind.PLAIN: 10,
    Kind.BOUND: 2,
    Kind.KEYED: 2,
    Kind.REVOKED: 2,
    Kind.LOCKED: 2,
    Kind.EXPIRING: 2,
}


@dataclass(frozen=True)
class Race:
    """One token and the plan of its race.

    Attributes:
        keys: each racer's idempotency key; None means none.
        delays: seconds that each racer, and then each interferer, waits after the start.
        late: the racers whose clock is at or after the expiry, if each has its own clock.
    """

    number: int
    kind: Kind
    max_uses: int
    keys: tuple[str | None, ...]
    delays: tuple[float, ...]
    late: frozenset[int]

    @property
    def interferers(self) -> int:
        return {Kind.REVOKED: 1, Kind.LOCKED: STRANGERS}.get(self.kind, 0)


def plan(number: int, seed: int, racers: int = RACERS) -> Race:
    """The race with that number; the same seed gives the same race."""
    source = random.Random(f"{seed}/{number}")
    [kind] = source.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
    keys: tuple[str | None, ...] = tuple(f"key-{racer}" if source.random() < 0.5 else None for racer in range(racers))
    if kind is Kind.KEYED:
        few = source.randint(1, 8)
        keys = tuple(f"key-{source.randrange(few)}" for _ in range(racers))
    behind = source.random() * _BEHIND_SECONDS.get(kind, 0.0)
    spread = _SPREAD_SECONDS.get(kind, 0.0)
    delays = tuple(behind + source.random() * spread for _ in range(racers))
    delays += tuple(source.random() * _INTERFERENCE_SECONDS for _ in range(STRANGERS))
    late = frozenset(source.sample(range(racers), source.randint(racers // 2, racers)))
    return Race(number, kind, source.choice(MAX_USES), keys, delays, late)


@dataclass(frozen=True)
class Outcome:
    """The answer to one caller: a use (`reason` is None), a refusal, or none that can be trusted (both None).

    Attributes:
        repeated: it called more than once, because it got no answer.
    """

    use_id: str | None = None
    reason: Reason | None = None
    replayed: bool = False
    uses_remaining: int | None = None
    repeated: bool = False

    @property
    def unanswered(self) -> bool:
        return self.use_id is None and self.reason is None


@dataclass(frozen=True)
class State:
    """What the token holds when all is over."""

    claims: tuple[Claim, ...]
    mismatches: int
    revoked: bool


@dataclass(frozen=True)
class Entry:
    """A race with its token."""

    race: Race
    secret: str
    token_id: str
    expires_at: datetime


class Way(Protocol):
    """A way to reach the service; called from many threads at once."""

    has_own_clocks: bool

    def issue(self, races: Sequence[Race]) -> list[Entry]:
        """One token a race."""

    def ready(self, entry: Entry) -> Entry:
        """Return when the race may begin, with the token to race for: an expiring one is raced for at its expiry."""

    def use(self, entry: Entry, racer: int | None) -> Outcome:
        """Spend as that racer; None: as someone who comes when all is over."""

    def interfere(self, entry: Entry) -> None:
        """Revoke it, or present it as a stranger."""

    def look(self, entry: Entry) -> State: ...


@dataclass
class Findings:
    """What a number of races came to. `wrong` and `false_refusals` must stay empty."""

    tokens: int = 0
    attempts: int = 0
    granted: int = 0
    replayed: int = 0
    unanswered: int = 0
    wrong: list[str] = field(default_factory=list)
    false_refusals: list[str] = field(default_factory=list)
    cut_short: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    max_uses: Counter[int] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def good(self) -> bool:
        return not (self.wrong or self.false_refusals)

    def add(self, entry: Entry, outcomes: Sequence[Outcome], after: Outcome, state: State, own_clocks: bool) -> None:
        """Judge one race by the answers to its racers and by the token afterwards.

        Args:
            after: the answer to a call after the race; a use may have been left.
            own_clocks: whether the late racers really were late.
        """
        race = entry.race
        state = replace(state, claims=tuple(claim for claim in state.claims if claim.id != after.use_id))
        self.tokens += 1
        self.attempts += len(outcomes)
        self.granted += sum(each.use_id is not None and not each.replayed for each in outcomes)
        self.replayed += sum(each.replayed for each in outcomes)
        self.unanswered += sum(each.unanswered for each in outcomes)
        self.cut_short[race.kind] += race.kind in _ENDED_BY and len(state.claims) < race.max_uses
        self.kinds[race.kind] += 1
        self.max_uses[race.max_uses] += 1
        self.refused.update(each.reason for each in outcomes if each.reason is not None)
        named = f"race {race.number} ({race.kind}, maxUses {race.max_uses})"
        self.wrong += [f"{named}: {each}" for each in _wrong(entry, outcomes, state, own_clocks)]
        self.false_refusals += [f"{named}: {each}" for each in _false_refusals(entry, outcomes, after, state)]


def _allowance(race: Race, own_clocks: bool) -> int | None:
    """How many uses must have been granted; None: at most `max_uses`."""
    if race.kind in (Kind.REVOKED, Kind.LOCKED) or (race.kind is Kind.EXPIRING and not own_clocks):
        return None
    if race.kind is Kind.EXPIRING:
        return min(race.max_uses, len(race.keys) - len(race.late))
    return min(race.max_uses, len(set(race.keys) - {None}) + race.keys.count(None))


def _wrong(entry: Entry, outcomes: Sequence[Outcome], state: State, own_clocks: bool) -> Iterator[str]:
    race, claims = entry.race, [claim.id for claim in state.claims]
    fresh = Counter(each.use_id for each in outcomes if each.use_id is not None and not each.replayed)
    reported = {each.use_id for each in outcomes if each.use_id is not None}
    unanswered = sum(each.unanswered for each in outcomes)
    allowance = _allowance(race, own_clocks)
    if len(claims) > race.max_uses:
        yield f"{len(claims)} claims"
    if allowance is not None and (len(claims) > allowance or len(claims) + unanswered < allowance):
        yield f"{len(claims)} claims where {allowance} were to be had"
    if not reported <= set(claims):
        yield "a success without a claim"
    if len(set(claims) - reported) > unanswered:
        yield "a claim that no answer reported"
    if max(fresh.values(), default=0) > 1:
        yield "one claim reported as a new use to two racers"
    if len(set(claims) - set(fresh)) > unanswered + sum(each.repeated for each in outcomes):
        yield "a claim reported as a replay only"
    places = {claim: race.max_uses - 1 - place for place, claim in enumerate(claims)}
    if any(each.use_id in places and each.uses_remaining != places[each.use_id] for each in outcomes):
        yield "a wrong number of uses left"
    if race.kind is Kind.EXPIRING and any(claim.at >= entry.expires_at for claim in state.claims):
        yield "a claim after the expiry"


def _false_refusals(entry: Entry, outcomes: Sequence[Outcome], after: Outcome, state: State) -> Iterator[str]:
    race = entry.race
    others = {each.reason for each in outcomes if each.reason is not None} - ALLOWED_REFUSALS[race.kind]
    if others:
        yield f"refused with {', '.join(sorted(others))}"
    use_of_key = {key: each.use_id for key, each in zip(race.keys, outcomes, strict=True) if key and each.use_id}
    if any(
        key in use_of_key and each.reason is Reason.EXHAUSTED for key, each in zip(race.keys, outcomes, strict=True)
    ):
        yield "refused as exhausted, though its key had been granted a use"
    expected = _ENDED_BY.get(race.kind, Reason.EXHAUSTED)
    if race.kind is Kind.KEYED and len(state.claims) < race.max_uses:
        expected = None
    if not after.unanswered and after.reason is not expected:
        yield f"{after.reason} after the race, not {expected}"
    if race.kind is Kind.REVOKED and not state.revoked:
        yield "not revoked"
    if race.kind is Kind.LOCKED and state.mismatches != LOCKED_AFTER_MISMATCHES:
        yield f"{state.mismatches} mismatches counted"


class Track:
    """Threads that run one race after the other, all of them starting at the same moment."""

    def __init__(self, way: Way, racers: int = RACERS) -> None:
        self._way = way
        self._racers = racers
        self._gate = threading.Barrier(racers + STRANGERS + 1)
        self._entry: Entry | None = None
        self._outcomes: list[Outcome] = []
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(place,), name=f"racer-{place}", daemon=True)
            for place in range(racers + STRANGERS)
        ]

    def __enter__(self) -> Track:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._entry = None
        self._gate.wait()
        for thread in self._threads:
            thread.join()

    def run(self, entries: Sequence[Entry], findings: Findings, done: Callable[[], object] = lambda: None) -> None:
        """Run the races of some tokens, and judge each."""
        for issued in entries:
            self._outcomes = [Outcome()] * self._racers
            self._entry = entry = self._way.ready(issued)
            self._gate.wait()
            self._gate.wait()
            if self._failures:
                raise self._failures[0]
            after = self._way.use(entry, None)
            state = self._way.look(entry)
            findings.add(entry, self._outcomes, after, state, self._way.has_own_clocks)
            done()

    def _run(self, place: int) -> None:
        pause = threading.Event()
        while True:
            self._gate.wait()
            entry = self._entry
            if entry is None:
                return
            try:
                if entry.race.delays[place]:
                    pause.wait(entry.race.delays[place])
                if place < self._racers:
                    self._outcomes[place] = self._way.use(entry, place)
                elif place - self._racers < entry.race.interferers:
                    self._way.interfere(entry)
            except BaseException as failure:  # noqa: BLE001 - raised by the main thread; the others wait at the gate
                self._failures.append(failure)
            self._gate.wait()
