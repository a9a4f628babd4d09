"""The WSGI server: waitress, with limits for connections that are slow or idle.

Waitress alone answers everything, health checks too, from one pool of threads, stops accepting at a number of open
connections, and closes a connection only once nothing at all has moved on it. Here

- health checks and refusals of requests that are no HTTP have a thread of their own;
- a request must be complete, and an answer must be taken, within a time;
- where there are too many connections, the one that has waited longest is closed for the next one.
"""

from __future__ import annotations

import fcntl
import ipaddress
import logging
import socket
import termios
import time
from array import array
from collections.abc import Iterable, Mapping
from typing import Any, Final

from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher

HEALTH_PATH: Final = "/healthz"
CONNECTIONS: Final = 400
"""Open at one time. Each is a file descriptor; 1,024 are common for a process."""
CONNECTIONS_PER_ADDRESS: Final = 64
REQUEST_SECONDS: Final = 20.0
"""From the first byte of a request to its last; on a new connection from its beginning."""
IDLE_SECONDS: Final = 75.0
"""Between two requests; longer than proxies leave a connection open, so that no request of theirs meets its end."""
ANSWER_SECONDS: Final = 60.0
ANSWER_BYTES: Final = 64 * 1024
"""What a reader takes at least of a waiting answer within `ANSWER_SECONDS`: a kilobyte a second."""
_LOOK_EVERY_SECONDS: Final = 5
_WAITING_BYTES: Final = 256 * 1024
"""Of an answer, in memory for each connection; what is more waits where it comes from."""

log = logging.getLogger("document_gateway")


class _Refusal(ErrorTask):
    """Waitress's own answer to what is no request."""

    def execute(self) -> None:
        listener: Any = self.channel.server
        self.response_headers = list(listener.headers.items())
        super().execute()


class _Connection(HTTPChannel):
    """One connection, and how it gets on."""

    error_task_class = _Refusal

    def __init__(self, server: Listener, sock: socket.socket, *more: Any, **named: Any) -> None:
        now = time.time()
        self._unfinished_since: float | None = now
        self._bytes_sent = 0
        self._taken_by: tuple[float, int] | None = None
        super().__init__(server, sock, *more, **named)

    @property
    def is_answered(self) -> bool:
        """Whether no thread is at work for it."""
        return not self.requests

    def received(self, data: bytes) -> Any:
        """Take in a part of a request."""
        if self._unfinished_since is None:
            self._unfinished_since = time.time()
        result = super().received(data)
        if self.request is None:
            self._unfinished_since = None
        return result

    def send(self, data: bytes, do_close: bool = True) -> int:
        """Write what the other end takes at once."""
        sent: int = super().send(data, do_close)
        self._bytes_sent += sent
        return sent

    def why_overdue(self, now: float) -> str | None:
        """Why it is to be closed; None where it may go on. Ask every few seconds."""
        if self.total_outbufs_len:
            return "slow reader" if self._is_taken_slowly(now) else None
        self._taken_by = None
        if not self.is_answered:
            return None
        if self._unfinished_since is not None:
            return "slow request" if now - self._unfinished_since > REQUEST_SECONDS else None
        return "idle" if now - self.last_activity > IDLE_SECONDS else None

    def _is_taken_slowly(self, now: float) -> bool:
        before, bytes_taken = self._taken_by, self._bytes_sent - _bytes_on_the_line(self.socket)
        if before is not None and now - before[0] < ANSWER_SECONDS:
            return False
        self._taken_by = now, bytes_taken
        return before is not None and bytes_taken - before[1] < ANSWER_BYTES


class Listener(TcpWSGIServer):
    """Listens from the start, and answers in `run()`.

    Args:
        connections: holds all sockets; `wasyncore.close_all()` closes them.
        headers: of the answers that do not come from the application.
        peers_are_people: count connections by address; behind a proxy all have the proxy's.
    """

    channel_class = _Connection
    active_channels: Any  # file descriptor to _Connection

    def __init__(
        self,
        application: Any,
        connections: dict[int, Any],
        headers: Mapping[str, str],
        *,
        peers_are_people: bool,
        **adjustments: Any,
    ) -> None:
        self.headers = headers
        self._peers_are_people = peers_are_people
        self._at_once = ThreadedTaskDispatcher()
        self._at_once.set_thread_count(1)
        super().__init__(
            application,
            connections,
            # We count the connections ourselves: waitress would leave everybody waiting.
            connection_limit=2 * CONNECTIONS,
            cleanup_interval=_LOOK_EVERY_SECONDS,
            outbuf_high_watermark=_WAITING_BYTES,
            asyncore_use_poll=True,  # select() ends with file descriptor 1,023
            **adjustments,
        )

    def run(self) -> None:
        """Answer until all sockets are closed, or until SystemExit or KeyboardInterrupt."""
        super().run()
        for dispatcher in (self.task_dispatcher, self._at_once):
            dispatcher.shutdown()

    def add_task(self, task: Any) -> None:
        """Have a connection's next request answered by a thread."""
        request = task.requests[0]
        is_quick = request.error or request.path == HEALTH_PATH
        (self._at_once if is_quick else self.task_dispatcher).add_task(task)

    def accept(self) -> Any:
        """Take a new connection if one more is allowed."""
        accepted = super().accept()
        if accepted is not None and not self._has_place_for(accepted[1][0]):
            accepted[0].close()
            return None
        return accepted

    def maintenance(self, now: float) -> None:
        """Close what takes too long."""
        for connection in list(self.active_channels.values()):
            why = connection.why_overdue(now)
            if why is not None:
                self._close(connection, why)

    def _has_place_for(self, address: str) -> bool:
        everybody = self.active_channels.values()
        if self._peers_are_people:
            neighbours = [one for one in everybody if network(one.addr[0]) == network(address)]
            if len(neighbours) >= CONNECTIONS_PER_ADDRESS and not self._close_one(neighbours):
                return False
        return len(everybody) < CONNECTIONS or self._close_one(everybody)

    def _close_one(self, connections: Iterable[_Connection]) -> bool:
        """Close the one that has waited longest, one with nothing more to take first; False where all are at work."""
        waiting = [one for one in connections if one.is_answered]
        if not waiting:
            return False
        oldest = min(waiting, key=lambda one: (one.total_outbufs_len > 0, one.last_activity))
        self._close(oldest, "too many connections")
        return True

    @staticmethod
    def _close(connection: _Connection, why: str) -> None:
        # Not by `will_close`: waitress acts on that only once the other end can be written to.
        connection.handle_close()
        if why != "idle":
            log.info("gateway.closed", extra={"facts": {"reason": why, "address": connection.addr[0]}})


def _bytes_on_the_line(connection: Any) -> int:
    """What was sent and has not arrived. The operating system holds megabytes, and takes more only in large pieces."""
    waiting = array("i", [0])
    try:
        fcntl.ioctl(connection, termios.TIOCOUTQ, waiting)
    except OSError:
        return 0
    return waiting[0]


def network(address: str) -> str:
    """What one person has of addresses: an IPv4 address, or the 64 bits that an IPv6 network begins with."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return str(parsed) if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))  # noqa: PLR2004
