"""The two ways on which races are run: the service over its store, and the whole of it over HTTP."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from chalicelib import instants
from chalicelib.tokens import Reason
from tests.support import fault_ways
from tests.support.dynamodb_proxy import QUICK, Proxy
from tests.support.fault_ways import Reply, Service
from tests.support.histories import Answer, record
from tests.support.memory_store import Memory
from tests.support.races import Entry, Kind, Race
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


class _Racing:
    """What the ways share.

    Args:
        attempts: how often a caller with a key or a stranger calls until it gets an answer.
    """

    def __init__(self, way: fault_ways.OverStore | fault_ways.OverHttp, attempts: int) -> None:
        self._way = way
        self._attempts = attempts
        self.failures: Counter[str] = Counter()

    def issue(self, races: Sequence[Race], lifetime: timedelta = _LIFETIME) -> list[Entry]:
        bodies = [_body(race, lifetime) for race in races]
        return [
            Entry(race, issued["token"], issued["tokenId"], datetime.fromisoformat(issued["expiresAt"]))
            for race, issued in zip(races, self._until_done(lambda: self._way.issue_all(bodies)).body, strict=True)
        ]

    def ready(self, entry: Entry) -> Entry:
        return entry

    def use(self, entry: Entry, racer: int | None, **facts: Any) -> Answer:
        user = _USER if entry.race.kind is Kind.LOCKED else None
        return self._use(entry, user, None if racer is None else entry.race.keys[racer], **facts)

    def interfere(self, entry: Entry) -> Answer:
        if entry.race.kind is not Kind.REVOKED:
            return self._use(entry, _STRANGER, None, against=Reason.USER)

        def revoke() -> Answer:
            self._until_done(lambda: self._way.revoke(entry.token_id))
            return True

        return record(entry.history, "revoke", revoke)

    def look(self, entry: Entry) -> Answer:
        return record(entry.history, "look", lambda: self._until_done(lambda: self._way.look(entry.token_id)).body)

    def _use(self, entry: Entry, user: str | None, key: str | None, **facts: Any) -> Answer:
        said = {"ipAddress": _ADDRESS, **({"user": user} if user else {})}
        for _ in range(self._attempts if key or "against" in facts else 1):
            answer = record(
                entry.history,
                "use",
                lambda: self._noted(self._way.use(entry.secret, said, key)).answer,
                key=key,
                **facts,
            )
            if answer:
                break
        return answer

    def _until_done(self, ask: Callable[[], Reply]) -> Reply:
        """The answer to what may be repeated where the service was too busy to answer."""
        for _ in range(_REPEATS):
            reply = self._noted(ask())
            if reply.status < 500:
                break
        assert reply.status < 400, reply
        return reply

    def _noted(self, reply: Reply) -> Reply:
        if reply.status >= 500:
            self.failures[f"{reply.status} {reply.code}"] += 1
        return reply


class OverStore(_Racing):
    """The service and its store in this process; every caller has a clock of its own."""

    name = "store"
    repeats = False  # its engine answers in time

    def __init__(self, engine: StoreEngine | Memory) -> None:
        self.pace = _MEMORY_PACE if isinstance(engine, Memory) else 1.0
        self._own = threading.local()
        super().__init__(fault_ways.OverStore(engine.token_store(), self._now), attempts=1)

    def use(self, entry: Entry, racer: int | None, **facts: Any) -> Answer:
        race = entry.race
        late = race.kind is Kind.EXPIRING and (racer is None or racer in race.late)
        if race.kind is Kind.EXPIRING:
            self._own.now = entry.expires_at + _TICK * ((racer or 0) if late else -1 - (racer or 0))
        try:
            return super().use(entry, racer, late=late)
        finally:
            self._own.now = None

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

    def use(self, entry: Entry, racer: int | None, **facts: Any) -> Answer:
        if racer is None:
            self._proxy.plan = lambda _: None
            self._proxy.settle()
        return super().use(entry, racer)


class OverHttp(_Racing):
    """The service as `make run` serves it, a connection a call."""

    name = "HTTP"
    repeats = True
    pace = 1.0

    def __init__(self, service: Service) -> None:
        super().__init__(fault_ways.OverHttp(service.call), attempts=_REPEATS)

    def ready(self, entry: Entry) -> Entry:
        if entry.race.kind is Kind.EXPIRING:
            # The shortest life that can be asked for, and the race begins a moment before its end.
            [entry] = self.issue([entry.race], timedelta(seconds=1))
            time.sleep(max(0.0, (entry.expires_at - datetime.now(UTC)).total_seconds() - 0.04))
        return entry

    def use(self, entry: Entry, racer: int | None, **facts: Any) -> Answer:
        if racer is None and entry.race.kind is Kind.EXPIRING:
            time.sleep(max(0.0, (entry.expires_at - datetime.now(UTC)).total_seconds()))
        return super().use(entry, racer, expires_at=entry.expires_at)


def _body(race: Race, lifetime: timedelta) -> dict[str, Any]:
    body: dict[str, Any] = {"nodeId": "node", "maxUses": race.max_uses, "expiresIn": int(lifetime.total_seconds())}
    if race.kind is Kind.LOCKED:
        body["user"] = _USER
    if race.kind is Kind.BOUND:
        body["ipAddresses"] = [_NETWORK]
    return body
