"""Reports of long runs: JSON for programs and Markdown for `docs/reliability.md`, below `out/soak`."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

from dev.engine import ROOT
from dev.install import PIN
from tests.support.store_engines import TRANSPORT

DIRECTORY: Final = ROOT / "out" / "soak"
_PACKAGES: Final = ("pynamodb", "botocore", "hypothesis")


def surroundings() -> dict[str, str]:
    """The date, and the versions of what took part."""
    engines = dict(
        line.split(" ")[0].split("==")
        for line in (ROOT / "requirements" / "engine.txt").read_text().splitlines()
        if line.startswith("ministack==")
    )
    carrier = json.loads(PIN.read_text())
    versions = {
        "Python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        **engines,
        carrier["package"]: carrier["version"],
    }
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()) + f", {TRANSPORT} transport",
    }


def write(name: str, report: Mapping[str, Any], text: str) -> None:
    """Keep a report, and print it."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    (DIRECTORY / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    (DIRECTORY / f"{name}.md").write_text(text)
    print(text)


def as_markdown(report: Mapping[str, Any], heads: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """A table with the command, the date and the versions above it."""
    rows = [heads, ["---"] * len(heads), *lines]
    table = "\n".join(
        "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row) + " |" for row in rows
    )
    return f"`{report['command']}`, {report['date']}, {report['versions']}\n\n{table}\n"
