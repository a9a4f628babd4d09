"""The versions and hashes that a lock pins."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.utils import canonicalize_name

from dev.environments import complete_lock

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)


def pins(path: str) -> dict[str, str]:
    """Name to version."""
    return {canonicalize_name(name): version for name, version, _ in PIN.findall(complete_lock(ROOT / path))}


def hashes(path: str, name: str) -> set[str]:
    """The SHA-256 digests, hexadecimal, of the files that are taken for a library."""
    [rest] = [rest for pinned, _, rest in PIN.findall(complete_lock(ROOT / path)) if canonicalize_name(pinned) == name]
    return set(re.findall(r"--hash=sha256:([0-9a-f]{64})", rest))
