"""The model and the rules against the store for long: `python -m studies.soak.model_soak --examples 2000`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from studies.soak import soak_report
from tests.support.store_engines import OPEN
from tests.support.token_model import run_machine
from tests.support.write_model import compare


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both on each engine and write the report; hypothesis raises what fails, with the steps that lead to it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=1_000)
    parser.add_argument("--engine", nargs="+", choices=tuple(OPEN), default=list(OPEN))
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with tempfile.TemporaryDirectory(prefix="model-") as scratch, Progress(*columns) as progress:
        for name in options.engine:
            with OPEN[name](Path(scratch)) as engine:
                store, begun = engine.token_store(), time.monotonic()
                progress.add_task(f"{name}: {options.examples} examples of the model, {options.examples} of the write")
                courses, compared = run_machine(store, options.examples)
                situations = compare(store, options.examples)
                rows.append(
                    {
                        "engine": name,
                        "courses": courses,
                        "compared": dict(sorted(compared.items())),
                        "situations": situations,
                        "seconds": round(time.monotonic() - begun),
                    }
                )
    report = soak_report.report("model_soak", options, rows=rows)
    heads = ("engine", "courses of events", "decisions compared", "situations of the write", "disagreements", "seconds")
    lines = [
        (row["engine"], row["courses"], sum(row["compared"].values()), row["situations"], 0, row["seconds"])
        for row in rows
    ]
    soak_report.write("model", report, soak_report.as_markdown(report, heads, lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
