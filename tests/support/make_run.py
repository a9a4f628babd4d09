"""`python -m dev` in a copy of the checkout, so that no real store is touched."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import requests

from dev.engine import ROOT
from tests.support.waiting import wait_until

CONFIG = ".chalice/config.json"


class Run:
    """One `python -m dev`, or another program, and all that it wrote."""

    def __init__(
        self,
        checkout: Path,
        environ: dict[str, str],
        *arguments: str,
        program: Sequence[str] = (sys.executable, "-m", "dev"),
    ) -> None:
        self.checkout = checkout
        self.port = environ.get("PORT")
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.process = subprocess.Popen(
            [*program, *arguments],
            cwd=checkout,
            env=inherited | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.output: list[str] = []
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=lambda: self.output.extend(iter(self.process.stdout.readline, ""))),
            threading.Thread(target=lambda: self.errors.extend(iter(self.process.stderr.readline, ""))),
        ]
        for reader in self._readers:
            reader.start()

    def wait_until(self, happened: Callable[[], Any]) -> None:
        wait_until(lambda: happened() or self.process.poll() is not None)
        assert self.process.poll() is None, self.output + self.errors

    def wait_until_ready(self) -> str:
        """The address in the ready line."""
        self.wait_until(lambda: any("Ctrl-C" in line for line in self.output))
        return re.search(r"^Ready: (\S+)$", "".join(self.output), re.MULTILINE)[1]

    def wait(self) -> int:
        """Its exit code, once it and everything that holds its output has ended."""
        code = self.process.wait(120)
        for reader in self._readers:
            reader.join(120)
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.wait()

    def demo(self) -> dict[str, str]:
        lines = (self.checkout / ".local/demo.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON of the answer to the demo client."""
        return requests.post(url, json=body, auth=tuple(self.demo().values()), timeout=120).json()


def copy_of_the_checkout(copy: Path, *more: str) -> Path:
    copy.mkdir()
    for name in ("chalicelib", "dev", "tokenctl", *more):
        shutil.copytree(ROOT / name, copy / name)  # bytecode included: copies have the same times
    for name in ("app.py", CONFIG):
        (copy / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    for name in (".venv", ".venv-engine"):
        (copy / name).symlink_to(ROOT / name)
    return copy


def processes_of(checkout: Path) -> dict[int, str]:
    """The command lines of all processes that work in the copy, by their ids."""
    found = psutil.process_iter(["cmdline", "cwd"])
    return {one.pid: " ".join(one.info["cmdline"] or ()) for one in found if one.info["cwd"] == str(checkout)}


def kill(checkout: Path, name: str) -> None:
    """Kill the process in the copy whose command line has that name."""
    [pid] = [pid for pid, command in processes_of(checkout).items() if name in command]
    os.kill(pid, signal.SIGKILL)
