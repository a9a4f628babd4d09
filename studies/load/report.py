"""Results as JSON, as tables in docs/load.md and as pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dev.engine import ROOT

OUT: Final = ROOT / "out" / "load"
DOCUMENT: Final = ROOT / "docs" / "load.md"
_NAME: Final = "load.json"
_BLOCK: Final = re.compile(r"(<!-- load:(\S+) -->\n).*?(<!-- /load -->)", re.DOTALL)


def read(folder: Path) -> dict[str, Any]:
    """The results of earlier runs."""
    path = folder / _NAME
    results: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {"parts": {}}
    return results


def write(folder: Path, results: Mapping[str, Any], document: Path | None = None) -> None:
    """Write the results and their tables.

    Args:
        document: tables between its markers are replaced; None means none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _NAME).write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    (folder / "load.md").write_text(as_markdown(results), "utf-8")
    if document is not None:
        tables = dict(_tables(results))
        text = document.read_text("utf-8")
        text = _BLOCK.sub(
            lambda block: f"{block[1]}{tables[block[2]]}{block[3]}" if block[2] in tables else block[0], text
        )
        document.write_text(text, "utf-8")


def draw(folder: Path, results: Mapping[str, Any]) -> None:
    """Draw throughput and latency over callers, and times over the tokens stored."""
    from studies import plots  # noqa: PLC0415 - the tables need no charts

    parts = results["parts"]
    ladders = {part["target"]: part["levels"] for part in parts.values() if "target" in part}
    for name, label, value in (
        ("throughput", "calls a second", lambda level: level["calls_per_second"]),
        ("latency", "milliseconds, 99th percentile", lambda level: level["milliseconds"]["p99"]),
    ):
        series = {
            target: ([level["users"] for level in levels], [value(level) for level in levels])
            for target, levels in ladders.items()
        }
        plots.lines(folder / f"{name}.svg", name.capitalize(), ("callers at once", label), series)
    growth = {
        f"{operation}, {engine}": (
            [size["tokens"] for size in found["sizes"]],
            [size["operations"][operation]["p50_ms"] for size in found["sizes"]],
        )
        for engine, found in parts.get("growth", {}).get("engines", {}).items()
        for operation in ("issue", "use", "find")
    }
    plots.lines(folder / "growth.svg", "A call and the tokens stored", ("tokens stored", "p50, milliseconds"), growth)


def failures(part: Mapping[str, Any]) -> list[str]:
    """What must not be, in words.

    A table that holds something else than was answered; a wrong answer where none was expected; an engine that charges
    something else than was reckoned.
    """
    found = []
    for level in part.get("levels", ()):
        if level.get("errors") and level["users"] <= part["sound_up_to"]:
            found.append(f"{sum(level['errors'].values())} wrong answers at {level['users']} callers")
        if level.get("write_units") != level.get("write_units_charged"):
            found.append(f"{level['write_units_charged']} write units, not {level['write_units']}")
    if not part.get("verdict", {"agrees": True})["agrees"]:
        found.append("the table holds something else than was answered")
    return found


def as_markdown(results: Mapping[str, Any]) -> str:
    """All tables, one below the other."""
    return "\n".join(f"## {name}\n\n{table}" for name, table in _tables(results))


def _tables(results: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for name, part in results["parts"].items():
        head = f"`{part['command']}`, {part['date']}. {part['machine']}; {part['versions']}.\n\n"
        if name == "growth":
            yield name, head + "\n".join(_of_growth(*each) for each in part["engines"].items())
        elif name == "claims":
            yield name, head + _of_claims(part["levels"])
        else:
            yield (
                name,
                head + _of_levels(part["levels"]) + "\n" + _of_wrong(part["levels"]) + _of_verdict(part["verdict"]),
            )


def _of_levels(levels: Sequence[Mapping[str, Any]]) -> str:
    heads = ("callers", "calls", "wrong", "calls a second", "p50 ms", "p99 ms", "p99.9 ms", "most ms",
             "CPU ms a call: service", "functions", "engine", "callers' own")  # fmt: skip
    return _table(
        heads,
        [
            (
                level["users"], level["calls"], sum(level["errors"].values()), level["calls_per_second"],
                *(level["milliseconds"].get(name, "-") for name in ("p50", "p99", "p99.9", "most")),
                *(level["cpu_ms_per_call"].get(role, "-") for role in ("service", "functions", "engine", "callers")),
            )
            for level in levels
        ],
    )  # fmt: skip


def _of_wrong(levels: Sequence[Mapping[str, Any]]) -> str:
    return "".join(
        f"Wrong at {level['users']} callers: "
        + ", ".join(f"{name} {count:,}" for name, count in level["errors"].items())
        + (", while they were still coming in" if level.get("still_coming_in") else "")
        + ".\n\n"
        for level in levels
        if level["errors"]
    )


def _of_verdict(verdict: Mapping[str, Any]) -> str:
    agrees = "agrees with the answers" if verdict["agrees"] else "DOES NOT AGREE with the answers"
    return (
        f"{verdict['calls']:,} calls, {verdict['errors']:,} of them answered wrongly. {verdict['issued']:,} tokens of "
        f"one use were issued and {verdict['granted']:,} uses granted. The table, read afterwards, holds "
        f"{verdict['tokens_stored']:,} tokens with {verdict['claims_stored']:,} claims, and {verdict['overspent']:,} "
        f"tokens with more claims than uses: it {agrees}.\n"
    )


def _of_growth(engine: str, found: Mapping[str, Any]) -> str:
    sizes = found["sizes"]
    heads = ("", *(f"{row['tokens']:,} tokens" for row in sizes), "units", "USD per million")
    lines = []
    for operation, last in sizes[-1]["operations"].items():
        times = (
            f"{row['operations'][operation]['p50_ms']} / {row['operations'][operation]['p99_ms']}"
            f" ({row['operations'][operation]['engine_cpu_ms']})"
            for row in sizes
        )
        same = all(row["operations"][operation]["units"] == last["units"] for row in sizes)
        lines.append(
            (
                operation,
                *times,
                _units(last) + ("" if same else " (differs by size)"),
                last["usd"] if last["usd"] is not None else "-",
            )
        )
    return f"{engine}, p50 / p99 ms (CPU ms of the engine):\n\n{_table(heads, lines)}"


def _units(operation: Mapping[str, Any]) -> str:
    units = operation["units"]
    if not units:
        return "-"
    parts = [f"{name} {amount:g}" for name, amount in units.items() if name != "total" and amount]
    return f"{units['total']:g} ({', '.join(parts)})"


def _of_claims(levels: Sequence[Mapping[str, Any]]) -> str:
    heads = ("claims after the use", "item, bytes", "write units of this use", "as charged",
             "mean of all uses", "USD per million uses", "p50 ms", "CPU ms: our process", "engine")  # fmt: skip
    names = ("claims", "item_bytes", "write_units", "write_units_charged", "mean_write_units", "usd_per_million_uses",
             "p50_ms", "own_cpu_ms", "engine_cpu_ms")  # fmt: skip
    return _table(heads, [[level[name] for name in names] for level in levels])


def _table(heads: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    rows = [heads, ["---"] * len(heads), *lines]
    return "".join("| " + " | ".join(_cell(cell) for cell in row) + " |\n" for row in rows)


def _cell(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
