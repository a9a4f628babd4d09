"""The local AWS (MiniStack) as a process of its own.

```python
with Engine() as engine:
    boto3.client("dynamodb", endpoint_url=engine.endpoint_url, ...)
```
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dev import leash

ROOT: Final = Path(__file__).resolve().parent.parent
HOST: Final = "127.0.0.1"
PYTHON: Final = ROOT / ".venv-engine" / "bin" / "python"

_READY_WITHIN_SECONDS: Final = 90.0
# Saving the state of a large store takes its time; only a hanging engine is killed.
_STOPPED_WITHIN_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.05
_PORT_TRIES: Final = 3

REGION: Final = "us-east-1"


class EngineError(Exception):
    """The engine can't be used; the message is one line for the person at the terminal."""


class Engine:
    """MiniStack on a port of this machine alone.

    It is its own session, so Ctrl-C at the terminal does not reach it before its users have stopped. If this
    process dies, the engine saves its state and stops.

    It serves whoever signs with its credentials, made for this object, and nobody else; no page in a browser either.

    Args:
        services: what it serves, as credential scopes name it.
        port: None: a free one, kept over `stop()` and another `start()`.
        state_dir: where its state outlives it; None: it forgets everything at `stop()`.
        log: its output, begun anew with each `start()`; None: a temporary file that is gone after `stop()`.
        environ: more environment variables for it.
    """

    def __init__(
        self,
        *,
        services: Sequence[str] = ("dynamodb",),
        port: int | None = None,
        state_dir: Path | None = None,
        log: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._port = port
        self._state_dir = state_dir
        self._keeps_log = log is not None
        self._log = log
        self._environ = {"SERVICES": ",".join(services), **(environ or {})}
        self.credentials: Final = new_credentials()
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    @property
    def port(self) -> int:
        """The port it listens on; known after the first `start()`."""
        if self._port is None:
            raise EngineError("the engine was not started yet")
        return self._port

    @property
    def endpoint_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def client_environ(self) -> dict[str, str]:
        """The environment variables that point an AWS client at this engine."""
        return {"AWS_ENDPOINT_URL": self.endpoint_url, "AWS_DEFAULT_REGION": REGION, **self.credentials}

    @property
    def pid(self) -> int:
        if self._process is None:
            raise EngineError("the engine is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            EngineError: it is not installed, the port is taken, or it does not become ready.
        """
        if self.is_running:
            raise EngineError(f"the engine is running already, on port {self.port}")
        if not PYTHON.exists():
            raise EngineError(f"{PYTHON.parent.parent.name} is missing; 'make setup' makes it")
        self._check_state()
        if self._port is not None:
            self._start_on(self._port)
            return self
        for tries_left in reversed(range(_PORT_TRIES)):
            try:
                port = free_port()
                self._start_on(port)
                self._port = port
                break
            except _PortTaken:
                # Someone was faster between our asking for a free port and the engine's taking it.
                if not tries_left:
                    raise
        return self

    def stop(self) -> None:
        """Let it save its state and end; does nothing where it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        leash.stop(process, _STOPPED_WITHIN_SECONDS)
        self._clean_up()

    def kill(self) -> None:
        """End it at once, as a crash would: nothing is saved."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        leash.release(process)
        self._clean_up()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _check_state(self) -> None:
        """MiniStack would pass over a file that it can't read, and later write over it."""
        tables = self._state_dir / "dynamodb.json" if self._state_dir else None
        if tables is None or not tables.exists():
            return
        try:
            json.loads(tables.read_bytes())
        except (OSError, ValueError):
            raise EngineError(f"{tables} can't be read; without it the local AWS begins with empty tables") from None

    def _start_on(self, port: int) -> None:
        if not is_free(port):
            raise _PortTaken(f"port {port} is taken, the local AWS can't listen there")
        if self._log is None:
            handle, name = tempfile.mkstemp(prefix="engine-", suffix=".log")
            os.close(handle)
            self._log = Path(name)
        if self._state_dir is not None:
            # Secrets are not in it, but node ids are: it is for its owner alone.
            self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._state_dir.chmod(0o700)  # where something else made it
        # It leaves behind what each Lambda function was unpacked to.
        self._scratch = tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True)
        try:
            with self._log.open("wb") as log, leash.uninterrupted():
                self._process = process = subprocess.Popen(
                    [str(PYTHON), "-m", "dev.engine_process"],
                    cwd=ROOT,
                    env=self._process_environ(port) | {"TMPDIR": self._scratch.name},
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self._wait_until_ready(process, port)
        except BaseException:
            # Also on KeyboardInterrupt: a half-started engine must not stay behind.
            self._kill_keeping_log()
            raise

    def _kill_keeping_log(self) -> None:
        kept, self._keeps_log = self._keeps_log, True
        self.kill()
        self._keeps_log = kept

    def _wait_until_ready(self, process: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.monotonic() + _READY_WITHIN_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                if not is_free(port):
                    raise _PortTaken(f"port {port} is taken, the local AWS can't listen there")
                raise EngineError(f"the local AWS ended at its start with code {process.returncode}; see {self._log}")
            if _answers(port):
                return
            time.sleep(_POLL_SECONDS)
        raise EngineError(f"the local AWS was not ready within {_READY_WITHIN_SECONDS:.0f} s; see {self._log}")

    def _process_environ(self, port: int) -> dict[str, str]:
        # Not our whole environment: AWS_PROFILE, LOG_LEVEL or SERVICES would mean something to it, too.
        environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environ |= self.credentials
        environ |= {
            "AUTH": "true",
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(port),
            "MINISTACK_REGION": REGION,
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            # With a reachable Docker it would remove every container that an earlier MiniStack left there.
            "DOCKER_HOST": "unix:///nonexistent/docker.sock",
            "LAMBDA_EXECUTOR": "local",
            "PYTHONUNBUFFERED": "1",
        }
        if self._state_dir is not None:
            environ |= {"PERSIST_STATE": "1", "STATE_DIR": str(self._state_dir.resolve())}
        return environ | self._environ

    def _clean_up(self) -> None:
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None
        if not self._keeps_log and self._log is not None:
            self._log.unlink(missing_ok=True)
            self._log = None


class _PortTaken(EngineError):
    """Another program listens there."""


def new_credentials() -> dict[str, str]:
    """Credentials that nobody can guess and that open no account elsewhere, as environment variables."""
    return {"AWS_ACCESS_KEY_ID": secrets.token_hex(10).upper(), "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20)}


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could listen on the port."""
    with socket.socket() as probe:
        # As servers do: a connection that lingers in TIME_WAIT does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind((HOST, port))
            probe.listen(1)
            return True
    return False


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/_ministack/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
