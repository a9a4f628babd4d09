"""The deployment archive: Chalice's and the libraries, compiled and without what Lambda never reads.

Reproducible byte for byte.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name

LOCK: Final = Path(__file__).resolve().parent.parent / "requirements.txt"
# AWS's library and its own dependencies. In Lambda our own client replaces it (chalicelib/aws);
# DYNAMODB_TRANSPORT=botocore uses the one that is part of Lambda's runtime.
REPLACED: Final = ("botocore", "jmespath", "dateutil", "python_dateutil", "six")
# Of glibc 2.17: fits every runtime of runtimes.toml.
_PLATFORMS: Final = {"x86_64": "manylinux2014_x86_64", "arm64": "manylinux2014_aarch64"}
_DROPPED: Final = re.compile(
    rf"""
    .*\.pyc | .*/__pycache__/.*                              # of this machine's Python; compiled anew below
    | .*\.pyi | .*/py\.typed                                 # for type checkers
    | bin/.*
    | [^/]+\.dist-info/(?!METADATA$|.*(?i:licen[cs]e|notice|copying)).*
    | (?:{"|".join(REPLACED)})(?:/.*|\.py|-[^/]*\.dist-info/.*)
    """,
    re.VERBOSE,
)
_LAMBDA_ROOT: Final = "/var/task"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest time of a zip file
_MODE: Final = 0o100644 << 16


class PackageError(Exception):
    """There is no package; the message is one line."""


def install(task: Path, architecture: str, lock: Path = LOCK) -> dict[str, str]:
    """Install the libraries of a lock, as wheels for Lambda and the Python that runs this, each checked by its hash.

    Chalice could fetch them. But what does not fit the machine that builds (a Mac, Alpine, another processor) it
    fetches by name and version alone.

    Args:
        task: folder, as the archive has it.
        architecture: Lambda's name of it, `x86_64` or `arm64`.

    Returns:
        Normalized name of each library to the SHA-256 of its wheel, hexadecimal.

    Raises:
        PackageError: a library is not what the lock names, or has no wheel. None is installed then.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        command += ["--require-hashes", "--only-binary", ":all:", "--platform", _PLATFORMS[architecture]]
        command += ["--python-version", f"{sys.version_info.major}.{sys.version_info.minor}"]
        command += ["--target", str(task), "--report", str(report), "--requirement", str(lock)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            # From pip's first error on: the later ones say what to do about it, or which library it is.
            reason = " ".join(run.stderr.partition("ERROR: ")[2].split())
            raise PackageError(f"libraries: {reason or 'pip failed'}")
        installed = json.loads(report.read_text("utf-8"))["install"]
    return {
        canonicalize_name(each["metadata"]["name"]): each["download_info"]["archive_info"]["hashes"]["sha256"]
        for each in installed
    }


def unpack(packed: Path, task: Path) -> None:
    """Unpack Chalice's archive beside the libraries, and delete what no function reads."""
    with zipfile.ZipFile(packed) as zipped:
        zipped.extractall(task)
    for path in [path for path in task.rglob("*") if path.is_file()]:
        if _DROPPED.fullmatch(path.relative_to(task).as_posix()):
            path.unlink()


def compile_all(root: Path, invalidation: str) -> None:
    """Compile all sources, so that no cold start has to.

    Args:
        invalidation: how Python detects a changed source, as an option of its `compileall`.
    """
    mode = ("--invalidation-mode", invalidation)
    command = (sys.executable, "-I", "-m", "compileall", "-q", *mode, "-s", str(root), "-p", _LAMBDA_ROOT, str(root))
    # Sets among the constants are written in the order of their hashes.
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "0"})


def write(task: Path, archive: Path) -> None:
    """Compile a folder's sources, which adds files to it, and write the archive that is deployed."""
    # "Unchecked": Python does not compare them with the sources, which are the ones beside them.
    compile_all(task, "unchecked-hash")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped:
        for path in sorted(file for file in task.rglob("*") if file.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(task).as_posix(), _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = _MODE
            zipped.writestr(entry, path.read_bytes())
