"""Reports of long runs: JSON for programs and Markdown for `docs/reliability.md`, below `out/soak`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dev.engine import ROOT
from studies import page
from studies.context import context
from tests.support.store_engines import TRANSPORT

DIRECTORY: Final = ROOT / "out" / "soak"


def surroundings(command: str) -> dict[str, str]:
    """The command, the date, and the versions of what took part."""
    facts = context(command, ("pynamodb", "botocore", "hypothesis"))
    return facts | {"versions": f"{facts['versions']}, {TRANSPORT} transport"}


def report(name: str, options: argparse.Namespace, **facts: Any) -> dict[str, Any]:
    """The facts that a module of this package found, with the command that repeats it: every option as it was."""
    values = {key: value if isinstance(value, (list, tuple)) else [value] for key, value in vars(options).items()}
    given = [" ".join([f"--{key.replace('_', '-')}", *map(str, each)]) for key, each in values.items()]
    return {**surroundings(" ".join([f"python -m studies.soak.{name}", *given])), **facts}


def write(name: str, report: Mapping[str, Any], text: str) -> None:
    """Keep a report, and print it."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    (DIRECTORY / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    (DIRECTORY / f"{name}.md").write_text(text)
    print(text)


def as_markdown(report: Mapping[str, Any], heads: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """A table with the command, the date and the versions above it."""
    return f"`{report['command']}`, {report['date']}, {report['versions']}\n\n{page.table(heads, lines)}\n"
