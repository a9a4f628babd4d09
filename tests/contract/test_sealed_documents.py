"""A table that is stolen names no document, on both engines."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib import tokens
from chalicelib.aws.errors import NoAnswer
from chalicelib.entry import api as entry
from chalicelib.entry import startup
from chalicelib.errors import InternalError, StoreUnavailable
from chalicelib.storage.index_keys import read_secrets
from chalicelib.storage.token_store import TokenStore
from chalicelib.tokens import Document, Sealed, Terms, Token
from tests.support.api import Api, Credentials
from tests.support.store_engines import StoreEngine
from tokenctl.deployment import Deployment

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
OLD, NEW = (b"an old secret of 32 characters..", b"a new secret of 32 characters...")


def issue(store: TokenStore, node_id: str, **metadata: str) -> tuple[str, Token]:
    terms = Terms(Document(node_id, metadata), NOW + timedelta(hours=1))
    issued = tokens.new_token("issuer", terms, NOW)
    store.add([issued])
    return issued


def item(engine: StoreEngine, token: Token) -> dict[str, Any]:
    return dict(engine.dynamodb().get_item(TableName=engine.token_table, Key={"id": {"S": token.id}})["Item"])


@pytest.fixture
def node_id() -> str:
    return f"node {uuid.uuid4()}"


@pytest.fixture
def found(store_engine: StoreEngine, node_id: str) -> Callable[..., set[str]]:
    """The ids of the node's tokens that a store with these secrets finds."""

    def found(*secrets: bytes, node: str | Sealed = node_id) -> set[str]:
        store = store_engine.token_store(index_secrets=lambda: secrets)
        return set(store.find_unrevoked(node_id=node, issuer=None, now=NOW))

    return found


def test_no_item_names_the_document_before_or_after_its_use_and_revocation(
    store_engine: StoreEngine, node_id: str
) -> None:
    store = store_engine.token_store()
    secret, token = issue(store, node_id, title=f"Title of {node_id}")
    items = [item(store_engine, token)]
    store.claim(tokens.new_use(secret, "app"), NOW, None)
    items.append(item(store_engine, token))
    store.revoke(token.id, None, NOW)
    items.append(item(store_engine, token))
    for each in items:
        assert node_id not in json.dumps(each, default=str)
        assert "itle" not in json.dumps(each, default=str)


@pytest.mark.parametrize("metadata", [{}, {"title": "Größe"}], ids=["without metadata", "with metadata"])
def test_tokens_stored_before_documents_were_sealed_go_on_working(
    store_engine: StoreEngine, node_id: str, found: Callable[..., set[str]], metadata: dict[str, str]
) -> None:
    secret, token = issue(store_engine.token_store(seals=False), node_id, **metadata)
    assert item(store_engine, token)["node_id"] == {"S": node_id}
    store = store_engine.token_store()
    claimed = store.claim(use := tokens.new_use(secret, "app"), NOW, None)
    assert claimed is not None
    assert (claimed.terms, claimed.claims) == (token.terms, (use.claim(NOW),))
    assert found() == {token.id}


def test_an_altered_seal_is_not_opened(store_engine: StoreEngine, node_id: str) -> None:
    store = store_engine.token_store()
    (secret, token), (_, other) = issue(store, node_id), issue(store, "another node")
    mixed = {**item(store_engine, token), "sealed": item(store_engine, other)["sealed"]}
    store_engine.dynamodb().put_item(TableName=store_engine.token_table, Item=mixed)
    with pytest.raises(InternalError):
        tokens.open_if_presented(store.find(token.id), tokens.new_use(secret, "app"))


def test_with_a_secret_nobody_else_can_tell_a_document_and_tokens_are_found_through_its_change(
    store_engine: StoreEngine, node_id: str, found: Callable[..., set[str]]
) -> None:
    plain, keyed, keyed_again, otherwise = (
        issue(store_engine.token_store(index_secrets=lambda used=used: used), node_id)[1]
        for used in ((), (OLD,), (OLD,), (NEW, OLD))
    )
    keys = [item(store_engine, token)["node_hash"]["S"] for token in (plain, keyed, keyed_again, otherwise)]
    assert keys[1] == keys[2]
    assert len(set(keys)) == 3
    assert found(NEW, OLD) == {plain.id, keyed.id, keyed_again.id, otherwise.id}
    assert found(NEW) == {plain.id, otherwise.id}


def test_the_other_tokens_of_a_document_are_found_by_one_of_them_also_after_its_revocation(
    store_engine: StoreEngine, node_id: str, found: Callable[..., set[str]]
) -> None:
    store = store_engine.token_store(index_secrets=lambda: (OLD,))
    (_, leaked), (_, sibling) = issue(store, node_id), issue(store, node_id)
    stored = store.find(leaked.id)
    assert stored is not None
    assert isinstance(stored.terms.document, Sealed)
    assert found(node=stored.terms.document) == {leaked.id, sibling.id}
    revoked = store.revoke(leaked.id, None, NOW)
    assert revoked is not None
    assert isinstance(revoked.terms.document, Sealed)
    assert found(node=revoked.terms.document) == {sibling.id}


def test_without_the_parameter_nothing_is_issued_and_uses_go_on(
    api: Api, client: Credentials, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = api.issue(client)["token"]
    parameter, ssm = "/tokenservice/local/index-key", deployment.aws("ssm")
    settings = startup.settings()._replace(index_key_parameter=parameter)
    monkeypatch.setattr(startup, "settings", lambda: settings)
    entry.index_secrets.cache_clear()
    monkeypatch.setattr(entry.store(), "_index_secrets", entry.index_secrets)
    try:
        for path in ("/token", "/revoke"):
            assert api.call("POST", path, client, {"nodeId": "node"}).code == "store_unavailable"
        assert api.use(client, token).status == 200
        ssm.put_parameter(Name=parameter, Type="SecureString", Value="a" * 32)
        assert api.call("POST", "/token", client, {"nodeId": "node"}).status == 201
        assert api.call("POST", "/revoke", client, {"nodeId": "node"}).json["revoked"] >= 1
    finally:
        entry.index_secrets.cache_clear()
        ssm.delete_parameters(Names=[parameter])


class Parameter:
    """Answers like SSM to whoever names the parameter and wants it decrypted."""

    name = "/tokenservice/dev/index-key"

    def __init__(self, value: str | None) -> None:
        self._value = value

    def get_parameter(self, **named: object) -> dict[str, Any]:
        if self._value is None or named != {"Name": self.name, "WithDecryption": True}:
            raise NoAnswer("ssm", "no connection")
        return {"Parameter": {"Value": self._value}}


def test_the_secrets_are_parted_by_white_space_and_the_newest_comes_first() -> None:
    assert read_secrets(Parameter.name, Parameter(f"{'a' * 32}\n {'b' * 64} \n")) == (b"a" * 32, b"b" * 64)


@pytest.mark.parametrize("value", [None, "", " \n", "short", f"{'a' * 32} short"])
def test_without_a_good_secret_nothing_is_stored_and_the_log_has_the_reason_but_no_secret(
    value: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StoreUnavailable):
        read_secrets(Parameter.name, Parameter(value))
    [message] = caplog.messages
    assert message.startswith(f"INDEX_KEY_PARAMETER: {Parameter.name!r} ")
    assert message.endswith("no connection" if value is None else "at least 32 characters")
    assert "short" not in caplog.text
    assert "aaa" not in caplog.text
