"""The restore drill of docs/restore.md: back up, spend, restore, set TOKENS_ISSUED_AFTER; no spent token lives."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from chalicelib import tokens
from chalicelib.clients import Scope
from chalicelib.service import Caller, TokenService
from chalicelib.settings import Settings
from chalicelib.storage.model import bind
from chalicelib.storage.token_item import TokenItem
from chalicelib.tokens import Document, Reason, Refusal, Terms, Use
from tests.support.audits import SilentAudit
from tests.support.store_engines import StoreEngine
from tokenctl import restore
from tokenctl.restore import Copy

ISSUED_AT = datetime(2026, 11, 21, 12, 0, 0, 123_000, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LIFETIME = timedelta(hours=12)
RESTORED_AT = ISSUED_AT + 30 * MINUTE
CALLER = Caller("app", frozenset(Scope), "request")
KEY = "a-key"


def copied(engine: StoreEngine) -> StoreEngine:
    """Every item as it is now, in a table of its own: the backup, restored."""
    dynamodb, restored = engine.dynamodb(), a_table_of(engine)
    for page in dynamodb.get_paginator("scan").paginate(TableName=engine.token_table, ConsistentRead=True):
        for item in page["Items"]:
            dynamodb.put_item(TableName=restored.token_table, Item=item)
    return restored


def a_table_of(engine: StoreEngine) -> StoreEngine:
    """The same engine with an empty table of tokens."""
    named = replace(engine, token_table=f"drill-{secrets.token_hex(4)}-tokens")
    model = bind(TokenItem, named.token_table)
    named._bind(model)
    model.create_table(wait=True, billing_mode="PAY_PER_REQUEST")
    return named


def service(engine: StoreEngine, now: datetime, issued_after: str | None = None) -> TokenService:
    """The service on that table, with the setting as an operator writes it."""
    environ = {"STAGE": "dev"} | ({} if issued_after is None else {"TOKENS_ISSUED_AFTER": issued_after})
    return TokenService(
        engine.token_store(), SilentAudit(), lambda: now, Settings.from_environ(environ).tokens_issued_after
    )


def use_of(secret: str, key: str | None = None, user: str = "alice") -> Use:
    return tokens.new_use(secret, CALLER.client_id, user=user, idempotency_key=key)


def reported(decision: Any) -> str:
    return decision.reason if isinstance(decision, Refusal) else "replayed" if decision.replayed else "granted"


class Drill:
    """Tokens of every fate: issued before the backup, and spent, revoked or locked after it."""

    FATES = ("spent", "half spent", "revoked", "locked", "untouched")

    def __init__(self, table: StoreEngine) -> None:
        self.table = table
        before = service(table, ISSUED_AT)
        terms = Terms(Document("node"), ISSUED_AT + LIFETIME, max_uses=2, user="alice")
        issued = before.issue(CALLER, [structs.replace(terms, max_uses=1), terms, terms, terms, terms])
        self.secrets = dict(zip(self.FATES, (secret for secret, _ in issued), strict=True))
        self.ids = dict(zip(self.FATES, (token.id for _, token in issued), strict=True))
        self.restored = copied(table)

    def go_on(self) -> str:
        """What happens after the backup; returns a token that was issued then."""
        after = service(self.table, ISSUED_AT + MINUTE)
        for fate in ("spent", "half spent"):
            assert reported(after.use(CALLER, use_of(self.secrets[fate], KEY))) == "granted"
        after.revoke(CALLER, self.ids["revoked"])
        for _ in range(5):
            after.use(CALLER, use_of(self.secrets["locked"], user="mallory"))
        [(late, _)] = after.issue(CALLER, [Terms(Document("node"), ISSUED_AT + LIFETIME)])
        return late

    def delete(self, *fates: str) -> None:
        for fate in fates:
            key = {"id": {"S": self.ids[fate]}}
            self.table.dynamodb().delete_item(TableName=self.table.token_table, Key=key)

    def copy_back(self, at: datetime = RESTORED_AT, after: datetime | None = None, **options: Any) -> Counter[str]:
        """`tokenctl restore`: from the restored table into the one that is in use."""
        copy = Copy(self.restored.token_table, self.table.token_table, "id", after)
        return restore.run(copy, self.table.dynamodb(), at, **options)


@pytest.fixture
def drill(store_engine: StoreEngine) -> Drill:
    return Drill(a_table_of(store_engine))


def test_after_a_restore_no_spent_token_lives(drill: Drill) -> None:
    late = drill.go_on()

    naive = service(drill.restored, RESTORED_AT)
    again = {reported(naive.introspect(CALLER, use_of(secret))) for secret in drill.secrets.values()}
    assert again == {"granted"}, "without the setting, what was spent is good again: that is what the drill is for"

    good = service(drill.restored, RESTORED_AT + MINUTE, issued_after=RESTORED_AT.isoformat())
    for fate, secret in drill.secrets.items():
        for key in (None, KEY, "another-key"):
            assert reported(good.introspect(CALLER, use_of(secret, key))) == Reason.REVOKED, fate
            assert reported(good.use(CALLER, use_of(secret, key))) == Reason.REVOKED, fate
        status = good.status(CALLER, drill.ids[fate])
        assert good.counts_as_revoked(status)
        assert (status.claims, status.mismatches) == ((), 0), "nothing was spent or counted by trying"
    assert reported(good.use(CALLER, use_of(late))) == Reason.NOT_FOUND
    [(fresh, _)] = good.issue(CALLER, [Terms(Document("node"), RESTORED_AT + LIFETIME)])
    assert [reported(good.use(CALLER, use_of(fresh))) for _ in range(2)] == ["granted", Reason.EXHAUSTED]


class TestCopyingBack:
    """Into a damaged table that is still there."""

    def test_what_is_missing_comes_back_and_nothing_that_happened_since_is_undone(self, drill: Drill) -> None:
        late = drill.go_on()
        drill.delete("spent", "untouched")
        store = drill.table.token_store()
        before = {fate: store.find(drill.ids[fate]) for fate in ("half spent", "revoked", "locked")}
        planned = drill.copy_back(dry_run=True)
        assert store.find(drill.ids["spent"]) is None, "a dry run writes nothing"
        done = drill.copy_back()
        assert done == planned == Counter(copied=2, there=3, usable=2)
        assert {fate: store.find(drill.ids[fate]) for fate in before} == before
        open_again = service(drill.table, RESTORED_AT)
        assert reported(open_again.introspect(CALLER, use_of(drill.secrets["spent"]))) == "granted", "hence the setting"
        good = service(drill.table, RESTORED_AT + MINUTE, issued_after=RESTORED_AT.isoformat())
        for secret in (*drill.secrets.values(), late):
            assert reported(good.use(CALLER, use_of(secret))) == Reason.REVOKED
        assert drill.copy_back() == Counter(there=5)

    def test_a_token_that_the_setting_refuses_is_not_counted_as_usable(self, drill: Drill) -> None:
        for after, usable in ((ISSUED_AT, 5), (ISSUED_AT + timedelta(milliseconds=1), 0)):
            drill.delete(*drill.FATES)
            assert drill.copy_back(after=after)["usable"] == usable

    def test_an_interrupted_copy_continues_with_the_missing_items(self, drill: Drill) -> None:
        drill.delete(*drill.FATES)
        steps = iter(range(2))

        def cut_off() -> None:
            if next(steps, None) is None:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            drill.copy_back(advance=cut_off)
        done = drill.copy_back()
        assert done["copied"] + done["there"] == 5
        assert done["there"] >= 2
        assert {token.id for token in drill.table.token_store().all()} == set(drill.ids.values())

    def test_an_item_that_dynamodb_would_delete_is_left_out(self, drill: Drill) -> None:
        drill.delete(*drill.FATES)
        long_after = ISSUED_AT + LIFETIME + tokens.KEPT_AFTER_EXPIRY + timedelta(seconds=1)
        assert drill.copy_back(long_after) == Counter(expired=5)
        kept = drill.copy_back(long_after - MINUTE)
        assert (kept["copied"], kept["usable"]) == (5, 0), "expired tokens can't be used"
