"""Random histories of a token: the service on a real store must behave as on the store in memory.

What a use gets there is what `decide()` says, so the two say together whether a store keeps the rules in every order.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chalicelib import addresses, tokens
from chalicelib.clients import Scope
from chalicelib.service import Caller, TokenService
from chalicelib.storage.token_store import TokenStore
from chalicelib.tokens import Action, Document, Grant, Refusal, Terms, Use
from tests.support.audits import SilentAudit
from tests.support.memory_store import MemoryTokenStore

START = datetime(2026, 11, 21, 12, 0, 0, 123_000, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TICK = timedelta(milliseconds=1)
WINDOW = timedelta(minutes=10)
STEPS = 20

CLIENTS = ("app", "other")
USERS = ("alice", "bob")
ADDRESSES = tuple(map(addresses.parse_address, ("10.0.0.1", "10.0.0.2", "192.0.2.7", "2001:db8::1")))
NETWORKS = tuple(map(addresses.parse_network, ("10.0.0.0/8", "10.0.0.1", "2001:db8::/32", "0.0.0.0/0")))
KEYS = ("k1", "k2")


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


def few(values: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    return st.just(frozenset()) | st.frozensets(st.sampled_from(values), max_size=2)


FACTS = st.fixed_dictionaries(
    {
        "client_id": st.sampled_from(CLIENTS),
        "user": some(st.sampled_from(USERS)),
        "address": some(st.sampled_from(ADDRESSES)),
        "action": some(st.sampled_from(Action)),
    }
)
TERMS = st.builds(
    lambda life, wait, **terms: Terms(
        Document("node"), START + life * SECOND, not_before=None if wait is None else START + wait * SECOND, **terms
    ),
    st.sampled_from((2, 700, 3600)),
    some(st.sampled_from((-5, 0, 0, 3))),
    max_uses=st.integers(1, 4),
    user=some(st.sampled_from(USERS)),
    networks=few(NETWORKS),
    audience=few(CLIENTS),
    actions=st.frozensets(st.sampled_from(Action), min_size=1),
)
# Mostly nothing is wrong with a use, or one thing; else nearly all uses would be refused, and tokens lock.
SPOILT = st.sampled_from((None, None, None, None, "client_id", "user", "address", "action"))


class Machine(RuleBasedStateMachine):
    """Use, introspect, revoke and let time pass, in any order; both stores must answer and hold the same."""

    store: ClassVar[TokenStore]
    examples: ClassVar[int] = 0
    compared: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1
        self.now = START
        self.memory = MemoryTokenStore()
        self.services = [TokenService(store, SilentAudit(), lambda: self.now) for store in (self.memory, self.store)]
        self.issuer = Caller("issuer", frozenset(Scope) - {Scope.ADMIN}, "request")
        self.token_id = ""
        self.last: Use | None = None
        self.keyed: list[tuple[dict[str, Any], datetime]] = []

    @initialize(terms=TERMS)
    def issue(self, terms: Terms) -> None:
        self.secret, token = tokens.new_token("issuer", terms, self.now)
        self.token_id, self.terms = token.id, terms
        for store in (self.memory, self.store):
            store.add([(self.secret, token)])

    # Few rules with a choice inside: hypothesis leaves some rules out of each example, and no example may lack uses.
    @rule(
        what=st.sampled_from(("use", "use", "use", "introspect", "repeat", "repeat", "repeat by the SDK", "probe")),
        facts=FACTS,
        spoilt=SPOILT,
        key=some(st.sampled_from(KEYS)),
        later=st.sampled_from((0 * TICK, 0 * TICK, WINDOW - TICK, WINDOW)),
        same=st.sampled_from((True, True, False)),
    )
    def ask(
        self, what: str, facts: dict[str, Any], spoilt: str | None, key: str | None, later: timedelta, *, same: bool
    ) -> None:
        if what == "repeat" and self.keyed:
            # At once, just inside the ten minutes, just after them; or for another body.
            facts, at = self.keyed[-1]
            self.now = max(self.now, at + later)
            self.use(self.use_of(facts if same else {**facts, "user": "carol"}))
        elif what == "repeat by the SDK" and self.last:
            self.use(self.last)
        elif what == "probe" and spoilt:
            # The same thing is wrong until the answer changes.
            for _ in range(6):
                self.use(self.use_of(self.fit(facts, None) | {spoilt: WRONG[spoilt]}))
        else:
            fitting = self.fit(facts, spoilt) | {"idempotency_key": key}
            use = self.use_of(fitting)
            if what == "introspect":
                self.both("introspect", use)
            elif isinstance(decision := self.use(use), Grant) and key and not decision.replayed:
                self.keyed.append((fitting, self.now))

    @precondition(lambda self: self.memory.tokens[self.token_id].claims)
    @rule(
        what=st.sampled_from(("time", "time", "time", "revoke", "not mine", "nearly expired", "expired")),
        seconds=st.sampled_from((0.001, 1, 4, 60, 599.999)),
    )
    def happen(self, what: str, seconds: float) -> None:
        match what:
            case "time":
                self.now += timedelta(milliseconds=round(seconds * 1000))
            case "revoke":
                for service in self.services:
                    assert service.revoke(self.issuer, self.token_id)
            case "not mine":
                for store in (self.memory, self.store):
                    assert store.revoke(self.token_id, "somebody-else", self.now) is not None
            case "nearly expired":
                self.now = max(self.now, self.terms.expires_at - TICK)
            case "expired":
                self.now = max(self.now, self.terms.expires_at)

    @invariant()
    def both_hold_the_same(self) -> None:
        assert self.store.find(self.token_id) == self.memory.find(self.token_id)

    def use(self, use: Use) -> Grant | Refusal:
        self.last = use
        return self.both("use", use)

    def both(self, operation: str, use: Use) -> Grant | Refusal:
        """What both services answer; it is counted by its kind."""
        caller = Caller(use.client_id, frozenset({Scope.USE, Scope.INTROSPECT}), "request")
        held = self.memory.find(self.token_id)
        expected, decision = (getattr(service, operation)(caller, use) for service in self.services)
        assert decision == expected
        if isinstance(decision, Refusal):
            kind = str(decision.reason)
        elif held and use.attempt in [claim.attempt for claim in held.claims]:
            kind = "repeated by the SDK"
        else:
            kind = "replayed" if decision.replayed else f"granted to {operation}"
        self.compared[kind] += 1
        return decision

    def fit(self, facts: dict[str, Any], spoilt: str | None) -> dict[str, Any]:
        """The same wish by somebody for whom the token is, but for what is spoilt."""
        terms = self.terms
        fitting = [each for each in ADDRESSES if any(each in network for network in terms.networks)]
        good = {
            "client_id": min(terms.audience or {facts["client_id"]}),
            "user": terms.user or facts["user"],
            "address": fitting[0] if fitting else facts["address"],
            "action": facts["action"] if facts["action"] in terms.actions else None,
        }
        return good | ({spoilt: facts[spoilt]} if spoilt else {})

    def use_of(self, facts: dict[str, Any]) -> Use:
        return tokens.new_use(self.secret, **facts)


WRONG = {
    "client_id": "stranger",
    "user": "mallory",
    "address": addresses.parse_address("203.0.113.9"),
    "action": Action.EDIT,
}


def run_machine(store: TokenStore, examples: int, number: int = 0) -> tuple[int, Counter[str]]:
    """Run the machine on a store.

    Args:
        number: the seed of the examples.

    Returns:
        How many examples there were, and how many decisions of each kind were compared.
    """
    machine = type("Machine", (Machine,), {"store": store, "examples": 0, "compared": Counter()})
    run_state_machine_as_test(seed(number)(machine), settings=profile(examples))
    return machine.examples, machine.compared


def profile(examples: int) -> settings:
    """Without a database and with a fixed seed, so that a failure comes again; nothing here is about speed."""
    return settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
