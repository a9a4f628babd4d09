"""Tokens and uses in every situation: `decide()` against the conditional write that says the same to DynamoDB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st
from msgspec.structs import replace

from chalicelib import addresses, tokens
from chalicelib.storage.token_item import to_item
from chalicelib.storage.token_store import TokenStore
from chalicelib.tokens import Action, Document, Grant, Terms, Token, Use
from tests.support.token_model import ADDRESSES, KEYS, NETWORKS, SECOND, START, TICK, WINDOW, profile, some


@dataclass(frozen=True)
class Situation:
    """A token in some state, a use of it, and when."""

    token: Token
    use: Use
    now: datetime
    issued_after: datetime | None


FLAWS: dict[str, Any] = {
    # What is put in the way of a use that has nothing else against it: changes of the terms, of the use, of the rest.
    "nothing": ({}, {}, {}),
    "a tick before the expiry": ({"expires_at": START + TICK}, {}, {}),
    "expired": ({"expires_at": START}, {}, {}),
    "early": ({"not_before": START + TICK}, {}, {}),
    "not early": ({"not_before": START}, {}, {}),
    "another audience": ({"audience": frozenset({"other"})}, {}, {}),
    "its audience": ({"audience": frozenset({"app"})}, {}, {}),
    "another user": ({"user": "alice"}, {"user": "bob"}, {}),
    "no user": ({"user": "alice"}, {}, {}),
    "its user": ({"user": "alice"}, {"user": "alice"}, {}),
    "its user, stored as it was spelled": ({"user": "Ju\u0308rgen"}, {"user": "Jürgen"}, {}),
    "another address": ({"networks": frozenset(NETWORKS[:1])}, {"address": ADDRESSES[2]}, {}),
    "no address": ({"networks": frozenset(NETWORKS[:1])}, {}, {}),
    "its address": ({"networks": frozenset(NETWORKS[:1])}, {"address": ADDRESSES[0]}, {}),
    "another action": ({"actions": frozenset({Action.EDIT})}, {"action": Action.PREVIEW}, {}),
    "its action": ({"actions": frozenset({Action.EDIT})}, {"action": Action.EDIT}, {}),
    "revoked": ({}, {}, {"revoked_at": START}),
    "locked": ({}, {}, {"mismatches": 5}),
    "nearly locked": ({}, {}, {"mismatches": 4}),
    "from before the watermark": ({}, {}, {"issued_after": START + TICK}),
    "from after the watermark": ({}, {}, {"issued_after": START}),
    "used up": ({}, {}, {"used": 2}),
    "nearly used up": ({}, {}, {"used": 1}),
}


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """One or two flaws, of a token and a use that otherwise fit; and often the use's own claim in the token."""
    flaws = [FLAWS[name] for name in draw(st.lists(st.sampled_from([*FLAWS]), min_size=1, max_size=2, unique=True))]
    terms, facts, rest = (
        {name: value for each in column for name, value in each.items()} for column in zip(*flaws, strict=True)
    )
    all_terms = {"document": Document("node"), "expires_at": START + 60 * SECOND, "max_uses": 2, **terms}
    secret, token = tokens.new_token("issuer", Terms(**all_terms), START)
    use = tokens.new_use(secret, "app", idempotency_key=draw(some(st.sampled_from(KEYS))), **facts)
    made = [tokens.new_use(secret, "other").claim(START) for _ in range(rest.pop("used", 0))]
    if made and draw(st.booleans()):
        attempt = draw(st.sampled_from((use.attempt, "of-another-request")))
        at = START - draw(st.sampled_from((0, 1))) * WINDOW
        made[-1] = replace(use.claim(at), attempt=attempt, user=draw(st.sampled_from((use.user, "carol"))))
    after = rest.pop("issued_after", None)
    return Situation(replace(token, claims=tuple(made), **rest), use, START, after)


@contextmanager
def stored(store: TokenStore, token: Token) -> Iterator[None]:
    """The token in the store in whatever state it is; `add()` stores only fresh ones."""
    item = store._model.from_raw_data(to_item(token, None))
    item.save()
    yield
    item.delete()


def check(store: TokenStore, at: Situation) -> None:
    """The write is done exactly if the rules grant a new use."""
    expected = tokens.decide(at.token, at.use, at.now, at.issued_after)
    is_new = isinstance(expected, Grant) and expected.claim is None
    event("new" if is_new else getattr(expected, "reason", "own claim"))
    with stored(store, at.token):
        assert store.find(at.token.id) == at.token
        networks = at.token.terms.networks
        judged = at.token if not networks or addresses.matches(at.use.address, networks) else None
        after = store.claim(at.use, at.now, at.issued_after, judged)
        assert store.find(at.token.id) == after
    if is_new:
        assert after == replace(at.token, claims=(*at.token.claims, at.use.claim(at.now)))
    else:
        assert after == at.token, "nothing may be written"
        assert tokens.decide(after, at.use, at.now, at.issued_after) == expected


def compare(store: TokenStore, examples: int) -> int:
    """Check generated situations; returns how many."""
    ran = 0

    @given(situations())
    @profile(examples)
    def each(at: Situation) -> None:
        nonlocal ran
        ran += 1
        check(store, at)

    each()
    return ran
