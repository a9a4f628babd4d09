"""The service on each engine, against itself on the store in memory, in random histories."""

from __future__ import annotations

from collections import Counter

from chalicelib.tokens import Reason
from tests.support.store_engines import StoreEngine
from tests.support.token_model import run_machine

EXAMPLES = 30
MOST_ROUNDS = 20


def test_the_service_behaves_like_the_store_in_memory(store_engine: StoreEngine) -> None:
    grants = {"granted to use", "granted to introspect", "replayed", "repeated by the SDK"}
    usual = grants | {Reason.EXHAUSTED, Reason.KEY_REUSED, Reason.AUDIENCE, Reason.LOCKED}
    compared: Counter[str] = Counter()
    # Which kinds the first examples are of depends on the version of Python and on our sources.
    for number in range(MOST_ROUNDS):
        examples, decisions = run_machine(store_engine.token_store(), EXAMPLES, number)
        assert examples >= EXAMPLES
        compared += decisions
        if compared.keys() >= usual:
            return
    raise AssertionError(f"the examples are not of all usual kinds: {usual - compared.keys()} are missing")
