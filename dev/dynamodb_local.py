"""Amazon's DynamoDB Local (Java) as a process of its own: the second engine that the store is held to.

```python
with DynamoDbLocal(log=path) as engine:
    boto3.client("dynamodb", endpoint_url=engine.endpoint_url, ...)
```

It keeps everything in memory and has tables only: no backups, no other service. MiniStack (`dev.engine`) is younger;
where the two disagree, we believe this one.
"""

from __future__ import annotations

import http
import os
import shutil
import signal
import sys
import tempfile
from typing import Final, NoReturn

from dev.engine import HOST, REGION, ROOT, EngineError, Server, status_of
from dev.install import DIRECTORY, why_missing

_CONFIGURATION: Final = ROOT / "dev" / "dynamodb_local.xml"


class DynamoDbLocal(Server):
    """DynamoDB Local on a free port of this machine alone."""

    name = "DynamoDB Local"

    def _check(self) -> None:
        missing = why_missing()
        if missing is not None:
            raise EngineError(missing)

    def _command(self, port: int) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-m", "dev.dynamodb_local", str(port)], {}

    def _answers(self, port: int) -> bool:
        """Whether it lists its tables. It listens before that; the first request of all makes the store."""
        # It looks for credentials and their form, not at the signature.
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": "DynamoDB_20120810.ListTables",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={self.credentials['AWS_ACCESS_KEY_ID']}/20000101/{REGION}"
            "/dynamodb/aws4_request, SignedHeaders=host, Signature=none",
        }
        return status_of(port, "POST", "/", "{}", headers) == http.HTTPStatus.OK


def main(port: str) -> NoReturn:
    """Become DynamoDB Local, and leave a child behind that kills it as soon as standard input ends."""
    library = DIRECTORY / "DynamoDBLocal_lib"
    command = [
        str(shutil.which("java")),
        f"-Djava.library.path={library}",
        f"-Djava.io.tmpdir={tempfile.gettempdir()}",
        "-XX:TieredStopAtLevel=1",  # compile quickly: no run is long enough for more to pay
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


if __name__ == "__main__":
    main(sys.argv[1])
