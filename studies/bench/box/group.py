"""A control group with Lambda's limits for one process.

Versions 1 (a folder for each controller) and 2 (one folder for all) are supported. `make()` returns None if neither can
be made, as without root or in a container that shares its host's groups.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
FULL_CORE_MB = 1769
"""The memory at which a function has one processor; below it, its share is in proportion.

Source: AWS Lambda developer guide, "Configure Lambda function memory".
"""
_PERIOD_US = 20_000
"""How often the share is handed out. AWS does not say how often; 20 ms is what has been seen of it."""
_LEAST_QUOTA_US = 1_000  # the kernel refuses less
_ENDED_WITHIN_SECONDS = 5.0
_numbers = count(1)


def share(memory_mb: int) -> float:
    """The part of one processor that a function of this size has."""
    return min(1.0, memory_mb / FULL_CORE_MB)


@dataclass(frozen=True)
class ControlGroup:
    """One group, for one process.

    Attributes:
        memory: folder of the memory controller.
        processor: folder of the processor controller; the same as `memory` in version 2.
    """

    memory: Path
    processor: Path

    @property
    def is_unified(self) -> bool:
        return self.memory == self.processor

    def enter(self, pid: int) -> None:
        """Put a process into the group; what it starts is in it as well."""
        for folder in self._folders():
            (folder / "cgroup.procs").write_text(str(pid))

    def limit_memory(self, limit_bytes: int) -> None:
        """Limit the group's memory, without swap."""
        name, swap, swap_limit = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", limit_bytes
        if self.is_unified:
            name, swap, swap_limit = "memory.max", "memory.swap.max", 0
        (self.memory / name).write_text(str(limit_bytes))
        with contextlib.suppress(OSError):  # a kernel without swap accounting has no such file
            (self.memory / swap).write_text(str(swap_limit))

    def limit_processor(self, share: float) -> None:
        """Limit the group to this part of one processor."""
        quota = max(_LEAST_QUOTA_US, round(_PERIOD_US * share))
        if self.is_unified:
            (self.processor / "cpu.max").write_text(f"{quota} {_PERIOD_US}")
        else:
            (self.processor / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (self.processor / "cpu.cfs_quota_us").write_text(str(quota))

    def remove(self) -> None:
        """Remove the group after its process has ended."""
        deadline = time.monotonic() + _ENDED_WITHIN_SECONDS
        for folder in self._folders():
            while True:
                try:
                    folder.rmdir()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)  # the kernel takes its moment to let go of an ended process

    def _folders(self) -> Mapping[Path, None]:
        return dict.fromkeys((self.memory, self.processor))


def make(name: str, root: Path = ROOT) -> ControlGroup | None:
    """A new group that limits both, or None if it can't be made."""
    name = f"{name}-{os.getpid()}-{next(_numbers)}"
    places = _places(root)
    if places[0] == places[1]:
        with contextlib.suppress(OSError):  # the controllers may be handed down already, or may not be ours to hand
            (root / "cgroup.subtree_control").write_text("+cpu +memory")
    made: list[Path] = []
    try:
        for place in dict.fromkeys(places):
            if not (place / "cgroup.procs").is_file():
                raise FileNotFoundError(place)
            (place / name).mkdir()
            made.append(place / name)
        group = ControlGroup(places[0] / name, places[1] / name)
        group.limit_memory(FULL_CORE_MB * 1024 * 1024)
        group.limit_processor(1.0)
    except OSError:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        return None
    return group


def _places(root: Path) -> tuple[Path, Path]:
    """Where groups of the memory and of the processor controller begin."""
    if (root / "cgroup.controllers").is_file():
        return root, root
    return root / "memory", root / ("cpu" if (root / "cpu").is_dir() else "cpu,cpuacct")
