"""Child processes that stop in order, and that don't outlive their parent even when it is killed outright."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, NoReturn

STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that end a process."""
_LOOK_EVERY_SECONDS: Final = 0.05


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


class Stopped(BaseException):
    """A signal ends the process. Not an Exception: no handler for failures may catch it."""


def run_until_stopped(run: Callable[[ExitStack], object]) -> None:
    """Run until it ends or a signal stops it. Then close the stack; more signals are ignored."""
    with suppress(Stopped), ExitStack() as started:
        try:
            for number in STOPPING:
                signal.signal(number, _stop)
            run(started)
        finally:
            for number in STOPPING:
                signal.signal(number, signal.SIG_IGN)


def _stop(*_: object) -> NoReturn:
    with suppress(OSError):
        print("Stopping ...", flush=True)
    raise Stopped


def check_parent(parent: int) -> None:
    """Raise Stopped if make was killed outright: it hands no signal on. Other parents may well end before."""
    if "MAKELEVEL" in os.environ and os.getppid() != parent:
        raise Stopped


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold signals back until the end of the block.

    A signal whose handler raises may come in the middle of starting a child, and then nobody would know the child.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is interrupted
        return
    held: list[int] = []
    handlers = {number: signal.signal(number, lambda came, _: held.append(came)) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


def why_not_ready(child: subprocess.Popen[bytes], is_ready: Callable[[], bool], within_seconds: float) -> str:
    """Wait until a child is ready. Returns why it is not, as the end of a sentence about it; empty if it is."""
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        if child.poll() is not None:
            return f"ended at its start with code {child.returncode}"
        if is_ready():
            return ""
        time.sleep(_LOOK_EVERY_SECONDS)
    return f"was not ready within {within_seconds:.0f} s"


def stop(child: subprocess.Popen[bytes], patience_seconds: float) -> None:
    """Let a child end in order; kill it once patience is over."""
    child.terminate()
    with suppress(subprocess.TimeoutExpired):
        child.wait(patience_seconds)
    kill(child)


def kill(child: subprocess.Popen[bytes]) -> None:
    """End a child at once, if it has not ended, and close our end of its leash."""
    child.kill()
    child.wait()
    if child.stdin is not None:
        child.stdin.close()
