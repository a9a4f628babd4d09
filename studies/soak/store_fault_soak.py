"""Seeded faults between the service and DynamoDB: `python -m studies.soak.store_fault_soak --runs 2000 --seed 1`.

Courses over the store and over HTTP, on each engine; then the service is killed between write and answer, in a loop.
Ends with 1 where a history is not linearizable, a replay differs, or a 503 has no Retry-After.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.progress import Progress, TaskID

from chalicelib.aws.dynamodb import PATIENCE
from studies.soak import soak_report
from tests.support.dynamodb_proxy import QUICK, Fault, Proxy
from tests.support.fault_courses import Course, Findings
from tests.support.fault_ways import OverHttp, OverStore, Service
from tests.support.kills import kill_between_write_and_answer
from tests.support.store_engines import OPEN, StoreEngine

# The two faults that make a client wait for its time-out come more seldom, so that a night suffices.
FAULTS = (*QUICK * 7, Fault.SILENT, Fault.ANSWER_STUCK)

KILLED: Final = "HTTP, killed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, show progress, write the report; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2_000, help="courses on each engine; one in five over HTTP")
    parser.add_argument("--kills", type=int, default=50, help="kills on each engine")
    parser.add_argument("--seed", type=int, default=1, help="first seed; each course has the next")
    parser.add_argument("--lanes", type=int, default=8, help="courses at the same time: most of their time is waiting")
    parser.add_argument("--engine", nargs="+", choices=tuple(OPEN), default=list(OPEN))
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch, Progress() as progress:
        for name in options.engine:
            with OPEN[name](Path(scratch)) as engine:
                rows += _on(engine, options, progress, Path(scratch))
    report = soak_report.report("store_fault_soak", options, rows=rows)
    soak_report.write("faults", report, _as_markdown(report))
    return 1 if any(row["violations"] for row in rows) else 0


def _on(engine: StoreEngine, options: argparse.Namespace, progress: Progress, scratch: Path) -> list[dict[str, Any]]:
    over_http = options.runs // 5
    seeds = {
        OverStore.name: range(options.seed, options.seed + options.runs - over_http),
        OverHttp.name: range(options.seed, options.seed + over_http),
        KILLED: range(options.kills),
    }
    show = {
        way: progress.add_task(f"{engine.name}, faults over {way}", total=len(numbers))
        for way, numbers in seeds.items()
    }
    with ExitStack() as stack, ThreadPoolExecutor(options.lanes) as pool:
        lanes = [stack.enter_context(_lane(engine, scratch / f"{engine.name}-{n}.log")) for n in range(options.lanes)]
        rows = []
        for way, numbers in seeds.items():
            parts = [numbers[n :: options.lanes] for n in range(options.lanes)]
            ran = list(pool.map(lambda lane, part: lane.run(way, part, progress, show[way]), lanes, parts))  # noqa: B023 - ends here
            rows.append(_row(engine, way, ran))
        return rows


@contextmanager
def _lane(engine: StoreEngine, log: Path) -> Iterator[Lane]:
    with Proxy(engine.environ["AWS_ENDPOINT_URL"]) as proxy:
        # As patient as it is deployed: how long a caller waits for its 503 is one of the findings.
        environ = {**engine.environ, "AWS_ENDPOINT_URL": proxy.url}
        behind = replace(engine, environ=environ, patience=PATIENCE)
        with Service(environ, engine.client_store(), log) as service:
            yield Lane(engine, behind, proxy, service)


@dataclass(frozen=True)
class Lane:
    """A proxy and a service of its own, so that no course sees another one's faults."""

    engine: StoreEngine
    behind: StoreEngine
    proxy: Proxy
    service: Service

    def run(
        self, way: str, numbers: Sequence[int], progress: Progress, task: TaskID
    ) -> tuple[Findings, Counter[Fault]]:
        """Run courses one after the other; what was found, and which faults were met."""
        findings, truth = Findings(), self.engine.token_store()
        self.proxy.met.clear()
        carrier = OverHttp(self.service.call) if way == OverHttp.name else OverStore(self.behind.token_store())
        for number in numbers:
            if way == KILLED:
                kill_between_write_and_answer(self.service, self.proxy, truth, findings)
            else:
                Course(number, carrier, self.proxy, truth, findings=findings, faults=FAULTS).run()
            progress.advance(task)
        return findings, Counter(self.proxy.met)


def _row(engine: StoreEngine, way: str, ran: Sequence[tuple[Findings, Counter[Fault]]]) -> dict[str, Any]:
    findings = Findings()
    faults: Counter[Fault] = Counter()
    for part, met in ran:
        findings.add(part)
        faults += met
    return {
        "engine": engine.name,
        "way": way,
        **vars(findings),
        "violations": len(findings.violations),
        "reasons": findings.violations[:20],
        "faults": {str(fault): times for fault, times in sorted(faults.items())},
        "faults_met": faults.total(),
    }


def _as_markdown(report: dict[str, Any]) -> str:
    heads = ["engine", "over", "courses", "faults", "answers", "503", "replays", "violations"]
    heads += ["slowest answer, ms", "slowest 503, ms"]
    lines = [
        [
            *(row["engine"], row["way"], row["courses"], row["faults_met"], sum(row["answers"].values())),
            *(row["answers"].get("store_unavailable", 0), row["replays"], row["violations"]),
            *(round(row["slowest_ms"]), round(row["slowest_503_ms"])),
        ]
        for row in report["rows"]
    ]
    kinds = [
        [fault, *(row["faults"].get(str(fault), 0) for row in report["rows"])]
        for fault in map(str, dict.fromkeys(FAULTS))
    ]
    columns = [f"{row['engine']}, {row['way']}" for row in report["rows"]]
    table = soak_report.as_markdown(report, heads, lines)
    return table + "\n" + soak_report.as_markdown(report, ["fault", *columns], kinds).partition("\n\n")[2]


if __name__ == "__main__":
    sys.exit(main())
