"""Says no where the service has become slower or larger than it may be: `python -m studies.bench.guard`.

Takes the figures of `studies.bench.box.figures` by processor time alone, never by the clock on the wall: other
programs take that from us, but hardly change how much work there is. Ratios are taken within a round, the median of
the rounds counts, and a broken bar is believed only after four times as many rounds. Ends with 1 where a bar stays
broken.

Instructions would be steadier still, but the processor's counters are not there on most virtual machines, and where
valgrind counts them instead a start takes half a minute.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from studies.bench.box import build, figures, world
from studies.bench.box.figures import Judged
from studies.bench.box.measure import Box, Dishonest, Setting
from studies.bench.box.rounds import Run, go_on
from studies.bench.box.runtime_api import FunctionError

ROUNDS = (3, 3, 6)
"""Rounds of each batch; the later ones only where a bar seems to be broken."""
SETTING = Setting(memory_mb=128, tls=True, calls=12, limited=False)


def believed(measure: Callable[[int], Sequence[Judged]], batches: Sequence[int] = ROUNDS) -> Sequence[Judged]:
    """The figures after a first batch of rounds, or after more where a bar seems to be broken.

    Args:
        measure: adds so many rounds, and judges all that there are.
    """
    judged: Sequence[Judged] = ()
    for rounds in batches:
        judged = measure(rounds)
        if all(each.holds for each in judged):
            break
    return judged


def lines(judged: Sequence[Judged]) -> list[str]:
    """One line a figure: what it is, its bar, and whether that holds."""
    return [
        f"{'ok    ' if each.holds else 'BROKEN'} {each.figure.name}: {each.figure.title}:"
        f" {each.value:.3g}{each.figure.unit and ' ' + each.figure.unit} ({each.least:.3g} to {each.most:.3g}),"
        f" bar {each.figure.bar:g}"
        for each in judged
    ]


def measured(package: Path, console: Console) -> Sequence[Judged]:
    """Start the functions in turn until the figures can be believed."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("laying archives out", total=None)
        built = {each.archive.name: build.built(each.archive, package) for each in figures.NEEDED}
        zips = {name: each.zip_bytes / 1e6 for name, each in built.items()}
        runtime = build.runtime()
        with tempfile.TemporaryDirectory() as folder, world.opened(Path(folder)) as behind:
            box = Box(behind, runtime, build.our_environ(package), Path(folder))
            run = Run(SETTING, figures.NEEDED)

            def measure(rounds: int) -> Sequence[Judged]:
                go_on(run, box, built, rounds, lambda what: progress.update(task, description=what))
                return figures.judge(run.rounds, zips)

            return believed(measure)


def main() -> int:
    """Measure and say what came of it; 1 where a bar is broken or nothing could be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, help="our deployment archive; else it is made")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(stderr=True)
    try:
        judged = measured(arguments.package or build.our_package(), console)
    except (build.BuildError, FunctionError, Dishonest) as error:
        console.print(f"Error: {error}", style="red", markup=False)
        return 1
    print("\n".join(lines(judged)))
    broken = [each.figure.name for each in judged if not each.holds]
    if broken:
        console.print(f"Error: slower or larger than it may be: {', '.join(broken)}", style="red", markup=False)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
