"""A plain model of a token, and random histories that compare a service and its store with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from chalicelib import addresses, tokens
from chalicelib.addresses import Network
from chalicelib.clients import Scope
from chalicelib.service import Caller, TokenService
from chalicelib.tokens import Action, Document, Grant, Refusal, Terms, Use
from tests.support.audits import SilentAudit
from tests.support.memory_store import AnyTokenStore

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
COUNTED = ("user_mismatch", "ip_mismatch", "action_not_permitted")
MISMATCHES = ("audience_mismatch", *COUNTED)
STRANGER = ("stranger", "mallory", addresses.parse_address("203.0.113.9"))


@dataclass
class Spent:
    """One use in the model: what was asked, and when."""

    asked: tuple[str, str | None, Any, Action | None]
    at: datetime
    key: str | None
    use_id: str
    left: int


@dataclass
class Model:
    """A token as its contract tells it. Written anew on purpose: it shares no rule with `decide()`."""

    max_uses: int
    expires_at: datetime
    not_before: datetime | None
    user: str | None
    networks: frozenset[Network]
    audience: frozenset[str]
    actions: frozenset[Action]
    spent: list[Spent] = field(default_factory=list)
    mismatches: int = 0
    revoked: bool = False

    def judge(self, asked: tuple[str, str | None, Any, Action | None], key: str | None, now: datetime) -> Any:
        """The use that is repeated, `True` for a new one, or the code of the refusal."""
        client, user, address, action = asked
        if self.revoked:
            return "token_revoked"
        if self.mismatches == 5:
            return "token_locked"
        for spent in self.spent:
            if key is not None and spent.key == key and spent.asked[0] == client:
                return spent if spent.asked == asked and now - spent.at < WINDOW else "idempotency_key_reused"
        refusals = (
            ("token_expired", now >= self.expires_at),
            ("token_not_yet_valid", self.not_before is not None and now < self.not_before),
            ("audience_mismatch", bool(self.audience) and client not in self.audience),
            ("user_mismatch", self.user not in (None, user)),
            ("ip_mismatch", bool(self.networks) and not (address and any(address in each for each in self.networks))),
            ("action_not_permitted", action is not None and action not in self.actions),
            ("token_exhausted", len(self.spent) >= self.max_uses),
        )
        return next((code for code, holds in refusals if holds), True)


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


ASKED = st.tuples(
    st.sampled_from(CLIENTS),
    some(st.sampled_from(USERS)),
    some(st.sampled_from(ADDRESSES)),
    some(st.sampled_from(Action)),
)
TERMS = st.builds(
    lambda life, wait, **terms: Terms(
        Document("node"), START + life * SECOND, not_before=None if wait is None else START + wait * SECOND, **terms
    ),
    st.sampled_from((2, 700, 3600)),
    some(st.sampled_from((-5, 0, 0, 3))),
    max_uses=st.integers(1, 4),
    user=some(st.sampled_from(USERS)),
    networks=st.just(frozenset()) | st.frozensets(st.sampled_from(NETWORKS), max_size=2),
    audience=st.just(frozenset()) | st.frozensets(st.sampled_from(CLIENTS), max_size=2),
    actions=st.frozensets(st.sampled_from(Action), min_size=1),
)
# Mostly nothing is wrong with what is asked, or one thing; else nearly all uses would be refused, and tokens lock.
CLIENT, USER, ADDRESS, ACTION = range(4)
SPOILT = st.sampled_from((None, None, None, None, CLIENT, USER, ADDRESS, ACTION))
KEY = st.sampled_from((None, *KEYS))


class Machine(RuleBasedStateMachine):
    """Issue, use, introspect, revoke and let time pass, in any order; model and service must agree at each step."""

    store: ClassVar[AnyTokenStore]
    examples: ClassVar[int] = 0
    compared: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1
        self.now = START
        self.service = TokenService(self.store, SilentAudit(), lambda: self.now)
        self.secret = ""
        self.issuer = Caller("issuer", frozenset(Scope) - {Scope.ADMIN}, "request")
        self.last: tuple[Use, Any] | None = None

    @initialize(terms=TERMS)
    def issue(self, terms: Terms) -> None:
        [(self.secret, token)] = self.service.issue(self.issuer, [terms])
        self.token_id = token.id
        self.terms = terms
        self.model = Model(
            terms.max_uses,
            terms.expires_at,
            terms.not_before,
            terms.user,
            terms.networks,
            terms.audience,
            terms.actions,
        )

    # Few rules with a choice inside: hypothesis leaves some rules out of each example, and no example may lack uses.
    @rule(
        what=st.sampled_from(("use", "use", "introspect", "repeat", "repeat", "retry", "probe")),
        asked=ASKED,
        spoilt=SPOILT,
        key=KEY,
        place=st.integers(0, 3),
        later=st.sampled_from((0 * TICK, 0 * TICK, WINDOW - TICK, WINDOW)),
        same=st.sampled_from((True, True, False)),
    )
    def ask(self, what: str, asked: tuple[Any, ...], spoilt: int | None, key: str | None, **repeat: Any) -> None:
        keyed = [spent for spent in self.model.spent if spent.key]
        if what == "introspect":
            self.introspect(self.fit(asked, spoilt), key)
        elif what == "probe":
            self.probe(self.fit(asked, None), repeat["place"])
        elif what == "repeat" and keyed:
            self.repeat_a_key(keyed, **repeat)
        elif what == "retry" and self.last is not None:
            self.retry_of_the_sdk(*self.last)
        else:
            self.use(self.fit(asked, spoilt), key)

    @precondition(lambda self: self.model.spent)
    @rule(
        what=st.sampled_from(("time", "time", "time", "revoke", "not mine", "nearly expired", "expired")),
        seconds=st.sampled_from((0.001, 1, 4, 60, 599.999)),
    )
    def happen(self, what: str, seconds: float) -> None:
        match what:
            case "time":
                self.now += timedelta(milliseconds=round(seconds * 1000))
            case "revoke":
                assert self.service.revoke(self.issuer, self.token_id)
                self.model.revoked = True
            case "not mine":
                assert self.store.revoke(self.token_id, "somebody-else", self.now) is not None
            case "nearly expired":
                self.now = max(self.now, self.model.expires_at - TICK)
            case "expired":
                self.now = max(self.now, self.model.expires_at)

    def use(self, asked: tuple[Any, ...], key: str | None) -> Any:
        use = self.use_of(asked, key)
        expected = self.model.judge(asked, key, self.now)
        decision = self.service.use(self.caller(asked), use)
        self.compare(decision, expected)
        self.count(decision, expected, asked, key)
        self.last = (use, asked)
        return expected

    def probe(self, asked: tuple[Any, ...], place: int) -> None:
        """One thing that the token names is wrong, again and again, until the answer changes."""
        model = self.model
        wrong = (*STRANGER, next(iter(set(Action) - model.actions), None))
        named = [
            place for place, value in enumerate((model.audience, model.user, model.networks, wrong[ACTION])) if value
        ]
        if not named:
            return
        at = named[place % len(named)]
        asked = (*asked[:at], wrong[at], *asked[at + 1 :])
        first = self.use(asked, None)
        for _ in range(5):
            if first not in MISMATCHES or self.use(asked, None) != first:
                return

    def repeat_a_key(self, keyed: list[Spent], place: int, later: timedelta, same: bool) -> None:
        """Ask for a granted use again: at once, just inside the ten minutes, just after them; or for another body."""
        spent = keyed[place % len(keyed)]
        self.now = max(self.now, spent.at + later)
        client, user, address, action = spent.asked
        asked = (client, user if same else "carol", address, action)
        expected = self.model.judge(asked, spent.key, self.now)
        assert expected is not True
        self.compare(self.service.use(self.caller(asked), self.use_of(asked, spent.key)), expected)

    def retry_of_the_sdk(self, use: Use, asked: Any) -> None:
        """The very same request once more, as after a lost answer: it gets its own answer and spends nothing."""
        found = self.store.find(self.token_id)
        own = found is not None and any(claim.attempt == use.attempt for claim in found.claims)
        if own:
            decision = self.service.use(self.caller(asked), use)
            assert isinstance(decision, Grant)
            assert not decision.replayed
            assert decision.claim is not None
            [spent] = [each for each in self.model.spent if each.use_id == decision.claim.id]
            assert decision.uses_remaining == spent.left
            self.compared["repeated by the SDK"] += 1

    def introspect(self, asked: tuple[Any, ...], key: str | None) -> None:
        expected = self.model.judge(asked, key, self.now)
        before = self.store.find(self.token_id)
        decision = self.service.introspect(self.caller(asked), self.use_of(asked, key))
        if expected is True:
            self.compared["introspected as active"] += 1
            assert isinstance(decision, Grant)
            assert decision.uses_remaining == self.model.max_uses - len(self.model.spent)
        else:
            self.compare(decision, expected)
        assert self.store.find(self.token_id) == before

    def teardown(self) -> None:
        """What is stored is what the model holds, use for use."""
        if not self.secret:
            return
        token = tokens.open_if_presented(self.store.find(self.token_id), tokens.new_use(self.secret, "app"))
        assert token is not None
        assert [claim.id for claim in token.claims] == [spent.use_id for spent in self.model.spent]
        assert (token.mismatches, token.revoked_at is not None) == (self.model.mismatches, self.model.revoked)
        assert token.terms == self.terms

    def fit(self, asked: tuple[Any, ...], spoilt: int | None) -> tuple[Any, ...]:
        """The same wish by somebody for whom the token is, but for what is spoilt."""
        client, user, address, action = asked
        model = self.model
        fitting = [each for each in ADDRESSES if any(each in network for network in model.networks)]
        good = (
            client if not model.audience or client in model.audience else sorted(model.audience)[0],
            user if model.user is None else model.user,
            fitting[0] if fitting else address,
            action if action in model.actions else None,
        )
        return tuple(asked[place] if place == spoilt else good[place] for place in range(len(good)))

    def use_of(self, asked: tuple[Any, ...], key: str | None) -> Use:
        client, user, address, action = asked
        return tokens.new_use(self.secret, client, user=user, address=address, action=action, idempotency_key=key)

    def caller(self, asked: tuple[Any, ...]) -> Caller:
        return Caller(asked[0], frozenset({Scope.USE, Scope.INTROSPECT}), "request")

    def compare(self, decision: Grant | Refusal, expected: Any) -> None:
        self.compared[expected if isinstance(expected, str) else "granted" if expected is True else "replayed"] += 1
        if isinstance(expected, str):
            assert isinstance(decision, Refusal), f"granted in place of {expected}"
            assert decision.reason == expected
        elif expected is True:
            assert isinstance(decision, Grant), f"refused with {decision}"
            assert not decision.replayed
            assert decision.uses_remaining == self.model.max_uses - 1 - len(self.model.spent)
        else:
            assert isinstance(decision, Grant), f"refused with {decision}"
            assert decision.claim is not None
            assert (decision.replayed, decision.claim.id) == (True, expected.use_id)
            assert decision.uses_remaining == expected.left

    def count(self, decision: Grant | Refusal, expected: Any, asked: tuple[Any, ...], key: str | None) -> None:
        if expected is True:
            assert isinstance(decision, Grant)
            assert decision.claim is not None
            spent = Spent(asked, self.now, key, decision.claim.id, decision.uses_remaining)
            self.model.spent.append(spent)
        self.model.mismatches += expected in COUNTED


def run_machine(store: AnyTokenStore, examples: int, number: int = 0) -> tuple[int, Counter[str]]:
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
