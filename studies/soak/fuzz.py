"""Requests made from the OpenAPI document: `python -m studies.soak.fuzz --requests 20000 --seed 1`.

Ends with 1 where an answer is a 5xx, is not in the document, or does not come at all.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich.progress import Progress

from studies.soak import soak_report
from tests.support.fault_ways import Service
from tests.support.fuzz import Fuzz
from tests.support.store_engines import MINISTACK, OPEN


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, show progress, write the report; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch, Progress() as progress:
        task = progress.add_task("requests from the OpenAPI document", total=options.requests)
        with (
            OPEN[MINISTACK](Path(scratch)) as engine,
            Service(engine.environ, engine.client_store(), Path(scratch) / "service.log") as service,
        ):
            fuzz = Fuzz(service, options.seed, lambda: progress.advance(task))
            findings = fuzz.run(options.requests)
    facts = {**vars(findings), "schemathesis": version("schemathesis"), "wrong": findings.wrong[:50]}
    report = soak_report.report("fuzz", options, **facts)
    heads = ["requests", *map(str, sorted(findings.statuses)), "wrong"]
    lines = [[findings.requests, *(times for _, times in sorted(findings.statuses.items())), len(findings.wrong)]]
    soak_report.write("fuzz", report, soak_report.as_markdown(report, heads, lines))
    return 1 if findings.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
