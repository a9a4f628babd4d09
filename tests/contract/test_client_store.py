"""Clients on both engines: nothing that two operators do at once is lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib import clients
from chalicelib.clients import Client, Scope
from chalicelib.errors import StoreUnavailable
from chalicelib.storage.client_store import ClientStore
from tests.support.store_engines import StoreEngine

NOW = datetime(2026, 11, 21, 12, 0, 0, 123000, tzinfo=UTC)


@pytest.fixture
def client_store(store_engine: StoreEngine) -> ClientStore:
    return store_engine.client_store()


def a_client(name: str) -> Client:
    _, first = clients.new_secret(NOW)
    _, second = clients.new_secret(NOW)
    secrets = (first, replace(second, expires_at=NOW + timedelta(hours=1)))
    return Client(name, frozenset({Scope.USE, Scope.ISSUE}), secrets, NOW)


def test_a_client_comes_back_as_it_went_in(client_store: ClientStore) -> None:
    known = a_client("store-1")
    assert client_store.add(known)
    assert client_store.find("store-1") == known
    assert client_store.find("store-nobody") is None
    assert known in client_store.all()


def test_a_second_client_with_the_same_name_is_not_added(client_store: ClientStore) -> None:
    known = a_client("store-2")
    assert client_store.add(known)
    assert not client_store.add(a_client("store-2"))
    assert client_store.find("store-2") == known
    assert client_store.add(known), "the SDK repeats a request whose answer was lost"


def test_a_change_is_stored_and_a_client_that_is_not_there_stays_away(client_store: ClientStore) -> None:
    client_store.add(a_client("store-3"))
    changed = client_store.change("store-3", lambda known: replace(known, disabled_at=NOW))
    assert changed is not None
    assert changed.disabled_at == NOW
    assert client_store.find("store-3") == changed
    assert client_store.change("store-nobody", lambda known: known) is None
    assert client_store.find("store-nobody") is None


def test_scopes_of_a_later_version_are_kept_and_open_nothing(client_store: ClientStore) -> None:
    """During a canary, or after a rollback, two versions read the same client."""
    known = a_client("store-9")
    client_store.add(known)
    item = client_store._model.get("store-9")
    item.scopes = {"use", "issue", "teleport"}
    item.save()
    assert client_store.find("store-9") == known
    assert known in client_store.all()
    client_store.change("store-9", lambda now_known: replace(now_known, disabled_at=NOW))
    assert client_store._model.get("store-9").scopes == {"use", "issue", "teleport"}
    client_store.change("store-9", lambda now_known: replace(now_known, scopes=frozenset({Scope.MANAGE})))
    assert client_store._model.get("store-9").scopes == {"manage"}


def test_a_client_is_deleted_if_it_is_still_as_given(client_store: ClientStore) -> None:
    known = a_client("store-6")
    client_store.add(known)
    client_store.change("store-6", lambda now_known: replace(now_known, disabled_at=NOW))
    assert not client_store.delete(known)
    changed = client_store.find("store-6")
    assert changed == replace(known, disabled_at=NOW)
    assert client_store.delete(changed)
    assert client_store.find("store-6") is None
    assert client_store.delete(changed), "nobody has that id, which is what was wanted"


def test_a_client_that_changes_while_it_is_deleted_stays(
    client_store: ClientStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = a_client("store-7")
    client_store.add(known)
    delete = client_store._model.delete

    def somebody_is_faster(item: Any) -> Any:
        client_store.change("store-7", lambda now_known: replace(now_known, disabled_at=NOW))
        return delete(item)

    monkeypatch.setattr(client_store._model, "delete", somebody_is_faster)
    assert not client_store.delete(known)
    assert client_store.find("store-7") == replace(known, disabled_at=NOW)


def test_a_deletion_that_is_repeated_after_a_lost_answer_is_a_deletion(
    client_store: ClientStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = a_client("store-8")
    client_store.add(known)
    delete = client_store._model.delete
    monkeypatch.setattr(client_store._model, "delete", lambda item: (delete(item), delete(item)))
    assert client_store.delete(known)
    assert client_store.find("store-8") is None


def test_changes_at_the_same_time_are_all_kept(client_store: ClientStore) -> None:
    """Each adds a scope to what it read; with a blind write the last one would undo the others."""
    client_store.add(replace(a_client("store-4"), scopes=frozenset({Scope.USE})))
    added = set(Scope) - {Scope.USE}
    together = threading.Barrier(len(added))

    def add_scope(scope: Scope) -> None:
        met = False

        def change(known: Client) -> Client:
            nonlocal met
            if not met:
                met = True
                together.wait()
            return replace(known, scopes=known.scopes | {scope})

        client_store.change("store-4", change)

    with ThreadPoolExecutor(len(added)) as pool:
        list(pool.map(add_scope, added))
    found = client_store.find("store-4")
    assert found is not None
    assert found.scopes == frozenset(Scope)


def test_only_digests_of_secrets_are_stored(client_store: ClientStore, store_engine: StoreEngine) -> None:
    secret, kept = clients.new_secret(NOW)
    client_store.add(Client("store-5", frozenset({Scope.USE}), (kept,), NOW))
    table = client_store._model.Meta.table_name
    item = store_engine.dynamodb().get_item(TableName=table, Key={"client_id": {"S": "store-5"}})["Item"]
    assert item == {
        "client_id": {"S": "store-5"},
        "scopes": {"SS": ["use"]},
        "secrets": {
            "L": [{"M": {"digest": {"S": clients.digest(secret)}, "created_at": {"N": "1795262400.123"}}}],
        },
        "created_at": {"N": "1795262400.123"},
        "version": {"N": "1"},
    }


def test_where_the_table_is_missing_the_store_is_unavailable_and_a_senseless_request_is_a_defect(
    client_store: ClientStore, store_engine: StoreEngine
) -> None:
    missing = replace(store_engine, client_table="tokenservice-nowhere-clients").client_store()
    for call in (lambda: missing.find("a"), lambda: missing.add(a_client("a")), missing.all):
        with pytest.raises(StoreUnavailable):
            call()
    with pytest.raises(Exception, match="ValidationException"):
        client_store.find("")
