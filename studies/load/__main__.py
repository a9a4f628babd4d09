"""`python -m studies.load`: what `make load` executes. See docs/load.md.

Results go to out/load/ and the tables to docs/load.md as soon as a part has ended. `--quick` takes
a few minutes, is too short to measure speed, and writes to out/load/quick/.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dev import dynamodb_local
from studies.context import context
from studies.load import growth, ladder, report
from studies.load.targets import OPEN_TARGET
from tests.support.store_engines import OPEN

PARTS: Final = ("local-ministack", "local-dynamodb-local", "deployed", "growth", "claims")
_LEAST_CALLS_EACH: Final = 8  # two rounds: with fewer calls than callers, not all would call at once


@dataclass(frozen=True)
class Extent:
    """How much is done.

    Attributes:
        calls: at each level, by target.
        levels: by target.
        sound_up_to: callers at once, by target, up to which every answer has to be right. Beyond it the first level
            with a wrong answer is the last one.
        level_seconds: when a level ends at the latest.
        sizes: tokens stored.
        fill_seconds: how long filling an engine may take.
        timed: calls of each operation at each size.
        used_up: tokens of which all claims are made.
    """

    calls: Mapping[str, int]
    levels: Mapping[str, Sequence[int]]
    sound_up_to: Mapping[str, int]
    level_seconds: float
    sizes: Mapping[str, Sequence[int]]
    fill_seconds: float
    timed: int
    used_up: int


FULL: Final = Extent(
    calls={"ministack": 18_000, "dynamodb-local": 6_000, "deployed": 8_000},
    levels={
        "ministack": (*ladder.LEVELS, 512),
        "dynamodb-local": ladder.LEVELS,
        "deployed": (1, 4, 16, 32, 64, 128, 256),
    },
    sound_up_to={"ministack": 256, "dynamodb-local": 256, "deployed": 16},
    level_seconds=300,
    sizes={"dynamodb-local": growth.SIZES, "ministack": growth.SIZES[:3]},
    fill_seconds=900,
    timed=400,
    used_up=20,
)
QUICK: Final = Extent(
    calls={"ministack": 400, "dynamodb-local": 200, "deployed": 60},
    levels={"ministack": (1, 16, 256), "dynamodb-local": (1, 16), "deployed": (1, 4)},
    sound_up_to={"ministack": 256, "dynamodb-local": 256, "deployed": 4},
    level_seconds=30,
    sizes={"dynamodb-local": (100, 1_000), "ministack": (100, 1_000)},
    fill_seconds=30,
    timed=10,
    used_up=2,
)

Step = Callable[[str, int], Callable[..., object]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; returns 1 after a wrong answer or if the table disagrees with the answers."""
    options = _arguments(arguments)
    extent = QUICK if options.quick else FULL
    out, document = (report.OUT / "quick", None) if options.quick else (report.OUT, report.DOCUMENT)
    results = report.read(out)
    missing = dynamodb_local.why_missing()
    with (
        tempfile.TemporaryDirectory(prefix="load-") as scratch,
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[wrong]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        ) as progress,
    ):
        for part in options.part:
            if missing is not None and "dynamodb-local" in part:
                progress.console.print(f"left out {part}: {missing}", style="red")
                continue
            folder = Path(scratch, part)
            folder.mkdir()
            results["parts"][part] = {
                **context(f"python -m studies.load --part {part}" + " --quick" * options.quick, ("locust", "pynamodb")),
                **_run(part, extent, folder, progress, missing),
            }
            report.write(out, results, document)
    report.draw(out, results)
    print(report.as_markdown(results))
    wrong = [f"{part}: {each}" for part in options.part for each in report.failures(results["parts"].get(part, {}))]
    for each in wrong:
        print(f"load: {each}", file=sys.stderr)
    return int(bool(wrong))


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m studies.load", description=__doc__)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true")
    return parser.parse_args(arguments)


def _run(part: str, extent: Extent, folder: Path, progress: Progress, missing: str | None) -> dict[str, Any]:
    if part == "growth":
        engines = [name for name in extent.sizes if missing is None or name != "dynamodb-local"]
        return {"engines": {name: _grow(name, extent, folder, progress) for name in engines}}
    if part == "claims":
        engine = "ministack" if missing is not None else "dynamodb-local"
        return {"engine": engine, "levels": _claim(engine, extent, folder, progress)}
    return _climb(part.removeprefix("local-"), extent, folder, progress)


def _climb(name: str, extent: Extent, folder: Path, progress: Progress) -> dict[str, Any]:
    with OPEN_TARGET[name](folder) as target:
        before, levels, warm_ups = target.stored(), [], []
        for users in extent.levels[name]:
            calls = max(extent.calls[name], _LEAST_CALLS_EACH * users)
            level = ladder.Level(users, calls, extent.level_seconds)
            bar = progress.add_task(f"{target.name}: {users} callers", total=level.calls, wrong="")

            def show(answered: int, wrong: int, bar: Any = bar) -> None:
                progress.update(bar, completed=answered, wrong=f"[red]{wrong} wrong" if wrong else "")

            warm_up = ladder.warm_up(target, users, folder, show)
            warm_ups += [warm_up] if warm_up else []
            if warm_up and warm_up["errors"]:
                levels.append({**warm_ups.pop(), "still_coming_in": True})
            else:
                levels.append(ladder.run_level(target, level, folder, show))
            progress.stop_task(bar)
            if levels[-1]["errors"] and users >= extent.sound_up_to[name]:
                break
        return {
            "target": target.name,
            "sound_up_to": extent.sound_up_to[name],
            "levels": levels,
            "warm_ups": warm_ups,
            "verdict": ladder.verdict([*levels, *warm_ups], before, target.stored()),
        }


def _grow(name: str, extent: Extent, folder: Path, progress: Progress) -> dict[str, Any]:
    rows = []
    with OPEN[name](folder) as engine:
        fill = growth.Fill(engine, extent.fill_seconds)
        bar = progress.add_task(f"{name}: tokens stored", total=max(extent.sizes[name]), wrong="")
        growth.at_size(engine, fill.stored, extent.timed)  # not counted: a Java program's first answers are slow
        for size in extent.sizes[name]:
            is_full = fill.up_to(size, lambda written: progress.advance(bar, written))
            rows.append(growth.at_size(engine, fill.stored, extent.timed))
            if not is_full:
                break
        progress.stop_task(bar)
        return {"sizes": rows, "filled_per_second": fill.per_second}


def _claim(name: str, extent: Extent, folder: Path, progress: Progress) -> list[dict[str, Any]]:
    with OPEN[name](folder) as engine:
        total = extent.used_up * max(growth.CLAIMS)
        bar = progress.add_task(f"{name}: claims of {extent.used_up} tokens", total=total, wrong="")
        return growth.with_claims(engine, extent.used_up, lambda written: progress.advance(bar, written))


if __name__ == "__main__":
    sys.exit(main())
