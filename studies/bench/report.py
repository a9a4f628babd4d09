"""The results of `lambda_box`: tables in docs/performance.md, and with a picture below `out/bench/`."""

from __future__ import annotations

import json
import math
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from studies import page, picture
from studies.bench.box.build import ROOT, Built
from studies.bench.box.figures import Judged, warm_cpu
from studies.bench.box.measure import Run, Sample

Results = Mapping[str, Any]

PAGE: Final = ROOT / "docs" / "performance.md"


def results(
    taken: Mapping[str, Any], runs: Sequence[Run], judged: Iterable[Judged], built: Mapping[str, Built]
) -> dict[str, Any]:
    """Medians and ranges.

    Args:
        taken: when and on what they were measured: what `context()` returned, `engine` and `limited`.
        built: by the archive's name.
    """
    return {
        "taken": {**taken, "python": platform.python_version()},
        "figures": [
            {
                **{name: getattr(each.figure, name) for name in ("name", "title", "unit", "bar", "stretch")},
                **{name: _short(getattr(each, name)) for name in ("value", "least", "most")},
            }
            for each in judged
        ],
        "runs": [
            {
                "memory_mb": run.setting.memory_mb,
                "rounds": len(run.rounds),
                "calls": run.setting.calls,
                "repeated": run.repeated,
                "rows": [
                    {"name": variant.name, "title": variant.title}
                    | _row(run.samples(variant), built[variant.archive.name].zip_bytes)
                    for variant in run.variants
                ],
            }
            for run in runs
        ],
    }


def _row(samples: Sequence[Sample], zip_bytes: int) -> dict[str, Any]:
    def over(take: Callable[[Sample], float]) -> dict[str, float]:
        values = [take(sample) for sample in samples]
        return {"median": _short(statistics.median(values)), "least": _short(min(values)), "most": _short(max(values))}

    return {
        "init_ms": over(lambda sample: sample.init.wall_ms),
        "init_cpu_ms": over(lambda sample: sample.init.cpu_ms),
        "first_ms": over(lambda sample: sample.first.wall_ms),
        "first_cpu_ms": over(lambda sample: sample.first.cpu_ms),
        "warm": {
            kind: {
                "cpu_ms": over(lambda sample, kind=kind: warm_cpu(sample, kind)),
                "wall_ms": quantiles([spent.wall_ms for sample in samples for spent in sample.warm[kind]]),
            }
            for kind in samples[0].warm
        },
        "peak_mb": over(lambda sample: sample.peak_mb),
        "zip_mb": _short(zip_bytes / 1e6),
    }


def quantiles(values: list[float]) -> dict[str, float]:
    """The median, and the 99th percentile, which is one of the values."""
    ordered = sorted(values)
    return {
        "p50": _short(statistics.median(ordered)),
        "p99": _short(ordered[math.ceil(0.99 * len(ordered)) - 1]),
    }


def _short(value: float) -> float:
    """Three digits that count; more would pretend."""
    return float(f"{value:.3g}") if value < 1000 else float(round(value))


