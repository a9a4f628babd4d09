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
    """The same engine with empty tables of the same kind."""
    dynamodb, marked = engine.dynamodb(), secrets.token_hex(4)
    names = {"token_table": f"drill-{marked}-tokens", "client_table": f"drill-{marked}-clients"}
    for field, name in names.items():
        table = dynamodb.describe_table(TableName=getattr(engine, field))["Table"]
        definition = {member: table[member] for member in ("KeySchema", "AttributeDefinitions")}
        if "GlobalSecondaryIndexes" in table:
            definition["GlobalSecondaryIndexes"] = [
                {member: index[member] for member in ("IndexName", "KeySchema", "Projection")}
                for index in table["GlobalSecondaryIndexes"]
            ]
        dynamodb.create_table(TableName=name, BillingMode="PAY_PER_REQUEST", **definition)
        dynamodb.get_waiter("table_exists").wait(TableName=name)
    return replace(engine, **names)


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


def test_after_a_restore_no_spent_token_lives(store_engine: StoreEngine) -> None:
    drill = Drill(a_table_of(store_engine))
    restored = copied(drill.table)
    late = drill.go_on()

    naive = service(restored, RESTORED_AT)
    assert [reported(naive.introspect(CALLER, use_of(secret))) for secret in drill.secrets.values()] == [
        "granted"
    ] * 5, "without the setting, what was spent, revoked and locked is good again: that is what the drill is for"

    good = service(restored, RESTORED_AT + MINUTE, issued_after=RESTORED_AT.isoformat())
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


def copy_back(
    drill: Drill, restored: StoreEngine, issued_after: datetime | None = None, **options: Any
) -> Counter[str]:
    """`tokenctl restore`: from the restored table into the one that is in use."""
    copy = Copy(restored.token_table, drill.table.token_table, "id", issued_after)
    return restore.run(copy, drill.table.dynamodb(), RESTORED_AT, **options)


def delete(drill: Drill, *fates: str) -> None:
    for fate in fates:
        key = {"id": {"S": drill.ids[fate]}}
        drill.table.dynamodb().delete_item(TableName=drill.table.token_table, Key=key)


class TestCopyingBack:
    """Into a damaged table that is still there."""

    def test_what_is_missing_comes_back_and_nothing_that_happened_since_is_undone(
        self, store_engine: StoreEngine
    ) -> None:
        drill = Drill(a_table_of(store_engine))
        restored = copied(drill.table)
        late = drill.go_on()
        delete(drill, "spent", "untouched")
        store = drill.table.token_store()
        before = {fate: store.find(drill.ids[fate]) for fate in ("half spent", "revoked", "locked")}
        planned = copy_back(drill, restored, dry_run=True)
        assert store.find(drill.ids["spent"]) is None, "a dry run writes nothing"
        done = copy_back(drill, restored)
        assert done == planned == Counter(copied=2, there=3, usable=2)
        assert {fate: store.find(drill.ids[fate]) for fate in before} == before
        open_again = service(drill.table, RESTORED_AT)
        assert reported(open_again.introspect(CALLER, use_of(drill.secrets["spent"]))) == "granted", "hence the setting"
        good = service(drill.table, RESTORED_AT + MINUTE, issued_after=RESTORED_AT.isoformat())
        for secret in (*drill.secrets.values(), late):
            assert reported(good.use(CALLER, use_of(secret))) == Reason.REVOKED
        assert copy_back(drill, restored) == Counter(there=5)

    def test_a_token_that_the_setting_refuses_is_not_counted_as_usable(self, store_engine: StoreEngine) -> None:
        drill = Drill(a_table_of(store_engine))
        restored = copied(drill.table)
        for after, usable in ((ISSUED_AT, 5), (ISSUED_AT + timedelta(milliseconds=1), 0)):
            delete(drill, *drill.FATES)
            assert copy_back(drill, restored, after)["usable"] == usable

    def test_an_interrupted_copy_continues_with_the_missing_items(self, store_engine: StoreEngine) -> None:
        drill = Drill(a_table_of(store_engine))
        restored = copied(drill.table)
        delete(drill, *drill.FATES)
        steps = iter(range(2))

        def cut_off() -> None:
            if next(steps, None) is None:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            copy_back(drill, restored, advance=cut_off)
        done = copy_back(drill, restored)
        assert done["copied"] + done["there"] == 5
        assert done["there"] >= 2
        assert {token.id for token in drill.table.token_store().all()} == set(drill.ids.values())

    def test_an_item_that_dynamodb_would_delete_is_left_out(self, store_engine: StoreEngine) -> None:
        drill = Drill(a_table_of(store_engine))
        restored = copied(drill.table)
        delete(drill, *drill.FATES)
        copy = Copy(restored.token_table, drill.table.token_table, "id")
        long_after = ISSUED_AT + LIFETIME + tokens.KEPT_AFTER_EXPIRY + timedelta(seconds=1)
        assert restore.run(copy, drill.table.dynamodb(), long_after) == Counter(expired=5)
        kept = restore.run(copy, drill.table.dynamodb(), long_after - MINUTE)
        assert (kept["copied"], kept["usable"]) == (5, 0), "expired tokens can't be used"
