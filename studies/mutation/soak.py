"""Mutation testing of `MODULES`: `python -m studies.mutation.soak`.

mutmut works in a copy of the sources below `.local`. Ends with 1 where fewer mutants are killed than `AIM` says, or one
survives that `survivors.toml` does not explain. mutmut leaves decorated functions and module constants as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from dev.engine import PYTHON, ROOT, Engine
from studies.mutation.shared_engine import ENVIRON_VARIABLE
from studies.soak import soak_report

MODULES: Final = ("addresses", "tokens", "seal", "clients", "service", "authorizer", "storage", "aws", "splunk")
"""Of `chalicelib`; a name may be that of a folder of modules."""
AIM: Final = 0.95
WORKSPACE: Final = ROOT / ".local" / "mutation"
SOURCES: Final = (
    "app.py",
    "chalicelib",
    "tests",
    "studies",
    "tokenctl",
    "dev",
    "deploy",
    "examples",
    ".chalice",
    "docs",
    "requirements",
)
FILES: Final = ("requirements.txt", "pyproject.toml", "README.md")
EXPLAINED: Final = Path(__file__).with_name("survivors.toml")
_SURVIVED: Final = 0
_NO_TESTS: Final = 33


def main(arguments: Sequence[str] | None = None) -> int:
    """Run mutmut, which shows its own progress, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modules", nargs="+", choices=MODULES, default=list(MODULES))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args(arguments)
    _copy_sources()
    with Engine(services=("dynamodb", "ssm"), log=WORKSPACE / "engine.log") as engine:
        environ = {
            **os.environ,
            ENVIRON_VARIABLE: json.dumps(engine.client_environ),
            "PYTHONPATH": str(WORKSPACE / "mutants"),
        }
        patterns = [f"chalicelib.{module}.*" for module in options.modules]
        command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(options.processes), *patterns]
        ended = subprocess.run(command, cwd=WORKSPACE, env=environ, check=False)
    if ended.returncode:
        return ended.returncode
    return _report([_result(module) for module in options.modules], options)


def _copy_sources() -> None:
    shutil.rmtree(WORKSPACE, ignore_errors=True)
    (WORKSPACE / "mutants").mkdir(parents=True)
    for name in (*SOURCES, *FILES):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, WORKSPACE / name, ignore=shutil.ignore_patterns("__pycache__", "deployments"))
        elif source.exists():
            shutil.copy(source, WORKSPACE / name)
    (WORKSPACE / "mutants" / PYTHON.parent.parent.name).symlink_to(PYTHON.parent.parent)


def _result(module: str) -> dict[str, Any]:
    place = WORKSPACE / "mutants" / "chalicelib"
    metas = [place / f"{module}.py.meta", *sorted((place / module).glob("*.py.meta"))]
    codes: dict[str, int | None] = {}
    for meta in metas:
        if meta.exists():
            codes |= json.loads(meta.read_text())["exit_code_by_key"]
    alive = [name for name, code in codes.items() if code in (_SURVIVED, _NO_TESTS)]
    reasons = tomllib.loads(EXPLAINED.read_text())
    survivors = [_explain(change, reasons) for change in _changes(alive)]
    return {
        "module": module,
        "mutants": len(codes),
        "killed": len(codes) - len(alive) - sum(code is None for code in codes.values()),
        "unchecked": sum(code is None for code in codes.values()),
        "survivors": survivors,
    }


def _changes(names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Each mutant's name, and the lines that it took away and put in."""
    command = [sys.executable, "-m", "mutmut", "show"]
    for name in names:
        shown = subprocess.run([*command, name], cwd=WORKSPACE, capture_output=True, text=True, check=True).stdout
        lines = [line for line in shown.splitlines() if not line.startswith(("---", "+++"))]
        taken, put = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
        yield name, taken, put


def _explain(change: tuple[str, str, str], reasons: Mapping[str, Sequence[str | list[str]]]) -> dict[str, str | None]:
    """A survivor with the first reason for a part of the line that was mutated, if there is one."""
    name, taken, put = change
    for why, mutants in reasons.items():
        for line, *became in ([each] if isinstance(each, str) else each for each in mutants):
            if line in taken and "".join(became) in put:
                return {"name": name, "line": taken, "mutant": put, "why": why}
    return {"name": name, "line": taken, "mutant": put, "why": None}


def _report(rows: Sequence[Mapping[str, Any]], options: argparse.Namespace) -> int:
    report = {
        "what": "mutation",
        **soak_report.surroundings(f"python -m studies.mutation.soak --modules {' '.join(options.modules)}"),
        "mutmut": version("mutmut"),
        "rows": rows,
    }
    lines = [_line(row["module"], [row]) for row in rows] + [_line("all", rows)]
    heads = ["module", "mutants", "killed", "share", "survivors", "of them explained"]
    text = soak_report.as_markdown(report, heads, lines)
    for row in rows:
        for each in row["survivors"]:
            text += f"\n- `{each['mutant'] or each['name']}`: {each['why'] or 'NOT EXPLAINED'}"
    soak_report.write("mutation", report, text + "\n")
    survivors = [each for row in rows for each in row["survivors"]]
    share = sum(row["killed"] for row in rows) / sum(row["mutants"] for row in rows)
    return 0 if share >= AIM and all(each["why"] for each in survivors) else 1


def _line(name: str, rows: Sequence[Mapping[str, Any]]) -> list[object]:
    mutants, killed = (sum(row[key] for row in rows) for key in ("mutants", "killed"))
    survivors = [each for row in rows for each in row["survivors"]]
    return [name, mutants, killed, f"{killed / mutants:.1%}", len(survivors), sum(bool(s["why"]) for s in survivors)]


if __name__ == "__main__":
    sys.exit(main())
