"""The contract of every token store: in memory, on MiniStack and on Amazon's own DynamoDB Local."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from chalicelib import addresses, tokens
from chalicelib.errors import StoreUnavailable
from chalicelib.storage.token_store import TokenStore
from chalicelib.tokens import Action, Document, Reason, Refusal, Terms, Token, Use
from tests.support.memory_store import AnyTokenStore, Memory
from tests.support.store_engines import StoreEngine

NOW = datetime(2026, 11, 21, 12, 0, 0, 123000, tzinfo=UTC)
HOUR = timedelta(hours=1)

Add = Callable[..., tuple[str, Token]]


@pytest.fixture
def add(store: AnyTokenStore) -> Add:
    def add(
        issuer: str = "issuer", node_id: str = "node", metadata: dict[str, str] | None = None, **terms: object
    ) -> tuple[str, Token]:
        document = Document(node_id, metadata or {})
        facts: dict[str, object] = {"document": document, "expires_at": NOW + HOUR, **terms}
        secret, token = tokens.new_token(issuer, Terms(**facts), NOW)
        store.add([(secret, token)])
        stored = store.find(token.id)
        assert tokens.open_if_presented(stored, tokens.new_use(secret, "app")) == token
        assert stored is not None
        return secret, stored

    return add


def new(node_id: str = "node") -> tuple[str, Token]:
    return tokens.new_token("issuer", Terms(Document(node_id), NOW + HOUR), NOW)


class TestTokenStore:
    @pytest.fixture
    def store(self, stores: Memory | StoreEngine) -> AnyTokenStore:
        return stores.token_store()

    def claim(self, store: AnyTokenStore, use: Use) -> str:
        decision = tokens.decide(store.claim(use, NOW, None), use, NOW)
        return decision.reason if isinstance(decision, Refusal) else "granted"

    def test_a_token_comes_back_as_it_went_in(self, add: Add, store: AnyTokenStore) -> None:
        """`add()` compares them."""
        add()
        add(
            max_uses=100,
            actions=frozenset(Action),
            not_before=NOW - HOUR,
            user="élise\n\u2028𝄞",
            networks=frozenset(map(addresses.parse_network, ["10.0.0.0/8", "2001:db8::/32"])),
            audience=frozenset({"a", "b"}),
            metadata={"title": "Größe", "a\x00\n": "\x7f", "empty": ""},
        )
        assert store.find("tok_" + "0" * 32) is None

    def test_the_longest_node_id_in_any_alphabet_can_be_stored_and_found_by_its_node(
        self, add: Add, store: AnyTokenStore
    ) -> None:
        """1,024 characters may be 4,096 bytes, and a DynamoDB index key may hold 2,048."""
        node = uuid.uuid4().hex + "𝄞" * (1024 - 32)  # others use the same tables, and may issue for the same node
        _, token = add(node_id=node)
        assert list(store.find_unrevoked(node_id=node, issuer=None, now=NOW)) == [token.id]

    def test_many_tokens_are_stored_together(self, store: AnyTokenStore) -> None:
        made = [new(f"node{n}") for n in range(100)]
        store.add(made)
        for secret, token in made:
            assert tokens.open_if_presented(store.find(token.id), tokens.new_use(secret, "app")) == token

    def test_storing_again_after_a_lost_answer_changes_nothing(self, store: AnyTokenStore) -> None:
        issued, other = new(), new()
        store.add([issued])
        before = store.find(issued[1].id)
        store.add([issued])
        store.add([issued, other])
        store.add([issued, other])
        assert store.find(issued[1].id) == before
        assert store.find(other[1].id) is not None

    @pytest.mark.parametrize("change", ["used", "mismatched", "revoked", "another token with its id"])
    def test_a_token_is_not_stored_again_after_something_happened_nor_over_another(
        self, change: str, store: AnyTokenStore
    ) -> None:
        secret, token = issued = new()
        store.add([issued])
        match change:
            case "used":
                store.claim(tokens.new_use(secret, "app"), NOW, None)
            case "mismatched":
                store.count_mismatch(token.id, NOW)
            case "revoked":
                store.revoke(token.id, None, NOW)
            case _:
                issued = (secret, structs.replace(token, digest=token.digest[:32] + "0" * 32))
        before = store.find(token.id)
        for attempt in ([issued], [issued, new()]):
            with pytest.raises(StoreUnavailable):
                store.add(attempt)
        assert store.find(token.id) == before

    @pytest.mark.parametrize(
        ("text", "address"),
        [
            *(("192.0.2.7", "::ffff:192.0.2.7"), ("::ffff:192.0.2.0/120", "192.0.2.7"), ("0.0.0.0/0", "0.0.0.0")),
            *(("2001:DB8::/32", "2001:0DB8:0::1"), ("::/0", "::"), ("64:ff9b::/96", "64:ff9b::192.0.2.7")),
        ],
    )
    def test_a_range_and_the_address_of_a_claim_come_back_as_what_they_are(
        self, add: Add, store: AnyTokenStore, text: str, address: str
    ) -> None:
        secret, token = add(networks=frozenset({addresses.parse_network(text)}))
        use = tokens.new_use(secret, "app", address=addresses.parse_address(address))
        claimed = structs.replace(token, claims=(use.claim(NOW),))
        assert store.claim(use, NOW, None, token) == claimed == store.find(token.id)

    def test_as_many_claims_as_the_token_allows_stand_in_the_order_of_their_grants(
        self, add: Add, store: AnyTokenStore
    ) -> None:
        secret, token = add(max_uses=20)
        uses = [tokens.new_use(secret, "app") for _ in range(20)]
        assert [self.claim(store, use) for use in uses] == ["granted"] * 20
        assert self.claim(store, tokens.new_use(secret, "app")) == Reason.EXHAUSTED
        assert store.find(token.id) == structs.replace(token, claims=tuple(use.claim(NOW) for use in uses))

    def test_a_token_with_another_digest_under_the_same_id_is_not_claimed(self, add: Add, store: AnyTokenStore) -> None:
        secret, token = add()
        forged = structs.replace(tokens.new_use(secret, "app"), digest=token.digest[:32] + "f" * 32)
        assert self.claim(store, forged) == Reason.NOT_FOUND
        assert store.find(token.id) == token

    def test_mismatches_are_counted_up_to_the_lock_and_then_the_token_is_refused(
        self, add: Add, store: AnyTokenStore
    ) -> None:
        secret, token = add(user="alice")
        second = timedelta(seconds=1)
        counted = [store.count_mismatch(token.id, NOW + n * second) for n in range(7)]
        counts = [after and after.mismatches for after in counted]
        assert counts == [1, 2, 3, 4, 5, None, None]
        # The SDK repeats a request whose answer was lost: the one that locked the token still learns that it did.
        assert store.count_mismatch(token.id, NOW + 4 * second) == counted[4]
        locked = store.find(token.id)
        assert locked == structs.replace(token, mismatches=5, last_mismatch_at=NOW + 4 * second)
        assert self.claim(store, tokens.new_use(secret, "app", user="alice")) == Reason.LOCKED
        assert store.find(token.id) == locked

    def test_a_mismatch_on_a_token_that_is_gone_makes_no_item(self, store: AnyTokenStore) -> None:
        gone = "tok_" + "9" * 32
        assert store.count_mismatch(gone, NOW) is None
        assert store.find(gone) is None

    def test_a_revoked_token_is_refused_and_revoking_again_keeps_the_first_instant(
        self, add: Add, store: AnyTokenStore
    ) -> None:
        secret, token = add()
        later = NOW + timedelta(seconds=1)
        first, second = store.revoke(token.id, "issuer", NOW), store.revoke(token.id, "issuer", later)
        assert first == second == structs.replace(token, revoked_at=NOW)
        assert self.claim(store, tokens.new_use(secret, "app")) == Reason.REVOKED
        assert store.revoke("tok_" + "8" * 32, None, NOW) is None

    def test_only_the_issuer_revokes_unless_no_issuer_is_given(self, add: Add, store: AnyTokenStore) -> None:
        _, token = add(issuer="a")
        assert store.revoke(token.id, "b", NOW) == token
        assert store.find(token.id) == token
        revoked = store.revoke(token.id, None, NOW)
        assert revoked is not None
        assert revoked.revoked_at == NOW

    def test_tokens_are_found_by_node_and_by_user_while_they_can_be_revoked(
        self, add: Add, store: AnyTokenStore
    ) -> None:
        node, user = "node-of-index", "user-of-index"
        _, mine = add(issuer="a", node_id=node, user=user)
        _, other = add(issuer="b", node_id=node)
        _, gone = add(issuer="a", node_id=node, user=user, expires_at=NOW)
        _, revoked = add(issuer="a", node_id=node, user=user)
        store.revoke(revoked.id, None, NOW)

        def found(**by: str | None) -> set[str]:
            return set(store.find_unrevoked(issuer=by.pop("issuer", None), now=NOW, **by))

        assert found(node_id=node) == {mine.id, other.id}
        assert found(node_id=node, issuer="a") == {mine.id}
        assert found(user=user) == {mine.id}
        assert found(node_id="nobody") == set()
        assert gone.id not in found(node_id=node)


class TestOnDynamoDb:
    @pytest.fixture
    def store(self, store_engine: StoreEngine) -> TokenStore:
        return store_engine.token_store()

    def test_tokens_on_every_page_of_the_index_are_found(
        self, add: Add, store: TokenStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        query = store._model.query
        monkeypatch.setattr(store._model, "query", lambda *arguments, **named: query(*arguments, **named, page_size=2))
        made = {add(node_id="node-of-pages")[1].id for _ in range(5)}
        assert set(store.find_unrevoked(node_id="node-of-pages", issuer=None, now=NOW)) == made

    def test_every_operation_is_measured_under_its_name(self, store_engine: StoreEngine) -> None:
        calls: list[tuple[str, bool]] = []
        store = store_engine.token_store(lambda name, milliseconds: calls.append((name, 0 <= milliseconds < 600_000)))
        secret, token = tokens.new_token("app", Terms(Document("node"), NOW + HOUR, user="alice"), NOW)
        store.add([(secret, token)])
        store.find(token.id)
        store.claim(tokens.new_use(secret, "app"), NOW, None)
        store.count_mismatch(token.id, NOW)
        store.revoke(token.id, None, NOW)
        list(store.find_unrevoked(user="nobody", issuer=None, now=NOW))
        names = ("add", "find", "claim", "count_mismatch", "revoke", "query")
        assert calls == [(name, True) for name in names]

    def test_every_token_is_read_over_all_pages_of_the_table(
        self, add: Add, store: TokenStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Others use the table, too."""
        scan = store._model.scan
        monkeypatch.setattr(store._model, "scan", lambda: scan(page_size=30))
        made = {token.id: token for _, token in (add(node_id=f"node-{number}") for number in range(40))}
        found = {token.id: token for token in store.all()}
        assert found.items() >= made.items()

    def test_a_store_without_its_table_is_unavailable_and_its_failures_are_measured(
        self, store_engine: StoreEngine
    ) -> None:
        measured: list[str] = []
        nowhere = replace(store_engine, token_table="tokenservice-nowhere-tokens")
        missing = nowhere.token_store(lambda name, _: measured.append(name))
        calls: dict[str, Callable[[], object]] = {
            "find": lambda: missing.find("tok_" + "0" * 32),
            "claim": lambda: missing.claim(tokens.new_use("a" * 64, "app"), NOW, None),
            "add": lambda: missing.add([new()]),
            "query": lambda: list(missing.find_unrevoked(node_id="node", issuer=None, now=NOW)),
        }
        for call in calls.values():
            with pytest.raises(StoreUnavailable) as raised:
                call()
            assert raised.value.__cause__ is not None, "the log shows why"
        assert measured == list(calls)

    def test_the_item_is_stored_in_the_agreed_form(
        self, add: Add, store: TokenStore, store_engine: StoreEngine
    ) -> None:
        """Golden: a running table must stay readable, so a change here is a migration."""
        secret, token = add(node_id="node", user="alice", max_uses=2, metadata={"a": "b"})
        use = tokens.new_use(secret, "app", user="alice", idempotency_key="k")
        store.claim(use, NOW, None)
        table = store._model.Meta.table_name
        item = store_engine.dynamodb().get_item(TableName=table, Key={"id": {"S": token.id}})["Item"]
        assert item == {
            "id": {"S": token.id},
            "digest": {"S": token.digest},
            "issuer": {"S": "issuer"},
            "issued_at": {"N": "1795262400.123"},
            "expires_at": {"N": "1795266000.123"},
            "max_uses": {"N": "2"},
            "sealed": {"S": Document("node", {"a": "b"}).sealed(secret, "").text},
            "user": {"S": "alice"},
            "actions": {"SS": ["download"]},
            "claims": {
                "M": {
                    use.claim_id: {
                        "M": {
                            "at": {"N": "1795262400.123"},
                            "attempt": {"S": use.attempt},
                            "client": {"S": "app"},
                            "user": {"S": "alice"},
                        }
                    }
                }
            },
            "claim_order": {"L": [{"S": use.claim_id}]},
            "mismatches": {"N": "0"},
            "node_hash": {"S": "545ea538461003efdc8c81c244531b003f6f26cfccf6c0073b3239fdedf49446"},
            "user_hash": {"S": "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"},
            "purge_at": {"N": "1795870801"},
        }
        assert secret not in str(item)
