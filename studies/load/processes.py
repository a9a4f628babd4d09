"""What processes cost, read from Linux's /proc: processor time, threads, open files, and connections that were lost."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """One process as it stands now.

    Attributes:
        seconds: processor time, that of children that have ended included.
    """

    pid: int
    parent: int
    command: str
    seconds: float
    threads: int


def by_role(root: int, roles: Mapping[str, tuple[str, ...]]) -> dict[str, list[Process]]:
    """The descendants of a process, by role.

    Args:
        roles: a role's name to texts, one of which its command line holds. Who holds none of all has its parent's
            role; who holds those of several has the first one's.
    """
    found = {process.pid: process for process in _all()}
    sorted_out: dict[str, list[Process]] = {role: [] for role in roles}
    for process in found.values():
        step: Process | None = process
        role = None
        while step is not None and step.pid != root:
            role = role or _role(step.command, roles)
            step = found.get(step.parent)
        if step is not None and role is not None:
            sorted_out[role].append(process)
    return sorted_out


def _role(command: str, roles: Mapping[str, tuple[str, ...]]) -> str | None:
    return next((name for name, parts in roles.items() if any(part in command for part in parts)), None)


def open_files(pid: int) -> int:
    with suppress(OSError):
        return len(os.listdir(_PROC / str(pid) / "fd"))  # noqa: PTH208 - thousands of names, no paths wanted
    return 0


def lost_connections() -> int:
    """How often this machine had no room for a new connection, since it was started; all programs together."""
    lines = (_PROC / "net" / "netstat").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("TcpExt:"))
    return int(dict(zip(names, values, strict=True))["ListenOverflows"])


def _all() -> Iterator[Process]:
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):  # it has just ended
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            # The name in parentheses may hold anything. Source: proc(5), /proc/pid/stat.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            seconds = sum(map(int, fields[11:15])) / _TICKS
            yield Process(int(folder.name), int(fields[1]), command, seconds, int(fields[17]))
