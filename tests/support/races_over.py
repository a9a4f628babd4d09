"""The two ways on which races are run: the service over its store, and the whole of it over HTTP."""

from __future__ import annotations

import base64
import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from chalicelib import addresses, clients, instants, tokens
from chalicelib.clients import Client, Scope
from chalicelib.errors import StoreUnavailable
from chalicelib.http.routes import BASE_PATH
from chalicelib.service import Caller, TokenService
from chalicelib.tokens import Document, Reason, Refusal, Terms
from tests.support.audits import SilentAudit
from tests.support.dynamodb_proxy import QUICK, Proxy
from tests.support.histories import Answer, Granted, Held, record
from tests.support.memory_store import Memory
from tests.support.races import Entry, Kind, Race
from tests.support.serving import serving
from tests.support.store_engines import StoreEngine

_USER: Final = "alice"
_STRANGER: Final = "mallory"
_ADDRESS: Final = "192.0.2.7"
_NETWORK: Final = "192.0.2.0/24"
_LIFETIME: Final = timedelta(hours=1)
_TICK: Final = timedelta(milliseconds=1)
_REPEATS: Final = 20
_MEMORY_PACE: Final = 0.02  # a call takes so much less
_FAULT_RATES: Final = (0.05, 0.2, 0.5)


class OverStore:
    """The service and its store in this process; every caller has a clock of its own."""

    name = "store"
    repeats = False  # its engine answers in time

    def __init__(self, engine: StoreEngine | Memory) -> None:
        self.pace = _MEMORY_PACE if isinstance(engine, Memory) else 1.0
        self._own = threading.local()
        self._service = TokenService(engine.token_store(), SilentAudit(), self._now)
        self._caller = Caller("racer", frozenset(Scope), "race")
        self.failures: Counter[str] = Counter()

    def issue(self, races: Sequence[Race]) -> list[Entry]:
        expires_at = instants.now() + _LIFETIME
        issued = self._service.issue(self._caller, [_terms(race, expires_at) for race in races])
        return [Entry(race, secret, token.id, expires_at) for race, (secret, token) in zip(races, issued, strict=True)]

    def ready(self, entry: Entry) -> Entry:
        return entry

    def use(self, entry: Entry, racer: int | None) -> Answer:
        race = entry.race
        late = race.kind is Kind.EXPIRING and (racer is None or racer in race.late)
        if race.kind is Kind.EXPIRING:
            self._own.now = entry.expires_at + _TICK * ((racer or 0) if late else -1 - (racer or 0))
        key = None if racer is None else race.keys[racer]
        user = _USER if race.kind is Kind.LOCKED else None
        try:
            return self._record(entry, "use", lambda: self._use(entry, user, key), key=key, late=late)
        finally:
            self._own.now = None

    def _use(self, entry: Entry, user: str | None, key: str | None) -> Answer:
        address = addresses.parse_address(_ADDRESS)
        use = tokens.new_use(entry.secret, self._caller.client_id, user=user, address=address, idempotency_key=key)
        decision = self._service.use(self._caller, use)
        if isinstance(decision, Refusal):
            return decision.reason
        assert decision.claim is not None
        return Granted(decision.claim.id, decision.uses_remaining, decision.replayed)

    def interfere(self, entry: Entry) -> Answer:
        if entry.race.kind is Kind.REVOKED:
            return self._record(entry, "revoke", lambda: self._service.revoke(self._caller, entry.token_id) or None)
        return self._record(entry, "use", lambda: self._use(entry, _STRANGER, None), against=Reason.USER)

    def look(self, entry: Entry) -> Answer:
        return self._record(entry, "look", lambda: self._look(entry))

    def _look(self, entry: Entry) -> Answer:
        token = self._service.status(self._caller, entry.token_id)
        return Held(tuple(claim.id for claim in token.claims), token.mismatches, token.revoked_at is not None)

    def _record(self, entry: Entry, kind: str, ask: Callable[[], Answer], **facts: Any) -> Answer:
        def answer() -> Answer:
            try:
                return ask()
            except StoreUnavailable:
                self.failures["store unavailable"] += 1
                return None

        return record(entry.history, kind, answer, **facts)

    def _now(self) -> datetime:
        return getattr(self._own, "now", None) or instants.now()


