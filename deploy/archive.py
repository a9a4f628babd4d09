"""The deployment archive: what Chalice packed, without what Lambda never reads, and compiled.

Twice the same input gives twice the same bytes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

# AWS's library and what it alone needs. In Lambda our own client takes its place (chalicelib/aws), and the one that
# Lambda itself brings along is there for DYNAMODB_TRANSPORT=botocore.
REPLACED: Final = ("botocore", "jmespath", "dateutil", "python_dateutil", "six")
_DROPPED: Final = re.compile(
    rf"""
    .*\.pyc | .*/__pycache__/.*                              # of this machine's Python; compiled anew below
    | .*\.pyi | .*/py\.typed                                 # for type checkers
    | [^/]+\.data/.*                                         # scripts
    | [^/]+\.dist-info/(?!METADATA$|.*(?i:licen[cs]e|notice|copying)).*
    | (?:{"|".join(REPLACED)})(?:/.*|\.py|-[^/]*\.dist-info/.*)
    """,
    re.VERBOSE,
)
_LAMBDA_ROOT: Final = "/var/task"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can say
_MODE: Final = 0o100644 << 16


def rebuild(packed: Path, archive: Path) -> None:
    """Write the archive that is deployed.

    Args:
        packed: the archive that `chalice package` made.
        archive: where ours goes.
    """
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        unpack(packed, root)
        # "Unchecked": Lambda need not even look at the sources, which are the ones beside them.
        compile_all(root, "unchecked-hash")
        _zip(root, archive)


def unpack(packed: Path, root: Path) -> None:
    """Lay out what a function reads of Chalice's archive."""
    with zipfile.ZipFile(packed) as zipped:
        zipped.extractall(root, [name for name in zipped.namelist() if not _DROPPED.fullmatch(name)])


def compile_all(root: Path, invalidation: str) -> None:
    """Spare each cold start the compiling.

    Args:
        invalidation: how Python finds out that a source is another one, in the words of its `compileall`.
    """
    mode = ("--invalidation-mode", invalidation)
    command = (sys.executable, "-I", "-m", "compileall", "-q", *mode, "-s", str(root), "-p", _LAMBDA_ROOT, str(root))
    # Sets among the constants are written in the order of their hashes.
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "0"})


def _zip(root: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped:
        for path in sorted(each for each in root.rglob("*") if each.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(root).as_posix(), _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = _MODE
            zipped.writestr(entry, path.read_bytes())
