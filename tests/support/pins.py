"""The versions and hashes that a lock pins, and wheels that it does not."""

from __future__ import annotations

import re
import zipfile
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


def write_wheel(folder: Path, name: str, version: str, tag: str = "py3-none-any", code: str = "") -> Path:
    """Write a wheel of a library that is one module."""
    stem = re.sub(r"[-.]+", "_", name).lower()
    info = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "WHEEL": f"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: {tag}\n",
        "RECORD": "",
    }
    path = folder / f"{stem}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{stem}.py", code)
        for file, text in info.items():
            wheel.writestr(f"{stem}-{version}.dist-info/{file}", text)
    return path
