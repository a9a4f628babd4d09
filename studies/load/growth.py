"""Whether a call costs more the more tokens are stored, or the more claims a token holds."""

from __future__ import annotations

import os
import statistics
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from chalicelib import addresses, instants, tokens
from chalicelib.tokens import Action, Document, Terms, Token, Use
from studies.load import processes
from studies.load.targets import ROLES
from tests.support.meter import Meter, item_bytes, usd_per_million, write_units
from tests.support.store_engines import StoreEngine

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
CLAIMS: Final = (1, 10, 25, 50, 75, 100)
OPERATIONS: Final = ("issue", "issue for a user", "find", "use", "refused use", "revoke", "find by node")
_READS: Final = ("find", "find by node")
_CLIENT: Final = "portal"
_USER: Final = "ada.lovelace@example.org"
_LIFETIME: Final = timedelta(days=1)
_BATCH: Final = 25  # DynamoDB's limit for BatchWriteItem
_WRITERS: Final = 2
_METERED: Final = 3

Show = Callable[[int], object]
"""Called with how many items or claims were written since the last call."""


class Fill:
    """Fills a table with tokens as they are stored, each with ids and a node of its own.

    Args:
        limit_seconds: how long all filling may take together.
    """

    def __init__(self, engine: StoreEngine, limit_seconds: float) -> None:
        self._dynamodb = engine.dynamodb()
        self._table = engine.token_table
        self._left = limit_seconds
        self._spent = 0.0
        self.stored = 1  # the template
        self._item = _stored_item(engine)

    def up_to(self, size: int, show: Show) -> bool:
        """Write until the table holds that many; False: the time was up before."""
        begun = time.monotonic()
        with ThreadPoolExecutor(_WRITERS) as writers:
            while self.stored < size and time.monotonic() - begun < self._left:
                sizes = _batches(min(size - self.stored, _BATCH * _WRITERS * 20))
                for written in writers.map(self._write, sizes):
                    self.stored += written
                    show(written)
        self._left -= time.monotonic() - begun
        self._spent += time.monotonic() - begun
        return self.stored >= size

    @property
    def per_second(self) -> int:
        """Items written a second, until now."""
        return round(self.stored / max(self._spent, 0.001))

    def _write(self, count: int) -> int:
        requests: Any = {self._table: [{"PutRequest": {"Item": self._another()}} for _ in range(count)]}
        while requests:
            requests = self._dynamodb.batch_write_item(RequestItems=requests).get("UnprocessedItems")
        return count

    def _another(self) -> dict[str, Any]:
        digest, node = os.urandom(32).hex(), os.urandom(32).hex()
        texts = {"id": f"tok_{digest[:32]}", "digest": digest, "node_hash": node}
        return self._item | {name: {"S": text} for name, text in texts.items()}


def _stored_item(engine: StoreEngine) -> dict[str, Any]:
    """A token's item as the store writes it; it stays in the table."""
    issued = _new_token("template")
    engine.token_store().add([issued])
    return dict(_raw(engine, issued[1]))


