"""What the service tells of its decisions: every member of every event, and what it asks of its store."""

from __future__ import annotations

import zlib
from collections import Counter
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ChecksumError
from requests.structures import CaseInsensitiveDict

from chalicelib import clients, runtime, tokens
from chalicelib.clients import Client, Scope
from chalicelib.errors import InsufficientScope, StoreUnavailable, TokenNotFound
from chalicelib.service import Caller, TokenService
from chalicelib.storage.client_store import ClientStore
from chalicelib.storage.token_store import TokenStore
from chalicelib.tokens import Action, Reason, Refusal, Terms, Token, Use
from tests.support.api import NODE
from tokenctl.deployment import Deployment

NOW = runtime.now()
HOUR = timedelta(hours=1)
ADDRESS = tokens.parse_address("10.0.0.1")


class Heard:
    """An audit that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, datetime, str, dict[str, str | None]]] = []
        self.counted: list[tuple[str, dict[str, str]]] = []

    def event(self, name: str, now: datetime, level: str = "INFO", **facts: str | None) -> None:
        self.events.append((name, now, level, {key: value for key, value in facts.items() if value is not None}))

    def count(self, name: str, **dimensions: str) -> None:
        self.counted.append((name, dimensions))

    def forget(self) -> None:
        self.events.clear()
        self.counted.clear()


@pytest.fixture
def asked() -> Counter[str]:
    """The store's operations, as the metric names them."""
    return Counter()


@pytest.fixture
def store(deployment: Deployment, asked: Counter[str]) -> TokenStore:
    def observe(operation: str, milliseconds: float) -> None:
        assert 0 <= milliseconds < 600_000
        asked[operation] += 1

    return TokenStore(deployment.settings.token_table, observe)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def service(store: TokenStore, heard: Heard) -> TokenService:
    return TokenService(store, heard, lambda: NOW)


def caller(client_id: str = "app", *scopes: Scope) -> Caller:
    return Caller(client_id, frozenset(scopes or Scope), "request-1", "192.0.2.7", "extended-1")


def issue(service: TokenService, heard: Heard, by: Caller | None = None, **terms: Any) -> tuple[str, Token]:
    [(secret, token)] = service.issue(by or caller(), [Terms(NODE, NOW + HOUR, **terms)])
    heard.forget()
    return secret, token


def said(token: Token | None, **more: str) -> dict[str, str]:
    known = {} if token is None else {"tokenId": token.id, "nodeId": NODE}
    ids = {"requestId": "request-1", "extendedRequestId": "extended-1"}
    return {**ids, "sourceIp": "192.0.2.7", "clientId": "app", **known, **more}


