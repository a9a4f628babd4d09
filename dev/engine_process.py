"""MiniStack as `Engine` starts it: behind a gate; ends with its parent; saves its tables soon after they change.

MiniStack's own persistence saves on an orderly stop only: what a killed engine had stored would be lost. So it is saved
here about a second after each change.

Runs in an environment of its own, where of this project only `dev.engine_gate` and `dev.leash` can be imported.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ministack import app as ministack
from ministack.core import persistence
from ministack.core.responses import _service_model
from ministack.services import dynamodb

from dev.engine_gate import App, Gate, Receive, Scope, Send
from dev.leash import STOPPING, end_with_parent

_READS = ("BatchGet", "Describe", "Get", "List", "Query", "Scan", "TransactGet")
_SAVE_AFTER_SECONDS = 1.0
# Saving copies all tables: with very many tokens a processor would do little else.
_PAUSE_PER_SAVING = 19.0
_SHUTDOWN = "lifespan.shutdown"


class SavesTables:
    """MiniStack's ASGI application, saving after changes.

    A child saves: it has the tables as they were when it was forked, and the engine goes on answering. With 30,000
    tokens saving takes two seconds, longer than the service waits for its store. The fork is made on the event loop, as
    the writes are: the child never sees half a write.

    Args:
        lock: the file that is locked while tables are read or written. A child that outlives a killed engine keeps it.
    """

    def __init__(self, app: App, lock: int) -> None:
        self._app = app
        self._lock = lock
        self._is_changed = False
        self._saving: asyncio.Task[None] | None = None
        self._child: int | None = None
        self._pause_seconds = _SAVE_AFTER_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, self._saved_before_shutdown(receive), send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            if _changes_tables(scope):
                self._is_changed = True
                if self._saving is None or self._saving.done():
                    self._saving = asyncio.create_task(self._save_while_changed())

    async def _save_while_changed(self) -> None:
        while self._is_changed:
            await asyncio.sleep(self._pause_seconds)
            self._is_changed, begun = False, time.monotonic()
            self._child = os.fork()
            if self._child == 0:
                self._save_and_end()
            await asyncio.to_thread(_wait_for, self._child)
            self._pause_seconds = max(_SAVE_AFTER_SECONDS, _PAUSE_PER_SAVING * (time.monotonic() - begun))

    def _saved_before_shutdown(self, receive: Receive) -> Receive:
        """MiniStack saves at its end. Child and parent would write to the same file."""

        async def wait() -> Any:
            message = await receive()
            if message["type"] == _SHUTDOWN:
                if self._saving is not None:
                    self._saving.cancel()
                if self._child is not None:
                    _wait_for(self._child)
            return message

        return wait

    def _save_and_end(self) -> None:
        try:
            # Whoever stops it means the engine; and the engine's port must not stay taken when that is killed.
            for number in STOPPING:
                signal.signal(number, signal.SIG_IGN)
            os.closerange(sys.stderr.fileno() + 1, self._lock)
            os.closerange(self._lock + 1, os.sysconf("SC_OPEN_MAX"))
            persistence.save_state("dynamodb", dynamodb.get_state())
        finally:
            os._exit(0)


def _wait_for(child: int) -> None:
    with suppress(ChildProcessError):  # it has ended before
        os.waitpid(child, 0)


def _changes_tables(scope: Scope) -> bool:
    for name, value in scope.get("headers", ()):
        if name == b"x-amz-target" and value.startswith(b"DynamoDB_"):
            return not value.decode("latin-1").rpartition(".")[2].startswith(_READS)
    return False


def main() -> None:
    end_with_parent()
    # MiniStack loads this in its first call, which would take longer than the service waits for its store.
    _service_model("dynamodb")
    if not persistence.PERSIST_STATE:
        ministack.app = Gate(ministack.app)
        ministack.main()
        return
    with Path(persistence.STATE_DIR, "lock").open("w") as lock:
        # An engine whose parent was killed may still be saving what this one is about to read.
        fcntl.flock(lock, fcntl.LOCK_EX)
        ministack.app = Gate(SavesTables(ministack.app, lock.fileno()))
        ministack.main()


if __name__ == "__main__":
    main()
