"""The figures of the service, each with a bar and a stretch goal.

All but two are ratios to a peer that was measured in the same round, so they travel from machine to machine.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from studies.bench.box import group
from studies.bench.box import variants as of
from studies.bench.box.measure import Round, Sample
from studies.bench.box.variants import Variant

_MEMORY_MB: Final = 128


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: in results and in the guard's limits.
        title: in tables.
        take: its value in one round.
        bar: the goal.
        stretch: the farther goal.
        unit: empty for a ratio.
    """

    name: str
    title: str
    take: Callable[[Round], float]
    bar: float
    stretch: float
    unit: str = ""


@dataclass(frozen=True)
class Judged:
    """A figure over all rounds: its median and its spread."""

    figure: Figure
    value: float
    least: float
    most: float


def warm_cpu(sample: Sample, kind: str = "use") -> float:
    """Processor milliseconds of a warm call: the median over one process."""
    return statistics.median(spent.cpu_ms for spent in sample.warm[kind])


def _issue_cpu(sample: Sample) -> float:
    return warm_cpu(sample, "issue")


def _init_cpu(sample: Sample) -> float:
    return sample.init.cpu_ms


def _start(sample: Sample) -> float:
    """The time until the first answer, as processor time makes it: a whole processor in the init phase, then a share.

    On an idle machine the wall clock agrees; on a busy one it depends on the other programs.
    """
    return sample.init.cpu_ms + sample.first.cpu_ms / group.share(_MEMORY_MB)


def _ratio(value: Callable[[Sample], float], peer: Variant, ours: Variant = of.SERVICE) -> Callable[[Round], float]:
    return lambda measured: value(measured[ours.name]) / value(measured[peer.name])


FIGURES: Final = (
    Figure(
        "start", "init and first call (time, by CPU) / stock Chalice + PynamoDB", _ratio(_start, of.STOCK), 0.09, 0.065
    ),
    Figure("init-botocore", "init (CPU) / bare botocore, tuned", _ratio(_init_cpu, of.BOTOCORE), 0.55, 0.36),
    Figure(
        "init-powertools", "init (CPU) / Powertools + boto3, tuned", _ratio(_init_cpu, of.POWERTOOLS_TUNED), 0.42, 0.28
    ),
    Figure(
        "init-authorizer",
        "authorizer's init (CPU) / bare authorizer",
        _ratio(_init_cpu, of.BARE_AUTHORIZER, of.AUTHORIZER),
        1.35,
        1.05,
    ),
    Figure("use-botocore", "warm use (CPU) / bare botocore, tuned", _ratio(warm_cpu, of.BOTOCORE), 0.60, 0.45),
    Figure("use-floor", "warm use (CPU) / hand-signed floor", _ratio(warm_cpu, of.FLOOR), 1.6, 1.4),
    Figure("issue-floor", "warm issue (CPU) / hand-signed floor", _ratio(_issue_cpu, of.FLOOR), 1.9, 1.7),
    Figure("peak", "peak memory", lambda measured: measured[of.SERVICE.name].peak_mb, 31, 26, "MB"),
)


def judge(rounds: Sequence[Round], archive_mb: float) -> list[Judged]:
    """Every figure over these rounds, and the size of our archive."""
    judged = []
    for figure in FIGURES:
        values = [figure.take(measured) for measured in rounds]
        judged.append(Judged(figure, statistics.median(values), min(values), max(values)))
    archive = Figure("archive", "archive, zipped", lambda _: archive_mb, 2.2, 1, "MB")
    return [*judged, Judged(archive, archive_mb, archive_mb, archive_mb)]
