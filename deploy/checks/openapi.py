"""Lint chalicelib/http/openapi.json with Redocly: `python -m deploy.checks.openapi`. Exit code 1: errors.

Redocly comes from npm, pinned in `deploy/openapi/package-lock.json`, beside `redocly.yaml` with the rules. If Node or
npm is missing, nothing is checked and a line says so; in continuous integration that is an error.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
FOLDER: Final = ROOT / "deploy" / "openapi"
DOCUMENT: Final = ROOT / "chalicelib" / "http" / "openapi.json"
_LEAST_NODE: Final = (20, 19)
# Without these, Redocly reports each run to its makers, and looks for newer versions of itself.
_QUIET: Final = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}


class ToolsMissing(Exception):
    """Redocly can't be installed here; the message says what is missing."""


def redocly(*arguments: str) -> int:
    """Run Redocly with our rules and return its exit code. It is installed if it is not as the lock says.

    Raises:
        ToolsMissing: Node or npm is missing or too old, or npm failed.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise ToolsMissing("node and npm are not installed (Debian: nodejs, npm)")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _LEAST_NODE:
        raise ToolsMissing(f"Node {version} is too old; {'.'.join(map(str, _LEAST_NODE))} is needed")
    modules = FOLDER / "node_modules"
    stamp, digest = modules / ".lock-digest", hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text("utf-8") != digest:
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        run = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
        if run.returncode:
            raise ToolsMissing(f"npm ci: {' '.join(run.stderr.split())[-300:]}")
        stamp.write_text(digest, "utf-8")
    command = [str(modules / ".bin" / "redocly"), *arguments, "--config", str(FOLDER / "redocly.yaml")]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **_QUIET}, check=False).returncode


def main() -> int:
    try:
        return redocly("lint", "--lint-config", "error", str(DOCUMENT))
    except ToolsMissing as missing:
        print(f"!!! OPENAPI NOT LINTED: {missing}", file=sys.stderr)
        return 1 if os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    sys.exit(main())
