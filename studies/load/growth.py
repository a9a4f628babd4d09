"""Whether a call costs more the more tokens are stored, or the more claims a token holds."""

from __future__ import annotations

import os
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from chalicelib import addresses, instants, tokens
from chalicelib.storage.token_store import TokenStore
from chalicelib.tokens import Action, Document, Terms, Token, Use
from studies import page
from studies.load.ladder import cpu_seconds
from tests.support.meter import Meter, item_bytes, usd_per_million, write_units
from tests.support.store_engines import OPEN, StoreEngine

CLAIMS: Final = (1, 10, 25, 50, 75, 100)
_READS: Final = ("find", "find by node")
_CLIENT: Final = "portal"
_USER: Final = "ada.lovelace@example.org"
_LIFETIME: Final = timedelta(days=1)
_BATCH: Final = 25  # DynamoDB's limit for BatchWriteItem
_WRITERS: Final = 2
_METERED: Final = 3

Issued = tuple[str, Token]
"""A token's secret, and what is stored of it."""


def grow(name: str, sizes: Sequence[int], fill_seconds: float, calls: int, scratch: Path) -> list[dict[str, Any]]:
    """What each operation takes at each size of an engine's table.

    Args:
        sizes: tokens stored.
        fill_seconds: how long filling may take together; the size that is reached by then is the last one.
        calls: how many of each operation are timed.
    """
    rows = []
    with OPEN[name](scratch) as engine:
        stored, left = 0, fill_seconds
        template = _item_of(engine, _issue(engine.token_store(), "template"))
        _at_size(engine, stored, calls)  # not counted: a Java program's first answers are slow
        for size in sizes:
            print(f"{name}: {size:,} tokens", file=sys.stderr)
            begun = time.monotonic()
            stored = _fill(engine, template, stored, size, begun + left)
            left -= time.monotonic() - begun
            rows.append(_at_size(engine, stored, calls))
            if stored < size:
                break
    return rows