class TestUse:
    def test_issuing_is_told_with_the_user_it_is_for(self, service: TokenService, heard: Heard) -> None:
        [(_, token)] = service.issue(caller(), [Terms(NODE, NOW + HOUR, user="alice")])
        assert heard.events == [("token.issued", NOW, "INFO", said(token, user="alice"))]
        assert heard.counted == [("TokensIssued", {})]

    def test_a_use_is_told_with_all_that_was_said(self, service: TokenService, heard: Heard) -> None:
        secret, token = issue(service, heard)
        use = tokens.new_use(secret, "app", user="alice", address=ADDRESS, action=Action.DOWNLOAD, idempotency_key="k")
        facts = {"user": "alice", "ipAddress": "10.0.0.1", "action": "download", "useId": use.claim_id}
        service.use(caller(), use)
        assert heard.events == [("token.used", NOW, "INFO", said(token, **facts))]
        assert heard.counted == [("TokensUsed", {})]
        heard.forget()
        again = tokens.new_use(
            secret, "app", user="alice", address=ADDRESS, action=Action.DOWNLOAD, idempotency_key="k"
        )
        service.use(caller(), again)
        assert heard.events == [("token.used", NOW, "INFO", said(token, **facts, reason="replayed"))]
        assert heard.counted == []

    def test_a_refusal_is_told_with_the_token_and_all_that_was_said(self, service: TokenService, heard: Heard) -> None:
        secret, token = issue(service, heard, user="alice")
        use = tokens.new_use(secret, "app", user="bob", address=ADDRESS, action=Action.DOWNLOAD)
        service.use(caller(), use)
        facts = {"user": "bob", "ipAddress": "10.0.0.1", "action": "download", "reason": "user_mismatch"}
        assert heard.events == [("token.refused", NOW, "WARNING", said(token, **facts))]
        assert heard.counted == [("TokensRefused", {"Reason": "user_mismatch"})]

    def test_a_refusal_of_an_unknown_token_is_told_with_its_id_alone(self, service: TokenService, heard: Heard) -> None:
        use = tokens.new_use("0" * 64, "app")
        service.use(caller(), use)
        reported = said(None, tokenId=use.token_id, reason="token_not_found")
        assert heard.events == [("token.refused", NOW, "WARNING", reported)]

    def test_the_locking_is_told_once_with_the_use_that_led_to_it(
        self, service: TokenService, store: TokenStore, heard: Heard
    ) -> None:
        secret, token = issue(service, heard, user="alice")
        for _ in range(7):
            service.use(caller(), tokens.new_use(secret, "app", user="bob", address=ADDRESS, action=Action.DOWNLOAD))
        facts = {"user": "bob", "ipAddress": "10.0.0.1", "action": "download", "reason": "user_mismatch"}
        assert [event for event in heard.events if event[0] != "token.refused"] == [
            ("token.locked", NOW, "WARNING", said(token, **facts))
        ]
        found = store.find(token.id)
        assert found is not None
        assert (found.mismatches, found.last_mismatch_at) == (5, NOW)

    def test_a_missing_scope_is_told(self, service: TokenService, heard: Heard) -> None:
        with pytest.raises(InsufficientScope, match=r"^The client needs the scope use\.$"):
            service.use(caller("app", Scope.ISSUE), tokens.new_use("0" * 64, "app"))
        assert heard.events == [("auth.refused", NOW, "WARNING", said(None, reason="insufficient_scope"))]
        assert heard.counted == [("AuthRefused", {})]

    def test_the_watermark_holds_for_use_introspection_and_status(self, store: TokenStore, heard: Heard) -> None:
        before = TokenService(store, heard, lambda: NOW)
        secret, token = issue(before, heard)
        restored = TokenService(store, heard, lambda: NOW, NOW + timedelta(milliseconds=1))
        use = tokens.new_use(secret, "app")
        assert restored.use(caller(), use) == Refusal(Reason.REVOKED, token)
        assert restored.introspect(caller(), use) == Refusal(Reason.REVOKED, token)
        assert restored.counts_as_revoked(token)
        assert not before.counts_as_revoked(token)

    def test_introspection_decides_for_its_own_instant(self, store: TokenStore, heard: Heard) -> None:
        secret, token = issue(TokenService(store, heard, lambda: NOW), heard)
        later = TokenService(store, heard, lambda: NOW + HOUR)
        assert later.introspect(caller(), tokens.new_use(secret, "app")) == Refusal(Reason.EXPIRED, token)
        assert later.now() == NOW + HOUR
        reported = said(token, reason="token_expired")
        assert heard.events == [("token.introspected", NOW + HOUR, "INFO", reported)]

    def test_an_introspection_is_told_with_all_that_was_said_and_counts_nothing(
        self, service: TokenService, heard: Heard
    ) -> None:
        secret, token = issue(service, heard)
        use = tokens.new_use(secret, "app", user="alice", address=ADDRESS, action=Action.DOWNLOAD)
        service.introspect(caller("app", Scope.INTROSPECT), use)
        facts = {"user": "alice", "ipAddress": "10.0.0.1", "action": "download"}
        assert heard.events == [("token.introspected", NOW, "INFO", said(token, **facts))]
        assert heard.counted == []


