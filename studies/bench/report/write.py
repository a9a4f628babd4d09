"""Tables, plots and pages from kept results: `python -m studies.bench.report.write`.

A page holds a table between two comments, `<!-- bench:cold -->` and `<!-- /bench -->`; what stands there is replaced.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from studies.bench.report import tables

ROOT: Final = Path(__file__).resolve().parents[3]
RESULTS: Final = ROOT / "studies" / "bench" / "results"
PAGES: Final = (ROOT / "docs" / "performance.md",)
_MARKED: Final = re.compile(r"(<!-- bench:([a-z]+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def filled(page: str, results: tables.Results) -> str:
    """A page with every table as these results have it.

    Raises:
        KeyError: it marks a table that there is not.
    """
    return _MARKED.sub(lambda found: f"{found[1]}\n{tables.TABLES[found[2]](results)}\n\n{found[3]}", page)


def write(folder: Path = RESULTS, pages: Sequence[Path] = PAGES) -> None:
    """Write the table and the plots beside the results, and fill the pages."""
    from studies.bench.report import plots  # noqa: PLC0415 - the tables alone need no matplotlib

    results = json.loads((folder / "lambda_box.json").read_text("utf-8"))
    (folder / "lambda_box.md").write_text(tables.all_of_them(results), "utf-8")
    plots.draw(results, folder)
    for page in pages:
        page.write_text(filled(page.read_text("utf-8"), results), "utf-8")


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:2]))
