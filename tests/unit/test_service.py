"""The use cases on the store in memory: what each decides, stores, and reports to the audit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from chalicelib import addresses, instants, tokens
from chalicelib.clients import Scope
from chalicelib.errors import InsufficientScope, InternalError, StoreUnavailable, TokenNotFound
from chalicelib.service import Caller, TokenService
from chalicelib.tokens import Action, Document, Grant, Reason, Refusal, Terms, Token, Use
from tests.support.api import NODE
from tests.support.audits import RecordingAudit
from tests.support.memory_store import MemoryTokenStore

NOW = datetime(2026, 11, 21, 12, 0, 0, 123_000, tzinfo=UTC)
TICK = timedelta(milliseconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ADDRESS = addresses.parse_address("10.0.0.1")
NETWORKS = frozenset({addresses.parse_network("10.0.0.0/24")})
UNKNOWN_ID = "tok_" + "0" * 32


ServiceAt = Callable[..., TokenService]


@pytest.fixture
def store() -> MemoryTokenStore:
    return MemoryTokenStore()


@pytest.fixture
def audit() -> RecordingAudit:
    return RecordingAudit()


@pytest.fixture
def service_at(store: MemoryTokenStore, audit: RecordingAudit) -> ServiceAt:
    """Makes the service of a machine with that time on its clock."""
    return lambda now, issued_after=None: TokenService(store, audit, lambda: now, issued_after)


@pytest.fixture
def service(service_at: ServiceAt) -> TokenService:
    return service_at(NOW)


def caller(client_id: str = "app", *scopes: Scope) -> Caller:
    """A client with these scopes, by default all."""
    return Caller(client_id, frozenset(scopes or Scope), "request-1", "192.0.2.7", "extended-1")


def issue(service: TokenService, by: Caller | None = None, **terms: Any) -> tuple[str, Token]:
    facts = {"document": Document(NODE), "expires_at": NOW + HOUR, **terms}
    [issued] = service.issue(by or caller(), [Terms(**facts)])
    return issued


def new_use(secret: str, **facts: Any) -> Use:
    """A use with every fact that an event may hold."""
    facts = {"user": "alice", "address": ADDRESS, "action": Action.DOWNLOAD, **facts}
    return tokens.new_use(secret, "app", **facts)


def outcome(decision: Grant | Refusal) -> str:
    """`granted`, `replayed`, or the code of the refusal."""
    if isinstance(decision, Refusal):
        return decision.reason
    return "replayed" if decision.replayed else "granted"


def use(service: TokenService, secret: str, key: str | None = None, **facts: Any) -> str:
    return outcome(service.use(caller(), tokens.new_use(secret, "app", idempotency_key=key, **facts)))


def members(token: Token | None, uses: int = 0, **more: object) -> dict[str, object]:
    """The members of an audit event of a request by `caller()`, of a token that was used so many times.

    They name the document if it is open in the token.
    """
    ids = {"requestId": "request-1", "extendedRequestId": "extended-1", "sourceIp": "192.0.2.7", "clientId": "app"}
    known = {} if token is None else {"tokenId": token.id, "uses": uses}
    if token is not None and isinstance(token.terms.document, Document):
        known["nodeId"] = token.terms.document.node_id
    return {**ids, **known, **more}


def stored(store: MemoryTokenStore, secret: str) -> Token:
    """What is stored of a token, with its document open."""
    use = tokens.new_use(secret, "app")
    token = tokens.open_if_presented(store.tokens[use.token_id], use)
    assert token is not None
    return token


def limits(**more: object) -> dict[str, object]:
    """The members of an issue's event with the limits that `issue()` sets."""
    return {"maxUses": 1, "expiresAt": NOW + HOUR, "actions": ["download"], **more}


def ended(token: Token, uses: int = 0) -> dict[str, object]:
    """The members of the event that ends a token."""
    return {"previous": tokens.chain(token, uses)}


def granted(token: Token, number: int = 1) -> dict[str, object]:
    """The members of a use's event that place it among the events of its token."""
    return {"uses": number, "previous": tokens.chain(token, number - 1), "issuedAt": token.issued_at}


