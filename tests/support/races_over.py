"""The two ways on which races are run: the service over its store, and the whole of it over HTTP."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from chalicelib import clients, instants, tokens
from chalicelib.clients import Client, Scope
from chalicelib.errors import StoreUnavailable
from chalicelib.http.routes import BASE_PATH
from chalicelib.service import Caller, TokenService
from chalicelib.tokens import Claim, Grant, Reason, Terms
from tests.support.audits import SilentAudit
from tests.support.races import Entry, Kind, Outcome, Race, State
from tests.support.serving import serving
from tests.support.store_engines import StoreEngine

_USER: Final = "alice"
_STRANGER: Final = "mallory"
_ADDRESS: Final = "192.0.2.7"
_NETWORK: Final = "192.0.2.0/24"
_LIFETIME: Final = timedelta(hours=1)
_TICK: Final = timedelta(milliseconds=1)
_REPEATS: Final = 20


class OverStore:
    """The service and its store in this process; every caller has a clock of its own."""

    name = "store"
    has_own_clocks = True

    def __init__(self, engine: StoreEngine) -> None:
        self._store = engine.token_store()
        self._own = threading.local()
        self._service = TokenService(self._store, SilentAudit(), self._now)
        self._caller = Caller("racer", frozenset(Scope), "race")
        self.failures: Counter[str] = Counter()

    def issue(self, races: Sequence[Race]) -> list[Entry]:
        expires_at = instants.now() + _LIFETIME
        issued = self._service.issue(self._caller, [_terms(race, expires_at) for race in races])
        return [Entry(race, secret, token.id, expires_at) for race, (secret, token) in zip(races, issued, strict=True)]

    def ready(self, entry: Entry) -> Entry:
        return entry

    def use(self, entry: Entry, racer: int | None) -> Outcome:
        race = entry.race
        if race.kind is Kind.EXPIRING:
            late = racer is None or racer in race.late
            self._own.now = entry.expires_at + _TICK * ((racer or 0) if late else -1 - (racer or 0))
        use = tokens.new_use(
            entry.secret,
            self._caller.client_id,
            user=_USER if race.kind is Kind.LOCKED else None,
            address=tokens.parse_address(_ADDRESS),
            idempotency_key=None if racer is None else race.keys[racer],
        )
        try:
            decision = self._service.use(self._caller, use)
        except StoreUnavailable:
            self.failures["store unavailable"] += 1
            return Outcome()
        finally:
            self._own.now = None
        if isinstance(decision, Grant):
            assert decision.claim is not None
            return Outcome(decision.claim.id, None, decision.replayed, decision.uses_remaining)
        return Outcome(reason=decision.reason)

    def interfere(self, entry: Entry) -> None:
        if entry.race.kind is Kind.REVOKED:
            self._service.revoke(self._caller, entry.token_id)
        else:
            self._service.use(self._caller, tokens.new_use(entry.secret, self._caller.client_id, user=_STRANGER))

    def look(self, entry: Entry) -> State:
        token = self._service.status(self._caller, entry.token_id)
        return State(token.claims, token.mismatches, token.revoked_at is not None)

    def _now(self) -> datetime:
        return getattr(self._own, "now", None) or instants.now()


class OverHttp:
    """The service as `make run` serves it, one connection a caller."""

    name = "HTTP"
    has_own_clocks = False

    def __init__(self, engine: StoreEngine, url: str) -> None:
        secret, kept = clients.new_secret(instants.now())
        name = f"racer-{secret[:8]}"
        assert engine.client_store().add(Client(name, frozenset(Scope), (kept,), instants.now()))
        self._authorization = "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()
        self._address = url.removeprefix("http://")
        self._own = threading.local()
        self._connections: list[http.client.HTTPConnection] = []
        self.failures: Counter[str] = Counter()

    def close(self) -> None:
        """Close the connections of all callers, when no race is run any more."""
        for connection in self._connections:
            connection.close()

    def issue(self, races: Sequence[Race]) -> list[Entry]:
        return self._issue(races, _LIFETIME)

    def ready(self, entry: Entry) -> Entry:
        if entry.race.kind is Kind.EXPIRING:
            # The shortest life that can be asked for, and the race begins a moment before its end.
            [entry] = self._issue([entry.race], timedelta(seconds=1))
            time.sleep(max(0.0, (entry.expires_at - datetime.now(UTC)).total_seconds() - 0.04))
        return entry

    def use(self, entry: Entry, racer: int | None) -> Outcome:
        if racer is None and entry.race.kind is Kind.EXPIRING:
            time.sleep(max(0.0, (entry.expires_at - datetime.now(UTC)).total_seconds()))
        body = {"token": entry.secret, "ipAddress": _ADDRESS}
        if entry.race.kind is Kind.LOCKED:
            body["user"] = _USER
        key = None if racer is None else entry.race.keys[racer]
        for tries in range(_REPEATS if key else 1):
            outcome = self._use(body, key)
            if not outcome.unanswered:
                return replace(outcome, repeated=tries > 0)
        return Outcome()

    def interfere(self, entry: Entry) -> None:
        if entry.race.kind is Kind.REVOKED:
            self._until_done("DELETE", f"/token/{entry.token_id}", None)
        else:
            while self._use({"token": entry.secret, "user": _STRANGER}, None).unanswered:
                pass

    def look(self, entry: Entry) -> State:
        status = self._until_done("GET", f"/token/{entry.token_id}", None)
        claims = tuple(
            Claim(claim["useId"], "", datetime.fromisoformat(claim["at"]), claim["clientId"])
            for claim in status["claims"]
        )
        return State(claims, status["mismatches"], status["revoked"])

    def _issue(self, races: Sequence[Race], lifetime: timedelta) -> list[Entry]:
        bodies = [{**_body(race), "expiresIn": int(lifetime.total_seconds())} for race in races]
        answer = self._until_done("POST", "/tokens", {"tokens": bodies})
        return [
            Entry(race, issued["token"], issued["tokenId"], datetime.fromisoformat(issued["expiresAt"]))
            for race, issued in zip(races, answer["tokens"], strict=True)
        ]

    def _until_done(self, method: str, path: str, body: Any) -> Any:
        """The answer to what may be asked again where the service was too busy to answer."""
        for _ in range(_REPEATS):
            status, answer, _ = self._call(method, path, body)
            if status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
                break
            self.failures[f"{status} {answer['code']}"] += 1
        assert status < http.HTTPStatus.BAD_REQUEST, answer
        return answer

    def _use(self, body: Mapping[str, str], key: str | None) -> Outcome:
        status, answer, replayed = self._call("POST", "/use", body, {"Idempotency-Key": key} if key else {})
        if status == http.HTTPStatus.OK:
            return Outcome(answer["useId"], None, replayed, answer["usesRemaining"])
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            self.failures[f"{status} {answer['code']}"] += 1
            return Outcome()
        return Outcome(reason=Reason(answer["code"]))

    def _call(
        self, method: str, path: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, bool]:
        """Status, body and whether it is a replay. A connection that breaks is a failure of the service."""
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = http.client.HTTPConnection(self._address, timeout=60)
            self._connections.append(connection)
        sent = {"Authorization": self._authorization, **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        connection.request(method, BASE_PATH + path, None if body is None else json.dumps(body), sent)
        answer = connection.getresponse()
        text = answer.read()
        replayed = answer.getheader("Idempotent-Replayed") == "true"
        return answer.status, json.loads(text) if text else None, replayed


@contextmanager
def service(engine: StoreEngine, log: Path) -> Iterator[str]:
    """The service really listening, its store on that engine; its URL."""
    with serving(log, **engine.environ) as url:
        yield url


def _terms(race: Race, expires_at: datetime) -> Terms:
    return Terms(
        "node",
        expires_at,
        race.max_uses,
        user=_USER if race.kind is Kind.LOCKED else None,
        networks=frozenset({tokens.parse_network(_NETWORK)}) if race.kind is Kind.BOUND else frozenset(),
    )


def _body(race: Race) -> dict[str, Any]:
    body: dict[str, Any] = {"nodeId": "node", "maxUses": race.max_uses}
    if race.kind is Kind.LOCKED:
        body["user"] = _USER
    if race.kind is Kind.BOUND:
        body["ipAddresses"] = [_NETWORK]
    return body
