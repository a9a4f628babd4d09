"""From samples to what is kept: medians and spreads, and the machine they were taken on."""

from __future__ import annotations

import math
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from studies.bench.box import build, figures
from studies.bench.box.measure import Sample
from studies.bench.box.rounds import Run
from studies.bench.box.variants import Variant


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    cpu = next((line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "processor": cpu or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e6, 1),
        "kernel": platform.release().split("-")[0],
        "load_average": round(os.getloadavg()[0], 1),
    }


def taken(command: str, engine: str, *, limited: bool) -> dict[str, Any]:
    """When, with what and on what: what a reader needs to judge the figures, or to take them again."""
    return {
        "at": datetime.now(UTC).date().isoformat(),
        "command": command,
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": build.versions(),
        "engine": engine,
        "limited": limited,
        "machine": machine(),
    }


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

    return {"p50": _short(statistics.median(ordered)), "p90": at(0.9), "p99": at(0.99)}


def _short(value: float) -> float:
    """Three digits that count; more would pretend."""
    return float(f"{value:.3g}") if value < 1000 else float(round(value))


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=build.ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
