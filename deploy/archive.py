"""The deployment archive: Chalice's and the libraries, compiled and without what Lambda never reads.

Reproducible byte for byte.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

# AWS's library and its own dependencies. In Lambda our own client replaces it (chalicelib/aws);
# DYNAMODB_TRANSPORT=botocore uses the one that is part of Lambda's runtime.
REPLACED: Final = ("botocore", "jmespath", "dateutil", "python_dateutil", "six")
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


def write(root: Path, archive: Path) -> None:
    """Write the archive that is deployed.

    Args:
        root: folder with what `lay_out` leaves of the application and its libraries; compiled files are added.
        archive: path of the archive.
    """
    # "Unchecked": Python does not compare them with the sources, which are the ones beside them.
    compile_all(root, "unchecked-hash")
    _zip(root, archive)


def lay_out(packed: Path, root: Path) -> None:
    """Unpack Chalice's archive beside the libraries, and delete what no function reads."""
    with zipfile.ZipFile(packed) as zipped:
        zipped.extractall(root)
    for path in [path for path in root.rglob("*") if path.is_file()]:
        if _DROPPED.fullmatch(path.relative_to(root).as_posix()):
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


def _zip(root: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped:
        for path in sorted(file for file in root.rglob("*") if file.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(root).as_posix(), _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = _MODE
            zipped.writestr(entry, path.read_bytes())
