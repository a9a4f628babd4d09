"""The libraries of the archive: wheels for Lambda's platform, each checked against the lock's hashes.

Chalice could fetch them. But what does not fit the machine that builds (a Mac, Alpine, another processor) it fetches by
name and version alone, without a hash.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name

LOCK: Final = Path(__file__).resolve().parent.parent / "requirements.txt"
# Of glibc 2.17: fits every runtime of runtimes.toml.
_PLATFORMS: Final = {"x86_64": "manylinux2014_x86_64", "arm64": "manylinux2014_aarch64"}


class LibraryError(Exception):
    """A library is not what the lock names, or has no wheel; the message is one line."""


def install(into: Path, architecture: str, lock: Path = LOCK) -> dict[str, str]:
    """Install the libraries of a lock for the Python that runs this.

    Args:
        into: folder, as the archive has it.
        architecture: Lambda's name of it, `x86_64` or `arm64`.

    Returns:
        Normalized name of each library to the SHA-256 of its wheel, hexadecimal.

    Raises:
        LibraryError: no library is installed then.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        command += ["--require-hashes", "--only-binary", ":all:", "--platform", _PLATFORMS[architecture]]
        command += ["--python-version", f"{sys.version_info.major}.{sys.version_info.minor}"]
        command += ["--target", str(into), "--report", str(report), "--requirement", str(lock)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            raise LibraryError(_reason(run.stderr))
        installed = json.loads(report.read_text("utf-8"))["install"]
    return {
        canonicalize_name(each["metadata"]["name"]): each["download_info"]["archive_info"]["hashes"]["sha256"]
        for each in installed
    }


def _reason(output: str) -> str:
    """From pip's first error on: the later ones say what to do about it, or which library it is."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    first = next((at for at, line in enumerate(lines) if line.startswith("ERROR: ")), 0)
    return " ".join(lines[first:]).removeprefix("ERROR: ") or "pip failed"
