"""All long runs in one table, from the reports below `out/soak`: `python -m studies.soak.soak_summary`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from studies.soak.soak_report import DIRECTORY

Report = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]


def _races(report: Report) -> tuple[str, str, int]:
    rows = report["rows"]
    wrong, refusals = (sum(len(row[key]) for row in rows) for key in ("wrong", "false_refusals"))
    tokens, racers = sum(row["tokens"] for row in rows), max(row["racers"] for row in rows)
    told = f"{tokens:,} tokens, {racers} racers each, on {_engines(rows)}"
    return told, f"wrong allowances {wrong}, false refusals {refusals}", wrong + refusals


def _faults(report: Report) -> tuple[str, str, int]:
    rows = report["rows"]
    grants, refusals, all_of_them = (
        sum(row[key] for row in rows) for key in ("extra_grants", "false_refusals", "violations")
    )
    slowest = max(row["slowest_503_ms"] for row in rows)
    told = f"{sum(row['courses'] for row in rows):,} courses, {sum(row['faults_met'] for row in rows):,} faults"
    others = all_of_them - grants - refusals
    wrong = (
        f"extra grants {grants}, false refusals {refusals}, other violations {others}; slowest 503 {slowest:,.0f} ms"
    )
    return f"{told}, on {_engines(rows)}", wrong, all_of_them


def _model(report: Report) -> tuple[str, str, int]:
    rows = report["rows"]
    decisions = sum(sum(row["compared"].values()) for row in rows)
    # A disagreement ends the run before it writes a report.
    return f"{sum(row['courses'] for row in rows):,} courses, {decisions:,} decisions", "disagreements 0", 0


def _mutation(report: Report) -> tuple[str, str, int]:
    rows = report["rows"]
    mutants, killed = (sum(row[key] for row in rows) for key in ("mutants", "killed"))
    unexplained = sum(not each["why"] for row in rows for each in row["survivors"])
    return (
        f"{killed:,} of {mutants:,} mutants killed ({killed / mutants:.1%})",
        f"unexplained {unexplained}",
        unexplained,
    )


def _fuzz(report: Report) -> tuple[str, str, int]:
    wrong = f"5xx {report['server_errors']}, not in the document {report['undocumented']}, dropped {report['dropped']}"
    found = report["server_errors"] + report["undocumented"] + report["dropped"]
    return f"{report['requests']:,} requests made from the OpenAPI document", wrong, found


def _engines(rows: Rows) -> str:
    return " and ".join(dict.fromkeys(row["engine"] for row in rows))


RUNS: Final[Mapping[str, Callable[[Report], tuple[str, str, int]]]] = {
    "races": _races,
    "faults": _faults,
    "model": _model,
    "fuzz": _fuzz,
    "mutation": _mutation,
}


def main() -> int:
    """Print the table; 1 where a report is missing or tells of something wrong."""
    table = Table("run", "date", "how much", "what must be 0")
    bad = 0
    for name, summarize in RUNS.items():
        path = DIRECTORY / f"{name}.json"
        if not path.exists():
            table.add_row(name, "", "no report", "", style="red")
            bad += 1
            continue
        report = json.loads(path.read_text())
        told, wrong, found = summarize(report)
        table.add_row(name, report["date"], told, wrong, style="red" if found else "")
        bad += bool(found)
    Console(width=160).print(table)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
