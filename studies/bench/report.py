"""Tables of the results of `lambda_box`: in docs/performance.md, and with pictures below `out/bench/`.

The page holds a table between two comments, `<!-- bench:cold -->` and `<!-- /bench -->`; what is between them is
replaced.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from studies.bench.box.build import ROOT

Results = Mapping[str, Any]

PAGE: Final = ROOT / "docs" / "performance.md"
FOR_COST: Final = ROOT / "studies" / "bench" / "results" / "lambda_box.json"
_MARKED: Final = re.compile(r"(<!-- bench:([a-z]+) -->\n).*?(<!-- /bench -->)", re.DOTALL)
_READ_BY_COST: Final = ("ours", "authorizer")


def write(results: Results, out: Path, *, publish: bool) -> None:
    """Write the results, their tables and their pictures.

    Args:
        out: a folder below `out/`.
        publish: also fill docs/performance.md, and replace the durations that tests hold `tokenctl cost` against.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "lambda_box.json").write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    (out / "lambda_box.md").write_text(all_of_them(results), "utf-8")
    draw(results, out)
    if publish:
        PAGE.write_text(filled(PAGE.read_text("utf-8"), results), "utf-8")
        FOR_COST.write_text(json.dumps(for_cost(results), indent=2) + "\n", "utf-8")


def draw(results: Results, folder: Path) -> None:
    """Draw starts, calls, memory and archives at 128 MB over TLS."""
    from studies import plots  # noqa: PLC0415 - the tables need no charts

    rows = results["runs"][0]["rows"]
    panels = {
        "Init, CPU ms": {row["title"]: row["init_cpu_ms"]["median"] for row in rows},
        "First call, CPU ms": {row["title"]: row["first_cpu_ms"]["median"] for row in rows},
        "Warm use, CPU ms": {r["title"]: r["warm"]["use"]["cpu_ms"]["median"] for r in rows if "use" in r["warm"]},
        "Peak memory, MB": {row["title"]: row["peak_mb"]["median"] for row in rows},
        "Archive, zipped, MB": {row["title"]: row["zip_mb"] for row in rows},
    }
    plots.bars(folder / "lambda_box.svg", panels, ours="token service")


def filled(page: str, results: Results) -> str:
    """A page with every table as these results have it.

    Raises:
        KeyError: it marks a table that does not exist.
    """
    return _MARKED.sub(lambda match: f"{match[1]}\n{TABLES[match[2]](results)}\n\n{match[3]}", page)


def for_cost(results: Results) -> dict[str, Any]:
    """The medians that the figures of `tokenctl cost` are held against: our functions over TLS, at each memory size."""
    return {
        "taken": {name: results["taken"][name] for name in ("date", "commit", "python")},
        "runs": [
            {
                "memory_mb": run["memory_mb"],
                "tls": True,
                "rows": [
                    {
                        "name": row["name"],
                        "init_ms": {"median": row["init_ms"]["median"]},
                        "warm": {kind: {"wall_ms": {"p50": of["wall_ms"]["p50"]}} for kind, of in row["warm"].items()},
                    }
                    for row in run["rows"]
                    if row["name"] in _READ_BY_COST
                ],
            }
            for run in results["runs"]
            if run["tls"]
        ],
    }


def taken(results: Results) -> str:
    """When, with what and on what the figures were measured."""
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


def figures(results: Results) -> str:
    """Each figure with its bar and its stretch."""
    rows = [
        [
            figure["title"],
            f"**{number(figure['value'])}**{_unit(figure)}",
            f"{number(figure['least'])} to {number(figure['most'])}",
            f"≤ {number(figure['bar'])}",
            f"≤ {number(figure['stretch'])}",
            _verdict(figure),
        ]
        for figure in results["figures"]
    ]
    return _table(["figure", "median", "spread", "bar", "stretch", ""], rows)


def cold(results: Results) -> str:
    """Cold starts at 128 MB over TLS."""
    limited = results["taken"]["limited"]
    rows = []
    for row in results["runs"][0]["rows"]:
        cells = [row["title"]]
        if limited:
            cells += [_spread(row["init_ms"]), _spread(row["first_ms"])]
        cells += [_spread(row["init_cpu_ms"]), _spread(row["first_cpu_ms"])]
        rows.append([*cells, _spread(row["peak_mb"]), number(row["zip_mb"])])
    head = ["", *(["init ms", "first call ms"] if limited else []), "init CPU ms", "first call CPU ms"]
    return _table([*head, "peak MB", "zip MB"], rows)


def warm(results: Results) -> str:
    """Warm calls at 128 MB over TLS."""
    limited = results["taken"]["limited"]
    rows = []
    for row in results["runs"][0]["rows"]:
        for kind, call in row["warm"].items():
            wall = [f"{number(call['wall_ms']['p50'])} / {number(call['wall_ms']['p99'])}"] if limited else []
            rows.append([row["title"], kind, _spread(call["cpu_ms"]), *wall])
    return _table(["", "call", "CPU ms", *(["p50 / p99 ms"] if limited else [])], rows)


def sizes(results: Results) -> str:
    """A warm use by memory size."""
    runs = sorted((run for run in results["runs"] if run["tls"]), key=lambda run: run["memory_mb"])
    titles = [row["title"] for row in runs[-1]["rows"] if "use" in row["warm"]]
    rows = []
    for title in titles:
        cells = [title]
        for run in runs:
            wall = next(row for row in run["rows"] if row["title"] == title)["warm"]["use"]["wall_ms"]
            cells.append(f"{number(wall['p50'])} / {number(wall['p99'])}")
        rows.append(cells)
    return _table(["warm use, p50 / p99 ms", *(f"{run['memory_mb']:,} MB" for run in runs)], rows)


TABLES: Final[Mapping[str, Callable[[Results], str]]] = {
    "taken": taken,
    "figures": figures,
    "cold": cold,
    "warm": warm,
    "sizes": sizes,
}


def all_of_them(results: Results) -> str:
    """Every table, one after the other."""
    return "\n\n".join(table(results) for table in TABLES.values()) + "\n"


def number(value: float) -> str:
    """Three digits that count."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _verdict(figure: Mapping[str, Any]) -> str:
    if figure["value"] > figure["bar"]:
        return "**above the bar**"
    return "stretch" if figure["value"] <= figure["stretch"] else "bar"


def _unit(figure: Mapping[str, Any]) -> str:
    return f" {figure['unit']}" if figure["unit"] else ""


def _spread(values: Mapping[str, float]) -> str:
    return f"{number(values['median'])} ({number(values['least'])} to {number(values['most'])})"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
