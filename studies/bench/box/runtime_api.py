"""The Runtime API, from which a function's process gets events and to which it sends its answers.

Source: AWS Lambda developer guide, "Using the Lambda runtime API for custom runtimes".
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_TIMEOUT_SECONDS = 29
ARN = "arn:aws:lambda:eu-central-1:123456789012:function:tokenservice"


@dataclass(frozen=True)
class Message:
    """What the process sent.

    Attributes:
        kind: `next`: everything before is done, and it waits for an event; `response`; or `error`.
        at: `time.perf_counter()`.
        cpu_seconds: the processor time it had used by then.
        body: empty for `next`.
    """

    kind: str
    at: float
    cpu_seconds: float
    body: bytes = b""


class RuntimeApi(ThreadingHTTPServer):
    """A Runtime API for one process, on a free port of this machine alone.

    Attributes:
        pid: of the process, set before it begins.
        events: bodies, one for each `next`; None ends the wait.
        messages: what the process sent.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pid = 0
        self.events: queue.Queue[bytes | None] = queue.Queue()
        self.messages: queue.Queue[Message] = queue.Queue()


@contextmanager
def serving() -> Iterator[RuntimeApi]:
    """A Runtime API that serves until the end of the block."""
    with RuntimeApi() as api:
        thread = threading.Thread(target=api.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield api
        finally:
            api.events.put(None)
            api.shutdown()
            thread.join()


def cpu_seconds(pid: int) -> float:
    """Processor time of a process, all threads that ever were included, in nanoseconds' steps."""
    # What clock_getcpuclockid(3) makes of a process id. It works with and without control groups.
    return time.clock_gettime((~pid << 3) | 2)


class _Handler(BaseHTTPRequestHandler):
    server: RuntimeApi
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._keep("next")
        event = self.server.events.get()
        if event is None:
            self.close_connection = True
            return
        headers = {
            "Lambda-Runtime-Aws-Request-Id": str(uuid.uuid4()),
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + _TIMEOUT_SECONDS) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": ARN,
            "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Sampled=0",
        }
        self._answer(200, event, headers)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._keep("error" if self.path.endswith("/error") else "response", body)
        self._answer(202, b'{"status":"OK"}', {})

    def _keep(self, kind: str, body: bytes = b"") -> None:
        self.server.messages.put(Message(kind, time.perf_counter(), cpu_seconds(self.server.pid), body))

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} OK", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        # In one piece: two would wait for each other.
        with contextlib.suppress(ConnectionError):
            self.wfile.write("\r\n".join([*lines, "", ""]).encode() + body)

    def log_message(self, *_: Any) -> None:
        pass
