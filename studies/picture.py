"""A comparison as an SVG: a row for each name, a column of bars for each figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

NAMES, COLUMN, BAR, ROW, HEAD = 266, 182, 110, 30, 62  # pixels
_STYLE: Final = """
    .paper { fill: #ffffff } .bar { fill: #8d99ae } .ours { fill: #0b6e4f }
    text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
    .name { font-weight: 600 } .small { font-size: 12px; fill: #57606a }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #0d1117 } .bar { fill: #6e7681 } .ours { fill: #2ea043 }
      text { fill: #e6edf3 } .small { fill: #9198a1 }
    }
"""


def bars(title: str, names: Sequence[str], columns: Mapping[tuple[str, str], Sequence[float | None]]) -> str:
    """Draw it.

    Args:
        names: those that begin with "token service" are ours.
        columns: by two lines of a head, a figure for each name; None leaves its place empty.
    """
    width, height = NAMES + COLUMN * len(columns), HEAD + ROW * len(names) + 12
    ours = [name.startswith("token service") for name in names]
    parts = [_text(14, HEAD + ROW * row + 20, name, "name" if ours[row] else "") for row, name in enumerate(names)]
    for place, (head, figures) in enumerate(columns.items()):
        left, most = NAMES + COLUMN * place, max(figure or 0 for figure in figures) or 1
        parts += [_text(left, 26 + 18 * line, text, "small" if line else "name") for line, text in enumerate(head)]
        for row, figure in enumerate(figures):
            if figure is None:
                continue
            top, length = HEAD + ROW * row, round(BAR * figure / most)
            kind = "bar ours" if ours[row] else "bar"
            parts.append(f'<rect class="{kind}" x="{left}" y="{top + 6}" width="{length}" height="18" rx="2"/>')
            label = f"{figure:,.0f}" if figure == int(figure) else f"{figure:.1f}"
            parts.append(_text(left + length + 6, top + 20, label))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title">\n'
        f'<title id="title">{escape(title)}</title>\n<style>{_STYLE}</style>\n'
        f'<rect class="paper" width="{width}" height="{height}" rx="8"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _text(x: int, y: int, text: str, kind: str = "") -> str:
    return f'<text{f" class={kind!r}" if kind else ""} x="{x}" y="{y}">{escape(text)}</text>'