def _fill(engine: StoreEngine, template: Mapping[str, Any], stored: int, size: int, deadline: float) -> int:
    """Write copies of an item, each with ids and a node of its own; returns how many there are then."""
    dynamodb, table = engine.dynamodb(), engine.token_table

    def write(_: int) -> None:
        requests: Any = {table: [{"PutRequest": {"Item": _copy(template)}} for _ in range(_BATCH)]}
        while requests:
            requests = dynamodb.batch_write_item(RequestItems=requests).get("UnprocessedItems")

    with ThreadPoolExecutor(_WRITERS) as writers:
        while stored < size and time.monotonic() < deadline:
            batches = min(40, -(-(size - stored) // _BATCH))
            list(writers.map(write, range(batches)))
            stored += batches * _BATCH
    return stored


def _copy(template: Mapping[str, Any]) -> dict[str, Any]:
    digest, node = os.urandom(32).hex(), os.urandom(32).hex()
    texts = {"id": f"tok_{digest[:32]}", "digest": digest, "node_hash": node}
    return {**template, **{name: {"S": text} for name, text in texts.items()}}


def _item_of(engine: StoreEngine, issued: Issued) -> dict[str, Any]:
    """A token's item as the store wrote it."""
    key = {"id": {"S": issued[1].id}}
    return dict(engine.dynamodb().get_item(TableName=engine.token_table, Key=key, ConsistentRead=True)["Item"])


def _new_token(node: str, *, user: str | None = None, max_uses: int = 1) -> Issued:
    now = instants.now()
    terms = Terms(Document(node), now + _LIFETIME, max_uses, frozenset({Action.DOWNLOAD}), user=user)
    return tokens.new_token(_CLIENT, terms, now)


def _issue(store: TokenStore, node: str, **terms: Any) -> Issued:
    issued = _new_token(node, **terms)
    store.add([issued])
    return issued


def _use_of(secret: str) -> Use:
    address = addresses.parse_address("192.0.2.7")
    return tokens.new_use(secret, _CLIENT, user=_USER, address=address, action=Action.DOWNLOAD)


def _at_size(engine: StoreEngine, stored: int, calls: int) -> dict[str, Any]:
    """What each operation takes and consumes now."""
    times = {name: _timed(act, those) for name, (act, those) in _operations(engine.token_store(), calls).items()}
    with Meter(engine.environ) as meter:
        for name, (act, those) in _operations(_behind(engine, meter).token_store(), _METERED).items():
            meter.read()
            for issued in those:
                act(issued)
            units = {part: round(total / _METERED, 2) for part, total in meter.read().items()}
            total = units.get("total")  # an engine reports none of a refused write
            usd = usd_per_million(0, total or 0) if name in _READS else usd_per_million(total or 0)
            times[name] |= {"units": units, "usd": None if total is None else usd}
    return {"tokens": stored, "operations": times}


def _behind(engine: StoreEngine, meter: Meter) -> StoreEngine:
    return replace(engine, environ={**engine.environ, "AWS_ENDPOINT_URL": meter.url})


def _timed(act: Callable[[Issued], object], those: Sequence[Issued]) -> dict[str, Any]:
    """Do it with each token, one after the other; milliseconds a call."""
    engine, times = cpu_seconds()["engine"], []
    for issued in those:
        begun = time.perf_counter()
        act(issued)
        times.append((time.perf_counter() - begun) * 1000)
    return {
        "p50_ms": round(statistics.median(times), 2),
        "p99_ms": round(sorted(times)[int(len(times) * 0.99)], 2),
        "engine_cpu_ms": round((cpu_seconds()["engine"] - engine) * 1000 / len(times), 2),
    }


def _operations(store: TokenStore, count: int) -> dict[str, tuple[Callable[[Issued], object], list[Issued]]]:
    """What is done with how many tokens, in this order: they are issued, found, used, refused and revoked."""

    def use(issued: Issued) -> None:
        _claim(store, issued[0])

    def refused(issued: Issued) -> None:
        use = _use_of(issued[0])
        token = store.claim(use, instants.now(), None)
        assert token is not None
        assert use.attempt not in [claim.attempt for claim in token.claims]

    def revoke(issued: Issued) -> None:
        token = store.revoke(issued[1].id, _CLIENT, now := instants.now())
        assert token is not None
        assert token.revoked_at == now

    def find(issued: Issued) -> None:
        assert store.find(issued[1].id) is not None

    def find_by_node(issued: Issued) -> None:
        node = issued[1].terms.document.node_id
        assert list(store.find_unrevoked(node_id=node, issuer=None, now=instants.now())) == [issued[1].id]

    def issue(issued: Issued) -> None:
        store.add([issued])

    own = [_new_token(str(uuid.uuid4())) for _ in range(count)]
    bound = [_new_token(str(uuid.uuid4()), user=_USER + str(number)) for number in range(count)]
    store.find("tok_" + "0" * 32)  # the connection, and whatever is loaded late
    return {
        "issue": (issue, own),
        "issue for a user": (issue, bound),
        "find": (find, own),
        "use": (use, own),
        "refused use": (refused, own),
        "revoke": (revoke, own),
        "find by node": (find_by_node, bound),
    }


def _claim(store: TokenStore, secret: str) -> None:
    """Use a token once."""
    token = store.claim(use := _use_of(secret), instants.now(), None)
    assert token is not None
    assert token.claims[-1].attempt == use.attempt


def with_claims(name: str, count: int, scratch: Path) -> list[dict[str, Any]]:
    """Use tokens up, one use after the other; what the use costs that leaves so many claims.

    Args:
        count: how many tokens; each level's time is the median over them.
    """
    most, rows, spent = max(CLAIMS), [], 0
    with OPEN[name](scratch) as engine, Meter(engine.environ) as meter:
        store, metered = engine.token_store(), _behind(engine, meter).token_store()
        timed = [_issue(store, str(uuid.uuid4()), max_uses=most) for _ in range(count)]
        charged = _issue(store, str(uuid.uuid4()), max_uses=most)
        for claims in range(1, most + 1):
            meter.read()
            _claim(metered, charged[0])
            units, size = meter.read()["total"], item_bytes(_item_of(engine, charged))
            spent += write_units(size)
            times = _timed(lambda issued: _claim(store, issued[0]), timed)
            if claims in CLAIMS:
                rows.append(
                    {
                        "claims": claims,
                        "item_bytes": size,
                        "write_units": write_units(size),
                        "write_units_charged": units,
                        "mean_write_units": round(spent / claims, 2),
                        "usd_per_million_uses": usd_per_million(spent / claims),
                        "p50_ms": times["p50_ms"],
                        "engine_cpu_ms": times["engine_cpu_ms"],
                    }
                )
    return rows


def failures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the engine charges something else than was calculated, in words."""
    return [
        f"{row['write_units_charged']} write units, not {row['write_units']}"
        for row in rows
        if row["write_units"] != row["write_units_charged"]
    ]


def sizes_as_markdown(engine: str, sizes: Sequence[Mapping[str, Any]]) -> str:
    """The operations of one engine, by tokens stored."""
    head = ("", *(f"{row['tokens']:,} tokens" for row in sizes), "units", "USD per million")
    rows = []
    for operation, last in sizes[-1]["operations"].items():
        each = [row["operations"][operation] for row in sizes]
        times = [f"{one['p50_ms']} / {one['p99_ms']} ({one['engine_cpu_ms']})" for one in each]
        differs = "" if all(one["units"] == last["units"] for one in each) else " (differs by size)"
        rows.append((operation, *times, _units(last["units"]) + differs, "-" if last["usd"] is None else last["usd"]))
    return f"{engine}, p50 / p99 ms (CPU ms of the engine):\n\n{page.table(head, rows)}"


def _units(units: Mapping[str, float]) -> str:
    if not units:
        return "not measured"
    parts = [f"{name} {amount:g}" for name, amount in units.items() if name != "total" and amount]
    return f"{units['total']:g} ({', '.join(parts)})"


def claims_as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The uses, by the claims that they leave."""
    head = ["claims after the use", "item, bytes", "write units of this use", "as charged", "mean of all uses"]
    return page.table(
        [*head, "USD per million uses", "p50 ms", "CPU ms of the engine"], [list(row.values()) for row in rows]
    )
