"""The checker of histories: a correct service passes, and every planted bug that an answer can show is found.

The service runs on the store in memory, one call after the other, so that a history is the same on every run. Then
the calls get begins and ends around the instants at which they happened, as if they had overlapped.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import count, islice

import pytest
from msgspec.structs import replace

from chalicelib.tokens import Claim, Reason, Token, Use
from tests.support.histories import Answer, Call, Granted, Held
from tests.support.linearizability import violation
from tests.support.memory_store import Memory, MemoryTokenStore
from tests.support.races import RACERS, Entry, Kind, plan
from tests.support.races_over import OverStore

SEED = 9
OVERLAP = 8  # calls before and after, at most

Change = Callable[[Token, Use], Token]


def recorded(number: int, store: MemoryTokenStore) -> Entry:
    """A race whose calls overlap, but for the two at the end."""
    memory = Memory()
    memory._token_store = store
    way = OverStore(memory)
    [entry] = way.issue([plan(number, SEED)])
    source = random.Random(number)
    calls = [*(lambda racer=racer: way.use(entry, racer) for racer in range(RACERS)), lambda: way.look(entry)]
    calls += [lambda: way.interfere(entry)] * entry.race.interferers
    source.shuffle(calls)
    for call in (*calls, lambda: way.use(entry, None), lambda: way.look(entry)):
        call()
    for place, done in enumerate(entry.history):
        instant, width = (place, OVERLAP) if place < len(calls) else (place + OVERLAP, 0)
        begun, ended = instant - source.random() * width, instant + source.random() * width
        entry.history[place] = done._replace(begun=begun, ended=ended)
    return entry


def entries(kind: Kind, make: Callable[[], MemoryTokenStore]) -> Iterator[Entry]:
    for number in count():
        race = plan(number, SEED)
        if race.kind is kind and race.max_uses > 1:
            yield recorded(number, make())


def same(token: Token, use: Use) -> Token:
    return token


class Planted(MemoryTokenStore):
    """A store with a bug.

    Args:
        sees: the token as the condition of a claim sees it.
        returns: the token as the service gets it after a claim.
        replaces: a claim writes the whole token, as it saw it.
        shows: the token as `find` returns it.
        counts: how often a mismatch is counted.
    """

    def __init__(
        self,
        *,
        sees: Change = same,
        returns: Change = same,
        replaces: bool = False,
        shows: Callable[[Token], Token] = lambda token: token,
        counts: int = 1,
        revokes: bool = True,
    ) -> None:
        super().__init__()
        self._sees, self._returns, self._replaces = sees, returns, replaces
        self._shows, self._counts, self._revokes = shows, counts, revokes

    def claim(
        self, use: Use, now: datetime, issued_after: datetime | None, judged: Token | None = None
    ) -> Token | None:
        stored = self.tokens[use.token_id]
        self.tokens[stored.id] = self._sees(stored, use)
        found = super().claim(use, now, issued_after, judged)
        assert found is not None
        added = tuple(claim for claim in found.claims if claim.attempt == use.attempt)
        if not (added and self._replaces):
            self.tokens[stored.id] = replace(stored, claims=stored.claims + added)
        return self._returns(found, use)

    def find(self, token_id: str) -> Token | None:
        return self._shows(self.tokens[token_id])

    def count_mismatch(self, token_id: str, now: datetime) -> Token | None:
        for _ in range(self._counts):
            super().count_mismatch(token_id, now)
        return self.tokens[token_id]

    def revoke(self, token_id: str, issuer: str | None, now: datetime) -> Token | None:
        return (
            super().revoke(token_id, issuer, now) if self._revokes else replace(self.tokens[token_id], revoked_at=now)
        )


def without_last_claim(token: Token, use: Use) -> Token:
    return replace(token, claims=token.claims[:-1])


def with_another_claim(token: Token, use: Use) -> Token:
    another = Claim("another", "another", token.issued_at, "racer")
    return replace(token, claims=(*token.claims, another)) if token.uses_remaining == 1 else token


def without_key(token: Token, use: Use) -> Token:
    return replace(token, claims=tuple(replace(c, id=c.id.replace(use.claim_id, "another")) for c in token.claims))


def with_own_claim_last(token: Token, use: Use) -> Token:
    return replace(token, claims=tuple(sorted(token.claims, key=lambda claim: claim.id == use.claim_id)))


def with_own_attempt(token: Token, use: Use) -> Token:
    own = replace(use.claim(token.issued_at))
    return replace(token, claims=tuple(own if claim.id == own.id else claim for claim in token.claims))


def prolonged(token: Token, use: Use) -> Token:
    return replace(token, terms=replace(token.terms, expires_at=token.terms.expires_at + timedelta(days=1)))


def for_any_user(token: Token, use: Use) -> Token:
    return replace(token, terms=replace(token.terms, user=None))


def for_alice(token: Token, use: Use) -> Token:
    return replace(token, terms=replace(token.terms, user="alice"))


BUGS: dict[str, tuple[Kind, Callable[[], Planted]]] = {
    "two callers spend the same use": (Kind.PLAIN, lambda: Planted(sees=without_last_claim)),
    "a claim overwrites another": (Kind.PLAIN, lambda: Planted(sees=without_last_claim, replaces=True)),
    "a claim overwrites a revocation": (
        Kind.REVOKED,
        lambda: Planted(sees=lambda token, use: replace(token, revoked_at=None), replaces=True),
    ),
    "the last use is refused": (Kind.BOUND, lambda: Planted(sees=with_another_claim)),
    "a read is stale": (Kind.PLAIN, lambda: Planted(shows=lambda token: replace(token, claims=token.claims[:-1]))),
    "claims are in another order": (Kind.PLAIN, lambda: Planted(shows=lambda t: replace(t, claims=t.claims[::-1]))),
    "a use after the revocation": (Kind.REVOKED, lambda: Planted(sees=lambda t, use: replace(t, revoked_at=None))),
    "the revocation is lost": (Kind.REVOKED, lambda: Planted(revokes=False)),
    "a use after the lock": (Kind.LOCKED, lambda: Planted(sees=lambda token, use: replace(token, mismatches=0))),
    "the sixth mismatch locks": (
        Kind.LOCKED,
        lambda: Planted(sees=lambda token, use: replace(token, mismatches=max(0, token.mismatches - 1))),
    ),
    "mismatches are not counted": (Kind.LOCKED, lambda: Planted(counts=0)),
    "mismatches count twice": (Kind.LOCKED, lambda: Planted(counts=2)),
    "a refusal spends a use": (Kind.LOCKED, lambda: Planted(sees=for_any_user, returns=for_alice)),
    "a use after the expiry": (Kind.EXPIRING, lambda: Planted(sees=prolonged)),
    "a key is forgotten": (Kind.KEYED, lambda: Planted(sees=without_key)),
    "a replay has the uses left now": (Kind.KEYED, lambda: Planted(returns=with_own_claim_last)),
    "a replay is reported as new": (Kind.KEYED, lambda: Planted(returns=with_own_attempt)),
}


def test_histories_of_a_correct_service_pass() -> None:
    for kind in Kind:
        for entry in islice(entries(kind, MemoryTokenStore), 30):
            assert violation(entry.history, entry.race.max_uses) is None


@pytest.mark.parametrize("repeats", [False, True])
def test_they_also_pass_if_answers_were_lost(repeats: bool) -> None:
    source = random.Random(SEED)
    for kind in Kind:
        for entry in islice(entries(kind, MemoryTokenStore), 20):
            lost = set(source.sample(range(RACERS), 6))
            history = [
                call._replace(answer=None) if place in lost and call.kind != "look" else call
                for place, call in enumerate(entry.history)
            ]
            assert violation(history, entry.race.max_uses, repeats=repeats) is None


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found_in_every_history_that_shows_it(bug: str) -> None:
    """Without overlaps there is one order only, so no search can hide that a history shows the bug."""
    kind, make = BUGS[bug]
    shown = 0
    for entry in islice(entries(kind, make), 20):
        in_order = [call._replace(begun=place, ended=place) for place, call in enumerate(entry.history)]
        shows = violation(in_order, entry.race.max_uses)
        assert bool(violation(entry.history, entry.race.max_uses)) is bool(shows)
        shown += bool(shows)
    assert shown > 5


def use(begun: float, ended: float, answer: Answer, **facts: object) -> Call:
    return Call(begun, ended, "use", answer, **facts)


FIRST = use(0, 1, Granted("a", 0))


@pytest.mark.parametrize(
    ("history", "good"),
    [
        ([FIRST, use(0.5, 2, Reason.EXHAUSTED)], True),
        ([FIRST, use(0.5, 2, Granted("b", 0))], False),
        ([use(0, 1, Reason.EXHAUSTED), use(2, 3, Granted("a", 0))], False),
        ([use(0, 1, None), use(2, 3, Reason.EXHAUSTED)], True),
        ([use(0, 1, None), use(2, 3, Granted("a", 0))], True),
        ([use(0, 1, None), use(2, 3, Granted("a", 0)), use(4, 5, Granted("b", 0))], False),
        ([use(0, 1, Reason.EXHAUSTED), use(2, 3, None)], False),
        ([use(0, 1, None), Call(2, 3, "look", Held(("x",)))], True),
        ([use(0, 1, None), Call(2, 3, "look", Held(("x",))), Call(4, 5, "look", Held(()))], False),
        ([use(0, 1, None, key="k"), use(2, 3, Granted("a", 0, True), key="k")], True),
        ([use(0, 1, None, key="k"), use(2, 3, Granted("a", 0, True), key="other")], False),
        ([use(0, 1, None), use(0, 1, None, key="k"), use(2, 3, Granted("a", 0, True), key="k")], True),
        ([use(0, 1, None, late=True), use(2, 3, Reason.EXHAUSTED)], False),
        ([use(0, 1, Granted("a", 0), late=None)], True),
        ([use(0, 1, Reason.EXPIRED, late=None), use(2, 3, Reason.EXPIRED, late=True)], True),
        ([Call(0, 1, "revoke", None), use(2, 3, Granted("a", 0)), use(4, 5, Reason.REVOKED)], True),
        ([Call(0, 1, "revoke", None), use(2, 3, Reason.REVOKED), use(4, 5, Granted("a", 0))], False),
    ],
)
def test_a_lost_answer_may_take_effect_at_any_time_from_its_begin(history: list[Call], good: bool) -> None:
    assert (violation(history, 1) is None) is good


WRONG_USER = [use(place, place + 0.5, Reason.USER, against=Reason.USER) for place in range(3)]


def test_a_mismatch_that_was_repeated_to_the_store_may_count_twice() -> None:
    history = [*WRONG_USER, use(8, 9, Reason.LOCKED)]
    assert violation(history, 1, repeats=True) is None
    assert violation(history, 1, repeats=False) is not None


def test_a_refusal_that_spends_is_found_although_the_token_was_revoked() -> None:
    history = [Call(0, 5, "revoke", True), use(1, 2, Reason.REVOKED), Call(6, 7, "look", Held(("x",), 0, True))]
    assert violation(history, 1, repeats=True) is not None


def test_a_mismatch_that_was_answered_counts_once_at_least() -> None:
    for seen in (2, 3):
        history = [*WRONG_USER, Call(8, 9, "look", Held((), seen))]
        assert (violation(history, 1, repeats=True) is None) is (seen == 3)


def test_what_is_returned_names_the_point_that_no_order_passes() -> None:
    why = violation([FIRST, use(2, 3, Granted("b", 0))], 1)
    assert why is not None
    assert "with claims ('a',)" in why
    assert "not token_exhausted" in why
