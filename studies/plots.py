"""Charts of results in SVG, below `out/`: panels of bars, and lines over logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import leather

_OURS, _PEER = "#0b6e4f", "#8d99ae"
_WIDTH: Final = 900


def bars(path: Path, panels: Mapping[str, Mapping[str, float]], *, ours: str, log: bool = False) -> None:
    """Draw a panel of horizontal bars for each title.

    Args:
        panels: by title, values by name; the first name is on top.
        ours: names that begin so are green.
        log: the axis is logarithmic; all values are above 1.
    """
    grid = leather.Grid()
    for title, values in panels.items():
        chart = leather.Chart(title)
        rows = [(math.log10(value) if log else value, f"{name}: {_short(value)}") for name, value in values.items()]
        chart.add_bars(rows, fill_color=lambda row: _OURS if row.y.startswith(ours) else _PEER)
        chart.add_x_scale(0, max([place for place, _ in rows if place > 0], default=1) * 1.05)
        chart.add_x_axis(tick_formatter=_exponent if log else None)
        grid.add_one(chart)
    columns = math.ceil(math.sqrt(len(panels)))
    rows_high = math.ceil(len(panels) / columns)
    height = (120 + 34 * max(map(len, panels.values()))) * rows_high
    _write(path, grid, _WIDTH * columns, height)


def lines(
    path: Path, title: str, labels: tuple[str, str], series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
) -> None:
    """Draw series over logarithmic axes; without series there is no chart.

    Args:
        labels: of the two axes.
        series: by name, the points' places on the first and on the second axis, above 0.
    """
    if not series:
        return
    chart = leather.Chart(f"{title}: {labels[1]}")
    for name, (places, values) in series.items():
        chart.add_line(list(zip(map(math.log10, places), map(math.log10, values), strict=True)), name=name)
    chart.add_x_axis(tick_formatter=_exponent, name=labels[0])
    chart.add_y_axis(tick_formatter=_exponent)
    _write(path, chart, _WIDTH, 500)


def _write(path: Path, chart: Any, width: int, height: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    chart.to_svg(str(path), width, height)


def _exponent(value: float, *_: Any) -> str:
    """The tick of a logarithmic axis."""
    return _short(10 ** float(value))


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
