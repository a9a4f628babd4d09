"""Races for thousands of tokens: `python -m studies.soak.race_soak --tokens 10000 --seed 1`.

On each engine, most of them over the store, some with faults before the store, and some over HTTP, through the service
as `make run` serves it. Ends with 1 where a history is not linearizable.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any

from rich.progress import Progress, TimeRemainingColumn

from studies.soak import soak_report
from tests.support.dynamodb_proxy import Proxy
from tests.support.fault_ways import Service
from tests.support.races import RACERS, Findings, Track, plan
from tests.support.races_over import OverFaults, OverHttp, OverStore
from tests.support.store_engines import OPEN, StoreEngine

_BATCH = 50


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the races, show progress, write the report; 1 where anything was wrong."""
    options = _arguments(arguments)
    rows: list[dict[str, Any]] = []
    columns = (*Progress.get_default_columns()[:-1], "{task.completed}/{task.total}", TimeRemainingColumn())
    with (
        tempfile.TemporaryDirectory(prefix="races-") as scratch,
        Progress(*columns, "{task.fields[wrong]} wrong") as progress,
    ):
        for name in options.engine:
            with OPEN[name](Path(scratch)) as engine:
                for row in _race_on(engine, options, progress, Path(scratch)):
                    rows.append(row)
                    report = soak_report.report("race_soak", options, rows=rows)
                    soak_report.write("races", report, _as_markdown(report))  # a soak that is stopped has shown so much
    return 1 if any(row["wrong"] for row in rows) else 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=10_000, help="tokens on each engine")
    parser.add_argument("--fault-tokens", type=int, default=1_000, help="how many of them with faults")
    parser.add_argument("--http-tokens", type=int, default=500, help="how many of them over HTTP")
    parser.add_argument("--racers", type=int, default=RACERS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", nargs="+", choices=tuple(OPEN), default=list(OPEN))
    options = parser.parse_args(arguments)
    if min(options.http_tokens, options.fault_tokens, options.racers - 1) < 0:
        parser.error("there must be at least one racer, and no number of tokens below 0")
    if options.http_tokens + options.fault_tokens > options.tokens:
        parser.error("--tokens: less than --fault-tokens and --http-tokens together")
    return options


def _race_on(
    engine: StoreEngine, options: argparse.Namespace, progress: Progress, scratch: Path
) -> Iterator[dict[str, Any]]:
    counts: dict[type[OverStore | OverHttp], int] = {
        OverStore: options.tokens - options.fault_tokens - options.http_tokens,
        OverFaults: options.fault_tokens,
        OverHttp: options.http_tokens,
    }
    numbers = count()
    for kind, tokens in counts.items():
        plans = [plan(number, options.seed, options.racers) for number in islice(numbers, tokens)]
        findings, begun = Findings(), time.monotonic()
        task = progress.add_task(f"{engine.name} over {kind.name}", total=tokens, wrong=0)

        def done(task: Any = task, findings: Findings = findings) -> None:
            progress.update(task, advance=1, wrong=len(findings.wrong))

        with _open(kind, engine, scratch) as way, Track(way, options.racers) as track:
            for start in range(0, tokens, _BATCH):
                track.run(way.issue(plans[start : start + _BATCH]), findings, done)
            yield _row(engine.name, way, findings, options.racers, time.monotonic() - begun)


@contextmanager
def _open(kind: type[OverStore | OverHttp], engine: StoreEngine, scratch: Path) -> Iterator[OverStore | OverHttp]:
    if kind is OverStore:
        yield OverStore(engine)
    elif kind is OverFaults:
        with Proxy(engine.environ["AWS_ENDPOINT_URL"]) as proxy:
            yield OverFaults(engine, proxy)
    else:
        with Service(engine.environ, engine.client_store(), scratch / f"{engine.name}.log") as service:
            yield OverHttp(service)


def _row(engine: str, way: OverHttp | OverStore, findings: Findings, racers: int, seconds: float) -> dict[str, Any]:
    facts = {
        name: dict(sorted(value.items())) if isinstance(value, Counter) else value
        for name, value in vars(findings).items()
    }
    return {
        "engine": engine,
        "way": way.name,
        "racers": racers,
        "seconds": round(seconds),
        "unanswered_because": dict(way.failures),
        **facts,
    }


def _as_markdown(report: dict[str, Any]) -> str:
    heads = (
        "engine", "over", "tokens", "racers each", "calls", "granted", "replays", "refused", "cut short", "unanswered",
        "not linearizable", "histories a CPU second", "seconds",
    )  # fmt: skip
    lines = [
        [
            row["engine"], row["way"], row["tokens"], row["racers"], row["calls"], row["granted"], row["replayed"],
            sum(row["refused"].values()), sum(row["cut_short"].values()), row["unanswered"], len(row["wrong"]),
            round(row["tokens"] / row["checking_seconds"]) if row["tokens"] else 0, row["seconds"],
        ]
        for row in report["rows"]
    ]  # fmt: skip
    kinds: Counter[str] = Counter()
    for row in report["rows"]:
        kinds.update(row["kinds"])
    return soak_report.as_markdown(report, heads, lines) + (
        "\nKinds of races: " + ", ".join(f"{kind} {count:,}" for kind, count in sorted(kinds.items())) + ".\n"
    )


if __name__ == "__main__":
    sys.exit(main())