class OverFaults(OverStore):
    """The same with its store behind a proxy, which loses, repeats, delays and corrupts requests and answers."""

    name = "store, with faults"
    repeats = True

    def __init__(self, engine: StoreEngine, proxy: Proxy) -> None:
        super().__init__(replace(engine, environ={**engine.environ, "AWS_ENDPOINT_URL": proxy.url}))
        self._proxy = proxy

    def ready(self, entry: Entry) -> Entry:
        luck = random.Random(f"faults {entry.race.number}")
        rate = luck.choice(_FAULT_RATES)
        self._proxy.plan = lambda _: luck.choice(QUICK) if luck.random() < rate else None
        return entry

    def use(self, entry: Entry, racer: int | None) -> Answer:
        if racer is None:
            self._proxy.plan = lambda _: None
            self._proxy.settle()
        return super().use(entry, racer)


class OverHttp:
    """The service as `make run` serves it, one connection a caller."""

    name = "HTTP"
    repeats = True
    pace = 1.0

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

    def use(self, entry: Entry, racer: int | None) -> Answer:
        if racer is None and entry.race.kind is Kind.EXPIRING:
            time.sleep(max(0.0, (entry.expires_at - datetime.now(UTC)).total_seconds()))
        user = _USER if entry.race.kind is Kind.LOCKED else None
        return self._until_answered(entry, user, None if racer is None else entry.race.keys[racer])

    def interfere(self, entry: Entry) -> Answer:
        if entry.race.kind is Kind.REVOKED:
            return record(entry.history, "revoke", lambda: self._revoke(entry))
        return self._until_answered(entry, _STRANGER, None, Reason.USER)

    def _revoke(self, entry: Entry) -> Answer:
        self._until_done("DELETE", f"/token/{entry.token_id}", None)
        return True

    def look(self, entry: Entry) -> Answer:
        return record(entry.history, "look", lambda: self._look(entry))

    def _look(self, entry: Entry) -> Answer:
        status = self._until_done("GET", f"/token/{entry.token_id}", None)
        return Held(tuple(claim["useId"] for claim in status["claims"]), status["mismatches"], status["revoked"])

    def _until_answered(self, entry: Entry, user: str | None, key: str | None, against: Reason | None = None) -> Answer:
        """A caller with a key and a stranger call again if they get no answer."""
        body = {"token": entry.secret, "ipAddress": _ADDRESS, **({"user": user} if user else {})}
        for _ in range(_REPEATS if key or against else 1):
            answer = record(
                entry.history,
                "use",
                lambda: self._use(body, key),
                key=key,
                against=against,
                expires_at=entry.expires_at,
            )
            if answer:
                break
        return answer

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

    def _use(self, body: Mapping[str, str], key: str | None) -> Answer:
        status, answer, replayed = self._call("POST", "/use", body, {"Idempotency-Key": key} if key else {})
        if status == http.HTTPStatus.OK:
            return Granted(answer["useId"], answer["usesRemaining"], replayed)
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            self.failures[f"{status} {answer['code']}"] += 1
            return None
        return Reason(answer["code"])

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
        Document("node"),
        expires_at,
        race.max_uses,
        user=_USER if race.kind is Kind.LOCKED else None,
        networks=frozenset({addresses.parse_network(_NETWORK)}) if race.kind is Kind.BOUND else frozenset(),
    )


def _body(race: Race) -> dict[str, Any]:
    body: dict[str, Any] = {"nodeId": "node", "maxUses": race.max_uses}
    if race.kind is Kind.LOCKED:
        body["user"] = _USER
    if race.kind is Kind.BOUND:
        body["ipAddresses"] = [_NETWORK]
    return body
