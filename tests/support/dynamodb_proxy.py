"""A proxy between the service and DynamoDB that lets requests and answers meet faults.

```python
with Proxy(engine.endpoint_url) as proxy:
    proxy.plan = lambda operation: Fault.ANSWER_LOST
    ...  # an AWS client with the endpoint proxy.url
```
It speaks plain HTTP to any endpoint, MiniStack and DynamoDB Local among them.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self
from urllib.parse import urlsplit

HOST: Final = "127.0.0.1"
SLOW_SECONDS: Final = 0.03
_HOP: Final = frozenset({"connection", "content-length", "transfer-encoding", "date", "server"})
_FAULT_PREFIX: Final = "com.amazonaws.dynamodb.v20120810#"


class Fault(StrEnum):
    """One fault on one request."""

    REQUEST_LOST = "request lost"  # the connection ends; the store never hears of it
    REQUEST_LATE = "request late"  # the connection ends; the store hears of it once others were served
    ANSWER_LOST = "answer lost"  # the store has done it; the connection ends
    ANSWER_CUT = "answer cut"  # the store has done it; half an answer comes, then the connection ends
    ANSWER_GARBLED = "answer garbled"  # the store has done it; half an answer comes and looks like a whole one
    SLOW = "slow"  # request and answer take their time, but arrive
    SILENT = "silent"  # the store never hears of it; the connection stays open, nothing comes
    ANSWER_STUCK = "answer stuck"  # the store has done it; the connection stays open, nothing comes
    ERROR_500 = "error 500"  # DynamoDB's InternalServerError; nothing was done
    ERROR_500_DONE = "error 500, done"  # the same, but the store has done it
    ERROR_503 = "error 503"  # a page of something in between
    THROUGHPUT = "throughput exceeded"  # ProvisionedThroughputExceededException
    THROTTLED = "throttled"  # ThrottlingException
    LIMIT = "limit exceeded"  # LimitExceededException
    CONFLICT = "conflict"  # TransactionConflictException: a transaction is at work on the item
    REPLICATED = "replicated write conflict"  # ReplicatedWriteConflictException
    SENSELESS = "senseless request"  # ValidationException, as if a bug of ours had made the request


QUICK: Final = tuple(fault for fault in Fault if fault not in (Fault.SILENT, Fault.ANSWER_STUCK, Fault.SENSELESS))
"""The faults that may pass and don't make a client wait for its time-out."""

DONE_UNANSWERED: Final = frozenset(
    {Fault.ANSWER_LOST, Fault.ANSWER_CUT, Fault.ANSWER_GARBLED, Fault.ANSWER_STUCK, Fault.ERROR_500_DONE}
)

_REFUSALS: Final[Mapping[Fault, tuple[int, str]]] = {
    Fault.ERROR_500: (500, "InternalServerError"),
    Fault.ERROR_500_DONE: (500, "InternalServerError"),
    Fault.THROUGHPUT: (400, "ProvisionedThroughputExceededException"),
    Fault.THROTTLED: (400, "com.amazon.coral.availability#ThrottlingException"),
    Fault.LIMIT: (400, "LimitExceededException"),
    Fault.CONFLICT: (400, "TransactionConflictException"),
    Fault.REPLICATED: (400, "ReplicatedWriteConflictException"),
    Fault.SENSELESS: (400, "ValidationException"),
}
_REASONS: Final[Mapping[Fault, str]] = {
    Fault.THROUGHPUT: "ProvisionedThroughputExceeded",
    Fault.THROTTLED: "ThrottlingError",
    Fault.CONFLICT: "TransactionConflict",
    Fault.SENSELESS: "ValidationError",
}
"""Why a transaction is cancelled, where a single write gets an error of that name.

Source: Amazon DynamoDB API reference, TransactWriteItems.
"""

Plan = Callable[[str], Fault | None]


@dataclass(frozen=True)
class _Exchange:
    """A request as it goes to the store, or an answer as it comes from there."""

    headers: Mapping[str, str]
    body: bytes
    status: int = 0