def write(results: Results, out: Path, *, publish: bool) -> None:
    """Write the results, their tables and their picture.

    Args:
        out: a folder below `out/`.
        publish: also fill docs/performance.md.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "lambda_box.json").write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    (out / "lambda_box.md").write_text("\n\n".join(tables(results).values()) + "\n", "utf-8")
    (out / "lambda_box.svg").write_text(_drawn(results), "utf-8")
    if publish:
        PAGE.write_text(page.filled(PAGE.read_text("utf-8"), "bench", tables(results)), "utf-8")


def _drawn(results: Results) -> str:
    """Starts, calls, memory and archives at 128 MB."""
    rows = results["runs"][0]["rows"]
    columns: dict[tuple[str, str], list[float | None]] = {
        ("init", "CPU ms"): [row["init_cpu_ms"]["median"] for row in rows],
        ("first call", "CPU ms"): [row["first_cpu_ms"]["median"] for row in rows],
        ("warm use", "CPU ms"): [
            row["warm"]["use"]["cpu_ms"]["median"] if "use" in row["warm"] else None for row in rows
        ],
        ("peak memory", "MB"): [row["peak_mb"]["median"] for row in rows],
        ("archive", "zipped, MB"): [row["zip_mb"] for row in rows],
    }
    return picture.bars("The token service and its peers", [row["title"] for row in rows], columns)


def tables(results: Results) -> dict[str, str]:
    """The text of each place of the page."""
    return {
        "taken": _taken(results),
        "figures": _figures(results["figures"]),
        "cold": _cold(results),
        "warm": _warm(results),
        "sizes": _sizes(results["runs"]),
    }


def _taken(results: Results) -> str:
    run, first = results["taken"], results["runs"][0]
    limits = (
        "Control groups limited memory and processor."
        if run["limited"]
        else "**No control group could be made: nothing was limited, and only processor times mean something.**"
    )
    repeated = sum(each["repeated"] for each in results["runs"])
    again = f" {repeated} rounds were repeated because a process failed." if repeated else ""
    return (
        f"Measured on {run['date']} by `{run['command']}`, commit `{run['commit']}`: {first['rounds']} alternating"
        f" rounds with {first['calls']} warm calls of a kind in each process. {limits}{again}\n\n"
        f"Machine: {run['machine']}. Engine: {run['engine']}. {run['versions']}."
    )


def _figures(figures: Iterable[Mapping[str, Any]]) -> str:
    rows = []
    for figure in figures:
        value, bar, stretch = figure["value"], figure["bar"], figure["stretch"]
        verdict = "**above the bar**" if value > bar else "stretch" if value <= stretch else "bar"
        spread = f"{number(figure['least'])} to {number(figure['most'])}"
        shown = f"**{number(value)}** {figure['unit']}".rstrip()
        rows.append([figure["title"], shown, spread, f"≤ {number(bar)}", f"≤ {number(stretch)}", verdict])
    return page.table(["figure", "median", "spread", "bar", "stretch", ""], rows)


def _cold(results: Results) -> str:
    """Cold starts at 128 MB; wall-clock times only if the processor was limited as on Lambda."""
    titles = {"init_cpu_ms": "init CPU ms", "first_cpu_ms": "first call CPU ms", "peak_mb": "peak MB"}
    if results["taken"]["limited"]:
        titles = {"init_ms": "init ms", "first_ms": "first call ms", **titles}
    rows = [
        [row["title"], *(_spread(row[name]) for name in titles), number(row["zip_mb"])]
        for row in results["runs"][0]["rows"]
    ]
    return page.table(["", *titles.values(), "zip MB"], rows)


def _warm(results: Results) -> str:
    """Warm calls at 128 MB."""
    limited = results["taken"]["limited"]
    rows = [
        [row["title"], kind, _spread(call["cpu_ms"]), *([_percentiles(call)] if limited else [])]
        for row in results["runs"][0]["rows"]
        for kind, call in row["warm"].items()
    ]
    return page.table(["", "call", "CPU ms", *(["p50 / p99 ms"] if limited else [])], rows)


def _sizes(runs: Sequence[Mapping[str, Any]]) -> str:
    """A warm use by memory size."""
    uses = [
        {row["title"]: _percentiles(row["warm"]["use"]) for row in run["rows"] if "use" in row["warm"]} for run in runs
    ]
    rows = [[title, *(use[title] for use in uses)] for title in uses[-1]]
    return page.table(["warm use, p50 / p99 ms", *(f"{run['memory_mb']:,} MB" for run in runs)], rows)


def number(value: float) -> str:
    """Three digits that count."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _percentiles(call: Mapping[str, Any]) -> str:
    return f"{number(call['wall_ms']['p50'])} / {number(call['wall_ms']['p99'])}"


def _spread(values: Mapping[str, float]) -> str:
    return f"{number(values['median'])} ({number(values['least'])} to {number(values['most'])})"
