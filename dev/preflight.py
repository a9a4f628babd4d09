"""What `make run` checks before it sets anything up: `python3 -I dev/preflight.py`.

Starts on any Python from 3.8 on with nothing installed, so it imports the standard library alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
from pathlib import Path

HOST = "127.0.0.1"
LOCK = Path(__file__).resolve().parent.parent / ".local" / "lock"
"""Locked by the run that serves from this checkout. Two would write the same store."""

_DEFAULT_PORT = "8000"
_MAX_PORT = 65_535


class StartError(Exception):
    """The service can't start; the message is one line for the terminal."""

    exit_code = 1


class UsageError(StartError):
    """An argument makes no sense."""

    exit_code = 2


def port_of(value: str) -> int:
    """The port in a setting; empty: the default.

    Raises:
        UsageError: it is not a whole number from 1 to 65535.
    """
    text = value.strip() or _DEFAULT_PORT
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_PORT)) and 1 <= int(text) <= _MAX_PORT):
        raise UsageError(f"PORT must be a whole number from 1 to {_MAX_PORT}, not {text[:20]!r}")
    return int(text)


def check_port(port: int, command: str = "make run PORT=") -> None:
    """Check that a server could listen on the port.

    Args:
        command: what to type before another port.

    Raises:
        StartError: another program listens there, or this user may not.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise StartError(f"port {port} is taken; choose another: {command}{port % 60_000 + 1}") from None
            raise StartError(f"port {port} can't be used: {error.strerror}") from None


def take_lock(lock: int) -> None:
    """Lock the file of the run that serves from this checkout.

    Raises:
        StartError: another run holds it; names that.
    """
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 200, 0).decode("utf-8", "replace").strip()
        raise StartError(f"runs already from this directory ({holder or 'just started'})") from None


def main() -> int:
    """Check the port, and that nothing serves from this checkout; returns the exit code."""
    try:
        port = port_of(os.environ.get("PORT", ""))
        if LOCK.exists():
            with LOCK.open() as lock:
                take_lock(lock.fileno())
        check_port(port)
    except StartError as error:
        print(f"tokenservice: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"tokenservice: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
