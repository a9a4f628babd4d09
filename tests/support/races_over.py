"""The ways on which races are run: the service over its store, and the whole of it over HTTP; also under faults."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count, cycle, islice
from typing import Any, Final

from chalicelib import instants
from chalicelib.tokens import Reason
from tests.support import fault_ways
from tests.support.dynamodb_proxy import QUICK, Fault, Proxy
from tests.support.fault_ways import Reply, Service
from tests.support.histories import Answer, Granted, record
from tests.support.memory_store import Memory
from tests.support.races import RACERS, STRANGERS, Entry, Findings, Kind, Race
from tests.support.store_engines import StoreEngine

_OTHERS: Final = 1 + STRANGERS  # somebody who looks at the token, and those who interfere
_USER: Final = "alice"
_STRANGER: Final = "mallory"
_ADDRESS: Final = "192.0.2.7"
_NETWORK: Final = "192.0.2.0/24"
_LIFETIME: Final = timedelta(hours=1)
_TICK: Final = timedelta(milliseconds=1)
_REPEATS: Final = 20
_MEMORY_PACE: Final = 0.02  # a call takes so much less
_FAULT_RATES: Final = (0.05, 0.2, 0.5)


class Way:
    """A way to reach the service; called from many threads at once. Uses, interference and looks go into the history.

    Args:
        attempts: how often a caller with a key, a stranger and one who revokes call until they get an answer.
        proxy: between the service and its store, if faults may happen there.
        faults: one of them is chosen each time.

    Attributes:
        repeats: whether the service may repeat a request to its store.
        pace: the delays of a race are multiplied by it.
        failures: the answers of 500 and above.
        slowest_503_ms: how long a caller waited for one.
    """

    pace = 1.0
    repeats = True

    def __init__(
        self,
        way: fault_ways.OverStore | fault_ways.OverHttp,
        attempts: int,
        proxy: Proxy | None = None,
        faults: Sequence[Fault] = QUICK,
    ) -> None:
        self._way = way
        self._attempts = attempts
        self._proxy = proxy
        self._faults = faults
        # One token is stored by a put, several by a transaction.
        self.batches: Sequence[int] = (1, 3) if proxy else (50,)
        self.failures: Counter[str] = Counter()
        self.slowest_503_ms = 0.0

    def issue(self, races: Sequence[Race], lifetime: timedelta = _LIFETIME) -> list[Entry]:
        self._let_faults_happen(races[0])
        bodies = [_body(race, lifetime) for race in races]
        return [
            Entry(race, issued["token"], issued["tokenId"], datetime.fromisoformat(issued["expiresAt"]))
            for race, issued in zip(races, self._until_done(lambda: self._way.issue(bodies)).body, strict=True)
        ]

    def ready(self, entry: Entry) -> Entry:
        """Return when the race may begin, with the token to race for: an expiring one is raced for at its expiry."""
        self._let_faults_happen(entry.race)
        return entry

    def use(self, entry: Entry, racer: int | None, **facts: Any) -> Answer:
        """Spend as that racer; None: as someone who comes when all is over."""
        user = _USER if entry.race.kind is Kind.LOCKED else None
        return self._use(entry, user, None if racer is None else entry.race.keys[racer], **facts)

    def interfere(self, entry: Entry) -> Answer:
        """Revoke it, or present it as a stranger."""
        if entry.race.kind is not Kind.REVOKED:
            return self._use(entry, _STRANGER, None, against=Reason.USER)

        def revoke() -> Answer:
            return self._asked(lambda: self._way.revoke(entry.token_id)).status == 204 or None

        return self._recorded(entry, "revoke", revoke, self._attempts)

    def look(self, entry: Entry) -> Answer:
        def look() -> Answer:
            reply = self._asked(lambda: self._way.look(entry.token_id))
            return reply.body if reply.status == 200 else None

        return self._recorded(entry, "look", look, self._attempts)

    def finish(self, entry: Entry) -> None:
        """Without faults, what was granted to a key is granted to it again, and the next callers get what is left."""
        if self._proxy:
            self._proxy.plan = lambda _: None
            self._proxy.settle()
            for racer in {key: racer for racer, key in enumerate(entry.race.keys) if key in entry.bodies}.values():
                self.use(entry, racer)
        for _ in range(entry.race.max_uses + 1):
            if not isinstance(self.use(entry, None), Granted):
                break
        self.look(entry)

    def _let_faults_happen(self, race: Race) -> None:
        if self._proxy and self._faults:
            luck = random.Random(f"faults {race.number}")
            rate, faults = luck.choice(_FAULT_RATES), self._faults
            self._proxy.plan = lambda _: luck.choice(faults) if luck.random() < rate else None

    def _use(self, entry: Entry, user: str | None, key: str | None, **facts: Any) -> Answer:
        said = {"ipAddress": _ADDRESS, **({"user": user} if user else {})}

        def use() -> Answer:
            reply = self._asked(lambda: self._way.use(entry.secret, said, key))
            if key and reply.status == 200:
                entry.bodies.setdefault(key, []).append(reply.body)
            return reply.answer

        return self._recorded(entry, "use", use, self._attempts if key or "against" in facts else 1, key=key, **facts)

    def _recorded(self, entry: Entry, kind: str, ask: Callable[[], Answer], attempts: int, **facts: Any) -> Answer:
        """Call until there is an answer, and add each call to the history."""
        for _ in range(attempts):
            answer = record(entry.history, kind, ask, **facts)
            if answer:
                break
        return answer

    def _until_done(self, ask: Callable[[], Reply]) -> Reply:
        """The answer to what may be repeated where the service was too busy to answer."""
        for _ in range(_REPEATS):
            reply = self._asked(ask)
            if reply.status < 500:
                break
        assert reply.status < 400, reply
        return reply

    def _asked(self, ask: Callable[[], Reply]) -> Reply:
        begun = time.monotonic()
        reply = ask()
        if reply.status >= 500:
            assert reply.status != 500, reply
            self.failures[f"{reply.status} {reply.code}"] += 1
        if reply.status == 503:
            assert reply.retry_after, reply
            self.slowest_503_ms = max(self.slowest_503_ms, (time.monotonic() - begun) * 1000)
        return reply


class OverStore(Way):
    """The service and its store in this process; every caller has a clock of its own."""

    def __init__(
        self, engine: StoreEngine | Memory, proxy: Proxy | None = None, faults: Sequence[Fault] = QUICK
    ) -> None:
        if proxy:
            assert isinstance(engine, StoreEngine)
            engine = replace(engine, environ={**engine.environ, "AWS_ENDPOINT_URL": proxy.url})
        self.pace = _MEMORY_PACE if isinstance(engine, Memory) else 1.0
        self.repeats = proxy is not None  # else its engine answers in time
        self._own = threading.local()
        way = fault_ways.OverStore(engine.token_store(), self._now)
        super().__init__(way, _REPEATS if proxy else 1, proxy, faults)

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


class OverHttp(Way):
    """The service as `make run` serves it, a connection a call."""

    def __init__(self, service: Service, proxy: Proxy | None = None, faults: Sequence[Fault] = QUICK) -> None:
        super().__init__(fault_ways.OverHttp(service.call), _REPEATS, proxy, faults)

    def ready(self, entry: Entry) -> Entry:
        if entry.race.kind is Kind.EXPIRING:
            # The shortest life that can be asked for, and the race begins a moment before its end.
            [entry] = self.issue([entry.race], timedelta(seconds=1))
            time.sleep(max(0.0, (entry.expires_at - datetime.now(UTC)).total_seconds() - 0.04))
        return super().ready(entry)

    def use(self, entry: Entry, racer: int | None, **facts: Any) -> Answer:
        if racer is None and entry.race.kind is Kind.EXPIRING:
            time.sleep(max(0.0, (entry.expires_at - datetime.now(UTC)).total_seconds()))
        return super().use(entry, racer, expires_at=entry.expires_at)


class OverKills(OverHttp):
    """The service is killed when its store has done one of the first writes of a race, and started when it is over.

    Nobody repeats a call before: then those with a key do.
    """

    def __init__(self, service: Service, proxy: Proxy) -> None:
        super().__init__(service, proxy, faults=())
        self._way = fault_ways.OverHttp(self._call)
        self._service = service
        self._killed = threading.Event()

    def ready(self, entry: Entry) -> Entry:
        entry = super().ready(entry)
        writes, last = count(1), 1 + entry.race.number % 4

        def kill(operation: str) -> None:
            if operation == "UpdateItem" and next(writes) == last:
                self._service.kill()
                self._killed.set()

        self._attempts = 1
        self._killed.clear()
        assert self._proxy
        self._proxy.when_done = kill
        return entry

    def finish(self, entry: Entry) -> None:
        assert self._killed.wait(60), "the service was not killed"
        self._service.start()
        self._attempts = _REPEATS
        for racer in {key: racer for racer, key in enumerate(entry.race.keys) if key}.values():
            self.use(entry, racer)
        super().finish(entry)

    def _call(
        self, method: str, path: str, body: Any, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], str]:
        try:
            return self._service.call(method, path, body, headers)
        except (OSError, http.client.HTTPException):
            return 504, {}, ""


def _body(race: Race, lifetime: timedelta) -> dict[str, Any]:
    body: dict[str, Any] = {"nodeId": "node", "maxUses": race.max_uses, "expiresIn": int(lifetime.total_seconds())}
    if race.kind is Kind.LOCKED:
        body["user"] = _USER
    if race.kind is Kind.BOUND:
        body["ipAddresses"] = [_NETWORK]
    return body


class Track:
    """Threads that run one race after the other, all of them starting at the same moment."""

    def __init__(self, way: Way, racers: int = RACERS) -> None:
        self._way = way
        self._racers = racers
        self._gate = threading.Barrier(racers + _OTHERS + 1)
        self._entry: Entry | None = None
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(place,), name=f"racer-{place}", daemon=True)
            for place in range(racers + _OTHERS)
        ]

    def __enter__(self) -> Track:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._entry = None
        self._gate.wait()
        for thread in self._threads:
            thread.join()

    def run(self, races: Iterable[Race], findings: Findings, done: Callable[[], object] = lambda: None) -> None:
        """Run races, and judge each."""
        sizes, left = cycle(self._way.batches), iter(races)
        while batch := list(islice(left, next(sizes))):
            for issued in self._way.issue(batch):
                self._entry = entry = self._way.ready(issued)
                self._gate.wait()
                self._gate.wait()
                if self._failures:
                    raise self._failures[0]
                self._way.finish(entry)
                findings.add(entry, self._way.repeats)
                done()

    def _run(self, place: int) -> None:
        pause = threading.Event()
        while True:
            self._gate.wait()
            entry = self._entry
            if entry is None:
                return
            try:
                if delay := entry.race.delays[place] * self._way.pace:
                    pause.wait(delay)
                if place < self._racers:
                    self._way.use(entry, place)
                elif place == self._racers:
                    self._way.look(entry)
                elif place - self._racers <= entry.race.interferers:
                    self._way.interfere(entry)
            except BaseException as failure:  # noqa: BLE001 - raised by the main thread; the others wait at the gate
                self._failures.append(failure)
            self._gate.wait()
