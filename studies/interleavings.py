"""What our own code does in threads, under every order that a scheduler of bytecodes tries: `make interleavings`.

frontrun runs threads and decides at each bytecode which one goes on, by a seed. Its exhaustive search does not see
inside `deque`, so schedules are random. It is an alpha, with wheels for some platforms only, and replaces the locks of
the whole process: hence an environment of its own, and no part of the tests. Ends with 1 where an order breaks what
must hold, or where the race that it once found here is not found in the code as it was.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final
from unittest import mock

import frontrun

import chalicelib.aws.dynamodb  # noqa: F401 - loaded in a thread, it would wait for a lock unknown to the scheduler
from chalicelib.aws import connection
from chalicelib.entry import api, startup
from chalicelib.service import TokenService
from chalicelib.splunk import secret

SCHEDULES: Final = 300
SEED: Final = 1


class Stream:
    """A socket that answers each request with its own text, or one that the other side has closed."""

    def __init__(self, *, ended: bool = False) -> None:
        self._ended = ended
        self._sent = b""
        self.closed = 0

    def settimeout(self, seconds: float) -> None: ...

    def sendall(self, request: bytes) -> None:
        self._sent = request

    def recv(self, size: int) -> bytes:
        return (
            b"" if self._ended else b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(self._sent), self._sent)
        )

    def close(self) -> None:
        self.closed += 1


class Connections:
    """An endpoint with two kept connections, and what its callers got."""

    def __init__(self, *, ended: bool) -> None:
        self.streams = [Stream(ended=ended) for _ in range(2)]
        self.endpoint = connection.Endpoint("http://127.0.0.1:1", "")
        self.endpoint._connect = lambda deadline: Stream()
        self.endpoint._idle.extend(connection._Connection(stream) for stream in self.streams)
        self.wrong: list[object] = []

    def ask(self, request: bytes) -> None:
        try:
            answer = self.endpoint.exchange(request, time.monotonic() + 60)
        except connection.Closed:
            return  # the client sends it again
        except Exception as error:  # noqa: BLE001 - nothing else may come out
            self.wrong.append(error)
        else:
            self.wrong += [answer] * (answer.body != request)

    def close(self) -> None:
        try:
            self.endpoint.close()
        except IndexError as error:
            self.wrong.append(error)

    def good(self) -> bool:
        return not self.wrong and all(stream.closed <= 1 for stream in self.streams)


class Rotation:
    """A secret that is rotated while it is read. If an older read ends last, Splunk rejects it: read it again."""

    def __init__(self) -> None:
        self.source = "old"
        self.secret = secret.HecToken(lambda: self.source)
        self.got: list[str] = []

    def get(self) -> None:
        self.got.append(self.secret.get(1))

    def rotate(self) -> None:
        self.source = "new"
        self.secret.renew(1)
        self.get()

    def good(self) -> bool:
        return len(self.got) == 3 and set(self.got) <= {"old", "new"}


class FirstRequests:
    """The caches of a process that two first requests fill. Each may make a store; one of them stays."""

    def __init__(self) -> None:
        for cached in (startup.settings, startup.audit, startup.dynamodb, api.store, api.service):
            cached.cache_clear()
        self.got: list[object] = []

    def serve(self) -> None:
        self.got.append(api.service())

    def good(self) -> bool:
        return (
            len(self.got) == 2 and all(isinstance(got, TokenService) for got in self.got) and api.service() in self.got
        )


def holds(setup: Callable[[], Any], *workers: Callable[[Any], None], schedules: int = SCHEDULES) -> bool:
    """Whether what must hold does so after every schedule."""
    result = frontrun.explore(
        setup=setup,
        workers=list(workers),
        invariant=lambda state: state.good(),
        strategy="random",
        max_attempts=schedules,
        seed=SEED,
        reproduce_on_failure=1,
    )
    return bool(result.property_holds)


def as_it_was(connections: Any) -> None:
    """How all idle connections were closed before frontrun found that another thread may take the last one."""
    while connections:
        connections.pop().close()


def main() -> int:
    """Run all, print a line for each; 1 if one is not as it must be."""
    os.environ |= {
        "TOKEN_TABLE": "tokens",
        "CLIENT_TABLE": "clients",
        "STAGE": "local",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }
    os.environ |= {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "DYNAMODB_TRANSPORT": "slim"}
    requests = (lambda state: state.ask(b"a"), lambda state: state.ask(b"b"))
    kept, ended = (lambda: Connections(ended=False)), (lambda: Connections(ended=True))
    results = {
        "two requests beside a close": holds(kept, *requests, Connections.close),
        "the same on connections that the other side closed": holds(ended, *requests, Connections.close),
        "two that close": holds(kept, Connections.close, Connections.close),
    }
    with mock.patch.object(connection, "_close_all", as_it_was):
        results["the race that was, found again"] = not holds(kept, Connections.close, Connections.close)
    with mock.patch.object(secret, "within", lambda seconds, read: read()):
        results["a secret that is rotated"] = holds(Rotation, Rotation.get, Rotation.get, Rotation.rotate)
    results["two first requests"] = holds(FirstRequests, FirstRequests.serve, FirstRequests.serve, schedules=20)
    for name, good in results.items():
        print(f"{'ok' if good else 'FAIL':6}{name}")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