FACTS = {"user": "alice", "ipAddress": "10.0.0.1", "action": "download"}


def test_a_caller_without_the_scope_is_an_event_and_changes_nothing(
    service: TokenService, store: MemoryTokenStore, audit: RecordingAudit
) -> None:
    with pytest.raises(InsufficientScope, match="The client needs the scope issue"):
        issue(service, caller("app", Scope.USE))
    assert audit.events == [("auth.refused", NOW, "WARNING", members(None, reason="insufficient_scope"))]
    assert audit.counts == [("AuthRefused", {})]
    assert store.tokens == {}


class TestIssue:
    def test_an_issued_token_is_stored_and_reported_with_its_user(
        self, service: TokenService, store: MemoryTokenStore, audit: RecordingAudit
    ) -> None:
        secret, token = issue(service, user="alice")
        assert stored(store, secret) == token
        assert (token.digest, token.issuer, token.issued_at) == (tokens.digest(secret), "app", NOW)
        assert audit.events == [("token.issued", NOW, "INFO", members(token, **limits(user="alice")))]
        assert audit.counts == [("TokensIssued", {})]

    def test_without_node_ids_no_event_names_the_document(self, store: MemoryTokenStore, audit: RecordingAudit) -> None:
        service = TokenService(store, audit, lambda: NOW, logs_node_ids=False)
        secret, token = issue(service, user="alice")
        for user in ("alice", *["bob"] * 6):
            service.introspect(caller(), new_use(secret, user=user))
            service.use(caller(), new_use(secret, user=user))
        service.revoke(caller(), token.id)
        names = {name for name, *_ in audit.events}
        assert len(names) == 6, "issued, used, refused, introspected, locked and revoked"
        assert NODE not in str(audit.events)

    def test_a_batch_is_stored_by_one_call_and_each_token_is_reported(
        self, service: TokenService, store: MemoryTokenStore, audit: RecordingAudit
    ) -> None:
        issued = service.issue(caller(), [Terms(Document(f"node-{number}"), NOW + HOUR) for number in range(3)])
        assert [token.terms.document.node_id for _, token in issued] == ["node-0", "node-1", "node-2"]
        assert store.calls == ["add"]
        assert [stored(store, secret) for secret, _ in issued] == [token for _, token in issued]
        assert audit.events == [("token.issued", NOW, "INFO", members(token, **limits())) for _, token in issued]
        assert audit.counts == [("TokensIssued", {})] * 3

    def test_a_batch_that_the_store_rejects_is_not_reported(
        self, service: TokenService, store: MemoryTokenStore, audit: RecordingAudit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def add(_: object) -> None:
            raise StoreUnavailable

        monkeypatch.setattr(store, "add", add)
        with pytest.raises(StoreUnavailable):
            issue(service)
        assert (audit.events, audit.counts) == ([], [])


REFUSALS: dict[Reason, tuple[dict[str, Any], dict[str, Any]]] = {
    # To the terms and the facts of a use with nothing else against it.
    Reason.EXPIRED: ({"expires_at": NOW}, {}),
    Reason.NOT_YET_VALID: ({"not_before": NOW + TICK}, {}),
    Reason.AUDIENCE: ({"audience": frozenset({"another"})}, {}),
    Reason.USER: ({"user": "bob"}, {}),
    Reason.ADDRESS: ({"networks": frozenset({addresses.parse_network("11.0.0.0/8")})}, {}),
    Reason.ACTION: ({"actions": frozenset({Action.EDIT})}, {}),
    Reason.EXHAUSTED: ({}, {}),
    Reason.KEY_REUSED: ({}, {"idempotency_key": "k"}),
    Reason.REVOKED: ({}, {}),
    Reason.LOCKED: ({}, {}),
    Reason.NOT_FOUND: ({}, {}),
}


class TestUse:
    def test_another_token_with_the_same_id_is_not_found_and_opens_nothing(self, service: TokenService) -> None:
        _, token = issue(service)
        forged = replace(new_use("b" * 64), digest=token.digest[:32] + "0" * 32)
        assert outcome(service.use(caller(), forged)) == Reason.NOT_FOUND

    def test_a_use_is_stored_and_reported_with_every_fact(
        self, service: TokenService, store: MemoryTokenStore, audit: RecordingAudit
    ) -> None:
        secret, token = issue(service)
        audit.clear()
        first = new_use(secret, idempotency_key="k")
        assert service.use(caller(), first) == Grant(stored(store, secret), first.claim(NOW))
        assert store.tokens[token.id].claims == (first.claim(NOW),)
        reported = members(token, **FACTS, **granted(token), useId=first.claim_id)
        assert audit.events == [("token.used", NOW, "INFO", reported)]
        assert audit.counts == [("TokensUsed", {})]

    def test_events_carry_the_number_of_uses_and_the_digest_of_the_event_before(
        self, service: TokenService, store: MemoryTokenStore, audit: RecordingAudit
    ) -> None:
        secret, token = issue(service, max_uses=3)
        audit.clear()
        for key in ("first", None, "first"):
            use(service, secret, key, user="alice", address=ADDRESS)
        use(service, secret, action=Action.EDIT)
        service.revoke(caller(), token.id)
        first, second, *_ = store.tokens[token.id].claims
        issued = tokens.link(token.id, instants.epoch_ms(NOW), "app")
        once = tokens.link(issued, instants.epoch_ms(NOW), "app", first.id, "alice", "10.0.0.1", "")
        twice = tokens.link(once, instants.epoch_ms(NOW), "app", second.id, "alice", "10.0.0.1", None)
        reported = [(name, facts["uses"], facts.get("previous")) for name, _, _, facts in audit.events]
        assert reported == [
            ("token.used", 1, issued),
            ("token.used", 2, once),
            ("token.used", 1, issued),
            ("token.refused", 2, None),
            ("token.revoked", 2, twice),
        ]

    def test_the_event_of_an_issue_holds_every_limit(self, service: TokenService, audit: RecordingAudit) -> None:
        terms = {"not_before": NOW, "networks": NETWORKS, "audience": frozenset({"b", "a"}), "max_uses": 7}
        issue(service, **terms, actions=frozenset({Action.EDIT, Action.DOWNLOAD}))
        [(_, _, _, facts)] = audit.events
        assert facts.items() >= {"notBefore": NOW, "maxUses": 7, "expiresAt": NOW + HOUR}.items()
        assert facts["ipAddresses"] == ["10.0.0.0/24"]
        assert (facts["audience"], facts["actions"]) == (["a", "b"], ["download", "edit"])

    def test_a_replay_spends_nothing_and_is_reported_but_not_counted(
        self, service: TokenService, store: MemoryTokenStore, audit: RecordingAudit
    ) -> None:
        secret, token = issue(service)
        service.use(caller(), new_use(secret, idempotency_key="k"))
        used = stored(store, secret)
        audit.clear()
        again = new_use(secret, idempotency_key="k")
        assert service.use(caller(), again) == Grant(used, used.claims[0], replayed=True)
        assert stored(store, secret) == used
        reported = members(token, **FACTS, **granted(token), useId=again.claim_id, reason="replayed")
        assert audit.events == [("token.used", NOW, "INFO", reported)]
        assert audit.counts == []

    @pytest.mark.parametrize("reason", Reason)
    def test_a_refusal_spends_nothing_and_is_reported_with_every_fact(
        self, service: TokenService, store: MemoryTokenStore, audit: RecordingAudit, reason: Reason
    ) -> None:
        terms, facts = REFUSALS[reason]
        secret, token = issue(service, **terms)
        attempt = new_use("0" * 64 if reason is Reason.NOT_FOUND else secret, **facts)
        match reason:
            case Reason.EXHAUSTED:
                use(service, secret)
            case Reason.KEY_REUSED:
                use(service, secret, "k", user="carol")
            case Reason.REVOKED:
                service.revoke(caller(), token.id)
            case Reason.LOCKED:
                for _ in range(tokens.LOCKED_AFTER_MISMATCHES):
                    store.count_mismatch(token.id, NOW)
        before = stored(store, secret)
        audit.clear()
        decision = service.use(caller(), attempt)
        assert decision == Refusal(reason, None if reason is Reason.NOT_FOUND else before)
        after = store.tokens[token.id]
        assert after.claims == before.claims
        assert after.mismatches - before.mismatches == (reason in tokens.MISMATCHES)
        reported = members(
            decision.token, len(before.claims), **{"tokenId": attempt.token_id, **FACTS, "reason": reason}
        )
        assert audit.events == [("token.refused", NOW, "WARNING", reported)]
        assert audit.counts == [("TokensRefused", {"Reason": reason})]

    @pytest.mark.parametrize(
        ("terms", "facts"),
        [
            ({"user": "alice"}, {"user": "bob"}),
            ({"networks": NETWORKS}, {"address": addresses.parse_address("11.0.0.1")}),
            ({"actions": frozenset({Action.EDIT})}, {}),
        ],
        ids=["user", "address", "action"],
    )
    def test_the_fifth_mismatch_locks_the_token_and_is_reported_once(
        self,
        service: TokenService,
        store: MemoryTokenStore,
        audit: RecordingAudit,
        terms: dict[str, Any],
        facts: dict[str, Any],
    ) -> None:
        secret, token = issue(service, **terms)
        audit.clear()
        wrong = [new_use(secret, **facts) for _ in range(7)]
        [*mismatches, sixth, seventh] = [outcome(service.use(caller(), attempt)) for attempt in wrong]
        [reason] = set(mismatches)
        assert reason in tokens.MISMATCHES
        assert sixth == seventh == Reason.LOCKED
        user = str(wrong[0].user)
        fields = members(
            token, **{**FACTS, "user": user, "ipAddress": str(wrong[0].address), "reason": reason}, **ended(token)
        )
        locked = [event for event in audit.events if event[0] != "token.refused"]
        assert locked == [("token.locked", NOW, "WARNING", fields)]
        assert audit.events.index(locked[0]) == 5, "right behind the fifth refusal"
        assert (store.tokens[token.id].mismatches, store.tokens[token.id].last_mismatch_at) == (5, NOW)

    def test_a_client_outside_the_audience_never_locks_the_token(
        self, service: TokenService, store: MemoryTokenStore
    ) -> None:
        secret, token = issue(service, user="alice", audience=frozenset({"another"}))
        for user in ("alice", "bob", None) * 2:
            assert use(service, secret, user=user) == Reason.AUDIENCE
        assert stored(store, secret) == token

    def test_a_token_bound_to_addresses_takes_a_read_and_a_claim_and_any_other_one_claim(
        self, service: TokenService, store: MemoryTokenStore
    ) -> None:
        for networks, calls in ((NETWORKS, ["claim"] * 2), (frozenset(), ["claim"])):
            secret, _ = issue(service, networks=networks)
            store.calls.clear()
            granted = service.use(caller(), tokens.new_use(secret, "app", address=ADDRESS))
            assert isinstance(granted, Grant)
            assert granted.uses_remaining == 0
            assert store.calls == calls

    def test_a_store_that_contradicts_the_rules_is_a_bug_and_grants_nothing(
        self, service: TokenService, store: MemoryTokenStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        secret, _ = issue(service)
        monkeypatch.setattr(store, "claim", lambda use, *_: store.tokens[use.token_id])
        with pytest.raises(InternalError):
            use(service, secret)


class TestClocks:
    """Machines whose clocks differ by a day. A wrong clock may end or stretch a token's life, never its uses."""

    def test_clocks_that_disagree_grant_no_use_more(self, service_at: ServiceAt, store: MemoryTokenStore) -> None:
        secret, token = issue(service_at(NOW), expires_at=NOW + 2 * DAY, max_uses=3)
        clocks = [NOW + DAY, NOW - DAY, NOW, NOW + DAY, NOW - DAY]
        outcomes = [use(service_at(now), secret) for now in clocks]
        assert outcomes == ["granted"] * 3 + [Reason.EXHAUSTED] * 2
        claims = store.tokens[token.id].claims
        assert [claim.at for claim in claims] == clocks[:3], "in the order of the writes, not of the clocks"

    def test_a_clock_that_is_set_back_revives_no_spent_token(self, service_at: ServiceAt) -> None:
        secret, _ = issue(service_at(NOW))
        assert use(service_at(NOW), secret, "key") == "granted"
        before = service_at(NOW - DAY)
        assert use(before, secret) == Reason.EXHAUSTED
        assert use(before, secret, "key") == "replayed", "a repetition is still the same use"
        assert use(service_at(NOW + DAY), secret, "key") == Reason.KEY_REUSED

    def test_a_revocation_and_a_lock_hold_for_every_clock(self, service_at: ServiceAt) -> None:
        revoked, token = issue(service_at(NOW), expires_at=NOW + 2 * DAY)
        service_at(NOW + DAY).revoke(caller(), token.id)
        locked, _ = issue(service_at(NOW), expires_at=NOW + 2 * DAY, user="alice")
        for clock in (NOW, NOW + DAY, NOW - DAY, NOW, NOW):
            assert use(service_at(clock), locked) == Reason.USER
        for clock in (NOW - DAY, NOW, NOW + DAY):
            assert use(service_at(clock), revoked) == Reason.REVOKED
            assert use(service_at(clock), locked) == Reason.LOCKED


class TestWatermark:
    def test_a_token_from_before_it_counts_as_revoked_everywhere(self, service_at: ServiceAt) -> None:
        before, restored = service_at(NOW), service_at(NOW, NOW + TICK)
        secret, token = issue(before)
        attempt = tokens.new_use(secret, "app")
        assert restored.use(caller(), attempt) == Refusal(Reason.REVOKED, token)
        assert restored.introspect(caller(), attempt) == Refusal(Reason.REVOKED, token)
        assert restored.counts_as_revoked(token)
        assert not before.counts_as_revoked(token)
        assert use(service_at(NOW, NOW), secret) == "granted"

    def test_it_is_compared_with_the_clock_that_issued(self, service_at: ServiceAt) -> None:
        """So it is set past the restore by as much as clocks may differ; docs/restore.md says so."""
        ahead, _ = issue(service_at(NOW + MINUTE))
        behind, _ = issue(service_at(NOW - MINUTE))
        restored = service_at(NOW + 2 * MINUTE, NOW)
        assert (use(restored, ahead), use(restored, behind)) == ("granted", Reason.REVOKED)


class TestIntrospect:
    @pytest.mark.parametrize("user", ["alice", "bob"])
    def test_it_decides_as_a_use_does_and_changes_nothing(
        self, service: TokenService, store: MemoryTokenStore, audit: RecordingAudit, user: str
    ) -> None:
        secret, token = issue(service, user="alice")
        audit.clear()
        for _ in range(7):
            decision = service.introspect(caller("app", Scope.INTROSPECT), new_use(secret, user=user))
            assert decision == (Grant(token) if user == "alice" else Refusal(Reason.USER, token))
        reason = {} if user == "alice" else {"reason": "user_mismatch"}
        reported = members(token, **{**FACTS, "user": user}, **reason)
        assert audit.events == [("token.introspected", NOW, "INFO", reported)] * 7
        assert audit.counts == []
        assert stored(store, secret) == token

    def test_it_decides_for_the_time_on_its_own_clock(self, service_at: ServiceAt, audit: RecordingAudit) -> None:
        secret, token = issue(service_at(NOW))
        audit.clear()
        later = service_at(NOW + HOUR)
        assert later.introspect(caller(), tokens.new_use(secret, "app")) == Refusal(Reason.EXPIRED, token)
        assert later.now() == NOW + HOUR
        reported = members(token, reason="token_expired")
        assert audit.events == [("token.introspected", NOW + HOUR, "INFO", reported)]

    def test_an_unknown_token_is_not_found(self, service: TokenService) -> None:
        assert service.introspect(caller(), tokens.new_use("0" * 64, "app")) == Refusal(Reason.NOT_FOUND)


class TestStatus:
    def test_an_unknown_token_is_not_found(self, service: TokenService) -> None:
        with pytest.raises(TokenNotFound):
            service.status(caller(), UNKNOWN_ID)


class TestRevoke:
    def test_it_is_reported_once_and_returns_whether_there_is_a_token(
        self, service_at: ServiceAt, store: MemoryTokenStore, audit: RecordingAudit
    ) -> None:
        _, token = issue(service_at(NOW))
        audit.clear()
        for now in (NOW, NOW + MINUTE):
            assert service_at(now).revoke(caller(), token.id)
            assert store.tokens[token.id].revoked_at == NOW
        assert not service_at(NOW).revoke(caller(), UNKNOWN_ID)
        assert audit.events == [("token.revoked", NOW, "INFO", members(store.tokens[token.id], **ended(token)))]


class TestRevokeAll:
    def revoke_all(self, service: TokenService, by: Caller, **whose: str) -> tuple[int, bool]:
        done = service.revoke_all(by, **whose, time_left=lambda: True)
        return done.revoked, done.more

    def test_it_reports_each_token_and_leaves_those_of_other_issuers_alone(
        self, service: TokenService, store: MemoryTokenStore, audit: RecordingAudit
    ) -> None:
        mine, other = caller("app", Scope.ISSUE, Scope.MANAGE), caller("other", Scope.ISSUE)
        _, token = issue(service, mine)
        issue(service, other)
        audit.clear()
        store.calls.clear()
        assert self.revoke_all(service, mine, node_id=NODE) == (1, False)
        assert audit.events == [("token.revoked", NOW, "INFO", members(store.tokens[token.id], **ended(token)))]
        assert store.calls == ["query", "revoke"], "no call for another issuer's token"

    def test_it_counts_the_live_tokens_of_a_user_and_revokes_the_others_too(
        self, service: TokenService, store: MemoryTokenStore
    ) -> None:
        live = [issue(service, user="alice")[1] for _ in range(2)]
        spent_secret, spent = issue(service, user="alice")
        assert use(service, spent_secret, user="alice") == "granted"
        locked_secret, locked = issue(service, user="alice")
        for _ in range(5):
            use(service, locked_secret, user="somebody else")
        _, of_another = issue(service, user="another")
        admin = caller("other", Scope.ADMIN)
        assert self.revoke_all(service, admin, user="alice") == (2, False)
        assert all(store.tokens[token.id].revoked_at == NOW for token in (*live, spent, locked))
        assert store.tokens[of_another.id].revoked_at is None
        assert self.revoke_all(service, admin, user="alice") == (0, False)

    def test_each_token_is_revoked_at_its_own_instant(self, store: MemoryTokenStore, audit: RecordingAudit) -> None:
        clock = iter([NOW, NOW, NOW + MINUTE, NOW + HOUR])
        service = TokenService(store, audit, lambda: next(clock))
        service.issue(caller(), [Terms(Document(NODE), NOW + DAY) for _ in range(2)])
        audit.clear()
        assert self.revoke_all(service, caller(), node_id=NODE) == (2, False)
        assert [at for _, at, _, _ in audit.events] == [NOW + MINUTE, NOW + HOUR]
        assert {token.revoked_at for token in store.tokens.values()} == {NOW + MINUTE, NOW + HOUR}

    def test_it_stops_when_time_is_up_and_returns_that_there_is_more(self, service: TokenService) -> None:
        service.issue(caller(), [Terms(Document(NODE), NOW + HOUR) for _ in range(3)])
        answers = iter([True, True, False])
        done = service.revoke_all(caller(), node_id=NODE, time_left=lambda: next(answers))
        assert (done.revoked, done.more) == (2, True)
        assert self.revoke_all(service, caller(), node_id=NODE) == (1, False)

    def test_what_a_trailing_index_still_lists_is_neither_counted_nor_reported(
        self, service: TokenService, store: MemoryTokenStore, audit: RecordingAudit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, token = issue(service)
        store.revoke(token.id, None, NOW - MINUTE)
        audit.clear()
        monkeypatch.setattr(store, "find_unrevoked", lambda **_: iter([token.id, UNKNOWN_ID]))
        assert self.revoke_all(service, caller(), node_id=NODE) == (0, False)
        assert audit.events == []
