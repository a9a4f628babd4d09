"""The log of a service whose clock a test holds in its hands, and what `tokenctl audit` reads of it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from chalicelib import addresses, tokens
from chalicelib.audit import Audit
from chalicelib.clients import Scope
from chalicelib.service import Caller, TokenService
from chalicelib.tokens import Action, Document, Terms
from tests.support.memory_store import MemoryTokenStore
from tokenctl.audit import stored
from tokenctl.audit_lines import read
from tokenctl.audit_rules import Fact, Stored

NOON: Final = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SECOND: Final = timedelta(seconds=1)
HOUR: Final = timedelta(hours=1)
ADDRESS: Final = addresses.parse_address("10.0.0.1")
NEW: Final = {"useId": "use_" + "9" * 32}
"""Members of a use that was not there before."""
UNNUMBERED: Final = {"uses": None, "previous": None}


class World:
    """A service whose clock and log a test holds in its hands."""

    def __init__(self) -> None:
        self.now = NOON
        self.lines: list[str] = []
        self.store = MemoryTokenStore()
        self._service = TokenService(self.store, Audit("prod", "1", self.lines.append), lambda: self.now)
        self._caller = Caller("app", frozenset(Scope), "request", "192.0.2.7", "extended")

    def issue(self, **terms: Any) -> str:
        facts = {"document": Document("node"), "expires_at": self.now + HOUR, **terms}
        [(secret, _)] = self._service.issue(self._caller, [Terms(**facts)])
        return secret

    def use(self, secret: str, key: str | None = None, after: timedelta = SECOND, **facts: Any) -> None:
        self.now += after
        self._service.use(self._caller, tokens.new_use(secret, "app", idempotency_key=key, **facts))

    def introspect(self, secret: str, **facts: Any) -> None:
        self._service.introspect(self._caller, tokens.new_use(secret, "app", **facts))

    def revoke(self, secret: str, after: timedelta = SECOND, by: Caller | None = None) -> None:
        self.now += after
        self._service.revoke(by or self._caller, tokens.token_id(tokens.digest(secret)))

    def stored(self) -> dict[str, Stored]:
        return {token.id: stored(token) for token in self.store.all()}


@cache
def life() -> World:
    """Everything that can happen to tokens: uses, replays, looks, refusals, locks, revocations."""
    world = World()
    stated: dict[str, Any] = {"user": "Zoë", "address": ADDRESS, "action": Action.DOWNLOAD}
    secret = world.issue(max_uses=3, user="Zoë", not_before=NOON)
    for key in ("a", "b", "a", None, None):
        world.use(secret, key, **stated)
    world.use(secret, "a", **stated)
    bound = world.issue(networks=frozenset({addresses.parse_network("10.0.0.0/24")}), audience=frozenset({"app"}))
    world.use(bound, address=ADDRESS)
    locked = world.issue(user="alice", max_uses=2)
    world.use(locked, user="alice")
    world.introspect(locked, user="alice")
    world.introspect(locked)
    for _ in range(6):
        world.use(locked, **stated)
    revoked = world.issue(max_uses=5, user="tss_" + "0" * 20)
    world.use(revoked, user="tss_" + "0" * 20)
    world.use(revoked, user="tss_" + "0" * 20)
    world.revoke(revoked)
    world.use(revoked)
    late = world.issue()
    world.use(late, "late", after=HOUR - SECOND)
    world.use(late, "late", after=2 * SECOND)
    world.use(late, after=SECOND)
    world.use("0" * 64)
    world.revoke(world.issue(), by=Caller("tokenctl", frozenset(Scope), "tokenctl"))
    world.issue()
    return world


def events(text: bytes | str | Iterable[str]) -> tuple[list[tuple[str, Fact]], list[str]]:
    """The events of a file of this text, and what could not be read of it."""
    if not isinstance(text, str | bytes):
        text = "".join(f"{line}\n" for line in text)
    damaged: list[str] = []
    found = read(io.BytesIO(text.encode() if isinstance(text, str) else text), damaged.append)
    return [(token_id, fact) for token_id, fact in found if fact is not None], damaged


def changed(line: str, **members: object) -> str:
    """The line with other members; None takes a member out."""
    return json.dumps({name: value for name, value in {**json.loads(line), **members}.items() if value is not None})
