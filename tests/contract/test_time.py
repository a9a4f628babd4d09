"""Time as it is stored: units, and the years 2038 and 2106."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib import tokens
from chalicelib.clients import Scope
from chalicelib.service import Caller, TokenService
from chalicelib.storage.model import InstantAttribute
from chalicelib.storage.token_store import TokenStore
from chalicelib.tokens import Document, Reason, Refusal, Terms, Token
from tests.support.audits import SilentAudit
from tests.support.store_engines import StoreEngine

NOW = datetime(2026, 11, 21, 12, 0, 0, 123_000, tzinfo=UTC)
TICK = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
CALLER = Caller("app", frozenset(Scope), "request")

ServiceAt = Callable[..., TokenService]


@pytest.fixture
def store(store_engine: StoreEngine) -> TokenStore:
    return store_engine.token_store()


@pytest.fixture
def service_at(store: TokenStore) -> ServiceAt:
    """The service of a machine whose clock stands at that instant."""
    return lambda now: TokenService(store, SilentAudit(), lambda: now)


def issue(service: TokenService, expires_at: datetime, **terms: Any) -> tuple[str, Token]:
    [issued] = service.issue(CALLER, [Terms(Document("node"), expires_at, **terms)])
    return issued


def use(service: TokenService, secret: str) -> str:
    """`granted`, or the code of the refusal."""
    decision = service.use(CALLER, tokens.new_use(secret, CALLER.client_id))
    return decision.reason if isinstance(decision, Refusal) else "granted"


class TestUnits:
    @pytest.mark.parametrize(
        "wrong", [1_795_262_400, 1_795_262_400_123, 1.5, "2026-11-21T12:00:00Z", NOW.replace(tzinfo=None)]
    )
    def test_a_number_or_a_time_without_an_offset_is_never_stored_as_an_instant(self, wrong: Any) -> None:
        with pytest.raises(TypeError):
            InstantAttribute().serialize(wrong)


@pytest.mark.parametrize("seconds", [2**31, 2**32], ids=["2038", "2106"])
class TestFarYears:
    """Where 31 and 32 bits of seconds end."""

    def test_a_token_lives_over_the_end_of_the_bits(
        self, service_at: ServiceAt, store: TokenStore, seconds: int
    ) -> None:
        edge = datetime.fromtimestamp(seconds, UTC)
        assert edge.year == {2**31: 2038, 2**32: 2106}[seconds]
        secret, token = issue(service_at(edge - SECOND), edge + SECOND, max_uses=2, not_before=edge - TICK)
        assert tokens.open_if_presented(store.find(token.id), tokens.new_use(secret, "app")) == token
        assert use(service_at(edge - 2 * TICK), secret) == Reason.NOT_YET_VALID
        assert use(service_at(edge - TICK), secret) == "granted"
        assert use(service_at(edge), secret) == "granted"
        assert use(service_at(edge + SECOND), secret) == Reason.EXPIRED
        found = store.find(token.id)
        assert found is not None
        assert [claim.at for claim in found.claims] == [edge - TICK, edge]
        # The index is in the order of expiries.
        assert token.id in store.find_unrevoked(node_id="node", issuer=None, now=edge)
        assert token.id not in store.find_unrevoked(node_id="node", issuer=None, now=edge + SECOND)
