"""Time as it is stored: aware instants only, and the years 2038 and 2106."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib import tokens
from chalicelib.clients import Scope
from chalicelib.service import Caller, TokenService
from chalicelib.storage.model import InstantAttribute
from chalicelib.tokens import Document, Reason, Refusal, Terms
from tests.support.audits import SilentAudit
from tests.support.store_engines import StoreEngine

TICK = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)
CALLER = Caller("app", frozenset(Scope), "request")


@pytest.mark.parametrize(
    "wrong",
    [1_795_262_400, 1_795_262_400_123, 1.5, "2026-11-21T12:00:00Z", datetime(2026, 11, 21)],  # noqa: DTZ001 - refused for that
)
def test_a_number_or_a_time_without_an_offset_is_never_stored_as_an_instant(wrong: Any) -> None:
    with pytest.raises(TypeError):
        InstantAttribute().serialize(wrong)


@pytest.mark.parametrize("seconds", [2**31, 2**32], ids=["2038", "2106"])
def test_a_token_lives_over_the_end_of_31_and_32_bits(store_engine: StoreEngine, seconds: int) -> None:
    store, edge = store_engine.token_store(), datetime.fromtimestamp(seconds, UTC)
    assert edge.year == {2**31: 2038, 2**32: 2106}[seconds]

    def service_at(now: datetime) -> TokenService:
        return TokenService(store, SilentAudit(), lambda: now)

    def outcome(now: datetime) -> str:
        decision = service_at(now).use(CALLER, tokens.new_use(secret, "app"))
        return decision.reason if isinstance(decision, Refusal) else "granted"

    terms = Terms(Document("node"), edge + SECOND, max_uses=2, not_before=edge - TICK)
    [(secret, token)] = service_at(edge - SECOND).issue(CALLER, [terms])
    assert tokens.open_if_presented(store.find(token.id), tokens.new_use(secret, "app")) == token
    assert outcome(edge - 2 * TICK) == Reason.NOT_YET_VALID
    assert [outcome(edge - TICK), outcome(edge)] == ["granted"] * 2
    assert outcome(edge + SECOND) == Reason.EXPIRED
    found = store.find(token.id)
    assert found is not None
    assert [claim.at for claim in found.claims] == [edge - TICK, edge]
    # The index is in the order of expiries.
    assert token.id in store.find_unrevoked(node_id="node", issuer=None, now=edge)
    assert token.id not in store.find_unrevoked(node_id="node", issuer=None, now=edge + SECOND)
