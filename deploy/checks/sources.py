"""The files of the repository that checks read."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_GENERATED: Final = frozenset({"out", "build", "node_modules", "__pycache__"})


def sources(root: Path = ROOT) -> list[Path]:
    """Return every file that git tracks or would track; without git, as in a build, all files but generated ones.

    Returns:
        Paths relative to `root`.
    """
    git = shutil.which("git")
    if git and (root / ".git").exists():
        command = [git, "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
        return sorted({Path(name) for name in listed if name and (root / name).is_file()})
    files = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(path for path in files if not _is_generated(path))


def _is_generated(path: Path) -> bool:
    folders = path.parts[:-1]
    return any(name in _GENERATED or (name[0] == "." and name not in (".chalice", ".ci")) for name in folders)
