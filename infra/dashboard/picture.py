"""Draws the dashboard as CloudWatch shows it, with the figures of the invented day.

Only drawing needs matplotlib; the tests read the definition, and the picture's own note of what it shows, without it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from infra.dashboard.day import STEPS, values
from infra.dashboard.definition import COLUMNS, ROOT, STAGE, Graph, Series

PICTURE: Final = ROOT / "docs" / "images" / "cloudwatch-dashboard.png"
NOTE: Final = "Definition"
"""The picture's own entry that says which definition it shows."""

_COLUMN, _ROW, _GAP, _HEAD = 0.42, 0.39, 0.09, 0.48  # inches
# For what has no colour of its own: told apart with any kind of sight. Source: Paul Tol, "Colour schemes", muted.
# fmt: off
_COLOURS: Final = (
    "#332288", "#88ccee", "#ddcc77", "#44aa99", "#117733", "#cc6677", "#999933", "#aa4499", "#bbbbbb", "#882255",
    "#333333",
)
# fmt: on
_DASHES: Final = ("-", "--", "-.")
_IN_LEGEND: Final = 4  # names in a line
_FAINT, _LINE = "#545b64", "#d5dbdb"
_THOUSANDS_FROM: Final = 10_000
_STYLE: Final = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "text.color": "#16191f",
    "axes.edgecolor": _LINE,
    "axes.axisbelow": True,
    "grid.color": "#e9ecec",
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.borderaxespad": 0,
    "legend.handlelength": 1.8,
    "legend.columnspacing": 1.2,
} | {f"axes.spines.{side}": False for side in ("left", "right", "top")}


def draw(found: Sequence[Graph], path: Path, note: str) -> None:
    """Write the picture of these widgets, with a note of what it shows."""
    # .venv-bench has it, the environment that checks types has not.
    import matplotlib as mpl  # type: ignore[import-not-found]  # noqa: PLC0415
    from matplotlib.figure import Figure  # type: ignore[import-not-found]  # noqa: PLC0415

    rows = max(y + height for _, y, _, height in (graph.place for graph in found))
    size = (COLUMNS * _COLUMN + 2 * _GAP, rows * _ROW + _HEAD + _GAP)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, facecolor="#f2f3f3")
        middle = {"y": 1 - _HEAD / 2 / size[1], "va": "center"}
        figure.text(2 * _GAP / size[0], s=f"tokenservice-{STAGE}", size=12, weight="bold", **middle)
        box = {"boxstyle": "round,pad=0.5", "facecolor": "#fff4d6", "edgecolor": "#b58900"}
        told = "GENERATED DATA: an invented day, drawn from infra/dashboard.json"
        figure.text(1 - 3 * _GAP / size[0], s=told, ha="right", size=8, bbox=box, **middle)
        for graph in found:
            _draw_graph(figure, graph, size)
        figure.savefig(path, dpi=150, metadata={"Software": None, "Title": "Generated data", NOTE: note})


def _draw_graph(figure: Any, graph: Graph, size: tuple[float, float]) -> None:
    x, y, columns, rows = graph.place
    left, top = _GAP * 1.5 + x * _COLUMN, size[1] - _HEAD - y * _ROW
    width, height = columns * _COLUMN - _GAP, rows * _ROW - _GAP

    def box(before: float, below: float, behind: float, above: float) -> Any:
        """Axes within the widget, so many inches from its edges."""
        wide, high = width - before - behind, height - below - above
        corner = (left + before) / size[0], (top - height + below) / size[1]
        return figure.add_axes((*corner, wide / size[0], high / size[1]))

    card = box(0, 0, 0, 0)
    card.set(xticks=(), yticks=())
    card.patch.set(edgecolor=_LINE, linewidth=1)
    card.text(0.12 / width, 1 - 0.2 / height, graph.title, size=9.5, weight="bold", va="center")
    above, below, behind = 0.52, 0.38 + 0.15 * math.ceil(len(graph.series) / _IN_LEGEND), 0.22
    if "right" in graph.labels:
        behind = 0.5
    if graph.legend == "right":
        below, behind = 0.3, 2.05
    axes = box(0.5, below, behind, above)
    axes.grid(axis="y")
    axes.set_xlim(0, 24)
    axes.set_xticks(range(0, 25, 3), [f"{hour:02}:00" for hour in range(0, 25, 3)])
    for side, label in graph.labels.items():
        plane = axes if side == "left" else axes.twinx()
        lines = [each for each in graph.series if each.right == (side == "right")]
        (_draw_stack if graph.stacked else _draw_lines)(plane, lines)
        plane.set_ylim(0, max(1, plane.dataLim.y1) * 1.15)
        plane.locator_params(axis="y", nbins=4, integer=True)
        plane.yaxis.set_major_formatter(_number)
        plane.text(side == "right", 1.03, label, ha=side, color=_FAINT, transform=plane.transAxes)
        handles, labels = plane.get_legend_handles_labels()
        if graph.legend == "right":
            # From the top down, as the areas lie.
            plane.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.02, 0.5))
        else:
            foot = (0.1 - below) / (height - below - above)
            columns = min(len(labels), _IN_LEGEND)
            plane.legend(ncols=columns, loc=f"lower {side}", bbox_to_anchor=(side == "right", foot))


def _number(value: float, _: object) -> str:
    return f"{value / 1000:,g}K" if value >= _THOUSANDS_FROM else f"{value:,g}"


def _draw_lines(axes: Any, lines: Sequence[Series]) -> None:
    looks = zip(cycle(_COLOURS), cycle(_DASHES))
    for (colour, dashes), each in zip(looks, lines, strict=False):
        points = [(step * 24 / STEPS, value) for step, value in enumerate(values(each)) if value is not None]
        style = dashes if each.colour is None else ("--" if each.right else "-")
        look = {"color": each.colour or colour, "linestyle": style, "linewidth": 1.3}
        axes.plot(*zip(*points, strict=True), label=each.label, **look)


def _draw_stack(axes: Any, lines: Sequence[Series]) -> None:
    hours = [step * 24 / STEPS for step in range(STEPS)]
    heights = [[value or 0 for value in values(each)] for each in lines]
    colours = [each.colour or colour for each, colour in zip(lines, cycle(_COLOURS), strict=False)]
    axes.stackplot(hours, heights, labels=[each.label for each in lines], colors=colours, linewidth=0)