class Proxy:
    """Listens on a free port of this machine and forwards each request, unless the plan has a fault for it.

    Attributes:
        plan: called once for each request, with the DynamoDB operation; None means no fault.
        when_done: called with the operation after the store has answered, before the answer is forwarded.
        met: how often each fault happened.
    """

    def __init__(self, endpoint_url: str) -> None:
        parts = urlsplit(endpoint_url)
        self._upstream = (str(parts.hostname), int(parts.port or 80))
        self.plan: Plan = lambda operation: None
        self.when_done: Callable[[str], object] = lambda operation: None
        self.met: Counter[Fault] = Counter()
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._late: list[tuple[int, _Exchange]] = []
        self._server = _Server((HOST, 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def settle(self) -> None:
        """Let every late request arrive now."""
        with self._lock:
            late, self._late = self._late, []
        for _, request in late:
            self.ask(request)

    def fault_for(self, operation: str) -> Fault | None:
        with self._lock:
            fault = self.plan(operation)
            if fault is not None:
                self.met[fault] += 1
            return fault

    def keep_for_later(self, request: _Exchange, others: int = 2) -> None:
        """Hand the request on once that many others were answered."""
        with self._lock:
            self._late.append((others, request))

    def let_late_ones_arrive(self) -> None:
        """One more request was answered: those that have waited long enough arrive."""
        with self._lock:
            due = [request for others, request in self._late if others <= 1]
            self._late = [(others - 1, request) for others, request in self._late if others > 1]
        for request in due:
            self.ask(request)

    def ask(self, request: _Exchange) -> _Exchange:
        """Hand a request to the store and return its answer."""
        connection = HTTPConnection(*self._upstream, timeout=30)
        try:
            connection.request("POST", "/", request.body, dict(request.headers))
            response = connection.getresponse()
            body = response.read()
            headers = {name: value for name, value in response.getheaders() if name.lower() not in _HOP}
            # DynamoDB sends this checksum and botocore checks it. An engine may leave it out.
            headers = {name: value for name, value in headers.items() if name.lower() != "x-amz-crc32"}
            return _Exchange({**headers, "x-amz-crc32": str(zlib.crc32(body))}, body, response.status)
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    proxy: Proxy
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that timed out or were killed: these tests cause them."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # Answers are written in two pieces, and the second must not wait for the first one's acknowledgement.
    wbufsize = -1

    def do_POST(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        request = _Exchange(headers, body)
        operation = self.headers.get("X-Amz-Target", "").partition(".")[2]
        fault = proxy.fault_for(operation)
        if fault in (Fault.REQUEST_LOST, Fault.REQUEST_LATE):
            if fault is Fault.REQUEST_LATE:
                proxy.keep_for_later(request)
            self.close_connection = True
            return
        if fault is Fault.SILENT:
            self._hold()
            return
        answer = self._refusal(fault, operation) if fault in _REFUSALS or fault is Fault.ERROR_503 else None
        if fault is Fault.SLOW:
            proxy.closing.wait(SLOW_SECONDS)
        if answer is None or fault in DONE_UNANSWERED:
            done = proxy.ask(request)
            proxy.when_done(operation)
            proxy.let_late_ones_arrive()
            answer = answer or done
        self._answer(answer, fault)

    def _answer(self, answer: _Exchange, fault: Fault | None) -> None:
        if fault is Fault.ANSWER_LOST:
            self.close_connection = True
        elif fault is Fault.ANSWER_STUCK:
            self._hold()
        elif fault is Fault.ANSWER_CUT:
            self._send(answer, answer.body[: len(answer.body) // 2], announced=len(answer.body))
            self.close_connection = True
        elif fault is Fault.ANSWER_GARBLED:
            half = answer.body[: len(answer.body) // 2]
            self._send(answer, half, announced=len(half))
        else:
            self._send(answer, answer.body, announced=len(answer.body))

    def _send(self, answer: _Exchange, body: bytes, *, announced: int) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    @staticmethod
    def _refusal(fault: Fault | None, operation: str) -> _Exchange | None:
        if fault is None:
            return None
        if fault is Fault.ERROR_503:
            return _Exchange({"Content-Type": "text/html"}, b"<html><h1>Service Unavailable</h1></html>", 503)
        status, name = _REFUSALS[fault]
        more: dict[str, Any] = {}
        if operation == "TransactWriteItems" and fault in _REASONS:
            name = "TransactionCanceledException"
            more["CancellationReasons"] = [{"Code": "None"}, {"Code": _REASONS[fault], "Message": "On purpose."}]
        name = name if "#" in name else _FAULT_PREFIX + name
        body = json.dumps({"__type": name, "message": "A fault on purpose.", **more}).encode()
        headers = {"Content-Type": "application/x-amz-json-1.0", "x-amz-crc32": str(zlib.crc32(body))}
        return _Exchange(headers, body, status)

    def _hold(self) -> None:
        """Say nothing until the client gives up."""
        self.close_connection = True
        self.connection.settimeout(0.05)
        while not self.server.proxy.closing.is_set():
            try:
                if not self.connection.recv(1):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Nothing: thousands of requests are no news."""
