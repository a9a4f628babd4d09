"""Time: the very instant of expiry, units, clocks that are wrong, leap seconds, and the years 2038 and 2106."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib import tokens
from chalicelib.clients import Scope
from chalicelib.service import Caller, TokenService
from chalicelib.settings import Settings, SettingsError
from chalicelib.storage.model import InstantAttribute
from chalicelib.storage.token_store import TokenStore
from chalicelib.tokens import Reason, Refusal, Terms, Token
from tests.support.api import NODE, Api, Credentials
from tests.support.races_over import Silent
from tests.support.store_engines import StoreEngine

NOW = datetime(2026, 11, 21, 12, 0, 0, 123_000, tzinfo=UTC)
TICK = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
CALLER = Caller("app", frozenset(Scope), "request")

ServiceAt = Callable[..., TokenService]


@pytest.fixture
def store(store_engine: StoreEngine) -> TokenStore:
    return store_engine.token_store()


@pytest.fixture
def service_at(store: TokenStore) -> ServiceAt:
    """The service of a machine whose clock stands at that instant."""
    return lambda now, issued_after=None: TokenService(store, Silent(), lambda: now, issued_after)


def issue(service: TokenService, expires_at: datetime, **terms: Any) -> tuple[str, Token]:
    [issued] = service.issue(CALLER, [Terms("node", expires_at, **terms)])
    return issued


def use(service: TokenService, secret: str, key: str | None = None) -> str:
    """`granted`, `replayed`, or the code of the refusal."""
    decision = service.use(CALLER, tokens.new_use(secret, CALLER.client_id, idempotency_key=key))
    if isinstance(decision, Refusal):
        return decision.reason
    return "replayed" if decision.replayed else "granted"


class TestExpiry:
    @pytest.mark.parametrize("expiry", [NOW + SECOND, (NOW + MINUTE).replace(microsecond=0), NOW + TICK])
    def test_a_token_is_refused_at_the_instant_it_expires_though_its_item_is_stored(
        self, service_at: ServiceAt, store: TokenStore, expiry: datetime
    ) -> None:
        secret, token = issue(service_at(NOW), expiry)
        for late in (0 * TICK, TICK, SECOND, 8 * DAY):  # after seven days only DynamoDB's TTL would be over
            assert use(service_at(expiry + late), secret) == Reason.EXPIRED
            assert store.find(token.id) == token
        assert use(service_at(expiry - TICK), secret) == "granted"

    def test_a_token_that_is_valid_from_an_instant_is_granted_at_that_instant(self, service_at: ServiceAt) -> None:
        secret, _ = issue(service_at(NOW), NOW + MINUTE, not_before=NOW + SECOND)
        assert use(service_at(NOW + SECOND - TICK), secret) == Reason.NOT_YET_VALID
        assert use(service_at(NOW + SECOND), secret) == "granted"


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

    @pytest.mark.parametrize("wrong", [1_795_262_400, 1_795_262_400_123, "1795262400", "1795262400123"])
    def test_an_instant_is_asked_for_as_text_with_an_offset(
        self, api: Api, client: Credentials, wrong: int | str
    ) -> None:
        for field in ("expiresAt", "notBefore"):
            answer = api.call("POST", "/token", client, {"nodeId": NODE, field: wrong})
            assert (answer.status, answer.json["errors"][0]["field"]) == (400, field)
        if isinstance(wrong, int):
            answer = api.call("POST", "/token", client, {"nodeId": NODE, "expiresIn": wrong})
            assert (answer.status, answer.json["errors"][0]["field"]) == (400, "expiresIn")
        with pytest.raises(SettingsError, match="TOKENS_ISSUED_AFTER"):
            Settings.from_environ({"STAGE": "dev", "TOKENS_ISSUED_AFTER": str(wrong)})


class TestWrongClocks:
    """Machines whose clocks differ by a day. A wrong clock may end or stretch a token's time, never its uses."""

    def test_clocks_that_disagree_grant_no_use_more(self, service_at: ServiceAt, store: TokenStore) -> None:
        secret, token = issue(service_at(NOW), NOW + 2 * DAY, max_uses=3)
        clocks = [NOW + DAY, NOW - DAY, NOW, NOW + DAY, NOW - DAY]
        outcomes = [use(service_at(now), secret) for now in clocks]
        assert outcomes == ["granted"] * 3 + [Reason.EXHAUSTED] * 2
        found = store.find(token.id)
        assert found is not None
        assert [claim.at for claim in found.claims] == clocks[:3], "in the order of the writes, not of the clocks"

    def test_a_clock_that_is_set_back_makes_no_spent_token_good(self, service_at: ServiceAt) -> None:
        secret, _ = issue(service_at(NOW), NOW + MINUTE)
        assert use(service_at(NOW), secret, "key") == "granted"
        before = service_at(NOW - DAY)
        assert use(before, secret) == Reason.EXHAUSTED
        assert use(before, secret, "key") == "replayed", "a repetition is still the same use"
        assert use(service_at(NOW + DAY), secret, "key") == Reason.KEY_REUSED

    def test_a_revocation_and_a_lock_hold_for_every_clock(self, service_at: ServiceAt) -> None:
        secret, token = issue(service_at(NOW), NOW + 2 * DAY)
        service_at(NOW + DAY).revoke(CALLER, token.id)
        locked, _ = issue(service_at(NOW), NOW + 2 * DAY, user="alice")
        for clock in (NOW, NOW + DAY, NOW - DAY, NOW, NOW):
            assert use(service_at(clock), locked) == Reason.USER
        for clock in (NOW - DAY, NOW, NOW + DAY):
            assert use(service_at(clock), secret) == Reason.REVOKED
            assert use(service_at(clock), locked) == Reason.LOCKED

    def test_the_watermark_counts_by_the_clock_that_issued(self, service_at: ServiceAt) -> None:
        """So it is set past the restore by as much as clocks may differ; docs/restore.md says so."""
        ahead, _ = issue(service_at(NOW + MINUTE), NOW + DAY)
        behind, _ = issue(service_at(NOW - MINUTE), NOW + DAY)
        restored = service_at(NOW + 2 * MINUTE, issued_after=NOW)
        assert (use(restored, ahead), use(restored, behind)) == ("granted", Reason.REVOKED)


