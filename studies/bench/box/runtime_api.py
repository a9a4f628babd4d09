"""The Runtime API, from which a function's process gets events and to which it sends its answers.

Source: AWS Lambda developer guide, "Using the Lambda runtime API for custom runtimes".
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

_PREFIX = "/2018-06-01/runtime"
_TIMEOUT_SECONDS = 29
ARN = "arn:aws:lambda:eu-central-1:123456789012:function:tokenservice"


class FunctionError(Exception):
    """The function failed, in its init phase or in a call, with the message that it sent."""


@dataclass(frozen=True)
class NextRequest:
    """The process requests its next event: everything before is done, and it waits.

    Attributes:
        at: `time.perf_counter()`.
        cpu_seconds: the processor time it had used by then.
    """

    at: float
    cpu_seconds: float


@dataclass(frozen=True)
class Answer:
    """The process sent an answer."""

    at: float
    body: bytes


class RuntimeApi:
    """A Runtime API for one process, on a free port of this machine alone.

    Args:
        cpu_seconds: returns the processor time that the process has used so far.
    """

    def __init__(self, cpu_seconds: Callable[[], float]) -> None:
        self._events: queue.Queue[tuple[str, bytes] | None] = queue.Queue()
        self._messages: queue.Queue[NextRequest | Answer | FunctionError] = queue.Queue()
        self._cpu_seconds = cpu_seconds
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def address(self) -> str:
        """Host and port, for AWS_LAMBDA_RUNTIME_API."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events.put(None)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def send(self, event: dict[str, Any]) -> float:
        """Send the waiting process an event; returns the time at which it was sent."""
        body = json.dumps(event, separators=(",", ":")).encode()
        sent = time.perf_counter()
        self._events.put((str(uuid.uuid4()), body))
        return sent

    def next_request(self, timeout_seconds: float) -> NextRequest:
        """Wait until the process requests its next event.

        Raises:
            FunctionError: it failed instead.
            TimeoutError: it sent nothing.
        """
        return self._wait(NextRequest, timeout_seconds)

    def answer(self, timeout_seconds: float) -> Answer:
        """Wait for the answer to the event that was sent; raises as `next_request()` does."""
        return self._wait(Answer, timeout_seconds)

    def _wait(self, kind: type[Any], timeout_seconds: float) -> Any:
        try:
            message = self._messages.get(timeout=timeout_seconds)
        except queue.Empty:
            raise TimeoutError("the function sent nothing") from None
        if isinstance(message, FunctionError):
            raise message
        if not isinstance(message, kind):
            raise FunctionError(f"out of order: {message!r}")
        return message

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        events, messages, cpu_seconds = self._events, self._messages, self._cpu_seconds

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                messages.put(NextRequest(time.perf_counter(), cpu_seconds()))
                event = events.get()
                if event is None:
                    self.close_connection = True
                    return
                request_id, body = event
                headers = {
                    "Lambda-Runtime-Aws-Request-Id": request_id,
                    "Lambda-Runtime-Deadline-Ms": str(int((time.time() + _TIMEOUT_SECONDS) * 1000)),
                    "Lambda-Runtime-Invoked-Function-Arn": ARN,
                    "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Sampled=0",
                }
                self.answer(200, body, headers)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                at = time.perf_counter()
                if self.path.endswith("/error"):
                    messages.put(FunctionError(body.decode(errors="replace")[:2000]))
                else:
                    messages.put(Answer(at, body))
                self.answer(202, b'{"status":"OK"}', {})

            def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                lines = [f"HTTP/1.1 {status} OK", "Content-Type: application/json", f"Content-Length: {len(body)}"]
                lines += [f"{name}: {value}" for name, value in headers.items()]
                # In one piece: two would wait for each other.
                with contextlib.suppress(ConnectionError):
                    self.wfile.write("\r\n".join([*lines, "", ""]).encode() + body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
