"""Measures `tokenctl audit` on a large log with one planted breach: `.venv/bin/python -m studies.bench.audit_log`.

The log is what the service writes for tokens that are issued and used once. Writing it takes minutes.
Prints the seconds and the peak memory of the command; exits with 1 if it did not find the planted use.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.audited import NEW, UNNUMBERED, World, changed

_BLOCK: Final = 1_000  # tokens


def lines(events: int) -> Iterator[str]:
    """Yield audit events, and in their middle a second use of a token that has one."""
    world, planted = World(), events // 2
    count = 0
    while count < events:
        for _ in range(_BLOCK):
            world.use(world.issue(user="ada.lovelace@example.org"), user="ada.lovelace@example.org")
        for line in world.lines:
            if '"event"' in line and count < events:
                yield line
                count += 1
                if count >= planted and '"token.used"' in line:
                    yield changed(line, **NEW, **UNNUMBERED)
                    planted = events + 1
        world.lines.clear()
        world.store.tokens.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=1_000_000)
    events: int = parser.parse_args().events
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "events.log"
        with log.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines(events))
        begin = time.monotonic()
        command = [sys.executable, "-m", "tokenctl", "audit", "--json", str(log)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - begin
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = [breach["kind"] for breach in json.loads(run.stdout)["breaches"]]
    cpu = usage.ru_utime + usage.ru_stime
    print(f"{events:,} events: {seconds:.1f} s, {cpu:.1f} CPU s, {usage.ru_maxrss / 1024:.0f} MB; found {found}")
    sys.exit(found != ["use_beyond_allowance"])


if __name__ == "__main__":
    main()
