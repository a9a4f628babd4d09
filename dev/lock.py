"""Pins the dependency groups of `pyproject.toml`: `python -m dev.lock [--upgrade]`, the work of `make lock`.

uv chooses one version of each library for every Python and platform. A lock names the wheels that a supported machine
can install, and the source archive only if one of these machines has no wheel. Other files of a release, for Windows,
PyPy or other processors, are left out.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import parse_wheel_filename

from dev.environments import LOGS, NEWEST, NEWEST_OF_SCANNERS, OLDEST, OWN_UV, ROOT, complete_lock

# Group to its lock, and the group whose versions it takes. A group comes after the one that bounds it.
_LOCKS: Final = {
    "lambda": ("requirements.txt", None),
    "dev": ("requirements/dev.txt", "lambda"),
    "run": ("requirements/run.txt", "dev"),
    "engine": ("requirements/engine.txt", None),
    "scanners": ("requirements/scanners.txt", None),
    "uv": ("requirements/uv.txt", None),
}
# Group to the group that it holds all of, and how its lock includes that one's.
_INCLUDED: Final = {"run": ("lambda", "-r ../requirements.txt"), "dev": ("run", "-r run.txt")}
_NEWEST_GLIBC: Final = 50  # of 2.x; a wheel that needs at most that is pinned
_NEWEST_MACOS: Final = (26, 0)


class LockError(Exception):
    """A library can't be pinned; the message is one line."""


class Machine(NamedTuple):
    """A Python on a platform: which wheels it can install, and what markers are compared with."""

    tags: frozenset[Tag]
    markers: Mapping[str, str]


def machines(newest: tuple[int, int]) -> list[Machine]:
    """CPython from 3.11 to `newest`, on Linux with glibc or musl and on macOS, on either processor."""
    platforms = [("linux", arch, names(arch)) for arch in ("x86_64", "aarch64") for names in (_glibc, _musl)]
    platforms += [("darwin", arch, list(mac_platforms(_NEWEST_MACOS, arch))) for arch in ("x86_64", "arm64")]
    return [_machine((3, minor), *each) for minor in range(OLDEST[1], newest[1] + 1) for each in platforms]


def _glibc(arch: str) -> list[str]:
    names = [f"manylinux_2_{minor}_{arch}" for minor in range(_NEWEST_GLIBC, 4, -1)]
    return [*names, *(f"manylinux{year}_{arch}" for year in ("2014", "2010", "1"))]


def _musl(arch: str) -> list[str]:
    return [f"musllinux_1_{minor}_{arch}" for minor in (2, 1, 0)]


def _machine(python: tuple[int, int], system: str, arch: str, platforms: list[str]) -> Machine:
    version = f"{python[0]}.{python[1]}"
    generic = compatible_tags(python, f"cp{python[0]}{python[1]}", platforms)
    markers = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": arch,
        "platform_python_implementation": "CPython",
        "platform_system": system.capitalize(),
        "python_full_version": f"{version}.0",
        "python_version": version,
        "sys_platform": system,
    }
    return Machine(frozenset(chain(cpython_tags(python, platforms=platforms), generic)), markers)


def digests(package: Mapping[str, Any], supported: Sequence[Machine]) -> list[str]:
    """The SHA-256 digests, hexadecimal and sorted, of the files to pin.

    Args:
        package: an entry of `packages`, as in PEP 751.
        supported: the machines to install on. No digest is returned if the package's marker excludes all of them.

    Raises:
        LockError: a machine has neither a wheel nor a source archive.
    """
    marker = Marker(package.get("marker", "python_version > '3'"))
    served = [machine for machine in supported if marker.evaluate(dict(machine.markers))]
    pinned, has_wheel = set(), set()
    for wheel in package.get("wheels", []):
        tags = parse_wheel_filename(wheel["url"].rpartition("/")[2])[3]
        fitting = {number for number, machine in enumerate(served) if tags & machine.tags}
        has_wheel |= fitting
        if fitting:
            pinned.add(wheel["hashes"]["sha256"])
    if len(has_wheel) < len(served):
        if "sdist" not in package:
            without = len(served) - len(has_wheel)
            raise LockError(f"{package['name']} {package['version']} has no file for {without} supported machines")
        pinned.add(package["sdist"]["hashes"]["sha256"])
    return sorted(pinned)


def _pins(group: str, options: Sequence[str]) -> list[str]:
    """The pins of a group, with their hashes. Versions of the present lock stay, unless `options` upgrade them."""
    path, bound = _LOCKS[group]
    versions, files = LOGS / f"lock-{group}.txt", LOGS / f"pylock.{group}.toml"
    versions.write_text(complete_lock(ROOT / path), "utf-8")
    bounds = ("--constraints", str(LOGS / f"lock-{bound}.txt")) if bound else ()
    _uv("--group", group, *bounds, *options, "--no-header", "--no-annotate", "--output-file", str(versions))
    files.unlink(missing_ok=True)
    _uv("--no-deps", str(versions), "--format", "pylock.toml", "--output-file", str(files))
    supported = machines(NEWEST_OF_SCANNERS if group == "scanners" else NEWEST)
    pins = []
    for package in tomllib.loads(files.read_text("utf-8"))["packages"]:
        pin = f"{package['name']}=={package['version']}"
        if "marker" in package:
            pin += f" ; {package['marker']}"
        if pinned := digests(package, supported):
            pins.append(" \\\n    ".join([pin, *(f"--hash=sha256:{digest}" for digest in pinned)]))
    return pins


def _uv(*arguments: str) -> None:
    program = OWN_UV / "bin" / "uv"
    command = [str(program) if program.exists() else "uv", "pip", "compile", "--quiet", "--universal"]
    subprocess.run([*command, "--python-version", f"{OLDEST[0]}.{OLDEST[1]}", *arguments], cwd=ROOT, check=True)


def main(options: Sequence[str]) -> int:
    """Write all locks, or none if one fails; returns the exit code."""
    try:
        pins = {group: _pins(group, options) for group in _LOCKS}
    except LockError as error:
        print(f"Locks not written: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        return error.returncode  # uv has written why
    for group, (path, _) in _LOCKS.items():
        included, line = _INCLUDED.get(group, (None, None))
        own = [pin for pin in pins[group] if not included or pin not in pins[included]]
        (ROOT / path).write_text("\n".join(["# Made by make lock", *([line] if line else []), *own]) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
