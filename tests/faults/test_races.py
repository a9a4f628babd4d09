"""Seeded races on both engines, over the store and over HTTP: exactly as many uses as were granted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chalicelib.tokens import Claim, Reason
from tests.support.races import Entry, Findings, Kind, Outcome, State, Track, Way, plan
from tests.support.races_over import OverHttp, OverStore, service
from tests.support.store_engines import StoreEngine

SEED = 9  # its first twenty races are of every kind
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def races(way: Way, count: int) -> Findings:
    findings = Findings()
    with Track(way) as track:
        track.run(way.issue([plan(number, SEED) for number in range(count)]), findings)
    assert set(findings.kinds) == set(Kind)
    assert findings.tokens == count
    return findings


def test_over_the_store_every_race_grants_exactly_the_possible_uses(store_engine: StoreEngine) -> None:
    way = OverStore(store_engine)
    findings = races(way, 60)
    assert (findings.wrong, findings.false_refusals, dict(way.failures)) == ([], [], {})
    assert findings.cut_short.total() > 0, "the races must be disturbed before all uses are spent"


def test_over_http_every_race_grants_exactly_the_possible_uses(store_engine: StoreEngine, tmp_path: Path) -> None:
    """Some callers may get no answer within the service's own time-outs, on a machine with much else to do."""
    with service(store_engine, tmp_path / "service.log") as url, closing(OverHttp(store_engine, url)) as way:
        findings = races(way, 20)
    assert (findings.wrong, findings.false_refusals) == ([], [])


class TestFindings:
    """That the judge sees what it is there to see."""

    def judge(
        self, kind: Kind, outcomes: list[Outcome], claims: list[str], after: Reason = Reason.EXHAUSTED, late: int = 0
    ) -> Findings:
        race = replace(
            plan(0, 0, len(outcomes)),
            kind=kind,
            max_uses=2,
            keys=("key", "key", *(None for _ in outcomes[2:])),
            late=frozenset(range(late)),
        )
        entry = Entry(race, "", "", NOW + timedelta(seconds=1))
        state = State(tuple(Claim(each, "", NOW, "racer") for each in claims), 0, kind is Kind.REVOKED)
        findings = Findings()
        findings.add(entry, outcomes, Outcome(reason=after), state, own_clocks=True)
        return findings

    GOOD = (
        Outcome("a", None, False, 1),
        Outcome("a", None, True, 1),
        Outcome("b", None, False, 0),
        Outcome(None, Reason.EXHAUSTED),
    )

    def test_a_good_race_is_good(self) -> None:
        findings = self.judge(Kind.PLAIN, [*self.GOOD], ["a", "b"])
        assert findings.good
        assert (findings.granted, findings.replayed, dict(findings.refused)) == (2, 1, {Reason.EXHAUSTED: 1})

    @pytest.mark.parametrize(
        ("change", "claims", "word"),
        [
            (lambda good: good, ["a", "b", "c"], "3 claims"),
            (lambda good: good, ["a"], "1 claims where 2"),
            (lambda good: good, ["a", "c"], "a success without a claim"),
            (lambda good: [*good[:2], good[3], good[3]], ["a", "b"], "a claim that no answer reported"),
            (lambda good: [good[0], good[0], *good[2:]], ["a", "b"], "reported as a new use to two"),
            (lambda good: [good[1], good[1], *good[2:]], ["a", "b"], "reported as a replay only"),
            (lambda good: good, ["b", "a"], "wrong number of uses left"),
        ],
    )
    def test_a_wrong_allowance_is_seen(
        self, change: Callable[[list[Outcome]], list[Outcome]], claims: list[str], word: str
    ) -> None:
        assert word in "\n".join(self.judge(Kind.PLAIN, change([*self.GOOD]), claims).wrong)

    def test_a_caller_without_an_answer_may_or_may_not_have_spent_a_use(self) -> None:
        outcomes = [*self.GOOD[:2], Outcome(), self.GOOD[3]]
        assert self.judge(Kind.PLAIN, outcomes, ["a", "b"]).good
        assert not self.judge(Kind.PLAIN, outcomes, ["a", "b", "c"]).good

    @pytest.mark.parametrize(
        ("kind", "reason", "after", "word"),
        [
            (Kind.PLAIN, Reason.REVOKED, Reason.EXHAUSTED, "refused with token_revoked"),
            (Kind.PLAIN, Reason.EXHAUSTED, Reason.EXPIRED, "token_expired after the race"),
            (Kind.REVOKED, Reason.REVOKED, Reason.EXHAUSTED, "after the race, not token_revoked"),
            (Kind.LOCKED, Reason.LOCKED, Reason.LOCKED, "0 mismatches counted"),
        ],
    )
    def test_a_false_refusal_is_seen(self, kind: Kind, reason: Reason, after: Reason, word: str) -> None:
        outcomes = [*self.GOOD[:3], Outcome(None, reason)]
        assert word in "\n".join(self.judge(kind, outcomes, ["a", "b"], after).false_refusals)

    def test_a_granted_key_that_gets_exhausted_is_detected(self) -> None:
        outcomes = [self.GOOD[0], self.GOOD[3], *self.GOOD[2:]]
        assert "its key" in "\n".join(self.judge(Kind.PLAIN, outcomes, ["a", "b"]).false_refusals)

    def test_a_claim_after_the_expiry_is_seen(self) -> None:
        findings = self.judge(Kind.EXPIRING, [*self.GOOD], ["a", "b"], Reason.EXPIRED, late=3)
        assert any("where 1 were to be had" in each for each in findings.wrong)
