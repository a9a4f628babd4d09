"""Plots of the results of `studies.bench.lambda_box`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from studies.bench.report.tables import number

Results = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]

_OURS, _PEER, _LIGHT, _DARK = "#0b6e4f", "#8d99ae", "#cdd4df", "#3d4660"
_PHASES = ("Python and the runtime client", "imports and init", "first call")
_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "grid.color": "#e6e9ee",
    "axes.axisbelow": True,
    "ytick.left": False,
    "figure.dpi": 140,
    "savefig.bbox": "tight",
    "svg.hashsalt": "bench",
}


def draw(results: Results, folder: Path) -> list[Path]:
    """Write every plot that these results allow; where each went."""
    drawn = []
    with mpl.rc_context(_STYLE):
        for name, plot in _PLOTS.items():
            figure = plot(results)
            if figure is not None:
                path = folder / f"{name}.png"
                # Without the name of the program, whose version would change the file.
                figure.savefig(path, metadata={"Software": None})
                plt.close(figure)
                drawn.append(path)
    return drawn


def cold_start(results: Results) -> Any:
    """Cold starts, stacked by phase."""
    limited = results["taken"]["limited"]
    rows = results["runs"][0]["rows"]
    init, first = ("init_ms", "first_ms") if limited else ("init_cpu_ms", "first_cpu_ms")
    begun = next(row for row in rows if row["name"] == "empty")[init]["median"]
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(rows) + 1.2))
    for place, row in enumerate(reversed(rows)):
        parts = [begun, max(0.0, row[init]["median"] - begun), row[first]["median"]]
        left = 0.0
        for colour, part in zip((_LIGHT, _PEER, _DARK), parts, strict=True):
            axes.barh(place, part, left=left, color=_ours(row, colour), height=0.68)
            left += part
        axes.text(left, place, f" {left:,.0f} ms", va="center")
    _names(axes, rows)
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in (_LIGHT, _PEER, _DARK)]
    axes.legend(handles, _PHASES, loc="lower left", bbox_to_anchor=(0, 0.99), ncols=3, frameon=False, borderaxespad=0)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12)
    axes.set_xlabel("milliseconds" if limited else "milliseconds of processor time")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_title("Cold start by phase, 128 MB, TLS" + ("" if limited else ", nothing limited"), loc="left", pad=22)
    return figure


def cpu_per_call(results: Results) -> Any:
    """Processor time of warm calls."""
    rows = [row for row in results["runs"][0]["rows"] if row["name"] != "empty"]
    figure, axes = plt.subplots(figsize=(8, 0.48 * len(rows) + 1.2))
    for place, row in enumerate(reversed(rows)):
        kinds = list(reversed(row["warm"].items()))
        height = 0.76 / len(kinds)
        for nth, (kind, told) in enumerate(reversed(kinds)):
            cpu = told["cpu_ms"]
            y = place + height * (nth - (len(kinds) - 1) / 2)
            colour = _ours(row, _PEER if kind == "issue" else _DARK)
            axes.barh(y, cpu["median"], color=colour, height=height * 0.92)
            axes.plot([cpu["least"], cpu["most"]], [y, y], color="black", linewidth=0.7, alpha=0.6)
            axes.text(max(cpu["median"], cpu["most"]), y, f"  {kind} {cpu['median']:.2f}", va="center", fontsize=8)
    _names(axes, rows)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.14)
    axes.set_xlabel("milliseconds of processor time a warm call; the line is the spread over rounds")
    axes.set_title("Processor time a call, 128 MB, TLS", loc="left")
    return figure


def warm_latency(results: Results) -> Any:
    """A warm use by memory size; None where no other size was measured."""
    runs = sorted((run for run in results["runs"] if run["tls"]), key=lambda run: run["memory_mb"])
    if len(runs) < 2 or not results["taken"]["limited"]:
        return None
    names = [row["name"] for row in runs[-1]["rows"] if "use" in row["warm"]]
    figure, panels = plt.subplots(1, len(runs), figsize=(2.6 * len(runs), 0.4 * len(names) + 1.4), sharey=True)
    for axes, run in zip(panels, runs, strict=True):
        rows = [next(row for row in run["rows"] if row["name"] == name) for name in names]
        for place, row in enumerate(reversed(rows)):
            told = row["warm"]["use"]["wall_ms"]
            axes.barh(place, told["p50"], color=_ours(row, _PEER), height=0.62)
            axes.plot([told["p50"], told["p90"]], [place, place], color=_DARK, linewidth=1)
            axes.plot([told["p90"]], [place], marker="|", color=_DARK, markersize=7)
            axes.text(told["p90"], place, f"  {number(told['p50'])}", va="center", fontsize=8)
        _names(axes, rows)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.25)
        axes.set_title(f"{run['memory_mb']:,} MB", loc="left")
        axes.set_xlabel("ms")
    figure.suptitle("A warm use over TLS: median (bar and number) to the 90th percentile (line)", x=0.01, ha="left")
    figure.tight_layout()
    return figure


def footprint(results: Results) -> Any:
    """Peak memory and archive size."""
    rows = [row for row in results["runs"][0]["rows"] if row["name"] not in ("empty", "ours-quiet")]
    figure, panels = plt.subplots(1, 2, figsize=(9, 0.36 * len(rows) + 1.2), sharey=True)
    for axes, title, take in (
        (panels[0], "Peak memory after warm calls, MB", lambda row: row["peak_mb"]["median"]),
        (panels[1], "Archive, zipped, MB", lambda row: row["zip_mb"]),
    ):
        for place, row in enumerate(reversed(rows)):
            axes.barh(place, take(row), color=_ours(row, _PEER), height=0.68)
            axes.text(take(row), place, f" {number(take(row))}", va="center", fontsize=8)
        _names(axes, rows)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.14)
        axes.set_title(title, loc="left")
    figure.tight_layout()
    return figure


_PLOTS = {
    "cold_start": cold_start,
    "warm_latency": warm_latency,
    "cpu_per_call": cpu_per_call,
    "footprint": footprint,
}


def _ours(row: Mapping[str, Any], colour: str) -> str:
    """Our own functions in greens, in the same three depths."""
    if not row["title"].startswith("token service"):
        return colour
    return {_LIGHT: "#bfe0d2", _PEER: "#4fae8a", _DARK: _OURS}[colour]


def _names(axes: Axes, rows: Rows) -> None:
    axes.set_yticks(range(len(rows)), [row["title"] for row in reversed(rows)])
