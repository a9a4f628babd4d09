"""Rising concurrency, level by level."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dev.engine import ROOT
from studies.load import processes
from studies.load.targets import ROLES, Target

LEVELS: Final = (1, 4, 16, 64, 128, 256)

_UNLIMITED: Final = 10**9
_ALL_TOGETHER_SECONDS: Final = 5.0

Show = Callable[[int, int], object]
"""Called with how many calls of a level were answered so far, and how many of them wrongly."""


@dataclass
class _Peaks:
    """The largest values while a level ran."""

    threads: int = 0
    files: int = 0
    functions: int = 0

    def look(self, at: Mapping[str, list[processes.Process]]) -> None:
        serving = at["service"] or at["engine"]
        self.threads = max([self.threads, *(process.threads for process in serving)])
        self.files = max([self.files, *(processes.open_files(process.pid) for process in serving)])
        self.functions = max(self.functions, len(at["functions"]))


@dataclass(frozen=True)
class Level:
    """So many callers at once.

    Attributes:
        calls: how many they make, about.
        seconds: after that no caller begins anything new.
    """

    users: int
    calls: int
    seconds: float


def warm_up(target: Target, users: int, scratch: Path, show: Show) -> dict[str, Any] | None:
    """Take in as many callers as will call at once, one after the other; None: the target needs no such thing."""
    if not target.callers_per_second:
        return None
    seconds = users / target.callers_per_second + _ALL_TOGETHER_SECONDS
    return run_level(target, Level(users, _UNLIMITED, seconds), scratch, show, target.callers_per_second)


def run_level(target: Target, level: Level, scratch: Path, show: Show, per_second: float = 0) -> dict[str, Any]:
    """Let the callers call.

    Args:
        per_second: how many callers begin in a second; 0: all at once.
    """
    users, calls, seconds = level.users, level.calls, level.seconds
    out = scratch / f"level-{users}.json"
    command = [sys.executable, "-m", "studies.load.users", "--url", target.url, "--users", users, "--calls", calls]
    command += ["--seconds", seconds, "--per-second", per_second or users, "--out", out]
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    environ |= {"LOAD_USER": target.credentials.user, "LOAD_PASSWORD": target.credentials.password}
    log = scratch / "callers.log"
    before, lost, peaks = _snapshot(), processes.lost_connections(), _Peaks()
    with log.open("ab") as stderr:
        run = subprocess.Popen(
            [str(part) for part in command], cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
        with run:
            assert run.stdout is not None
            for line in run.stdout:
                answered, wrong = map(int, line.split())
                show(answered, wrong)
                peaks.look(_snapshot())
    assert run.returncode == 0, log.read_text()[-2000:]
    after = _snapshot()
    results: dict[str, Any] = json.loads(out.read_text())
    used = {role: _spent(before[role], after[role]) for role in ROLES if role != "callers"}
    used["callers"] = results.pop("cpu_seconds")
    per_call = 1000 / max(1, results["calls"])
    return {
        "users": users,
        **results,
        "calls_per_second": round(results["calls"] / results["seconds"], 1),
        "cpu_ms_per_call": {role: round(spent * per_call, 3) for role, spent in used.items() if spent},
        "peak": vars(peaks),
        "lost_connections": processes.lost_connections() - lost,
    }


def verdict(levels: list[dict[str, Any]], before: Any, after: Any) -> dict[str, Any]:
    """Whether the table agrees with the answers, which no single answer shows."""
    total: Counter[str] = Counter()
    for level in levels:
        for name in ("calls", "issued", "granted", "unanswered_issues", "unanswered_uses"):
            total[name] += level[name]
        total["errors"] += sum(level["errors"].values())
    tokens, claims = after.tokens - before.tokens, after.claims - before.claims
    return {
        **total,
        "tokens_stored": tokens,
        "claims_stored": claims,
        "overspent": after.overspent,
        # A call without an answer may have been carried out or not; both are right.
        "agrees": after.overspent == 0
        and total["issued"] <= tokens <= total["issued"] + total["unanswered_issues"]
        and total["granted"] <= claims <= total["granted"] + total["unanswered_uses"]
        and claims <= tokens,
    }


def _snapshot() -> dict[str, list[processes.Process]]:
    return processes.by_role(os.getpid(), ROLES)


def _spent(before: list[processes.Process], after: list[processes.Process]) -> float:
    return sum(process.seconds for process in after) - sum(process.seconds for process in before)
