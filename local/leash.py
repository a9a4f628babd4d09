"""Ties a child process to its parent, so that nothing goes on running when the parent is killed outright."""

from __future__ import annotations

import os
import signal
import sys
import threading


def end_with_parent() -> None:
    """Send this process SIGTERM as soon as its standard input ends.

    The parent holds the other end of that pipe and never writes. However it ends, the operating system closes the
    pipe, and this process still stops in order. Linux has PR_SET_PDEATHSIG for this, but that follows the thread
    which started the child, and other systems lack it.
    """

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 64):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="leash", daemon=True).start()
