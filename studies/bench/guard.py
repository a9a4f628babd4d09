"""Fails if the service became slower or larger than its limits allow: `python -m studies.bench.guard`.

Speed is counted in instructions (Ir), with valgrind: counts of the same code agree on a busy machine, so the limits
are narrow. Without valgrind the guard compares processor times, whose limits are wide; then a limit is broken only if
every round breaks it, because a busy machine makes single rounds slower and never faster.

A broken limit is measured again before it is believed: the least count, or the least ratio of all rounds, decides.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from dev.engine import ROOT
from studies.bench.box import build, figures, instructions, world
from studies.bench.box import variants as of
from studies.bench.box.function import FunctionError
from studies.bench.box.instructions import Counts
from studies.bench.box.measure import Box, Run, Setting, WrongAnswer

TRIES: Final = 3
DEPLOYED: Final = str(tomllib.loads((ROOT / "deploy" / "runtimes.toml").read_text("utf-8"))["deployed"])
RUNNING: Final = "{}.{}".format(*sys.version_info)
SETTING: Final = Setting(memory_mb=128, calls=12, limited=False)
LIMITS: Final = {
    "init": 2.95,
    "init-authorizer": 1.37,
    "use": 1.62,
    "issue": 1.9,
    "peak": 30.0,
    "archive": 2.2,
}
"""What instructions may be, as ratios, and megabytes, on the Python that is deployed."""
ON_ANOTHER_PYTHON: Final = 1.1
"""By this, limits are wider on a Python that is not deployed: ours and the peers' shares differ there."""
WIDE_LIMITS: Final = {
    "start": 0.15,
    "init-botocore": 1.0,
    "init-powertools": 0.75,
    "init-authorizer": 2.0,
    "use-floor": 2.2,
    "issue-floor": 3.0,
    "peak": 31.0,
    "archive": 2.2,
}
"""What processor times may be, if instructions can't be counted; by the names of `figures.FIGURES`."""


@dataclass(frozen=True)
class Value:
    """One measured value and its limit."""

    name: str
    title: str
    value: float
    limit: float

    @property
    def holds(self) -> bool:
        return self.value <= self.limit

    def __str__(self) -> str:
        return f"{'ok    ' if self.holds else 'BROKEN'} {self.title}: {self.value:.3f}, limit {self.limit:g}"


def believed(measure: Callable[[], Sequence[Value]]) -> Sequence[Value]:
    """The values, measured again while one of them breaks its limit.

    Args:
        measure: measures once more and returns the least values so far.
    """
    values = measure()
    for _ in range(TRIES - 1):
        if all(value.holds for value in values):
            break
        values = measure()
    return values


def by_instructions(
    counts: Sequence[Counts], peaks_mb: Sequence[float], archive_mb: float, python: str = RUNNING
) -> list[Value]:
    """The values of one or more counts of the same archives; the least count of each process is used.

    Args:
        python: the version that was measured, `3.13` for example.
    """

    def ratio(kind: str, ours: str, peer: str) -> float:
        least = (min(getattr(count, kind)[name] for count in counts) for name in (ours, peer))
        return next(least) / next(least)

    service, floor = of.SERVICE.name, of.FLOOR.name
    values = {
        "init": ("instructions of init / empty handler", ratio("init", service, of.EMPTY.name)),
        "init-authorizer": (
            "instructions of the authorizer's init / bare authorizer",
            ratio("init", of.AUTHORIZER.name, of.BARE_AUTHORIZER.name),
        ),
        "use": ("instructions of a warm use / hand-signed floor", ratio("use", service, floor)),
        "issue": ("instructions of a warm issue / hand-signed floor", ratio("issue", service, floor)),
        "peak": ("peak memory, MB", min(peaks_mb)),
        "archive": ("archive, zipped, MB", archive_mb),
    }
    factor = 1.0 if python == DEPLOYED else ON_ANOTHER_PYTHON
    return [Value(name, title, value, LIMITS[name] * factor) for name, (title, value) in values.items()]


def by_processor_time(judged: Sequence[figures.Judged]) -> list[Value]:
    """The least of all rounds, for each figure that has a wide limit."""
    return [
        Value(each.figure.name, each.figure.title, each.least, WIDE_LIMITS[each.figure.name])
        for each in judged
        if each.figure.name in WIDE_LIMITS
    ]


def measured(package: Path, *, counted: bool) -> Sequence[Value]:
    """Start the functions until the values can be believed.

    Args:
        package: our deployment archive.
        counted: count instructions; else compare processor times.
    """
    variants = instructions.COUNTED if counted else of.GUARDED
    built = build.all_built(variants, package)
    archive_mb = built[of.OURS].zip_bytes / 1e6
    run = Run(SETTING, [variant for variant in variants if variant is not of.EMPTY])
    counts: list[Counts] = []
    with tempfile.TemporaryDirectory() as name, world.opened(Path(name)) as behind:
        box = Box(behind, package, built, Path(name))

        def count() -> Sequence[Value]:
            run.add(box, 1)
            counts.append(instructions.count(box))
            return by_instructions(counts, [sample.peak_mb for sample in run.samples(of.SERVICE)], archive_mb)

        def time() -> Sequence[Value]:
            run.add(box, 3)
            return by_processor_time(figures.judge(run.rounds, archive_mb))

        return believed(count if counted else time)


def main() -> int:
    """Measure and print every value; 1 if one breaks its limit or nothing could be measured."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(stderr=True)
    counted = shutil.which("valgrind") is not None
    if not counted:
        text = (
            "INSTRUCTIONS WERE NOT COUNTED: valgrind is not installed. Processor times are compared, with wide limits."
        )
        console.print(f"!!! {text}", style="bold red", markup=False)
    try:
        values = measured(build.our_package(), counted=counted)
    except (build.BuildError, FunctionError, WrongAnswer) as error:
        console.print(f"Error: {error}", style="red", markup=False)
        return 1
    print("\n".join(map(str, values)))
    broken = [value.name for value in values if not value.holds]
    if broken:
        console.print(f"Error: slower or larger than allowed: {', '.join(broken)}", style="red", markup=False)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
