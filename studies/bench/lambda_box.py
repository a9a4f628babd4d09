"""Measures the service and its peers in a box like Lambda's: `python -m studies.bench.lambda_box`.

Each function is a fresh process of AWS's own runtime client that requests events of API Gateway from a Runtime API. If
possible, it runs in a control group with Lambda's memory and, after its init phase, Lambda's share of a processor;
otherwise only processor times are measured. Its store is DynamoDB Local (without Java: MiniStack), with TLS in front.

The functions run on the Python of `.venv`: `make bench PYTHON=/path/to/python3.13`.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from studies.bench import report
from studies.bench.box import build, figures, group, variants, world
from studies.bench.box.function import FunctionError
from studies.bench.box.measure import Box, Run, Setting, WrongAnswer
from studies.context import context

SIZES_MB: Final = (256, 512, 1769)
_PACKAGES: Final = ("awslambdaric", "aws-lambda-powertools", "boto3", "botocore", "chalice", "pynamodb")


def measured(*, quick: bool, limited: bool, console: Console) -> dict[str, Any]:
    """All variants at 128 MB, which give the figures, then some at other sizes with half the rounds."""
    rounds, calls = (2, 5) if quick else (9, 15)
    plan = [(Run(Setting(128, calls, limited), variants.ALL), rounds)]
    if limited and not quick:
        others = [Setting(size, calls, limited) for size in SIZES_MB]
        plan += [(Run(setting, variants.AT_OTHER_SIZES), (rounds + 1) // 2) for setting in others]
    runs = [run for run, _ in plan]
    began = context(shlex.join(["python", "-m", "studies.bench.lambda_box", *sys.argv[1:]]), _PACKAGES)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        total = sum((len(run.variants) + 1) * rounds for run, rounds in plan)
        task = progress.add_task("laying archives out", total=total)
        package = build.our_package()
        built = build.all_built(variants.ALL, package)
        with tempfile.TemporaryDirectory() as folder, world.opened(Path(folder)) as behind:
            box = Box(behind, package, built, Path(folder))
            for run, count in plan:
                run.add(box, count, lambda what: progress.update(task, description=what, advance=1))
    judged = figures.judge(runs[0].rounds, built[variants.OURS].zip_bytes / 1e6)
    return report.results({**began, "engine": behind.engine, "limited": limited}, runs, judged, built)


def main() -> int:
    """Measure, and write the results, their tables and their picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds, one setting; docs/performance.md stays")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(stderr=True)
    probe = group.make("lambda-box-probe")
    if probe is None:
        console.print("No control groups: nothing is limited, and only processor times mean something.", style="yellow")
    else:
        probe.remove()
    try:
        results = measured(quick=arguments.quick, limited=probe is not None, console=console)
    except (build.BuildError, FunctionError, WrongAnswer) as error:
        console.print(f"Error: {error}", style="red", markup=False)
        return 1
    report.write(results, build.OUT / "results", publish=not arguments.quick)
    print(*report.tables(results).values(), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
