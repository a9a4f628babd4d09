"""The token service's own use, over its store."""

from __future__ import annotations

from datetime import timedelta

from chalicelib import instants, tokens
from chalicelib.clients import Scope
from chalicelib.service import Caller, TokenService
from chalicelib.tokens import Document, Grant, Terms
from studies.rivals.table import Rival
from tests.support.audits import SilentAudit
from tests.support.store_engines import StoreEngine


class Ours(Rival):
    """A claim in one conditional write; its id is the caller's key, so that a repetition finds it."""

    name = "token service"
    exact = True

    def __init__(self, engine: StoreEngine) -> None:
        super().__init__(engine)
        self._service = TokenService(engine.token_store(self._count), SilentAudit(), instants.now)
        self._caller = Caller("app", frozenset(Scope), "race")

    def issue(self) -> str:
        [(secret, _)] = self._service.issue(
            self._caller, [Terms(Document("node"), instants.now() + timedelta(hours=1))]
        )
        return secret

    def use(self, link: str, key: str) -> bool:
        use = tokens.new_use(link, self._caller.client_id, idempotency_key=key)
        return isinstance(self._service.use(self._caller, use), Grant)

    def _count(self, operation: str, milliseconds: float) -> None:
        self.requests += 1
