"""The service over HTTP as `make run` has it, on the engine that the environment names."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.engine import HOST, ROOT, free_port


@contextmanager
def serving(log: Path, **environ: str) -> Iterator[str]:
    """Serve the stage `local` until the end of the block.

    Args:
        log: gets what the service writes.
        environ: more environment variables.

    Yields:
        Where it answers, up to and without the base path.
    """
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dev.gateway", "--stage", "local", "--no-autoreload", "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, **environ},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    assert process.stdin is not None
    try:
        while True:
            assert process.poll() is None, log.read_text()
            try:
                socket.create_connection((HOST, port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield f"http://{HOST}:{port}"
    finally:
        process.stdin.close()
        process.wait()
