"""`decide()`, the rules in Python, against the conditional write that says the same to DynamoDB; on both engines."""

from __future__ import annotations

from collections import Counter

from hypothesis import given

from chalicelib import tokens
from chalicelib.tokens import Reason, Refusal
from tests.support.store_engines import StoreEngine
from tests.support.token_model import profile
from tests.support.write_model import Situation, compare, situations

EXAMPLES = 120


def test_the_write_is_done_exactly_where_the_rules_grant_a_new_use(store_engine: StoreEngine) -> None:
    assert compare(store_engine.token_store(), EXAMPLES) >= EXAMPLES


def test_the_situations_are_of_every_kind() -> None:
    """Without an engine: a generator that never makes a kind of refusal would check nothing of it."""
    seen = Counter[str]()

    @given(situations())
    @profile(500)
    def each(at: Situation) -> None:
        decision = tokens.decide(at.token, at.use, at.now, at.issued_after)
        seen[decision.reason if isinstance(decision, Refusal) else f"own: {decision.claim is not None}"] += 1

    each()
    # An unknown token has no state; the store's contract has a test of its own for it.
    assert set(seen) == {"own: False", "own: True", *Reason} - {Reason.NOT_FOUND}