class TestStatus:
    def test_the_issuer_sees_its_token_and_an_admin_everyones(
        self, service: TokenService, store: TokenStore, heard: Heard
    ) -> None:
        issuer = caller("app", Scope.ISSUE, Scope.MANAGE)
        _, token = issue(service, heard, issuer)
        assert service.status(issuer, token.id) == token == service.status(caller("boss", Scope.ADMIN), token.id)
        assert heard.events == []

    def test_nobody_else_sees_it_and_each_try_is_told(self, service: TokenService, heard: Heard) -> None:
        _, token = issue(service, heard)
        others = {
            "use": caller("app", Scope.ISSUE, Scope.USE),
            "manage": caller("other", Scope.ISSUE, Scope.USE, Scope.MANAGE),
        }
        for needed, other in (("manage", others["use"]), ("admin", others["manage"])):
            with pytest.raises(InsufficientScope, match=f"scope {needed}"):
                service.status(other, token.id)
            reported = said(None, clientId=other.client_id, reason="insufficient_scope")
            assert heard.events == [("auth.refused", NOW, "WARNING", reported)]
            heard.forget()

    def test_a_token_that_is_not_there_is_not_found(self, service: TokenService) -> None:
        with pytest.raises(TokenNotFound):
            service.status(caller(), "tok_" + "0" * 32)


class TestRevoke:
    def test_revoking_is_told_once_and_says_whether_there_was_a_token(
        self, service: TokenService, heard: Heard
    ) -> None:
        _, token = issue(service, heard)
        assert service.revoke(caller(), token.id)
        assert heard.events == [("token.revoked", NOW, "INFO", said(token))]
        heard.forget()
        assert not service.revoke(caller(), "tok_" + "0" * 32)
        assert heard.events == []

    def test_revoking_all_of_a_node_is_told_for_each_and_leaves_other_issuers_tokens_alone(
        self, service: TokenService, heard: Heard, asked: Counter[str]
    ) -> None:
        mine, other = caller("app", Scope.ISSUE, Scope.MANAGE), caller("other", Scope.ISSUE)
        node = f"node-{NOW.timestamp()}"
        [(_, token)] = service.issue(mine, [Terms(node, NOW + HOUR)])
        service.issue(other, [Terms(node, NOW + HOUR)])
        heard.forget()
        asked.clear()
        assert service.revoke_all(mine, node_id=node, time_left=lambda: True).revoked == 1
        reported = {**said(token), "nodeId": node}
        assert heard.events == [("token.revoked", NOW, "INFO", reported)]
        # Another issuer's token is not even asked for.
        assert asked == {"query": 1, "revoke": 1}

    def test_an_issuer_revokes_its_own_token_and_an_admin_everyones(self, service: TokenService, heard: Heard) -> None:
        _, token = issue(service, heard)
        other = caller("other", Scope.MANAGE)
        with pytest.raises(InsufficientScope):
            service.revoke(other, token.id)
        assert service.status(caller(), token.id).revoked_at is None
        assert service.revoke(caller("other", Scope.ADMIN), token.id)
        assert service.status(caller(), token.id).revoked_at == NOW

    def test_revoking_all_of_a_user_counts_the_live_ones_and_ends_the_others_too(
        self, service: TokenService, heard: Heard
    ) -> None:
        user = f"user-{NOW.timestamp()}"
        live = [issue(service, heard, user=user)[1] for _ in range(2)]
        secret, spent = issue(service, heard, user=user)
        service.use(caller(), tokens.new_use(secret, "app", user=user))
        secret, locked = issue(service, heard, user=user)
        for _ in range(5):
            service.use(caller(), tokens.new_use(secret, "app", user="somebody else"))
        _, of_another = issue(service, heard, user="another")
        reported = service.revoke_all(caller("other", Scope.ADMIN), user=user, time_left=lambda: True)
        assert (reported.revoked, reported.more) == (2, False)
        for token in (*live, spent, locked):
            assert service.status(caller(), token.id).revoked_at == NOW
        assert service.status(caller(), of_another.id).revoked_at is None
        again = service.revoke_all(caller("other", Scope.ADMIN), user=user, time_left=lambda: True)
        assert (again.revoked, again.more) == (0, False)

    def test_revoking_all_stops_when_time_is_up_and_says_that_there_is_more(
        self, service: TokenService, heard: Heard
    ) -> None:
        node = f"many-{NOW.timestamp()}"
        service.issue(caller(), [Terms(node, NOW + HOUR) for _ in range(3)])
        answers = iter([True, True, False])
        reported = service.revoke_all(caller(), node_id=node, time_left=lambda: next(answers))
        assert (reported.revoked, reported.more is True) == (2, True)
        reported = service.revoke_all(caller(), node_id=node, time_left=lambda: True)
        assert (reported.revoked, reported.more is False) == (1, True)

    def test_a_use_of_a_token_bound_to_addresses_takes_a_read_and_a_claim(
        self, service: TokenService, heard: Heard, asked: Counter[str]
    ) -> None:
        secret, _ = issue(service, heard, networks=(tokens.parse_network("10.0.0.0/24"),))
        asked.clear()
        granted = service.use(caller(), tokens.new_use(secret, "app", address=ADDRESS))
        assert granted.token.uses_remaining == 0
        assert asked == {"claim": 2}


