"""A proxy between the service and DynamoDB that lets requests and answers meet faults.

```python
with Proxy(engine.endpoint_url) as proxy:
    proxy.plan = lambda operation: Fault.ANSWER_LOST
    ...  # an AWS client with the endpoint proxy.url
```
It speaks plain HTTP to any endpoint, MiniStack and DynamoDB Local among them.
"""

from __future__ import annotations

import threading
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http.client import HTTPConnection
from typing import Final
from urllib.parse import urlsplit

from tests.support.dynamodb_answers import THROTTLED, cancelled, error
from tests.support.scripted_server import Handler, Move, Server, drop, silent
from tests.support.scripted_server import answer as respond

SLOW_SECONDS: Final = 0.03
_HOP: Final = frozenset({"connection", "content-length", "transfer-encoding", "date", "server"})


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


QUICK: Final = tuple(fault for fault in Fault if fault not in (Fault.SILENT, Fault.ANSWER_STUCK))
"""The faults that may pass and don't make a client wait for its time-out."""

DONE_UNANSWERED: Final = frozenset(
    {Fault.ANSWER_LOST, Fault.ANSWER_CUT, Fault.ANSWER_GARBLED, Fault.ANSWER_STUCK, Fault.ERROR_500_DONE}
)

_REFUSALS: Final[Mapping[Fault, tuple[str, int]]] = {
    Fault.ERROR_500: ("InternalServerError", 500),
    Fault.ERROR_500_DONE: ("InternalServerError", 500),
    Fault.THROUGHPUT: ("ProvisionedThroughputExceededException", 400),
    Fault.THROTTLED: (THROTTLED, 400),
    Fault.LIMIT: ("LimitExceededException", 400),
    Fault.CONFLICT: ("TransactionConflictException", 400),
    Fault.REPLICATED: ("ReplicatedWriteConflictException", 400),
}
_REASONS: Final[Mapping[Fault, str]] = {
    Fault.THROUGHPUT: "ProvisionedThroughputExceeded",
    Fault.THROTTLED: "ThrottlingError",
    Fault.CONFLICT: "TransactionConflict",
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


class Proxy(Server):
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
        self._lock = threading.Lock()
        self._late: list[tuple[int, _Exchange]] = []
        super().__init__(self._serve)

    def settle(self) -> None:
        """Let every late request arrive now."""
        with self._lock:
            late, self._late = self._late, []
        for _, request in late:
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

    def _serve(self, handler: Handler) -> None:
        headers = {name: value for name, value in handler.received.headers.items() if name not in _HOP}
        request = _Exchange(headers, handler.received.content)
        operation = headers.get("x-amz-target", "").partition(".")[2]
        fault = self._fault_for(operation)
        if fault is Fault.REQUEST_LATE:
            with self._lock:
                self._late.append((2, request))  # so many others are answered before it
        if fault in (Fault.REQUEST_LOST, Fault.REQUEST_LATE):
            drop(handler)
            return
        if fault is Fault.SILENT:
            silent(handler)
            return
        move = _refusal(fault, operation)
        if fault is Fault.SLOW:
            self.closing.wait(SLOW_SECONDS)
        if move is None or fault in DONE_UNANSWERED:
            answer = self.ask(request)
            self.when_done(operation)
            self._let_late_ones_arrive()
            move = move or _move(answer, fault)
        move(handler)

    def _fault_for(self, operation: str) -> Fault | None:
        with self._lock:
            fault = self.plan(operation)
            if fault is not None:
                self.met[fault] += 1
            return fault

    def _let_late_ones_arrive(self) -> None:
        """One more request was answered: those that have waited long enough arrive."""
        with self._lock:
            due = [request for others, request in self._late if others <= 1]
            self._late = [(others - 1, request) for others, request in self._late if others > 1]
        for request in due:
            self.ask(request)


def _move(answer: _Exchange, fault: Fault | None) -> Move:
    half = answer.body[: len(answer.body) // 2]
    if fault is Fault.ANSWER_LOST:
        return drop
    if fault is Fault.ANSWER_STUCK:
        return silent
    if fault is Fault.ANSWER_CUT:
        return respond(answer.status, half, announced=len(answer.body), **answer.headers)
    return respond(answer.status, half if fault is Fault.ANSWER_GARBLED else answer.body, **answer.headers)


def _refusal(fault: Fault | None, operation: str) -> Move | None:
    if fault is Fault.ERROR_503:
        return respond(503, b"<html><h1>Service Unavailable</h1></html>", Content_Type="text/html")
    if fault in _REASONS and operation == "TransactWriteItems":
        return cancelled("None", _REASONS[fault])
    return error(*_REFUSALS[fault]) if fault in _REFUSALS else None
