"""Child processes that stop in order, and that don't outlive their parent even when it is killed outright."""

from __future__ import annotations

import os
import signal
import subprocess
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


def stop(child: subprocess.Popen[bytes], patience_seconds: float) -> None:
    """Let a child end in order; kill it once patience is over."""
    child.terminate()
    try:
        child.wait(patience_seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    release(child)


def release(child: subprocess.Popen[bytes]) -> None:
    """Close our end of an ended child's leash."""
    if child.stdin is not None:
        child.stdin.close()
