"""Medians and ranges of samples, with when and on what they were measured."""

from __future__ import annotations

import math
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from studies.bench.box import build, figures
from studies.bench.box.measure import Sample
from studies.bench.box.rounds import Run
from studies.bench.box.variants import Variant
from studies.context import context

PACKAGES: Final = (
    "awslambdaric", "aws-lambda-powertools", "boto3", "botocore", "chalice", "fastapi", "mangum", "pynamodb",
)  # fmt: skip


def taken(command: str, engine: str, *, limited: bool) -> dict[str, Any]:
    """When, with what and on what the results were measured."""
    return {**context(command, PACKAGES), "python": platform.python_version(), "engine": engine, "limited": limited}


def of_run(run: Run, built: dict[str, build.Built]) -> dict[str, Any]:
    """One run's rows."""
    setting = run.setting
    return {
        "memory_mb": setting.memory_mb,
        "tls": setting.tls,
        "rounds": len(run.rounds),
        "calls": setting.calls,
        "repeated": run.repeated,
        "rows": [_row(variant, run.samples(variant), built[variant.archive.name]) for variant in run.variants],
    }


def of_figures(judged: Iterable[figures.Judged]) -> list[dict[str, Any]]:
    """The figures with their bars."""
    return [
        {
            "name": each.figure.name,
            "title": each.figure.title,
            "unit": each.figure.unit,
            "value": _short(each.value),
            "least": _short(each.least),
            "most": _short(each.most),
            "bar": each.figure.bar,
            "stretch": each.figure.stretch,
        }
        for each in judged
    ]


def _row(variant: Variant, samples: Sequence[Sample], built: build.Built) -> dict[str, Any]:
    def over(take: Callable[[Sample], float]) -> dict[str, float]:
        values = [take(sample) for sample in samples]
        return {"median": _short(statistics.median(values)), "least": _short(min(values)), "most": _short(max(values))}

    kinds = samples[0].warm
    return {
        "name": variant.name,
        "title": variant.title,
        "init_ms": over(lambda sample: sample.init.wall_ms),
        "init_cpu_ms": over(lambda sample: sample.init.cpu_ms),
        "first_ms": over(lambda sample: sample.first.wall_ms),
        "first_cpu_ms": over(lambda sample: sample.first.cpu_ms),
        "warm": {
            kind: {
                "cpu_ms": over(lambda sample, kind=kind: figures.warm_cpu(sample, kind)),
                "wall_ms": _quantiles([spent.wall_ms for sample in samples for spent in sample.warm[kind]]),
            }
            for kind in kinds
        },
        "peak_mb": over(lambda sample: sample.peak_mb),
        "zip_mb": _short(built.zip_bytes / 1e6),
    }


def _quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)

    def at(part: float) -> float:
        return _short(ordered[math.ceil(part * len(ordered)) - 1])

    return {"p50": _short(statistics.median(ordered)), "p99": at(0.99)}


def _short(value: float) -> float:
    """Three digits that count; more would pretend."""
    return float(f"{value:.3g}") if value < 1000 else float(round(value))
