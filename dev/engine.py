"""The local AWS (MiniStack) as a process of its own.

```python
with Engine(log=path) as engine:
    boto3.client("dynamodb", endpoint_url=engine.endpoint_url, ...)
```
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final, Self

from dev import leash, preflight

ROOT: Final = Path(__file__).resolve().parent.parent
HOST: Final = preflight.HOST
PYTHON: Final = ROOT / ".venv-engine" / "bin" / "python"
REGION: Final = "us-east-1"

_READY_WITHIN_SECONDS: Final = 90.0
# Saving the state of a large store takes its time; only a hanging engine is killed.
_STOPPED_WITHIN_SECONDS: Final = 60.0
# MiniStack waits for functions that run, up to a minute; without a state there is nothing to wait for.
_STATELESS_STOPPED_WITHIN_SECONDS: Final = 2.0
_FIRST_PORT: Final = 20_000
_EPHEMERAL_FROM: Final = 32_768


class EngineError(Exception):
    """The engine can't be used; the message is one line for the person at the terminal."""


class Server(ABC):
    """A program that listens on a free port of this machine alone, and keeps the port over `stop()` and `start()`.

    It is its own session, so Ctrl-C at the terminal does not reach it before its users have stopped. However this
    process ends, the program stops.

    Args:
        log: its output, overwritten by every `start()`.

    Attributes:
        name: in messages.
        stopped_within_seconds: it is killed after so long a stop.
        credentials: new for every object, as environment variables. They open no account elsewhere.
    """

    name: ClassVar[str]
    stopped_within_seconds = _STOPPED_WITHIN_SECONDS

    def __init__(self, log: Path) -> None:
        self._log = log
        self.credentials: Final = {
            "AWS_ACCESS_KEY_ID": secrets.token_hex(10).upper(),
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
        }
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    @property
    def endpoint_url(self) -> str:
        """Known after the first `start()`."""
        if self._port is None:
            raise EngineError(f"{self.name} was not started yet")
        return f"http://{HOST}:{self._port}"

    @property
    def client_environ(self) -> dict[str, str]:
        """The environment variables that point an AWS client at this engine."""
        return {"AWS_ENDPOINT_URL": self.endpoint_url, "AWS_DEFAULT_REGION": REGION, **self.credentials}

    @property
    def pid(self) -> int:
        if self._process is None:
            raise EngineError(f"{self.name} is not running")
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
            raise EngineError(f"{self.name} is running already, on port {self._port}")
        self._check()
        self._port = self._port or free_port()
        self._start_on(self._port)
        return self

    def stop(self) -> None:
        """Let it save its state and end; does nothing if it does not run."""
        self._end(lambda process: leash.stop(process, self.stopped_within_seconds))

    def kill(self) -> None:
        """End it at once, as a crash would: nothing is saved."""
        self._end(leash.kill)

    def _end(self, end: Callable[[subprocess.Popen[bytes]], None]) -> None:
        process, self._process = self._process, None
        if process is not None:
            end(process)
        if self._scratch is not None:
            self._scratch.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def _check(self) -> None:
        """Raise EngineError if it can't be started."""

    @abstractmethod
    def _command(self, port: int) -> tuple[list[str], dict[str, str]]:
        """The command line, and more environment variables."""

    @abstractmethod
    def _answers(self, port: int) -> bool:
        """Whether it is ready."""

    def _start_on(self, port: int) -> None:
        if not is_free(port):
            raise EngineError(f"port {port} is taken, {self.name} can't listen there")
        # It leaves unpacked files there.
        self._scratch = tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True)
        command, environ = self._command(port)
        # Not our whole environment: it would read AWS_PROFILE, LOG_LEVEL or SERVICES, too.
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        try:
            with self._log.open("wb") as log, leash.uninterrupted():
                self._process = process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=inherited | environ | {"TMPDIR": self._scratch.name},
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            if why := leash.why_not_ready(process, lambda: self._answers(port), _READY_WITHIN_SECONDS):
                raise EngineError(f"{self.name} {why}; see {self._log}")
        except BaseException:
            # Also on KeyboardInterrupt: a half-started engine must not stay behind.
            self.kill()
            raise


class Engine(Server):
    """MiniStack. It serves only callers that sign with its credentials, and no page in a browser.

    Args:
        log: its output, overwritten by every `start()`.
        services: what it serves, as credential scopes name it.
        state_dir: where its state is stored; `None` means only in memory.
        environ: more environment variables for it.
    """

    name = "the local AWS"

    def __init__(
        self,
        *,
        log: Path,
        services: Sequence[str] = ("dynamodb",),
        state_dir: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(log)
        self._state_dir = state_dir
        if state_dir is None:
            self.stopped_within_seconds = _STATELESS_STOPPED_WITHIN_SECONDS
        self._environ = {"SERVICES": ",".join(services), **(environ or {})}

    def _check(self) -> None:
        if not PYTHON.exists():
            raise EngineError(f"{PYTHON.parent.parent.name} is missing; 'make setup' makes it")
        if self._state_dir is None:
            return
        tables = self._state_dir / "dynamodb.json"
        try:
            # MiniStack would ignore a file that it can't read, and overwrite it later.
            json.loads(tables.read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, ValueError):
            raise EngineError(f"{tables} can't be read; without it the local AWS starts with empty tables") from None
        # Secrets are not in it, but node ids are: it is for its owner alone.
        self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._state_dir.chmod(0o700)  # if something else created it

    def _command(self, port: int) -> tuple[list[str], dict[str, str]]:
        environ = self.credentials | {
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
        return [str(PYTHON), "-m", "dev.engine_process"], environ | self._environ

    def _answers(self, port: int) -> bool:
        return status_of(port, "GET", "/_ministack/ready") == http.HTTPStatus.OK


def status_of(port: int, method: str, path: str, body: str = "", headers: Mapping[str, str] | None = None) -> int:
    """The status of the answer to a request; 0 if there is no answer."""
    connection = http.client.HTTPConnection(HOST, port, timeout=_READY_WITHIN_SECONDS)
    try:
        connection.request(method, path, body, dict(headers or {}))
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def free_port() -> int:
    """A port that nobody listens on at this moment.

    It lies below those that Linux gives to outgoing connections, so that none of these takes it before its server does.
    """
    while not is_free(port := _FIRST_PORT + secrets.randbelow(_EPHEMERAL_FROM - _FIRST_PORT)):
        pass
    return port


def is_free(port: int) -> bool:
    with contextlib.suppress(preflight.StartError):
        preflight.check_port(port)
        return True
    return False
