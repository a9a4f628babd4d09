"""How fast the service starts and answers in a box like Lambda's, and its peers: `python -m studies.bench.lambda_box`.

Each function is a fresh process of AWS's own runtime client that asks a Runtime API for events of API Gateway. Where
the machine lets us, it runs in a control group with Lambda's memory and, after its init phase, Lambda's share of a
processor; otherwise processor times alone are told, and the result says so. Behind it stands DynamoDB Local (without
Java: MiniStack), with TLS in front.

The functions run on the Python of `.venv`: `make bench PYTHON=/path/to/python3.13`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from studies.bench.box import build, figures, group, results, variants, world
from studies.bench.box.measure import Box, Dishonest, Setting
from studies.bench.box.rounds import Run, go_on
from studies.bench.box.runtime_api import FunctionError
from studies.bench.box.variants import Variant

RESULTS = build.ROOT / "studies" / "bench" / "results"
QUICK = build.OUT / "quick"
NAME = "lambda_box.json"
SIZES_MB = (256, 512, 1769)


@dataclass(frozen=True)
class Plan:
    """One run: a setting, its variants and its rounds."""

    setting: Setting
    variants: Sequence[Variant]
    rounds: int


def plans(*, quick: bool, limited: bool, rounds: int, calls: int) -> list[Plan]:
    """What is run. The first is what the figures are taken from; the others say less and take half of its rounds."""
    plans = [Plan(Setting(128, True, calls, limited), variants.ALL, rounds)]
    if not quick:
        others = [(128, False), *((size, True) for size in SIZES_MB if limited)]
        half = (rounds + 1) // 2
        plans += [Plan(Setting(size, tls, calls, limited), variants.AT_OTHER_SIZES, half) for size, tls in others]
    return plans


def run(plans: Sequence[Plan], package: Path, command: str, console: Console) -> dict[str, object]:
    """Carry the plans out; what is kept of them."""
    limited = plans[0].setting.limited
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(
            "laying archives out", total=sum((len(plan.variants) + 1) * plan.rounds for plan in plans)
        )
        built = {each.archive.name: build.built(each.archive, package) for plan in plans for each in plan.variants}
        runtime = build.runtime()
        with tempfile.TemporaryDirectory() as folder, world.opened(Path(folder)) as behind:
            taken = results.taken(command, behind.engine, limited=limited)
            box = Box(behind, runtime, build.our_environ(package), Path(folder))
            runs = []

            def tell(what: str) -> None:
                progress.update(task, description=what)
                progress.advance(task)

            for plan in plans:
                made = Run(plan.setting, plan.variants)
                runs.append(made)
                go_on(made, box, built, plan.rounds, tell)
    zips = {name: each.zip_bytes / 1e6 for name, each in built.items()}
    judged = figures.judge(runs[0].rounds, zips)
    return {
        "taken": taken,
        "figures": results.of_figures(judged),
        "runs": [results.of_run(each, built) for each in runs],
    }


def main() -> int:
    """Measure, write the results and what is made of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds, one setting; results go to out/bench/quick/")
    parser.add_argument("--rounds", type=int, help="how often each variant is started; else 9, quickly 2")
    parser.add_argument("--calls", type=int, help="warm calls of each kind in each process; else 15, quickly 5")
    parser.add_argument("--out", type=Path, help="where results go, in place of studies/bench/results/ and the pages")
    parser.add_argument("--package", type=Path, help="our deployment archive; else it is made")
    parser.add_argument("--unlimited", action="store_true", help="no control groups: processor times alone")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(stderr=True)
    limited = not arguments.unlimited and _can_limit()
    if not limited:
        console.print("No control groups: nothing is limited, and only processor times mean something.", style="yellow")
    out = arguments.out or (QUICK if arguments.quick else RESULTS)
    usual = (2, 5) if arguments.quick else (9, 15)
    rounds, calls = arguments.rounds or usual[0], arguments.calls or usual[1]
    try:
        package = arguments.package or build.our_package()
        command = shlex.join(["python", "-m", "studies.bench.lambda_box", *sys.argv[1:]])
        planned = plans(quick=arguments.quick, limited=limited, rounds=rounds, calls=calls)
        kept = run(planned, package, command, console)
    except (build.BuildError, FunctionError, Dishonest) as error:
        console.print(f"Error: {error}", style="red", markup=False)
        return 1
    out.mkdir(parents=True, exist_ok=True)
    (out / NAME).write_text(json.dumps(kept, indent=2) + "\n", "utf-8")
    from studies.bench.report import write  # noqa: PLC0415 - it draws, which takes its time to load

    write.write(out, pages=write.PAGES if out == RESULTS else ())
    print((out / "lambda_box.md").read_text("utf-8"))
    return 0


def _can_limit() -> bool:
    made = group.make("lambda-box-probe")
    if made is None:
        return False
    made.remove()
    return True


if __name__ == "__main__":
    sys.exit(main())