class TestStore:
    @pytest.mark.parametrize("why", ["locked", "for another application", "used up", "issued too early"])
    def test_what_the_rules_refuse_is_not_written(
        self, why: str, service: TokenService, store: TokenStore, heard: Heard
    ) -> None:
        audience = frozenset({"another"}) if why == "for another application" else frozenset()
        secret, token = issue(service, heard, audience=audience)
        if why == "locked":
            for _ in range(tokens.LOCKED_AFTER_MISMATCHES):
                store.count_mismatch(token.id, NOW)
        if why == "used up":
            store.claim(tokens.new_use(secret, "app"), NOW, None)
        before = store.find(token.id)
        watermark = NOW + HOUR if why == "issued too early" else NOW
        for issued_after in {None, watermark} if why != "issued too early" else {watermark}:
            store.claim(tokens.new_use(secret, "app"), NOW, issued_after)
        assert store.find(token.id) == before

    @pytest.mark.parametrize("change", ["used", "mismatched", "revoked"])
    def test_a_token_that_something_has_happened_to_is_not_stored_anew(
        self, change: str, service: TokenService, store: TokenStore, heard: Heard
    ) -> None:
        secret, token = issue(service, heard)
        store.add([token])  # a repetition right away is none
        if change == "used":
            store.claim(tokens.new_use(secret, "app"), NOW, None)
        elif change == "mismatched":
            store.count_mismatch(token.id, NOW)
        else:
            store.revoke(token.id, None, NOW)
        before = store.find(token.id)
        with pytest.raises(StoreUnavailable):
            store.add([token])
        assert store.find(token.id) == before

    def test_an_answer_that_is_not_what_was_sent_is_refused(self, store: TokenStore) -> None:
        store.find("tok_" + "0" * 32)
        events = store._model._get_connection().connection.client.meta.events

        def come(**headers: str) -> None:
            answer = SimpleNamespace(headers=CaseInsensitiveDict(headers), content=b"{}", status_code=200)
            events.emit("after-call.dynamodb.GetItem", http_response=answer, parsed={}, model=None, context={})

        come()
        come(**{"X-Amz-Crc32": str(zlib.crc32(b"{}"))})
        with pytest.raises(
            ChecksumError, match=f"crc32.*expected checksum 1 .*calculated checksum {zlib.crc32(b'{}')}"
        ):
            come(**{"x-amz-crc32": "1"})

    def test_every_operation_is_measured_under_its_name(
        self, store: TokenStore, deployment: Deployment, asked: Counter[str]
    ) -> None:
        secret, token = tokens.new_token("app", Terms(NODE, NOW + HOUR, user="alice"), NOW)
        store.add([token])
        store.find(token.id)
        store.claim(tokens.new_use(secret, "app"), NOW, None)
        store.count_mismatch(token.id, NOW)
        store.revoke(token.id, None, NOW)
        list(store.find_unrevoked(user="nobody", issuer=None, now=NOW))
        assert asked == dict.fromkeys(("add", "find", "claim", "count_mismatch", "revoke", "query"), 1)
        asked.clear()
        of_clients = ClientStore(deployment.settings.client_table, lambda name, _: asked.update([name]))
        _, kept = clients.new_secret(NOW)
        client = Client(f"measured-{NOW.timestamp()}", frozenset({Scope.USE}), (kept,), NOW)
        of_clients.add(client)
        of_clients.find(client.id)
        of_clients.change(client.id, lambda known: known)
        of_clients.all()
        assert asked == {"add_client": 1, "find_client": 2, "change_client": 1, "list_clients": 1}

    def test_a_failed_request_is_measured_too(self, asked: Counter[str]) -> None:
        missing = TokenStore("tokenservice-nowhere-tokens", lambda name, _: asked.update([name]))
        with pytest.raises(StoreUnavailable) as raised:
            missing.find("tok_" + "0" * 32)
        assert raised.value.__cause__ is not None, "the log tells why"
        assert asked == {"find": 1}

    def test_clients_are_listed_by_name(self, client_store: ClientStore) -> None:
        _, kept = clients.new_secret(NOW)
        names = [f"{letter}-{NOW.timestamp()}" for letter in "dacbe"]
        for name in names:
            assert client_store.add(Client(name, frozenset({Scope.USE}), (kept,), NOW))
        listed = [client.id for client in client_store.all()]
        assert listed == sorted(listed)
        assert set(names) <= set(listed)


