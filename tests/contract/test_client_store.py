"""Clients, in memory and on both engines: nothing that two operators do at once is lost."""

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
from tests.support.memory_store import AnyClientStore, Memory
from tests.support.store_engines import StoreEngine

NOW = datetime(2026, 11, 21, 12, 0, 0, 123000, tzinfo=UTC)


@pytest.fixture
def client_store(stores: Memory | StoreEngine) -> AnyClientStore:
    return stores.client_store()


@pytest.fixture
def on_dynamodb(store_engine: StoreEngine) -> ClientStore:
    return store_engine.client_store()


def a_client(name: str) -> Client:
    _, first = clients.new_secret(NOW)
    _, second = clients.new_secret(NOW)
    secrets = (first, second._replace(expires_at=NOW + timedelta(hours=1)))
    return Client(name, frozenset({Scope.USE, Scope.ISSUE}), secrets, NOW)


def test_clients_come_back_as_they_went_in_and_are_listed_by_name(client_store: AnyClientStore) -> None:
    known = {name: a_client(name) for name in (f"{letter}-store" for letter in "dacbe")}
    assert all(map(client_store.add, known.values()))
    assert {name: client_store.find(name) for name in known} == known
    assert client_store.find("store-nobody") is None
    listed = {client.id: client for client in client_store.all()}
    assert list(listed) == sorted(listed)
    assert listed.items() >= known.items()


def test_a_second_client_with_the_same_name_is_not_added(client_store: AnyClientStore) -> None:
    known = a_client("store-2")
    assert client_store.add(known)
    assert not client_store.add(a_client("store-2"))
    assert client_store.find("store-2") == known
    assert client_store.add(known), "the SDK repeats a request whose answer was lost"


def test_a_change_is_stored_and_does_not_create_a_missing_client(client_store: AnyClientStore) -> None:
    client_store.add(a_client("store-3"))
    changed = client_store.change("store-3", lambda known: known._replace(disabled_at=NOW))
    assert changed is not None
    assert changed.disabled_at == NOW
    assert client_store.find("store-3") == changed
    assert client_store.change("store-nobody", lambda known: known) is None
    assert client_store.find("store-nobody") is None


def test_scopes_of_a_later_version_are_kept_and_open_nothing(on_dynamodb: ClientStore) -> None:
    """During a canary, or after a rollback, two versions read the same client."""
    known = a_client("store-9")
    on_dynamodb.add(known)
    item = on_dynamodb._model.get("store-9")
    item.scopes = {"use", "issue", "teleport"}
    item.save()
    assert on_dynamodb.find("store-9") == known
    assert known in on_dynamodb.all()
    on_dynamodb.change("store-9", lambda now_known: now_known._replace(disabled_at=NOW))
    assert on_dynamodb._model.get("store-9").scopes == {"use", "issue", "teleport"}
    on_dynamodb.change("store-9", lambda now_known: now_known._replace(scopes=frozenset({Scope.MANAGE})))
    assert on_dynamodb._model.get("store-9").scopes == {"manage"}


def test_a_client_is_deleted_if_it_is_still_as_given(client_store: AnyClientStore) -> None:
    known = a_client("store-6")
    client_store.add(known)
    client_store.change("store-6", lambda now_known: now_known._replace(disabled_at=NOW))
    assert not client_store.delete(known)
    changed = client_store.find("store-6")
    assert changed == known._replace(disabled_at=NOW)
    assert client_store.delete(changed)
    assert client_store.find("store-6") is None
    assert client_store.delete(changed), "nobody has that id, which is what was wanted"


def test_a_client_that_changes_while_it_is_deleted_stays_and_a_deletion_may_be_repeated(
    on_dynamodb: ClientStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = a_client("store-7")
    on_dynamodb.add(known)
    delete = on_dynamodb._model.delete

    def somebody_is_faster(item: Any) -> Any:
        on_dynamodb.change("store-7", lambda now_known: now_known._replace(disabled_at=NOW))
        return delete(item)

    monkeypatch.setattr(on_dynamodb._model, "delete", somebody_is_faster)
    assert not on_dynamodb.delete(known)
    changed = on_dynamodb.find("store-7")
    assert changed == known._replace(disabled_at=NOW)
    monkeypatch.setattr(on_dynamodb._model, "delete", lambda item: (delete(item), delete(item)))
    assert on_dynamodb.delete(changed), "its first answer was lost"
    assert on_dynamodb.find("store-7") is None


def test_changes_at_the_same_time_are_all_kept(client_store: AnyClientStore) -> None:
    """Each adds a scope to what it read; with a blind write the last one would undo the others."""
    client_store.add(a_client("store-4")._replace(scopes=frozenset({Scope.USE})))
    added = set(Scope) - {Scope.USE}
    together = threading.Barrier(len(added))

    def add_scope(scope: Scope) -> None:
        met = False

        def change(known: Client) -> Client:
            nonlocal met
            if not met:
                met = True
                together.wait()
            return known._replace(scopes=known.scopes | {scope})

        client_store.change("store-4", change)

    with ThreadPoolExecutor(len(added)) as pool:
        list(pool.map(add_scope, added))
    found = client_store.find("store-4")
    assert found is not None
    assert found.scopes == frozenset(Scope)


def test_only_digests_of_secrets_are_stored(on_dynamodb: ClientStore, store_engine: StoreEngine) -> None:
    secret, kept = clients.new_secret(NOW)
    on_dynamodb.add(Client("store-5", frozenset({Scope.USE}), (kept,), NOW))
    table = on_dynamodb._model.Meta.table_name
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
    on_dynamodb: ClientStore, store_engine: StoreEngine
) -> None:
    missing = replace(store_engine, client_table="tokenservice-nowhere-clients").client_store()
    for call in (lambda: missing.find("a"), lambda: missing.add(a_client("a")), missing.all):
        with pytest.raises(StoreUnavailable):
            call()
    with pytest.raises(Exception, match="ValidationException"):
        on_dynamodb.find("")


def test_every_operation_is_measured_under_its_name(store_engine: StoreEngine) -> None:
    calls: list[str] = []
    store = store_engine.client_store(lambda name, _: calls.append(name))
    known = a_client("store-10")
    store.add(known)
    store.find(known.id)
    changed = store.change(known.id, lambda known: known._replace(disabled_at=NOW))
    assert changed is not None
    store.all()
    store.delete(changed)
    reads_and_writes = ["find_client", "change_client", "list_clients", "find_client", "delete_client"]
    assert calls == ["add_client", "find_client", *reads_and_writes]
