"""The Runtime API, from which a function's process gets events and to which it sends its answers.

Source: AWS Lambda developer guide, "Using the Lambda runtime API for custom runtimes".
"""

from __future__ import annotations

import queue
import time
import uuid
from dataclasses import dataclass

from tests.support.scripted_server import Handler, Server, answer, drop

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


class RuntimeApi(Server):
    """A Runtime API for one process, on a free port of this machine alone.

    Attributes:
        pid: of the process, set before it begins.
        events: bodies, one for each `next`; None ends the wait.
        messages: what the process sent.
    """

    def __init__(self) -> None:
        self.pid = 0
        self.events: queue.Queue[bytes | None] = queue.Queue()
        self.messages: queue.Queue[Message] = queue.Queue()
        super().__init__(self._serve)

    def stop(self) -> None:
        self.events.put(None)
        super().stop()

    def _serve(self, handler: Handler) -> None:
        sent = handler.received
        kind = "next" if sent.method == "GET" else "error" if sent.path.endswith("/error") else "response"
        self.messages.put(Message(kind, time.perf_counter(), cpu_seconds(self.pid), sent.content))
        if kind != "next":
            answer(202, {"status": "OK"})(handler)
            return
        event = self.events.get()
        if event is None:
            drop(handler)
            return
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": str(uuid.uuid4()),
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + _TIMEOUT_SECONDS) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": ARN,
            "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Sampled=0",
        }
        answer(200, event, **headers)(handler)


def cpu_seconds(pid: int) -> float:
    """Processor time of a process, all threads that ever were included, in nanoseconds' steps."""
    # What clock_getcpuclockid(3) makes of a process id. It works with and without control groups.
    return time.clock_gettime((~pid << 3) | 2)
