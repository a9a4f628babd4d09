"""Seeded faults between the service and DynamoDB: `python -m tests.faults.store_fault_soak --runs 2000 --seed 1`.

Courses over the store and over HTTP, on each engine; then the service is killed between write and answer, in a loop.
Ends with 1 where a use was granted too often, a caller was refused wrongly, or the service did not recover.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.progress import Progress

from tests.faults import soak_report
from tests.faults.dynamodb_proxy import Fault, Proxy
from tests.faults.fault_courses import Course, Findings
from tests.faults.fault_ways import OverHttp, OverStore, Service, serving
from tests.faults.kills import kill_between_write_and_answer
from tests.store_engines import OPEN, StoreEngine

# The two faults that make a client wait for its time-out come more seldom, so that a night suffices.
FAULTS = (*[fault for fault in Fault if fault not in (Fault.SILENT, Fault.ANSWER_STUCK)] * 6, *Fault)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, show progress, write the report; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2_000, help="courses on each engine; one in five over HTTP")
    parser.add_argument("--kills", type=int, default=50, help="kills on each engine")
    parser.add_argument("--seed", type=int, default=1, help="first seed; each course has the next")
    parser.add_argument("--engine", nargs="+", choices=tuple(OPEN), default=list(OPEN))
    asked = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch, Progress() as progress:
        for name in asked.engine:
            with OPEN[name](Path(scratch)) as engine:
                rows += _on(engine, asked, progress, Path(scratch))
    report = {
        "what": "faults",
        "command": f"python -m tests.faults.store_fault_soak --runs {asked.runs} --kills {asked.kills} "
        f"--seed {asked.seed} --engine {' '.join(asked.engine)}",
        **soak_report.surroundings(),
        "rows": rows,
    }
    soak_report.write("faults", report, _as_markdown(report))
    return 1 if any(row["violations"] for row in rows) else 0


def _on(engine: StoreEngine, asked: argparse.Namespace, progress: Progress, scratch: Path) -> list[dict[str, Any]]:
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(engine.environ["AWS_ENDPOINT_URL"]))
        behind = replace(engine, environ={**engine.environ, "AWS_ENDPOINT_URL": proxy.url})
        log = scratch / f"{engine.name}-service.log"
        service = stack.enter_context(serving(behind.environ, engine.client_store(), log))
        over_http = asked.runs // 5
        store, http = OverStore(behind.token_store()), OverHttp(service.call)
        return [
            _courses(engine, store, proxy, range(asked.seed, asked.seed + asked.runs - over_http), progress),
            _courses(engine, http, proxy, range(asked.seed, asked.seed + over_http), progress),
            _kills(engine, service, proxy, asked.kills, progress),
        ]


def _courses(
    engine: StoreEngine, way: OverStore | OverHttp, proxy: Proxy, seeds: range, progress: Progress
) -> dict[str, Any]:
    findings, truth = Findings(), engine.token_store()
    proxy.met.clear()
    for seed in progress.track(seeds, description=f"{engine.name}, faults over {way.name}"):
        Course(seed, way, proxy, truth, findings=findings, faults=FAULTS).run()
    return _row(engine, way.name, proxy, findings)


def _kills(engine: StoreEngine, service: Service, proxy: Proxy, kills: int, progress: Progress) -> dict[str, Any]:
    findings, truth = Findings(), engine.token_store()
    proxy.met.clear()
    for _ in progress.track(range(kills), description=f"{engine.name}, kills"):
        kill_between_write_and_answer(service, proxy, truth, findings)
    return _row(engine, "HTTP, killed", proxy, findings)


def _row(engine: StoreEngine, way: str, proxy: Proxy, findings: Findings) -> dict[str, Any]:
    return {
        "engine": engine.name,
        "way": way,
        **vars(findings),
        "violations": findings.violations,
        "reasons": findings.reasons[:20],
        "faults": {str(fault): times for fault, times in sorted(proxy.met.items())},
        "faults_met": proxy.met.total(),
    }


def _as_markdown(report: dict[str, Any]) -> str:
    heads = ["engine", "over", "courses", "faults", "answers", "503", "replays", "extra grants", "false refusals"]
    heads += ["other violations", "slowest answer, ms", "slowest 503, ms"]
    lines = [
        [
            *(row["engine"], row["way"], row["courses"], row["faults_met"], sum(row["answers"].values())),
            *(row["answers"].get("store_unavailable", 0), row["replays"], row["extra_grants"], row["false_refusals"]),
            row["violations"] - row["extra_grants"] - row["false_refusals"],
            *(round(row["slowest_ms"]), round(row["slowest_503_ms"])),
        ]
        for row in report["rows"]
    ]
    kinds = [[fault, *(row["faults"].get(str(fault), 0) for row in report["rows"])] for fault in map(str, Fault)]
    columns = [f"{row['engine']}, {row['way']}" for row in report["rows"]]
    table = soak_report.as_markdown(report, heads, lines)
    return table + "\n" + soak_report.as_markdown(report, ["fault", *columns], kinds).partition("\n\n")[2]


if __name__ == "__main__":
    sys.exit(main())
