"""The WSGI server: waitress, which here also closes a connection whose reader takes nothing of its answer.

Waitress closes a connection only if no request is at work on it, so such a reader would have a thread for ever.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from waitress.server import TcpWSGIServer

CONNECTIONS: Final = 900
"""Open at one time. Each is a file descriptor; 1,024 are common for a process."""
IDLE_SECONDS: Final = 75.0
"""Between two requests; longer than proxies leave a connection open, so that no request of theirs meets its end."""
ANSWER_SECONDS: Final = 60.0
"""In which a reader must take some of a waiting answer."""
_LOOK_EVERY_SECONDS: Final = 5
_WAITING_BYTES: Final = 256 * 1024
"""Of an answer, in memory for each connection; what is more waits where it comes from."""


class Listener(TcpWSGIServer):
    """Listens from the start, and answers in `run()`.

    Args:
        connections: holds all sockets; `wasyncore.close_all()` closes them.
    """

    active_channels: Any  # file descriptor to connection
    socket: Any

    def __init__(self, application: Any, connections: dict[int, Any], **adjustments: Any) -> None:
        super().__init__(
            application,
            connections,
            connection_limit=CONNECTIONS,
            cleanup_interval=_LOOK_EVERY_SECONDS,
            outbuf_high_watermark=_WAITING_BYTES,
            asyncore_use_poll=True,  # select() ends with file descriptor 1,023
            **adjustments,
        )
        # Connections inherit it. By itself, the operating system holds megabytes of an answer, and a slow reader looks
        # like one that takes nothing.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _WAITING_BYTES)

    def run(self) -> None:
        """Answer until all sockets are closed, or until SystemExit or KeyboardInterrupt."""
        super().run()
        self.task_dispatcher.shutdown()

    def maintenance(self, now: float) -> None:
        """Close what takes too long."""
        for connection in list(self.active_channels.values()):
            inactive_seconds = now - connection.last_activity
            is_stuck = connection.total_outbufs_len and inactive_seconds > ANSWER_SECONDS
            if is_stuck or (not connection.requests and inactive_seconds > IDLE_SECONDS):
                # Not by `will_close`: waitress acts on that only once the other end can be written to.
                connection.handle_close()
