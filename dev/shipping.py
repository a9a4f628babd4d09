"""Sends the local service's log lines to Splunk, with the code that does it on AWS.

On AWS, CloudWatch Logs collects lines and calls `app.forward_logs` with them. Here a thread does: it collects lines for
a second, and calls the same `Forwarder` with the same kind of event. What Splunk rejects is stored in a folder, from
which `tokenctl splunk redrive --folder` sends it again.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from chalicelib.audit import redact
from chalicelib.settings import Settings
from chalicelib.splunk.envelope import Envelope, LogEvent, encode
from chalicelib.splunk.errors import SplunkError
from chalicelib.splunk.forward import Forwarder, forwarder
from chalicelib.splunk.record import FolderRecord, Kind

LOG_GROUP: Final = "/local/tokenservice"

_COLLECT_SECONDS: Final = 1.0
_MAX_LINES: Final = 1_000
_DELIVER_MS: Final = 20_000
_LAST_DELIVERY_MS: Final = 4_000
_END: Final = b""


class Shipping:
    """Forwards lines.

    Args:
        splunk: the forwarder, as the Lambda function has it.
        record: stores events that Splunk rejects.
    """

    def __init__(self, splunk: Forwarder, record: FolderRecord) -> None:
        self._splunk = splunk
        self._record = record
        self._waiting: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        self._stream = f"make-run/{uuid.uuid4()}"
        self._count = 0
        self._ending = False
        self._thread = threading.Thread(target=self._ship, name="ship", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        self._waiting.put((time.time_ns() // 1_000_000, line))

    def finish(self) -> None:
        """Wait until all lines are delivered or stored."""
        self._ending = True
        self._waiting.put((0, _END))
        self._thread.join()

    def _ship(self) -> None:
        ended = False
        while not ended:
            collected, ended = self._collect()
            if collected:
                self._forward(collected)

    def _collect(self) -> tuple[list[tuple[int, bytes]], bool]:
        """The lines of about a second, and whether they are the last."""
        collected: list[tuple[int, bytes]] = []
        deadline: float | None = None
        while len(collected) < _MAX_LINES:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                at_ms, line = self._waiting.get(timeout=left)
            except queue.Empty:
                break
            if line == _END:
                return collected, True
            collected.append((at_ms, line))
            deadline = deadline or time.monotonic() + _COLLECT_SECONDS
        return collected, False

    def _forward(self, collected: list[tuple[int, bytes]]) -> None:
        event = self._subscription_event(collected)
        deadline = time.monotonic() * 1000 + (_LAST_DELIVERY_MS if self._ending else _DELIVER_MS)
        try:
            self._splunk.forward(json.loads(event), lambda: int(deadline - time.monotonic() * 1000))
        except Exception as error:  # noqa: BLE001 - one failure must not end the shipping of what comes later
            self._store(event, len(collected), error)

    def _store(self, event: bytes, lines: int, error: Exception) -> None:
        """Store the whole event in the failure record, as Lambda does after its retries."""
        why = str(error) if isinstance(error, SplunkError) else type(error).__name__
        try:
            name = self._record.put(Kind.FAILED, event, why)
        except SplunkError as unavailable:
            _warn(f"{lines} log lines are lost to Splunk: {why}; {unavailable}")
        else:
            _warn(f"Splunk did not take {lines} log lines ({why}); stored as {name}")

    def _subscription_event(self, lines: Iterable[tuple[int, bytes]]) -> bytes:
        logs = []
        for at_ms, line in lines:
            self._count += 1
            logs.append(
                LogEvent(f"{self._stream}/{self._count}", at_ms, line.decode("utf-8", "replace").rstrip("\r\n"))
            )
        return encode(Envelope(False, "local", LOG_GROUP, self._stream, ("local",), logs), logs)


def ship(settings: Settings, folder: Path) -> Shipping:
    """Start to forward lines to the Splunk in the settings.

    Args:
        settings: with `SPLUNK_HEC_URL`.
        folder: for events that Splunk rejects.

    Raises:
        Misconfigured: the collector's address or the CA bundle can't be used.
    """
    record = FolderRecord(folder)
    return Shipping(forwarder(settings.splunk, settings.stage, record=record), record)


def _warn(text: str) -> None:
    print(f"tokenservice: {redact(text)}", file=sys.stderr, flush=True)
