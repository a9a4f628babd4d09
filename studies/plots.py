"""Pictures of results, below `out/`: panels of bars, and lines over an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

_OURS, _PEER = "#0b6e4f", "#8d99ae"
_STYLE: Final = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e9ee",
    "axes.axisbelow": True,
    "figure.dpi": 140,
    "savefig.bbox": "tight",
}


def bars(path: Path, panels: Mapping[str, Mapping[str, float]], *, ours: str, log: bool = False) -> None:
    """Draw a panel of horizontal bars for each title.

    Args:
        panels: by title, values by name; the first name is on top.
        ours: names that begin so are green.
    """
    with mpl.rc_context(_STYLE):
        most = max(map(len, panels.values()))
        figure, all_axes = plt.subplots(
            len(panels), squeeze=False, figsize=(8, (0.36 * most + 1) * len(panels)), layout="constrained"
        )
        for axes, (title, values) in zip(all_axes.flat, panels.items(), strict=True):
            colours = [_OURS if name.startswith(ours) else _PEER for name in values]
            labels = [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in values.values()]
            axes.bar_label(axes.barh(list(values), list(values.values()), color=colours), labels, padding=3)
            axes.invert_yaxis()
            axes.margins(x=0.14)
            axes.set_title(title, loc="left")
            if log:
                axes.set_xscale("log")
        _save(figure, path)


def lines(
    path: Path, title: str, labels: tuple[str, str], series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
) -> None:
    """Draw series over logarithmic axes; without series there is no picture.

    Args:
        labels: of the two axes.
        series: by name, the points' places on the first and on the second axis.
    """
    if not series:
        return
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(8, 4.4), layout="constrained")
        for name, (places, values) in series.items():
            axes.plot(places, values, label=name)
        axes.set(title=title, xlabel=labels[0], ylabel=labels[1], xscale="log", yscale="log")
        axes.legend(frameon=False)
        _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
