"""Races for thousands of tokens: `python -m studies.soak.race_soak --tokens 10000 --seed 1`.

On each engine, most of them over the store and some over HTTP, through the service as `make run` serves it. Ends with 1
where a token was spent too often or too seldom, or a caller was refused who had been granted a use.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from rich.progress import Progress, TimeRemainingColumn

from studies.soak import soak_report
from tests.support.races import RACERS, Findings, Track, plan
from tests.support.races_over import OverHttp, OverStore, service
from tests.support.store_engines import OPEN, StoreEngine

_BATCH = 50


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the races, show progress, write the report; 1 where anything was wrong."""
    options = _arguments(arguments)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="races-") as scratch, Progress(*_columns()) as progress:
        for name in options.engine:
            with OPEN[name](Path(scratch)) as engine:
                rows += _race_on(engine, options, progress, Path(scratch))
    report = {
        "what": "races",
        **soak_report.surroundings(
            f"python -m studies.soak.race_soak --tokens {options.tokens} --http-tokens {options.http_tokens} "
            f"--racers {options.racers} --seed {options.seed} --engine {' '.join(options.engine)}"
        ),
        "rows": rows,
    }
    soak_report.write("races", report, _as_markdown(report))
    return 0 if all(not row["wrong"] and not row["false_refusals"] for row in rows) else 1


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=10_000, help="tokens on each engine, those over HTTP included")
    parser.add_argument("--http-tokens", type=int, default=500, help="how many of them over HTTP")
    parser.add_argument("--racers", type=int, default=RACERS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", nargs="+", choices=tuple(OPEN), default=list(OPEN))
    options = parser.parse_args(arguments)
    if not 0 <= options.http_tokens <= options.tokens or options.racers < 1:
        parser.error("there must be at least one racer, and no more tokens over HTTP than there are tokens")
    return options


def _columns() -> tuple[Any, ...]:
    return (
        *Progress.get_default_columns()[:-1],
        "{task.completed}/{task.total}",
        TimeRemainingColumn(),
        "{task.fields[wrong]} wrong",
    )


def _race_on(
    engine: StoreEngine, options: argparse.Namespace, progress: Progress, scratch: Path
) -> list[dict[str, Any]]:
    rows = []
    over_store = options.tokens - options.http_tokens
    for first, count, over_http in ((0, over_store, False), (over_store, options.http_tokens, True)):
        if not count:
            continue
        with ExitStack() as started:
            way: OverHttp | OverStore
            if over_http:
                url = started.enter_context(service(engine, scratch / f"{engine.name}-service.log"))
                way = started.enter_context(closing(OverHttp(engine, url)))
            else:
                way = OverStore(engine)
            findings, begun = Findings(), time.monotonic()
            task = progress.add_task(f"{engine.name} over {way.name}", total=count, wrong=0)

            def done(task: Any = task, findings: Findings = findings) -> None:
                progress.update(task, advance=1, wrong=len(findings.wrong) + len(findings.false_refusals))

            with Track(way, options.racers) as track:
                for start in range(first, first + count, _BATCH):
                    numbers = range(start, min(first + count, start + _BATCH))
                    track.run(
                        way.issue([plan(number, options.seed, options.racers) for number in numbers]), findings, done
                    )
            rows.append(_row(engine.name, way, findings, options.racers, time.monotonic() - begun))
    return rows


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
        "engine", "over", "tokens", "racers each", "attempts", "granted", "replays", "refused", "cut short",
        "unanswered", "wrong allowances", "false refusals", "seconds",
    )  # fmt: skip
    lines = [
        [
            row["engine"], row["way"], row["tokens"], row["racers"], row["attempts"], row["granted"], row["replayed"],
            sum(row["refused"].values()), sum(row["cut_short"].values()), row["unanswered"], len(row["wrong"]),
            len(row["false_refusals"]), row["seconds"],
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