def _batches(count: int) -> Iterator[int]:
    yield from [_BATCH] * (count // _BATCH)
    if count % _BATCH:
        yield count % _BATCH


def _raw(engine: StoreEngine, token: Token) -> dict[str, Any]:
    answer = engine.dynamodb().get_item(TableName=engine.token_table, Key={"id": {"S": token.id}}, ConsistentRead=True)
    return dict(answer["Item"])


def _new_token(node: str, *, user: str | None = None, max_uses: int = 1) -> tuple[str, Token]:
    now = instants.now()
    terms = Terms(Document(node), now + _LIFETIME, max_uses, frozenset({Action.DOWNLOAD}), user=user)
    return tokens.new_token(_CLIENT, terms, now)


def _use_of(secret: str) -> Use:
    address = addresses.parse_address("192.0.2.7")
    return tokens.new_use(secret, _CLIENT, user=_USER, address=address, action=Action.DOWNLOAD)


def at_size(engine: StoreEngine, stored: int, calls: int) -> dict[str, Any]:
    """What each operation takes and consumes now.

    Args:
        stored: how many items there are.
        calls: how many of each are timed.
    """
    row: dict[str, Any] = {"tokens": stored, "operations": {}}
    timed = _Lives(engine, calls)
    for operation in OPERATIONS:
        row["operations"][operation] = timed.run(operation)
    with Meter(engine.environ) as meter:
        metered = _Lives(replace(engine, environ={**engine.environ, "AWS_ENDPOINT_URL": meter.url}), _METERED)
        for operation in OPERATIONS:
            meter.read()
            metered.run(operation)
            units = {name: round(total / _METERED, 2) for name, total in meter.read().items()}
            row["operations"][operation] |= {"units": units, "usd": _usd(operation, units.get("total"))}
    return row


def _usd(operation: str, units: float | None) -> float | None:
    """The price of a million; None if the engine reports no units."""
    if units is None:
        return None
    return usd_per_million(0, units) if operation in _READS else usd_per_million(units)


class _Lives:
    """Tokens that are issued, found, used, refused and revoked, one operation after the other over all of them."""

    def __init__(self, engine: StoreEngine, count: int) -> None:
        self._store = engine.token_store()
        self._issued = [_new_token(str(uuid.uuid4())) for _ in range(count)]
        self._bound = [_new_token(str(uuid.uuid4()), user=_USER + str(number)) for number in range(count)]
        self._store.find("tok_" + "0" * 32)  # the connection, and whatever is loaded late

    def run(self, operation: str) -> dict[str, Any]:
        """Do it with every token; milliseconds a call, and processor time of this process and of the engine."""
        act, those = self._acts()[operation]
        own, engine = time.process_time(), _engine_seconds()
        times = []
        for secret, token in those:
            begun = time.perf_counter()
            act(secret, token)
            times.append((time.perf_counter() - begun) * 1000)
        return {
            "p50_ms": round(statistics.median(times), 2),
            "p99_ms": round(sorted(times)[int(len(times) * 0.99)], 2),
            "own_cpu_ms": round((time.process_time() - own) * 1000 / len(times), 3),
            "engine_cpu_ms": round((_engine_seconds() - engine) * 1000 / len(times), 3),
        }

    def _acts(self) -> dict[str, tuple[Callable[[str, Token], object], Sequence[tuple[str, Token]]]]:
        store = self._store

        def use(secret: str, token: Token) -> None:
            use = _use_of(secret)
            found = store.claim(use, instants.now(), None)
            assert found is not None
            assert [claim.attempt for claim in found.claims] == [use.attempt]

        def refused(secret: str, token: Token) -> None:
            use = _use_of(secret)
            found = store.claim(use, instants.now(), None)
            assert found is not None
            assert use.attempt not in [claim.attempt for claim in found.claims]

        def find_by_node(secret: str, token: Token) -> None:
            assert list(
                store.find_unrevoked(node_id=token.terms.document.node_id, issuer=None, now=instants.now())
            ) == [token.id]

        def find(secret: str, token: Token) -> None:
            assert store.find(token.id) is not None

        def revoke(secret: str, token: Token) -> None:
            found = store.revoke(token.id, _CLIENT, now := instants.now())
            assert found is not None
            assert found.revoked_at == now

        def issue(secret: str, token: Token) -> None:
            store.add([(secret, token)])

        return {
            "issue": (issue, self._issued),
            "issue for a user": (issue, self._bound),
            "find": (find, self._issued),
            "use": (use, self._issued),
            "refused use": (refused, self._issued),
            "revoke": (revoke, self._issued),
            "find by node": (find_by_node, self._bound),
        }


def with_claims(engine: StoreEngine, count: int, show: Show) -> list[dict[str, Any]]:
    """Use tokens up, one use after the other; what the use costs that leaves so many claims.

    Args:
        count: how many tokens; each level's time is the median over them.
    """
    most = max(CLAIMS)
    store = engine.token_store()
    issued = [_new_token(str(uuid.uuid4()), max_uses=most) for _ in range(count)]
    for each in issued:
        store.add([each])
    rows, spent = [], 0
    with Meter(engine.environ) as meter:
        metered = replace(engine, environ={**engine.environ, "AWS_ENDPOINT_URL": meter.url}).token_store()
        secret, token = _new_token(str(uuid.uuid4()), max_uses=most)
        metered.add([(secret, token)])
        for claims in range(1, most + 1):
            meter.read()
            metered.claim(_use_of(secret), instants.now(), None)
            charged = meter.read()["total"]
            size = item_bytes(_raw(engine, token))
            spent += write_units(size)
            own, at_engine = time.process_time(), _engine_seconds()
            times = [_timed_claim(store, each) for each, _ in issued]
            show(count)
            if claims in CLAIMS:
                rows.append(
                    {
                        "claims": claims,
                        "item_bytes": size,
                        "write_units": write_units(size),
                        "write_units_charged": charged,
                        "mean_write_units": round(spent / claims, 2),
                        "usd_per_million_uses": usd_per_million(spent / claims),
                        "p50_ms": round(statistics.median(times), 2),
                        "own_cpu_ms": round((time.process_time() - own) * 1000 / count, 3),
                        "engine_cpu_ms": round((_engine_seconds() - at_engine) * 1000 / count, 3),
                    }
                )
    return rows


def _timed_claim(store: Any, secret: str) -> float:
    begun = time.perf_counter()
    token = store.claim(use := _use_of(secret), instants.now(), None)
    assert token.claims[-1].attempt == use.attempt
    return (time.perf_counter() - begun) * 1000


def _engine_seconds() -> float:
    found = processes.by_role(os.getpid(), {"engine": ROLES["engine"]})
    return sum(process.seconds for process in found["engine"])
