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
from typing import Final

from dev.engine import ROOT
from studies import page
from studies.context import context
from studies.load import ladder

OUT: Final = ROOT / "out" / "load"
DOCUMENT: Final = ROOT / "docs" / "load.md"

LEVELS: Final = {"local": (1, 4, 16, 64, 128, 256, 512), "deployed": (1, 4, 16, 32, 64, 128, 256)}
SOUND_UP_TO: Final = {"local": 256, "deployed": 16}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; returns 1 after a wrong answer or if the table disagrees with the answers."""
    parser = argparse.ArgumentParser(prog="python -m studies.load", description=__doc__)
    parser.add_argument("--part", nargs="+", choices=tuple(LEVELS), default=tuple(LEVELS))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    wrong = []
    for part in options.part:
        facts = context(f"python -m studies.load --part {part}" + " --quick" * options.quick, ("locust", "pynamodb"))
        levels = LEVELS[part][:2] if options.quick else LEVELS[part]
        with tempfile.TemporaryDirectory(prefix="load-") as scratch:
            found = ladder.climb(part, levels, 5 if options.quick else 60, SOUND_UP_TO[part], Path(scratch))
        table = ladder.as_markdown(found)
        text = f"`{facts['command']}`, {facts['date']}. {facts['machine']}; {facts['versions']}.\n\n{table}"
        out = OUT / "quick" if options.quick else OUT
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{part}.json").write_text(json.dumps({**facts, "results": found}, indent=2) + "\n", "utf-8")
        if not options.quick:
            DOCUMENT.write_text(page.filled(DOCUMENT.read_text("utf-8"), "load", {part: text}), "utf-8")
        print(f"## {part}\n\n{text}\n")
        wrong += [f"load: {part}: {each}" for each in ladder.failures(found)]
    print(*wrong, sep="\n", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
