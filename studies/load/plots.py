"""Draws the results, in `.venv`: `.venv/bin/python -m studies.load.plots FOLDER`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

_PERCENTILES = {"p50": "-", "p99": "--", "p99.9": ":"}


def main(folder: Path) -> int:
    """Draw what the folder's load.json holds."""
    parts: Mapping[str, Any] = json.loads((folder / "load.json").read_text())["parts"]
    ladders = {part["target"]: part["levels"] for part in parts.values() if "target" in part}
    if ladders:
        _draw_ladders(ladders, folder / "load-callers.png")
    if "growth" in parts or "claims" in parts:
        _draw_growth(parts, folder / "load-growth.png")
    return 0


def _draw_ladders(ladders: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    figure, (rate, latency) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for number, (name, levels) in enumerate(ladders.items()):
        users, colour = [level["users"] for level in levels], f"C{number}"
        rate.plot(users, [level["calls_per_second"] for level in levels], "o-", color=colour, label=name)
        wrong = [level for level in levels if level["errors"]]
        rate.plot(
            [level["users"] for level in wrong],
            [level["calls_per_second"] for level in wrong],
            "x", color="red", markersize=11, markeredgewidth=2,
        )  # fmt: skip
        for share, style in _PERCENTILES.items():
            values = [level["milliseconds"]["all"][share] for level in levels]
            latency.plot(users, values, style, color=colour)
    for share, style in _PERCENTILES.items():
        latency.plot([], [], style, color="grey", label=share)
    rate.set(title="Throughput (red cross: some answers were wrong)", ylabel="calls a second", ylim=(0, None))
    latency.set(title="Latency", ylabel="milliseconds", yscale="log")
    for axes in (rate, latency):
        _scale_callers(axes, sorted({level["users"] for levels in ladders.values() for level in levels}))
        axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _scale_callers(axes: Axes, users: Sequence[int]) -> None:
    axes.set(xlabel="callers at once", xscale="log")
    axes.set_xticks(users, [str(number) for number in users])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def _draw_growth(parts: Mapping[str, Any], path: Path) -> None:
    figure, (stored, claims) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for engine, found in parts.get("growth", {}).get("engines", {}).items():
        for operation, style in (("issue", "-"), ("use", "--"), ("find", ":")):
            sizes = [row["tokens"] for row in found["sizes"]]
            spent = [row["operations"][operation]["p50_ms"] for row in found["sizes"]]
            stored.plot(sizes, spent, "o" + style, label=f"{operation}, {engine}")
    stored.set(title="A call and the tokens stored", xlabel="tokens", ylabel="p50, milliseconds", xscale="log")
    stored.set(ylim=(0, 1.5 * stored.get_ylim()[1]))  # leaves the legend a place of its own
    levels = parts.get("claims", {}).get("levels", [])
    made = [level["claims"] for level in levels]
    claims.plot(made, [level["write_units"] for level in levels], "o-", label="this use")
    claims.plot(made, [level["mean_write_units"] for level in levels], "o--", label="mean of all uses so far")
    claims.set(
        title="A use and the claims its token holds", xlabel="claims after it", ylabel="write units", ylim=(0, None)
    )
    for axes in (stored, claims):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper left", ncols=2)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
