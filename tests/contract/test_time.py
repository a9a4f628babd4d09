"""Time as it is stored: units, and the years 2038 and 2106."""

from __future__ import annotations

import time
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
    def test_every_instant_is_stored_in_seconds(self, service_at: ServiceAt, store_engine: StoreEngine) -> None:
        """A thousandfold number would be an instant in the year 58,000, and the token would never expire."""
        secret, token = issue(service_at(NOW), NOW + MINUTE, not_before=NOW - SECOND)
        use(service_at(NOW), secret)
        service_at(NOW).use(CALLER, tokens.new_use(secret, "app", action=tokens.Action.EDIT))
        service_at(NOW + SECOND).revoke(CALLER, token.id)
        item = store_engine.dynamodb().get_item(TableName=store_engine.token_table, Key={"id": {"S": token.id}})["Item"]
        numbers = {name: float(value["N"]) for name, value in item.items() if "N" in value}
        counts = {"max_uses", "mismatches"}
        assert numbers.keys() - counts == {
            "issued_at", "expires_at", "not_before", "last_mismatch_at", "revoked_at", "purge_at",
        }  # fmt: skip
        [claim] = item["claims"]["M"].values()
        numbers["at"] = float(claim["M"]["at"]["N"])
        now = NOW.timestamp()
        assert all(now - 1 <= numbers[name] <= now + 61 for name in numbers.keys() - counts - {"purge_at"})
        assert numbers["purge_at"] == pytest.approx(now + 60 + 7 * 86_400, abs=1)

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

    def test_the_index_is_in_the_order_of_time_over_the_end_of_the_bits(
        self, service_at: ServiceAt, store: TokenStore, seconds: int
    ) -> None:
        edge = datetime.fromtimestamp(seconds, UTC)
        node = f"node-of-{edge.year}-{time.monotonic_ns()}"
        service = service_at(edge - MINUTE)
        expiries = [edge - SECOND, edge, edge + SECOND]
        issued = service.issue(CALLER, [Terms(Document(node), each) for each in expiries])
        ids = [token.id for _, token in issued]
        assert list(store.find_unrevoked(node_id=node, issuer=None, now=edge - MINUTE)) == ids
        assert list(store.find_unrevoked(node_id=node, issuer=None, now=edge)) == ids[2:]

    def test_the_item_has_its_time_of_deletion(
        self, service_at: ServiceAt, store_engine: StoreEngine, seconds: int
    ) -> None:
        edge = datetime.fromtimestamp(seconds, UTC)
        _, token = issue(service_at(edge), edge + SECOND)
        item = store_engine.dynamodb().get_item(TableName=store_engine.token_table, Key={"id": {"S": token.id}})["Item"]
        assert item["purge_at"] == {"N": str(seconds + 1 + 7 * 86_400)}
