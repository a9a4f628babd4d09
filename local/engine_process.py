"""MiniStack as `Engine` starts it: ends with its parent, and writes its tables to disk soon after they change.

Runs in an environment of its own, where of this project only `local.leash` can be imported.
"""

from __future__ import annotations

import asyncio
import fcntl
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from ministack import app as ministack
from ministack.core import persistence
from ministack.services import dynamodb

from local.leash import end_with_parent

_READS = ("BatchGet", "Describe", "Get", "List", "Query", "Scan", "TransactGet")
_SAVE_AFTER_SECONDS = 1.0
# Saving copies all tables and blocks the engine: it may take a twentieth of its time at most.
_PAUSE_PER_SAVING = 19.0

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class SavesTables:
    """MiniStack's ASGI application, saving after changes.

    MiniStack itself saves on an orderly stop only, so a killed engine would forget everything. Here it forgets a
    second or so. Saving runs on the event loop, as the writes do: it never sees half a write.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app
        self._pending: asyncio.TimerHandle | None = None
        self._pause_seconds = _SAVE_AFTER_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            if _changes_tables(scope) and self._pending is None:
                loop = asyncio.get_running_loop()
                self._pending = loop.call_later(self._pause_seconds, self._save)

    def _save(self) -> None:
        self._pending = None
        begun = time.monotonic()
        persistence.save_state("dynamodb", dynamodb.get_state())
        self._pause_seconds = max(_SAVE_AFTER_SECONDS, _PAUSE_PER_SAVING * (time.monotonic() - begun))


def _changes_tables(scope: Scope) -> bool:
    for name, value in scope.get("headers", ()):
        if name == b"x-amz-target" and value.startswith(b"DynamoDB_"):
            return not value.decode("latin-1").rpartition(".")[2].startswith(_READS)
    return False


def main() -> None:
    """Serve until SIGTERM."""
    end_with_parent()
    if not persistence.PERSIST_STATE:
        ministack.main()
        return
    with Path(persistence.STATE_DIR, "lock").open("w") as lock:
        # An engine whose parent was killed may still be saving what this one is about to read.
        fcntl.flock(lock, fcntl.LOCK_EX)
        ministack.app = SavesTables(ministack.app)
        ministack.main()


if __name__ == "__main__":
    main()
