"""The versions that a lock pins."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)


def pins(path: str) -> dict[str, str]:
    """Name to version."""
    return {canonicalize_name(name): version for name, version, _ in PIN.findall((ROOT / path).read_text())}