class TestRules:
    @pytest.fixture
    def refusals(self) -> tuple[Use, list[tuple[Reason, Token]]]:
        secret, plain = tokens.new_token("app", Terms(NODE, NOW + HOUR), NOW)
        use = tokens.new_use(secret, "app", user="alice", address=ADDRESS, action=Action.DOWNLOAD, idempotency_key="k")

        def with_terms(**terms: Any) -> Token:
            return Token(plain.id, plain.digest, "app", NOW, Terms(NODE, terms.pop("expires_at", NOW + HOUR), **terms))

        def with_state(**state: Any) -> Token:
            return Token(plain.id, plain.digest, "app", NOW, plain.terms, **state)

        other = tokens.new_use(secret, "app", idempotency_key="other").claim(NOW)
        same_key = tokens.new_use(secret, "app", user="bob", idempotency_key="k").claim(NOW)
        return use, [
            (Reason.REVOKED, with_state(revoked_at=NOW)),
            (Reason.LOCKED, with_state(mismatches=5)),
            (Reason.KEY_REUSED, with_state(claims=(same_key,))),
            (Reason.EXPIRED, with_terms(expires_at=NOW)),
            (Reason.NOT_YET_VALID, with_terms(not_before=NOW + HOUR)),
            (Reason.AUDIENCE, with_terms(audience=frozenset({"somebody-else"}))),
            (Reason.USER, with_terms(user="bob")),
            (Reason.ADDRESS, with_terms(networks=frozenset({tokens.parse_network("11.0.0.0/8")}))),
            (Reason.ACTION, with_terms(actions=frozenset({Action.EDIT}))),
            (Reason.EXHAUSTED, with_state(claims=(other,))),
        ]

    def test_a_refusal_says_which_token_it_is_about(self, refusals: tuple[Use, list[tuple[Reason, Token]]]) -> None:
        use, cases = refusals
        for reason, token in cases:
            assert tokens.decide(token, use, NOW) == Refusal(reason, token)
        assert {reason for reason, _ in cases} == set(Reason) - {Reason.NOT_FOUND}

    def test_a_claims_id_has_32_hex_characters_with_and_without_a_key(self) -> None:
        for key in (None, "k"):
            use = tokens.new_use("0" * 64, "app", idempotency_key=key)
            assert (len(use.claim_id), use.claim_id[:4]) == (36, "use_")

    def test_a_bad_address_or_range_is_told_in_words(self) -> None:
        zone = r"^an address with a zone names an interface of one machine only$"
        with pytest.raises(ValueError, match=zone):
            tokens.parse_address("fe80::1%eth0")
        with pytest.raises(ValueError, match=zone):
            tokens.parse_network("fe80::1%eth0")
        with pytest.raises(ValueError, match=r"^the prefix of a range is a number, for example 10\.0\.0\.0/8$"):
            tokens.parse_network("10.0.0.0/x")
