"""Amazon's DynamoDB Local (Java) as a process of its own: the second engine that the store is held to.

```python
with DynamoDbLocal(log=path) as engine:
    boto3.client("dynamodb", endpoint_url=engine.endpoint_url, ...)
```

It keeps everything in memory and has tables only: no backups, no other service. MiniStack (`dev.engine`) is younger;
where the two disagree, we believe this one.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self

from dev import leash
from dev.engine import HOST, REGION, ROOT, EngineError, free_port, is_free, new_credentials
from dev.install import DIRECTORY, why_missing

_CONFIGURATION: Final = ROOT / "dev" / "dynamodb_local.xml"
_READY_WITHIN_SECONDS: Final = 60.0
_STOPPED_WITHIN_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05
_PORT_TRIES: Final = 3


class DynamoDbLocal:
    """DynamoDB Local on a free port of this machine alone. It ends with this process, however that ends.

    Args:
        log: its output, begun anew with each `start()`.
    """

    def __init__(self, *, log: Path) -> None:
        self._log = log
        self.credentials: Final = new_credentials()
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    @property
    def endpoint_url(self) -> str:
        if self._port is None:
            raise EngineError("DynamoDB Local was not started yet")
        return f"http://{HOST}:{self._port}"

    @property
    def client_environ(self) -> dict[str, str]:
        """The environment variables that point an AWS client at this engine."""
        return {"AWS_ENDPOINT_URL": self.endpoint_url, "AWS_DEFAULT_REGION": REGION, **self.credentials}

    @property
    def pid(self) -> int:
        if self._process is None:
            raise EngineError("DynamoDB Local is not running")
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            EngineError: it is not installed, runs already, or does not become ready.
        """
        if self._process is not None:
            raise EngineError(f"DynamoDB Local is running already, on port {self._port}")
        missing = why_missing()
        if missing is not None:
            raise EngineError(missing)
        for tries_left in reversed(range(_PORT_TRIES)):
            port = free_port()
            try:
                self._start_on(port)
                self._port = port
                break
            except EngineError:
                # Someone may have been faster between our asking for a free port and the engine's taking it.
                if is_free(port) or not tries_left:
                    raise
        return self

    def stop(self) -> None:
        """End it, and all that is in it; does nothing where it does not run."""
        process, self._process = self._process, None
        if process is not None:
            leash.stop(process, _STOPPED_WITHIN_SECONDS)
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_on(self, port: int) -> None:
        # It unpacks a library there, and leaves it.
        self._scratch = tempfile.TemporaryDirectory(prefix="dynamodb-local-", ignore_cleanup_errors=True)
        environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environ["TMPDIR"] = self._scratch.name
        try:
            with self._log.open("wb") as log, leash.uninterrupted():
                self._process = process = subprocess.Popen(
                    [sys.executable, "-m", "dev.dynamodb_local", str(port)],
                    cwd=ROOT,
                    env=environ,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self._wait_until_ready(process, port)
        except BaseException:
            # Also on KeyboardInterrupt: a half-started engine must not stay behind.
            self.stop()
            raise

    def _wait_until_ready(self, process: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.monotonic() + _READY_WITHIN_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise EngineError(f"DynamoDB Local ended with code {process.returncode}; see {self._log}")
            if _answers(port, self.credentials["AWS_ACCESS_KEY_ID"]):
                return
            time.sleep(_POLL_SECONDS)
        raise EngineError(f"DynamoDB Local was not ready within {_READY_WITHIN_SECONDS:.0f} s; see {self._log}")


def main(port: str) -> NoReturn:
    """Become DynamoDB Local, and leave a child behind that kills it as soon as standard input ends."""
    library = DIRECTORY / "DynamoDBLocal_lib"
    command = [
        str(shutil.which("java")),
        f"-Djava.library.path={library}",
        f"-Djava.io.tmpdir={tempfile.gettempdir()}",
        "-XX:-UsePerfData",  # a file for each Java program, whatever the folder for such files is
        # The configuration is ours; there is no schema to hold it against.
        "-Dorg.eclipse.jetty.xml.XmlParser.Validating=false",
        "-Dorg.eclipse.jetty.LEVEL=WARN",
        "-cp",
        f"{DIRECTORY / 'DynamoDBLocal.jar'}:{library}/*",
        "org.eclipse.jetty.xml.XmlConfiguration",
        f"host={HOST}",
        f"port={port}",
        str(_CONFIGURATION),
    ]
    engine = os.getpid()
    if os.fork() == 0:
        # See `leash.end_with_parent()`; a program in Java has no such thread. Nothing is saved, so nothing is lost.
        while os.read(sys.stdin.fileno(), 64):
            pass
        if os.getppid() == engine:
            os.kill(engine, signal.SIGKILL)
        os._exit(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


def _answers(port: int, key: str) -> bool:
    """Whether it lists its tables. It listens before that; the first request of all makes the store."""
    # It looks for credentials and their form, not at the signature.
    headers = {
        "Content-Type": "application/x-amz-json-1.0",
        "X-Amz-Target": "DynamoDB_20120810.ListTables",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={key}/20000101/{REGION}/dynamodb/aws4_request, "
        "SignedHeaders=host, Signature=none",
    }
    connection = http.client.HTTPConnection(HOST, port, timeout=_READY_WITHIN_SECONDS)
    try:
        connection.request("POST", "/", "{}", headers)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    main(sys.argv[1])
