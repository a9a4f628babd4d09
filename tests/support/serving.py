"""The service over HTTP as `make run` has it, on the engine that the environment names."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from dev.engine import HOST, Server


class LocalService(Server):
    """The stage `local`, served in a process of its own.

    Args:
        environ: more environment variables.
        log: gets what the service writes.
    """

    name = "the service"

    def __init__(self, environ: Mapping[str, str], log: Path) -> None:
        super().__init__(log)
        self._environ = environ

    @property
    def output(self) -> str:
        return self._log.read_text()

    def _check(self) -> None: ...

    def _command(self, port: int) -> tuple[list[str], dict[str, str]]:
        command = [sys.executable, "-m", "dev.gateway", "--stage", "local", "--no-autoreload"]
        return [*command, "--host", HOST, "--port", str(port)], {**os.environ, **self._environ, "STAGE": "local"}

    def _answers(self, port: int) -> bool:
        with socket.socket() as connection:
            return connection.connect_ex((HOST, port)) == 0
