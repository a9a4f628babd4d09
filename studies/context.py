"""When, on what and with which versions something was measured."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from dev.engine import ROOT
from dev.install import PIN


def context(command: str, packages: Sequence[str]) -> dict[str, str]:
    """The command, the date, the commit, the machine and the versions, as text.

    Args:
        command: that a reader can repeat.
        packages: distributions whose versions matter; the local engines' are always there.
    """
    pins = (ROOT / "requirements" / "engine.txt").read_text("utf-8").splitlines()
    dynamodb_local = json.loads(PIN.read_text("utf-8"))
    versions = [
        f"Python {platform.python_version()}",
        *(f"{name} {version(name)}" for name in packages),
        *(pin.split(" ")[0].replace("==", " ") for pin in pins if pin.startswith("ministack==")),
        f"{dynamodb_local['package']} {dynamodb_local['version']}",
    ]
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()}"
        f" {platform.release().split('-')[0]}, load average {os.getloadavg()[0]:.1f}",
        "versions": ", ".join(versions),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")  # on Linux alone
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
