"""The service and its store, in memory and on both engines, against a plain model of a token."""

from __future__ import annotations

from collections import Counter

from chalicelib.tokens import Reason
from tests.support.memory_store import Memory
from tests.support.store_engines import StoreEngine
from tests.support.token_model import run_machine

EXAMPLES = 30
MOST_ROUNDS = 20


def test_the_service_behaves_like_the_model(stores: Memory | StoreEngine) -> None:
    usual = {
        "granted",
        "replayed",
        "repeated by the SDK",
        "introspected as active",
        Reason.EXHAUSTED,
        Reason.KEY_REUSED,
        Reason.AUDIENCE,
        Reason.LOCKED,
    }
    compared: Counter[str] = Counter()
    # Which kinds the first examples are of depends on the version of Python and on our sources.
    for number in range(MOST_ROUNDS):
        examples, decisions = run_machine(stores.token_store(), EXAMPLES, number)
        assert examples >= EXAMPLES
        compared += decisions
        if compared.keys() >= usual:
            return
    raise AssertionError(f"the examples are not of all usual kinds: {usual - compared.keys()} are missing")
