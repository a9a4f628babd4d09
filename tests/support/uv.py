"""The uv that set up this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from dev import environments

_OWN_UV = environments.OWN_UV / "bin" / "uv"
UV: Final = _OWN_UV if _OWN_UV.exists() else Path(str(shutil.which("uv")))
WITH_UV: Final = f"{UV.parent}:/usr/bin:/bin"


def uv(*arguments: str, **environ: str) -> str:
    """Run uv; its output and its messages."""
    run = subprocess.run(
        [str(UV), *arguments], env={**os.environ, **environ}, capture_output=True, text=True, check=True
    )
    return run.stdout + run.stderr
