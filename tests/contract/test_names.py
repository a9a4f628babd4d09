"""Names in tokens that were stored before names were normalised, on both engines."""

from __future__ import annotations

import unicodedata
import uuid
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest

from chalicelib import tokens
from chalicelib.storage.token_item import to_item
from chalicelib.storage.token_store import TokenStore
from chalicelib.tokens import Document, Grant, Reason, Terms, Token
from tests.support.spellings import FORMS, MIXED, spelled
from tests.support.store_engines import StoreEngine

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class TestStoredBefore:
    """Their user is stored as it was spelled."""

    def stored(self, store: TokenStore, *, user: str, node_id: str = "node", **facts: Any) -> tuple[str, Token]:
        terms = Terms(Document(node_id), NOW + timedelta(hours=1), user=user)
        secret, token = tokens.new_token("issuer", terms, NOW)
        item = store._model.from_raw_data(to_item(token, None))
        item.user_hash, item.node_hash = (sha256(name.encode()).hexdigest() for name in (user, node_id))
        for name, value in facts.items():
            setattr(item, name, value)
        item.save()
        return secret, token

    @pytest.mark.parametrize("user", [spelled("NFC"), spelled("NFD"), MIXED, "alice"], ids=ascii)
    def test_they_are_used_by_each_spelling(self, store_engine: StoreEngine, user: str) -> None:
        store = store_engine.token_store()
        for form in FORMS:
            secret, token = self.stored(store, user=user, max_uses=2)
            use = tokens.new_use(secret, "app", user=unicodedata.normalize(form, user))
            assert tokens.decide(token, use, NOW) == Grant(token)
            read = store.claim(use, NOW, None)
            claimed = store.claim(use, NOW, None, read)
            assert claimed is not None
            assert [claim.user for claim in claimed.claims] == [tokens.canonical(user)]
            stranger = tokens.new_use(secret, "app", user="somebody else")
            assert store.claim(stranger, NOW, None, read) == claimed
            decision = tokens.decide(claimed, stranger, NOW)
            assert getattr(decision, "reason", None) is Reason.USER

    @pytest.mark.parametrize("stored", [spelled("NFC"), spelled("NFD"), MIXED], ids=ascii)
    def test_they_are_found_by_both_forms_and_by_their_own_spelling(
        self, store_engine: StoreEngine, stored: str
    ) -> None:
        store = store_engine.token_store()
        for field in ("user", "node_id"):
            name = f"{stored} {field} {uuid.uuid4()}"
            _, token = self.stored(store, **{"user": "alice", field: name})
            spellings = {name} if stored is MIXED else {name, *(spelled(form, name) for form in FORMS)}
            for each in spellings:
                assert list(store.find_unrevoked(**{field: each}, issuer=None, now=NOW)) == [token.id]
