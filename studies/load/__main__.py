"""`make load`, which fetches locust for it; LOAD has the options. See docs/load.md.

Each part writes its results to out/load/ and its table to docs/load.md when it ends. `--quick` takes a few minutes, is
too short to measure speed, and writes to out/load/quick/ alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from dev import dynamodb_local
from dev.engine import ROOT
from studies import page
from studies.context import context
from studies.load import growth, ladder
from tests.support.store_engines import DYNAMODB_LOCAL, MINISTACK

PARTS: Final = (*ladder.OPEN_TARGET, "growth", "claims")
OUT: Final = ROOT / "out" / "load"
DOCUMENT: Final = ROOT / "docs" / "load.md"

LEVELS: Final = {
    "local-ministack": (1, 4, 16, 64, 128, 256, 512),
    "local-dynamodb-local": (1, 4, 16, 64, 128, 256),
    "deployed": (1, 4, 16, 32, 64, 128, 256),
}
SOUND_UP_TO: Final = {"local-ministack": 256, "local-dynamodb-local": 256, "deployed": 16}
SIZES: Final = {DYNAMODB_LOCAL: (1_000, 10_000, 100_000, 1_000_000), MINISTACK: (1_000, 10_000, 100_000)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; returns 1 after a wrong answer or if the table disagrees with the answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    wrong, missing = [], dynamodb_local.why_missing()
    engines = [MINISTACK] if missing else [DYNAMODB_LOCAL, MINISTACK]
    for part in options.part:
        if missing and "dynamodb-local" in part:
            print(f"left out {part}: {missing}", file=sys.stderr)
            continue
        facts = context(f"make load LOAD='--part {part}" + " --quick" * options.quick + "'", ("locust", "pynamodb"))
        with tempfile.TemporaryDirectory(prefix="load-") as scratch:
            results, table, failures = _run(part, engines, Path(scratch), quick=options.quick)
        text = f"`{facts['command']}`, {facts['date']}. {facts['machine']}; {facts['versions']}.\n\n{table}"
        out = OUT / "quick" if options.quick else OUT
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{part}.json").write_text(json.dumps({**facts, "results": results}, indent=2) + "\n", "utf-8")
        if not options.quick:
            DOCUMENT.write_text(page.filled(DOCUMENT.read_text("utf-8"), "load", {part: text}), "utf-8")
        print(f"## {part}\n\n{text}\n")
        wrong += [f"load: {part}: {each}" for each in failures]
    print(*wrong, sep="\n", file=sys.stderr)
    return int(bool(wrong))


def _run(part: str, engines: Sequence[str], scratch: Path, *, quick: bool) -> tuple[Any, str, list[str]]:
    """The results of a part, its table, and what must not be."""
    if part == "growth":
        sizes = {
            name: growth.grow(name, (100, 1_000), 30, 10, scratch)
            if quick
            else growth.grow(name, SIZES[name], 900, 400, scratch)
            for name in engines
        }
        return sizes, "\n\n".join(growth.sizes_as_markdown(*each) for each in sizes.items()), []
    if part == "claims":
        rows = growth.with_claims(engines[0], 2 if quick else 20, scratch)
        return rows, growth.claims_as_markdown(rows), growth.failures(rows)
    levels = LEVELS[part][:2] if quick else LEVELS[part]
    found = ladder.climb(part, levels, 5 if quick else 60, SOUND_UP_TO[part], scratch)
    return found, ladder.as_markdown(found), ladder.failures(found)


if __name__ == "__main__":
    sys.exit(main())