class TestLeapSecond:
    @pytest.mark.parametrize(
        "text", ["2016-12-31T23:59:60Z", "2027-06-30T23:59:60.5+00:00", "2027-01-01T00:59:60+01:00"]
    )
    def test_the_sixtieth_second_is_refused_with_the_field(self, api: Api, client: Credentials, text: str) -> None:
        """RFC 3339 has it. Neither Python nor POSIX time does, and guessing its neighbour would move an expiry."""
        for field in ("expiresAt", "notBefore"):
            answer = api.call("POST", "/token", client, {"nodeId": NODE, field: text})
            assert (answer.status, answer.code) == (400, "invalid_request")
            [error] = answer.json["errors"]
            assert error["field"] == field
            assert "no leap second" in error["message"]

    def test_a_life_over_a_leap_second_is_counted_in_posix_seconds(self, service_at: ServiceAt) -> None:
        before = datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)
        secret, token = issue(service_at(before), before + 2 * SECOND)
        assert token.terms.expires_at == datetime(2017, 1, 1, 0, 0, 1, tzinfo=UTC)
        assert use(service_at(datetime(2017, 1, 1, 0, 0, 1, tzinfo=UTC)), secret) == Reason.EXPIRED
        assert use(service_at(datetime(2017, 1, 1, tzinfo=UTC)), secret) == "granted"


@pytest.mark.parametrize("seconds", [2**31, 2**32], ids=["2038", "2106"])
class TestFarYears:
    """Where 31 and 32 bits of seconds end."""

    def test_a_token_lives_over_the_end_of_the_bits(
        self, service_at: ServiceAt, store: TokenStore, seconds: int
    ) -> None:
        edge = datetime.fromtimestamp(seconds, UTC)
        assert edge.year == {2**31: 2038, 2**32: 2106}[seconds]
        secret, token = issue(service_at(edge - SECOND), edge + SECOND, max_uses=2, not_before=edge - TICK)
        assert store.find(token.id) == token
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
        issued = service.issue(CALLER, [Terms(node, each) for each in expiries])
        ids = [token.id for _, token in issued]
        assert list(store.find_unrevoked(node_id=node, issuer=None, now=edge - MINUTE)) == ids
        assert list(store.find_unrevoked(node_id=node, issuer=None, now=edge)) == ids[2:]

    def test_dynamodb_is_told_when_to_delete_it(
        self, service_at: ServiceAt, store_engine: StoreEngine, seconds: int
    ) -> None:
        edge = datetime.fromtimestamp(seconds, UTC)
        _, token = issue(service_at(edge), edge + SECOND)
        item = store_engine.dynamodb().get_item(TableName=store_engine.token_table, Key={"id": {"S": token.id}})["Item"]
        assert item["purge_at"] == {"N": str(seconds + 1 + 7 * 86_400)}
