"""Markdown tables of the results of `lambda_box`, by the name of the mark that stands where each belongs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Results = Mapping[str, Any]


def taken(results: Results) -> str:
    """How the figures came about."""
    told, on = results["taken"], results["taken"]["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    main = results["runs"][0]
    limits = (
        "Memory and processor were limited by control groups."
        if told["limited"]
        else "**No control group could be made: nothing was limited, and only processor times mean something.**"
    )
    repeated = sum(run["repeated"] for run in results["runs"])
    again = f" {repeated} rounds were begun anew because a process failed." if repeated else ""
    return (
        f"Taken on {told['at']} by `{told['command']}`, commit `{told['commit']}`: {main['rounds']} alternating rounds"
        f" with {main['calls']} warm calls of a kind in each process. {limits}{again}\n\n"
        f"Machine: {on['processor']}, {on['cores']} cores, {on['memory_gb']:.0f} GB, Linux {on['kernel']}, load average"
        f" {on['load_average']} when it began. Engine: {told['engine']}. Python {told['python']}; {versions}."
    )


def figures(results: Results) -> str:
    """What is asked of the service, and what it does."""
    rows = [
        [
            each["title"],
            f"**{number(each['value'])}**{_unit(each)}",
            f"{number(each['least'])} to {number(each['most'])}",
            f"≤ {number(each['bar'])}",
            f"≤ {number(each['stretch'])}",
            _verdict(each),
        ]
        for each in results["figures"]
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
        for kind, told in row["warm"].items():
            wall = [f"{number(told['wall_ms']['p50'])} / {number(told['wall_ms']['p99'])}"] if limited else []
            rows.append([row["title"], kind, _spread(told["cpu_ms"]), *wall])
    return _table(["", "call", "CPU ms", *(["p50 / p99 ms"] if limited else [])], rows)


def sizes(results: Results) -> str:
    """A warm use by memory size."""
    runs = sorted((run for run in results["runs"] if run["tls"]), key=lambda run: run["memory_mb"])
    titles = [row["title"] for row in runs[-1]["rows"] if "use" in row["warm"]]
    rows = []
    for title in titles:
        cells = [title]
        for run in runs:
            told = next(row for row in run["rows"] if row["title"] == title)["warm"]["use"]["wall_ms"]
            cells.append(f"{number(told['p50'])} / {number(told['p99'])}")
        rows.append(cells)
    return _table(["warm use, p50 / p99 ms", *(f"{run['memory_mb']:,} MB" for run in runs)], rows)


def plain(results: Results) -> str:
    """Processor time without TLS beside that with it."""
    with_tls = {row["name"]: row for row in results["runs"][0]["rows"]}
    without = next((run for run in results["runs"] if not run["tls"]), None)
    if without is None:
        return "Not measured in this run."
    rows = []
    for row in without["rows"]:
        other, kind = with_tls[row["name"]], "use" if "use" in row["warm"] else next(iter(row["warm"]))
        rows.append(
            [
                row["title"],
                f"{_median(row['init_cpu_ms'])} / {_median(other['init_cpu_ms'])}",
                f"{_median(row['first_cpu_ms'])} / {_median(other['first_cpu_ms'])}",
                f"{_median(row['warm'][kind]['cpu_ms'])} / {_median(other['warm'][kind]['cpu_ms'])}",
            ]
        )
    return _table(["CPU ms, plain / TLS", "init", "first call", "warm use"], rows)


TABLES: Final[Mapping[str, Callable[[Results], str]]] = {
    "taken": taken,
    "figures": figures,
    "cold": cold,
    "warm": warm,
    "sizes": sizes,
    "plain": plain,
}


def all_of_them(results: Results) -> str:
    """Every table, one after the other."""
    return "\n\n".join(table(results) for table in TABLES.values()) + "\n"


def number(value: float) -> str:
    """Three digits that count."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _verdict(each: Mapping[str, Any]) -> str:
    if each["value"] > each["bar"]:
        return "**bar broken**"
    return "stretch" if each["value"] <= each["stretch"] else "bar"


def _unit(each: Mapping[str, Any]) -> str:
    return f" {each['unit']}" if each["unit"] else ""


def _spread(told: Mapping[str, float]) -> str:
    return f"{number(told['median'])} ({number(told['least'])} to {number(told['most'])})"


def _median(told: Mapping[str, float]) -> str:
    return number(told["median"])


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
