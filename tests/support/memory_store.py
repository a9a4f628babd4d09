"""The stores in memory, in the contract suite of those on DynamoDB. The condition of a claim is `decide()`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final, TypeAlias

from msgspec.structs import replace

from chalicelib.clients import Client
from chalicelib.errors import StoreUnavailable
from chalicelib.storage.client_store import ClientStore
from chalicelib.storage.index_keys import node_key
from chalicelib.storage.token_store import TokenStore
from chalicelib.tokens import Grant, Token, Use, canonical, decide

MEMORY: Final = "memory"


class MemoryTokenStore:
    """The interface of `chalicelib.storage.token_store.TokenStore`, whose docstrings describe each operation.

    Attributes:
        tokens: by id.
        calls: the names of the operations since the start, as the metric names them.
    """

    def __init__(self) -> None:
        self.tokens: dict[str, Token] = {}
        self.calls: list[str] = []
        self._lock = threading.Lock()

    def add(self, issued: Sequence[tuple[str, Token]]) -> None:
        self.calls.append("add")
        tokens = [_sealed(secret, token) for secret, token in issued]
        with self._lock:
            if any(self.tokens.get(token.id, token) != token for token in tokens):
                raise StoreUnavailable
            self.tokens.update({token.id: token for token in tokens})

    def find(self, token_id: str) -> Token | None:
        self.calls.append("find")
        return self.tokens.get(token_id)

    def claim(
        self, use: Use, now: datetime, issued_after: datetime | None, judged: Token | None = None
    ) -> Token | None:
        self.calls.append("claim")
        with self._lock:
            token = self.tokens.get(use.token_id)
            decision = decide(token, use, now, issued_after)
            if isinstance(decision, Grant) and decision.claim is None and (judged or not decision.token.terms.networks):
                claims = (*decision.token.claims, use.claim(now))
                token = self.tokens[use.token_id] = replace(decision.token, claims=claims)
            return token

    def count_mismatch(self, token_id: str, now: datetime) -> Token | None:
        self.calls.append("count_mismatch")
        with self._lock:
            token = self.tokens.get(token_id)
            if token is None or (token.locked and token.last_mismatch_at != now):
                return None
            if not token.locked:
                token = replace(token, mismatches=token.mismatches + 1, last_mismatch_at=now)
                self.tokens[token_id] = token
            return token

    def revoke(self, token_id: str, issuer: str | None, now: datetime) -> Token | None:
        self.calls.append("revoke")
        with self._lock:
            token = self.tokens.get(token_id)
            if token is not None and token.revoked_at is None and issuer in (None, token.issuer):
                token = self.tokens[token_id] = replace(token, revoked_at=now)
            return token

    def find_unrevoked(
        self, *, node_id: str | None = None, user: str | None = None, issuer: str | None, now: datetime
    ) -> Iterator[str]:
        self.calls.append("query")
        for token in sorted(self.all(), key=lambda token: token.terms.expires_at):
            name, wanted = token.terms.user, user
            if node_id is not None:
                name, wanted = token.terms.document.node_key, node_key(node_id)
            is_theirs = name is not None and canonical(name) == canonical(str(wanted))
            is_live = token.revoked_at is None and now < token.terms.expires_at
            if is_theirs and is_live and issuer in (None, token.issuer):
                yield token.id

    def all(self) -> Iterator[Token]:
        with self._lock:
            return iter([*self.tokens.values()])


def _sealed(secret: str, token: Token) -> Token:
    document = token.terms.document
    return replace(token, terms=replace(token.terms, document=document.sealed(secret, node_key(document.node_id))))


AnyTokenStore: TypeAlias = MemoryTokenStore | TokenStore


class MemoryClientStore:
    """The interface of `chalicelib.storage.client_store.ClientStore`, whose docstrings describe each operation."""

    def __init__(self) -> None:
        self._clients: dict[str, Client] = {}
        self._lock = threading.Lock()

    def find(self, client_id: str) -> Client | None:
        return self._clients.get(client_id)

    def add(self, client: Client) -> bool:
        with self._lock:
            return self._clients.setdefault(client.id, client) == client

    def change(self, client_id: str, to: Callable[[Client], Client]) -> Client | None:
        while (known := self.find(client_id)) is not None:
            changed = to(known)
            with self._lock:
                if self._clients.get(client_id) == known:
                    self._clients[client_id] = changed
                    return changed
        return None

    def delete(self, client: Client) -> bool:
        with self._lock:
            if self._clients.get(client.id) == client:
                del self._clients[client.id]
            return client.id not in self._clients

    def all(self) -> list[Client]:
        with self._lock:
            return sorted(self._clients.values(), key=lambda client: client.id)


AnyClientStore: TypeAlias = MemoryClientStore | ClientStore


class Memory:
    """Both stores, to be opened as those of a `StoreEngine` are."""

    def __init__(self) -> None:
        self._token_store = MemoryTokenStore()
        self._client_store = MemoryClientStore()

    def token_store(self) -> MemoryTokenStore:
        return self._token_store

    def client_store(self) -> MemoryClientStore:
        return self._client_store
