"""The ways to the service in races and under faults: over its store, and over HTTP, here or to `make run`'s server."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chalicelib import addresses, clients, instants, tokens
from chalicelib.clients import Client, Scope
from chalicelib.errors import StoreUnavailable
from chalicelib.http import conversion, parsing, problems
from chalicelib.http.routes import BASE_PATH
from chalicelib.http.schemas import IssueRequest
from chalicelib.service import Caller, TokenService
from chalicelib.storage.client_store import ClientStore
from chalicelib.storage.token_store import TokenStore
from chalicelib.tokens import Action, Reason, Refusal
from tests.support.audits import SilentAudit
from tests.support.histories import Answer, Granted, Held
from tests.support.serving import LocalService

Call = Callable[[str, str, Any, Mapping[str, str]], tuple[int, Mapping[str, str], str]]


@dataclass(frozen=True)
class Reply:
    """One answer; `code` is the problem's, None for a success."""

    status: int
    code: str | None
    body: Any
    retry_after: str | None = None
    replayed: bool = False

    @property
    def answer(self) -> Answer:
        """Of a use, as a history has it."""
        if self.status == 200:
            return Granted(self.body["useId"], self.body["usesRemaining"], self.replayed)
        return Reason(self.code) if self.status < 500 else None


class OverStore:
    """The service and its store, without HTTP. An error that no caller can cause is raised."""

    def __init__(self, store: TokenStore, clock: Callable[[], datetime] = instants.now) -> None:
        self._service = TokenService(store, SilentAudit(), clock)
        self._caller = Caller("app", frozenset(Scope), "faults")

    def issue(self, bodies: Sequence[Mapping[str, Any]]) -> Reply:
        read = partial(conversion.to_terms, now=instants.now())
        terms = [parsing.parse_body(json.dumps(body).encode(), IssueRequest, read) for body in bodies]

        def issue() -> Reply:
            issued = self._service.issue(self._caller, terms)
            facts = [(secret, token.id, token.terms.expires_at.isoformat()) for secret, token in issued]
            return Reply(201, None, [dict(zip(("token", "tokenId", "expiresAt"), each, strict=True)) for each in facts])

        return self._reply(issue)

    def use(self, token: str, facts: Mapping[str, str], key: str | None) -> Reply:
        address = addresses.parse_address(facts["ipAddress"]) if "ipAddress" in facts else None
        action = Action(facts["action"]) if "action" in facts else None
        use = tokens.new_use(
            token, self._caller.client_id, user=facts.get("user"), address=address, action=action, idempotency_key=key
        )

        def ask() -> Reply:
            decision = self._service.use(self._caller, use)
            if isinstance(decision, Refusal):
                return Reply(problems.TABLE[decision.reason].status, decision.reason, None)
            assert decision.claim is not None
            body = {"useId": decision.claim.id, "usesRemaining": decision.uses_remaining}
            return Reply(200, None, body, replayed=decision.replayed)

        return self._reply(ask)

    def revoke(self, token_id: str) -> Reply:
        return self._reply(lambda: Reply(204, None, self._service.revoke(self._caller, token_id)))

    def look(self, token_id: str) -> Reply:
        def look() -> Reply:
            token = self._service.status(self._caller, token_id)
            ids = tuple(claim.id for claim in token.claims)
            return Reply(200, None, Held(ids, token.mismatches, token.revoked_at is not None))

        return self._reply(look)

    @staticmethod
    def _reply(ask: Callable[[], Reply]) -> Reply:
        try:
            return ask()
        except StoreUnavailable as error:
            row = problems.TABLE[error.code]
            return Reply(row.status, error.code, None, row.headers.get("Retry-After"))


class OverHttp:
    """The HTTP API, whoever carries the calls."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def issue(self, bodies: Sequence[Mapping[str, Any]]) -> Reply:
        reply = self._reply("POST", "/tokens", {"tokens": bodies})
        return replace(reply, body=reply.body["tokens"]) if reply.status == 201 else reply

    def use(self, token: str, facts: Mapping[str, str], key: str | None) -> Reply:
        headers = {} if key is None else {"Idempotency-Key": key}
        return self._reply("POST", "/use", {"token": token, **facts}, headers)

    def revoke(self, token_id: str) -> Reply:
        return self._reply("DELETE", f"/token/{token_id}", None)

    def look(self, token_id: str) -> Reply:
        reply = self._reply("GET", f"/token/{token_id}", None)
        if reply.status != 200:
            return reply
        ids = tuple(claim["useId"] for claim in reply.body["claims"])
        return replace(reply, body=Held(ids, reply.body["mismatches"], reply.body["revoked"]))

    def _reply(self, method: str, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Reply:
        status, received, text = self._call(method, path, body, headers or {})
        parsed = json.loads(text) if text else None
        code = parsed["code"] if received.get("content-type") == problems.MEDIA_TYPE else None
        replayed = received.get("idempotent-replayed") == "true"
        return Reply(status, code, parsed, received.get("retry-after"), replayed)


class Service(LocalService):
    """The service as `make run` has it, and a client that may do everything.

    Args:
        environ: points it at its store.
        clients_at: where the client is made; past the faults.
    """

    def __init__(self, environ: Mapping[str, str], clients_at: ClientStore, log: Path) -> None:
        super().__init__(environ, log)
        secret, digest = clients.new_secret(instants.now())
        name = f"faults-{secret[:8]}"
        assert clients_at.add(Client(name, frozenset(Scope), (digest,), instants.now()))
        self.password = secret
        self.user = name
        self.authorization = "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()

    def call(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], str]:
        """Send a request on a connection of its own.

        Raises:
            OSError, HTTPException: no answer came.
        """
        connection = http.client.HTTPConnection(urlsplit(self.endpoint_url).netloc, timeout=60)
        try:
            raw = None if body is None else json.dumps(body)
            sent = {"Authorization": self.authorization, "Content-Type": "application/json", **headers}
            connection.request(method, BASE_PATH + path, raw, sent)
            response = connection.getresponse()
            text = response.read().decode()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, text
        finally:
            connection.close()
