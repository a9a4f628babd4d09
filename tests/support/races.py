"""Races for tokens: many callers at once, some of them disturbed, and their outcome.

A race is one token, 32 racers that try to spend it at the same moment, somebody who looks at it, and interferers: one
that revokes it, or strangers whose mismatches lock it. All calls are recorded, and `linearizability` checks them.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from chalicelib.tokens import LOCKED_AFTER_MISMATCHES, Reason
from tests.support.histories import Call, Granted, Held
from tests.support.linearizability import violation

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


_ENDING: Final = {Kind.REVOKED, Kind.LOCKED, Kind.EXPIRING}
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
        delays: seconds that each racer, the one who looks, and each interferer waits after the start.
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
    delays = tuple(behind + source.random() * spread for _ in range(racers + 1))
    delays += tuple(source.random() * _INTERFERENCE_SECONDS for _ in range(STRANGERS))
    late = frozenset(source.sample(range(racers), source.randint(racers // 2, racers)))
    return Race(number, kind, source.choice(MAX_USES), keys, delays, late)


@dataclass(frozen=True)
class Entry:
    """A race with its token and the calls made for it so far.

    Attributes:
        bodies: what was answered to each key that was granted a use.
    """

    race: Race
    secret: str
    token_id: str
    expires_at: datetime
    history: list[Call] = field(default_factory=list)
    bodies: dict[str, list[object]] = field(default_factory=dict)


@dataclass
class Findings:
    """What a number of races came to. `wrong` must stay empty.

    Attributes:
        checking_seconds: of this thread's processor.
    """

    tokens: int = 0
    calls: int = 0
    granted: int = 0
    replayed: int = 0
    unanswered: int = 0
    checking_seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    cut_short: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def add(self, entry: Entry, repeats: bool) -> None:
        """Check the history of one race, which ends with a look at the token."""
        race, answers = entry.race, [call.answer for call in entry.history]
        grants = [answer for answer in answers if isinstance(answer, Granted)]
        last = answers[-1]
        assert isinstance(last, Held)
        self.tokens += 1
        self.calls += len(answers)
        self.replayed += sum(grant.replayed for grant in grants)
        self.granted += sum(not grant.replayed for grant in grants)
        self.unanswered += answers.count(None)
        self.cut_short[race.kind] += race.kind in _ENDING and len(last.claims) < race.max_uses
        self.kinds[race.kind] += 1
        self.refused.update(answer for answer in answers if isinstance(answer, Reason))
        started = time.thread_time()
        why = violation(entry.history, race.max_uses, repeats=repeats)
        self.checking_seconds += time.thread_time() - started
        if any(body != bodies[0] for bodies in entry.bodies.values() for body in bodies):
            why = "a repetition got another answer"
        if why:
            self.wrong.append(f"race {race.number} ({race.kind}, maxUses {race.max_uses}): {why}")
