"""Races for thousands of tokens: `python -m studies.soak.race_soak --tokens 10000 --seed 1`.

On each engine, most of them over the store, some over HTTP, through the service as `make run` serves it, some of both
with faults before the store, and some in which the service is killed. Ends with 1 where a history is not linearizable
or a repetition gets another answer, and with an error where a 503 has no Retry-After.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rich.progress import Progress, TimeRemainingColumn

from chalicelib.aws.dynamodb import PATIENCE
from studies.soak import soak_report
from tests.support.dynamodb_proxy import QUICK, Fault, Proxy
from tests.support.fault_ways import Service
from tests.support.races import RACERS, Findings, plan
from tests.support.races_over import OverHttp, OverKills, OverStore, Track
from tests.support.store_engines import OPEN, StoreEngine

# The two faults that make a client wait for its time-out come more seldom, so that a night suffices.
FAULTS: Final = (*QUICK * 7, Fault.SILENT, Fault.ANSWER_STUCK)

_STORE: Final = "store"
_OTHERS: Final[Mapping[str, tuple[str, int]]] = {
    "store, with faults": ("fault_tokens", 1_000),
    "HTTP": ("http_tokens", 500),
    "HTTP, with faults": ("http_fault_tokens", 200),
    "HTTP, killed": ("killed_tokens", 50),
}
"""The option for each way but the plain one, and how many tokens are raced for unless it is given."""


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
    for way, (option, tokens) in _OTHERS.items():
        flag = "--" + option.replace("_", "-")
        parser.add_argument(flag, type=int, default=tokens, help=f"how many of them over {way}")
    parser.add_argument("--racers", type=int, default=RACERS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", nargs="+", choices=tuple(OPEN), default=list(OPEN))
    options = parser.parse_args(arguments)
    others = [getattr(options, option) for option, _ in _OTHERS.values()]
    if min(*others, options.racers - 1) < 0:
        parser.error("there must be at least one racer, and no number of tokens below 0")
    if sum(others) > options.tokens:
        parser.error("--tokens: less than the other numbers of tokens together")
    return options


def _race_on(
    engine: StoreEngine, options: argparse.Namespace, progress: Progress, scratch: Path
) -> Iterator[dict[str, Any]]:
    others = {way: getattr(options, option) for way, (option, _) in _OTHERS.items()}
    first = 0
    for name, tokens in {_STORE: options.tokens - sum(others.values()), **others}.items():
        if not tokens:
            continue
        plans = (plan(number, options.seed, options.racers) for number in range(first, first + tokens))
        first += tokens
        findings, begun = Findings(), time.monotonic()
        task = progress.add_task(f"{engine.name} over {name}", total=tokens, wrong=0)

        def done(task: Any = task, findings: Findings = findings) -> None:
            progress.update(task, advance=1, wrong=len(findings.wrong))

        with Proxy(engine.environ["AWS_ENDPOINT_URL"]) as proxy, _open(name, engine, proxy, scratch) as way:
            with Track(way, options.racers) as track:
                track.run(plans, findings, done)
            seconds = round(time.monotonic() - begun)
        facts = {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(findings).items()}
        yield {
            "engine": engine.name,
            "way": name,
            "racers": options.racers,
            "seconds": seconds,
            "faults": {str(fault): times for fault, times in sorted(proxy.met.items())},
            "unanswered_because": dict(way.failures),
            "slowest_503_ms": round(way.slowest_503_ms),
            **facts,
        }


@contextmanager
def _open(name: str, engine: StoreEngine, proxy: Proxy, scratch: Path) -> Iterator[OverStore | OverHttp]:
    if name == _STORE:
        yield OverStore(engine)
    elif name.startswith(_STORE):
        # As patient as it is deployed: how long a caller waits for its 503 is one of the findings.
        yield OverStore(replace(engine, patience=PATIENCE), proxy, FAULTS)
    else:
        environ = engine.environ if name == "HTTP" else {**engine.environ, "AWS_ENDPOINT_URL": proxy.url}
        with Service(environ, engine.client_store(), scratch / f"{engine.name}.log") as service:
            if name == "HTTP":
                yield OverHttp(service)
            else:
                yield OverKills(service, proxy) if name == "HTTP, killed" else OverHttp(service, proxy, FAULTS)


def _as_markdown(report: dict[str, Any]) -> str:
    heads = (
        "engine", "over", "tokens", "racers each", "calls", "faults", "granted", "replays", "refused", "cut short",
        "unanswered", "slowest 503, ms", "not linearizable", "histories a CPU second", "seconds",
    )  # fmt: skip
    lines = [
        [
            row["engine"], row["way"], row["tokens"], row["racers"], row["calls"], sum(row["faults"].values()),
            row["granted"], row["replayed"], sum(row["refused"].values()), sum(row["cut_short"].values()),
            row["unanswered"], row["slowest_503_ms"], len(row["wrong"]),
            round(row["tokens"] / row["checking_seconds"]) , row["seconds"],
        ]
        for row in report["rows"]
    ]  # fmt: skip
    counts = {"Kinds of races": "kinds", "Faults": "faults"}
    text = soak_report.as_markdown(report, heads, lines)
    for title, name in counts.items():
        met: Counter[str] = Counter()
        for row in report["rows"]:
            met.update(row[name])
        text += f"\n{title}: " + ", ".join(f"{kind} {count:,}" for kind, count in sorted(met.items())) + ".\n"
    return text


if __name__ == "__main__":
    sys.exit(main())
