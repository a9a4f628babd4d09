"""What the service does: issue, use, introspect, status, revoke. Rules, store and audit put together, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct

from chalicelib import tokens
from chalicelib.clients import Scope
from chalicelib.errors import InsufficientScope, InternalError, TokenNotFound
from chalicelib.log_names import Event, Metric
from chalicelib.tokens import MISMATCHES, Document, Grant, Refusal, Sealed, Terms, Token, Use


class Caller(Struct, frozen=True):
    """The client behind a request, as the authorizer found it; the request's ids and address are for the log.

    Attributes:
        request_id: the gateway's. A caller can choose it.
        source_ip: address that the request came from; None without a gateway.
        extended_request_id: the gateway's other id, which no caller can choose; None without a gateway.
    """

    client_id: str
    scopes: frozenset[Scope]
    request_id: str
    source_ip: str | None = None
    extended_request_id: str | None = None


class Revocation(Struct, frozen=True):
    """How many live tokens were revoked, and whether time ran out before all were."""

    revoked: int
    more: bool


class TokenStore(Protocol):
    """What the service needs of a store; `storage.token_store.TokenStore` documents each call."""

    def add(self, issued: Sequence[tuple[str, Token]]) -> None: ...

    def find(self, token_id: str) -> Token | None: ...

    def claim(self, use: Use, now: datetime, issued_after: datetime | None, judged: Token | None) -> Token | None: ...

    def count_mismatch(self, token_id: str, now: datetime) -> Token | None: ...

    def revoke(self, token_id: str, issuer: str | None, now: datetime) -> Token | None: ...

    def find_unrevoked(
        self, *, node_id: str | Sealed | None, user: str | None, issuer: str | None, now: datetime
    ) -> Iterator[str]: ...


class Audit(Protocol):
    """What the service needs of the log; `audit.Audit` documents each call."""

    def event(self, name: Event, now: datetime, level: str = "INFO", **facts: object) -> None: ...

    def count(self, name: Metric, **facts: str) -> None: ...


class TokenService:
    """The operations of the API.

    Args:
        store: where tokens are kept.
        audit: logs every decision.
        clock: the current instant, aware, in UTC.
        issued_after: tokens issued before this instant count as revoked; None revokes none.
        logs_node_ids: whether events name the document.

    Every operation raises `InsufficientScope` where the caller's scopes don't suffice, and `StoreUnavailable`.
    """

    def __init__(
        self,
        store: TokenStore,
        audit: Audit,
        clock: Callable[[], datetime],
        issued_after: datetime | None = None,
        *,
        logs_node_ids: bool = True,
    ) -> None:
        self._store = store
        self._audit = audit
        self._clock = clock
        self._issued_after = issued_after
        self._logs_node_ids = logs_node_ids

    def now(self) -> datetime:
        return self._clock()

    def require(self, caller: Caller, scope: Scope) -> None:
        """Check that a caller has a scope.

        Each operation does. Routes do it before they read a body, so that a caller without the scope learns no more.

        Raises:
            InsufficientScope: it has not, which is an audit event.
        """
        if scope in caller.scopes or (scope is Scope.MANAGE and Scope.ADMIN in caller.scopes):
            return
        self._audit.event(
            Event.AUTH_REFUSED,
            self._clock(),
            "WARNING",
            requestId=caller.request_id,
            extendedRequestId=caller.extended_request_id,
            sourceIp=caller.source_ip,
            clientId=caller.client_id,
            reason="insufficient_scope",
        )
        self._audit.count(Metric.AUTH_REFUSED)
        raise InsufficientScope(f"The client needs the scope {scope}.")

    def issue(self, caller: Caller, terms: Sequence[Terms], now: datetime | None = None) -> list[tuple[str, Token]]:
        """Issue tokens, all or none.

        Args:
            now: the instant of issue, from which the terms' life was counted; None means that the clock is read.

        Returns:
            For each terms the token itself, to be shown once, and what is stored of it.
        """
        self.require(caller, Scope.ISSUE)
        now = now or self._clock()
        issued = [tokens.new_token(caller.client_id, each, now) for each in terms]
        self._store.add(issued)
        for _, token in issued:
            self._report(Event.ISSUED, now, caller, token, **_limits(token.terms))
            self._audit.count(Metric.TOKENS_ISSUED)
        return issued

    def use(self, caller: Caller, use: Use) -> Grant | Refusal:
        """Spend one use of a token, or return the reason against it. A refusal spends nothing."""
        self.require(caller, Scope.USE)
        now = self._clock()
        decision = self._claim(use, now)
        if isinstance(decision, Refusal):
            self._refused(caller, use, decision, now)
            return decision
        self._report(
            Event.USED,
            now,
            caller,
            decision.token,
            use,
            reason="replayed" if decision.replayed else None,
            useId=use.claim_id,
            uses=decision.uses_made,
            previous=tokens.chain(decision.token, decision.uses_made - 1),
            issuedAt=decision.token.issued_at,
        )
        if not decision.replayed:
            self._audit.count(Metric.TOKENS_USED)
        return decision

    def introspect(self, caller: Caller, use: Use) -> Grant | Refusal:
        """Return what `use()` would decide now, and change nothing.

        It returns the node id where a use would be granted, so each call is logged.
        """
        self.require(caller, Scope.INTROSPECT)
        now = self._clock()
        decision = self._decide(self._store.find(use.token_id), use, now)
        reason = decision.reason if isinstance(decision, Refusal) else None
        self._report(Event.INTROSPECTED, now, caller, decision.token, use, reason=reason)
        return decision

    def status(self, caller: Caller, token_id: str) -> Token:
        """What is stored of a token that the caller may manage.

        Raises:
            TokenNotFound: there is none with that id.
        """
        self.require(caller, Scope.MANAGE)
        token = self._store.find(token_id)
        if token is None:
            raise TokenNotFound
        self._require_ownership(caller, token)
        return token

    def counts_as_revoked(self, token: Token) -> bool:
        return tokens.revoked(token, self._issued_after)

    def revoke(self, caller: Caller, token_id: str) -> bool:
        """Revoke a token. Idempotent; returns False if it does not exist."""
        self.require(caller, Scope.MANAGE)
        now = self._clock()
        token = self._store.revoke(token_id, self._issuer_bound(caller), now)
        if token is not None:
            self._require_ownership(caller, token)
            if token.revoked_at == now:
                self._ended(Event.REVOKED, now, caller, token)
        return token is not None

    def revoke_all(
        self,
        caller: Caller,
        *,
        node_id: str | Sealed | None = None,
        user: str | None = None,
        time_left: Callable[[], bool],
    ) -> Revocation:
        """Revoke every token of one node or of one user that has not expired and that the caller may manage.

        The result counts those that could still be used. The others are revoked to end replays of their uses.

        Args:
            node_id: or the sealed document of one of the node's tokens.
            time_left: asked before each token; False ends the work.
        """
        self.require(caller, Scope.MANAGE)
        issuer = self._issuer_bound(caller)
        now = self._clock()
        revoked = 0
        for token_id in self._store.find_unrevoked(node_id=node_id, user=user, issuer=issuer, now=now):
            if not time_left():
                return Revocation(revoked, more=True)
            now = self._clock()  # the last of many tokens is revoked much later than the first
            token = self._store.revoke(token_id, issuer, now)
            if token is not None and token.revoked_at == now:
                self._ended(Event.REVOKED, now, caller, token)
                revoked += token.uses_remaining > 0 and not token.locked
        return Revocation(revoked, more=False)

    def _claim(self, use: Use, now: datetime) -> Grant | Refusal:
        # A token with address ranges, or with a user that an older version stored, needs two rounds: the first only
        # reads, the second writes. Its addresses and its user never change in between. See `TokenStore.claim`.
        judged: Token | None = None
        for _ in range(2):
            token = self._store.claim(use, now, self._issued_after, judged)
            decision = self._decide(token, use, now)
            if isinstance(decision, Refusal) or decision.claim is not None:
                return decision
            judged = token
        raise InternalError("The store refused what the rules allow.")

    def _decide(self, token: Token | None, use: Use, now: datetime) -> Grant | Refusal:
        return tokens.decide(tokens.open_if_presented(token, use), use, now, self._issued_after)

    def _refused(self, caller: Caller, use: Use, refusal: Refusal, now: datetime) -> None:
        self._report(Event.REFUSED, now, caller, refusal.token, use, reason=refusal.reason, level="WARNING")
        self._audit.count(Metric.TOKENS_REFUSED, Reason=refusal.reason)
        if refusal.reason in MISMATCHES:
            token = tokens.open_if_presented(self._store.count_mismatch(use.token_id, now), use)
            if token is not None and token.locked:
                self._ended(Event.LOCKED, now, caller, token, use, reason=refusal.reason, level="WARNING")

    def _require_ownership(self, caller: Caller, token: Token) -> None:
        if token.issuer != caller.client_id:
            self.require(caller, Scope.ADMIN)

    def _issuer_bound(self, caller: Caller) -> str | None:
        return None if Scope.ADMIN in caller.scopes else caller.client_id

    def _ended(
        self, name: Event, now: datetime, caller: Caller, token: Token, use: Use | None = None, **facts: Any
    ) -> None:
        """Report that a token takes no more uses, with the digest of those that it took."""
        self._report(name, now, caller, token, use, previous=tokens.chain(token, len(token.claims)), **facts)

    def _report(
        self, name: Event, now: datetime, caller: Caller, token: Token | None, use: Use | None = None, **facts: Any
    ) -> None:
        """Report a decision.

        Args:
            token: as it is after the decision; None if missing. The event names its document if that is open.
            facts: members of the event beside those that follow from the other arguments; they take precedence.
        """
        known: dict[str, Any] = {
            "requestId": caller.request_id,
            "extendedRequestId": caller.extended_request_id,
            "sourceIp": caller.source_ip,
            "clientId": caller.client_id,
        }
        if token is not None:
            document = token.terms.document
            known |= {"tokenId": token.id, "uses": len(token.claims)}
            if isinstance(document, Document) and self._logs_node_ids:
                known["nodeId"] = document.node_id
        if use is not None:
            known |= {"tokenId": use.token_id, "user": use.user, "action": use.action}
            known["ipAddress"] = str(use.address) if use.address else None
        self._audit.event(name, now, **known | facts)


def _limits(terms: Terms) -> dict[str, Any]:
    """What the issuer says of a token, as its event has it: everything that a use can be held against."""
    return {
        "user": terms.user,
        "maxUses": terms.max_uses,
        "expiresAt": terms.expires_at,
        "notBefore": terms.not_before,
        "actions": sorted(terms.actions),
        "ipAddresses": sorted(map(str, terms.networks)) or None,
        "audience": sorted(terms.audience) or None,
    }
