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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from studies.bench import report
from studies.bench.box import build, figures, group, results, variants, world
from studies.bench.box.measure import Box, Setting, WrongAnswer
from studies.bench.box.rounds import Run, add_rounds
from studies.bench.box.runtime_api import FunctionError
from studies.bench.box.variants import Variant

SIZES_MB: Final = (256, 512, 1769)


@dataclass(frozen=True)
class Plan:
    """One run: a setting, its variants and its rounds."""

    setting: Setting
    variants: Sequence[Variant]
    rounds: int


def plans(*, quick: bool, limited: bool, rounds: int, calls: int) -> list[Plan]:
    """The runs: all variants at 128 MB, which give the figures, and some at other sizes with half the rounds."""
    plans = [Plan(Setting(128, True, calls, limited), variants.ALL, rounds)]
    if limited and not quick:
        plans += [
            Plan(Setting(size, True, calls, limited), variants.AT_OTHER_SIZES, (rounds + 1) // 2) for size in SIZES_MB
        ]
    return plans


def run(plans: Sequence[Plan], package: Path, command: str, console: Console) -> dict[str, object]:
    """Carry the plans out; returns their results."""
    limited = plans[0].setting.limited
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(
            "laying archives out", total=sum((len(plan.variants) + 1) * plan.rounds for plan in plans)
        )
        built = {each.archive.name: build.built(each.archive, package) for plan in plans for each in plan.variants}
        with tempfile.TemporaryDirectory() as folder, world.opened(Path(folder)) as behind:
            taken = results.taken(command, behind.engine, limited=limited)
            box = Box(behind, package, Path(folder))
            runs = []

            def show(what: str) -> None:
                progress.update(task, description=what)
                progress.advance(task)

            for plan in plans:
                one = Run(plan.setting, plan.variants)
                runs.append(one)
                add_rounds(one, box, built, plan.rounds, show)
    zips = {name: each.zip_bytes / 1e6 for name, each in built.items()}
    judged = figures.judge(runs[0].rounds, zips)
    return {
        "taken": taken,
        "figures": results.of_figures(judged),
        "runs": [results.of_run(each, built) for each in runs],
    }


def main() -> int:
    """Measure, and write the results, their tables and their pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds, one setting; docs/performance.md stays")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(stderr=True)
    limited = _can_limit()
    if not limited:
        console.print("No control groups: nothing is limited, and only processor times mean something.", style="yellow")
    rounds, calls = (2, 5) if arguments.quick else (9, 15)
    try:
        planned = plans(quick=arguments.quick, limited=limited, rounds=rounds, calls=calls)
        command = shlex.join(["python", "-m", "studies.bench.lambda_box", *sys.argv[1:]])
        results = run(planned, build.our_package(), command, console)
    except (build.BuildError, FunctionError, WrongAnswer) as error:
        console.print(f"Error: {error}", style="red", markup=False)
        return 1
    report.write(results, build.OUT / "results", publish=not arguments.quick)
    print(report.all_of_them(results))
    return 0


def _can_limit() -> bool:
    probe = group.make("lambda-box-probe")
    if probe is None:
        return False
    probe.remove()
    return True


if __name__ == "__main__":
    sys.exit(main())
