"""The checker, on histories that are written by hand; the service makes its own in tests/faults/test_races.py."""

from __future__ import annotations

import pytest

from chalicelib.tokens import Reason
from tests.support.histories import Answer, Call, Granted, Held
from tests.support.linearizability import violation


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
        ([use(0, 1, None, key="k"), use(2, 3, Granted("a", 0)), use(4, 5, Reason.EXHAUSTED, key="k")], True),
        ([use(0, 1, None, key="k"), use(2, 3, Reason.EXHAUSTED, key="k")], False),
        ([use(0, 1, None, late=True), use(2, 3, Reason.EXHAUSTED)], False),
        ([use(0, 1, Granted("a", 0), late=None)], True),
        ([use(0, 1, Reason.EXPIRED, late=None), use(2, 3, Reason.EXPIRED, late=True)], True),
        ([Call(0, 1, "revoke", None), use(2, 3, Granted("a", 0)), use(4, 5, Reason.REVOKED)], True),
        ([Call(0, 1, "revoke", None), use(2, 3, Reason.REVOKED), use(4, 5, Granted("a", 0))], False),
    ],
)
def test_a_lost_answer_may_take_effect_at_any_time_from_its_begin(history: list[Call], good: bool) -> None:
    assert (violation(history, 1) is None) is good


def test_of_many_keys_whose_answers_were_lost_those_that_are_repeated_got_the_uses() -> None:
    lost = [use(0, 1, None, key=f"key {number}") for number in range(20)]
    granted = {19: 0, 3: 1, 11: 2, 7: 3, 15: 4}
    again = [
        use(2 + number, 2.5 + number, Granted(f"use {number}", granted[number], True), key=f"key {number}")
        if number in granted
        else use(2 + number, 2.5 + number, Reason.EXHAUSTED, key=f"key {number}")
        for number in range(20)
    ]
    assert violation([*lost, *again], 5) is None
    assert violation([*lost, *again[1:], use(30, 31, Granted("use 0", 0, True), key="key 0")], 5) is not None


WRONG_USER = [use(place, place + 0.5, Reason.USER, against=Reason.USER) for place in range(6)]
FIRST_OF_TWO, SECOND_OF_TWO = use(0, 1, Granted("a", 1), key="k"), use(2, 3, Granted("b", 0))
REVOKED = Call(0, 1, "revoke", True)


def look(*claims: str, mismatches: int = 0, revoked: bool = False) -> Call:
    return Call(8, 9, "look", Held(claims, mismatches, revoked))


BUGS: dict[str, list[Call]] = {
    # Of a token with two uses.
    "two callers spend the same use": [FIRST_OF_TWO, use(2, 3, Granted("b", 1))],
    "a claim overwrites another": [FIRST_OF_TWO, SECOND_OF_TWO, look("b")],
    "a claim overwrites a revocation": [Call(0, 2, "revoke", True), use(0, 3, Granted("a", 1)), look("a")],
    "the last use is refused": [FIRST_OF_TWO, use(2, 3, Reason.EXHAUSTED)],
    "a read is stale": [FIRST_OF_TWO, look()],
    "claims are in another order": [FIRST_OF_TWO, SECOND_OF_TWO, look("b", "a")],
    "a use after the revocation": [REVOKED, SECOND_OF_TWO],
    "the revocation is lost": [REVOKED, look()],
    "a use after the lock": [*WRONG_USER[:5], use(6, 7, Granted("a", 1))],
    "the sixth mismatch locks": WRONG_USER,
    "mismatches are not counted": [*WRONG_USER[:1], look()],
    "mismatches count twice": [*WRONG_USER[:1], look(mismatches=2)],
    "a refusal spends a use": [*WRONG_USER[:1], look("x", mismatches=1)],
    "a use after the expiry": [use(0, 1, Granted("a", 1), late=True)],
    "a key is forgotten": [FIRST_OF_TWO, use(2, 3, Granted("b", 0), key="k")],
    "a replay has the uses left now": [FIRST_OF_TWO, SECOND_OF_TWO, use(4, 5, Granted("a", 0, True), key="k")],
    "a replay is reported as new": [FIRST_OF_TWO, use(2, 3, Granted("a", 1), key="k")],
}


@pytest.mark.parametrize("history", BUGS.values(), ids=BUGS)
def test_each_bug_that_an_answer_can_show_is_found(history: list[Call]) -> None:
    assert violation(history, 2) is not None


def test_a_history_with_everything_in_order_passes() -> None:
    replay = use(4, 5, Granted("a", 1, True), key="k")
    wrong = [use(5 + place / 10, 5.5, Reason.USER, against=Reason.USER) for place in range(4)]
    history = [FIRST_OF_TWO, SECOND_OF_TWO, replay, *wrong, Call(6, 7, "revoke", True)]
    assert violation([*history, look("a", "b", mismatches=4, revoked=True)], 2) is None


def test_a_mismatch_that_was_repeated_to_the_store_may_count_twice() -> None:
    history = [*WRONG_USER[:3], use(8, 9, Reason.LOCKED)]
    assert violation(history, 1, repeats=True) is None
    assert violation(history, 1, repeats=False) is not None


def test_a_refusal_that_spends_is_found_although_the_token_was_revoked() -> None:
    history = [Call(0, 5, "revoke", True), use(1, 2, Reason.REVOKED), Call(6, 7, "look", Held(("x",), 0, True))]
    assert violation(history, 1, repeats=True) is not None


def test_a_mismatch_that_was_answered_counts_once_at_least() -> None:
    for seen in (2, 3):
        history = [*WRONG_USER[:3], look(mismatches=seen)]
        assert (violation(history, 1, repeats=True) is None) is (seen == 3)


def test_what_is_returned_names_the_point_that_no_order_passes() -> None:
    why = violation([FIRST, use(2, 3, Granted("b", 0))], 1)
    assert why is not None
    assert "with claims ('a',)" in why
    assert "not token_exhausted" in why
