"""Sends the local service's log lines to Splunk, with the code that does it on AWS.

On AWS, CloudWatch Logs collects lines and calls `app.forward_logs` with them. Here a thread does: it collects lines for
a second, and calls the same `Forwarder` with the same kind of event. What Splunk does not take stays in the log file.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from chalicelib.redaction import redact
from chalicelib.settings import Settings
from chalicelib.splunk.envelope import Envelope, LogEvent, encode
from chalicelib.splunk.errors import SplunkError
from chalicelib.splunk.forward import build_forwarder

LOG_GROUP: Final = "/local/tokenservice"

_COLLECT_SECONDS: Final = 1.0
_MAX_LINES: Final = 1_000
_DELIVER_MS: Final = 20_000
_LAST_DELIVERY_MS: Final = 4_000


class Shipping:
    """Forwards lines to the Splunk in the settings, which have `SPLUNK_HEC_URL`.

    Raises:
        Misconfigured: the collector's address or the CA bundle can't be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._splunk = build_forwarder(settings.splunk, settings.stage)
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._stream = f"make-run/{uuid.uuid4()}"
        self._count = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._ship, name="ship", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        self._waiting.append((time.time_ns() // 1_000_000, line))

    def finish(self) -> None:
        """Wait until all lines are delivered or lost."""
        self._ending.set()
        self._thread.join()

    def _ship(self) -> None:
        while not self._ending.wait(_COLLECT_SECONDS):
            self._forward_waiting()
        self._forward_waiting()

    def _forward_waiting(self) -> None:
        while self._waiting:
            self._forward([self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_LINES))])

    def _forward(self, lines: Sequence[tuple[int, bytes]]) -> None:
        event = self._subscription_event(lines)
        deadline = time.monotonic() * 1000 + (_LAST_DELIVERY_MS if self._ending.is_set() else _DELIVER_MS)
        try:
            self._splunk.forward(json.loads(event), lambda: int(deadline - time.monotonic() * 1000))
        except Exception as error:  # noqa: BLE001 - one failure must not end the shipping of what comes later
            why = str(error) if isinstance(error, SplunkError) else type(error).__name__
            text = redact(f"Splunk did not take {len(lines)} log lines ({why}); .local/service.log has them")
            print(f"tokenservice: {text}", file=sys.stderr, flush=True)

    def _subscription_event(self, lines: Iterable[tuple[int, bytes]]) -> bytes:
        logs = []
        for at_ms, line in lines:
            self._count += 1
            logs.append(
                LogEvent(f"{self._stream}/{self._count}", at_ms, line.decode("utf-8", "replace").rstrip("\r\n"))
            )
        return encode(Envelope(LOG_GROUP, self._stream, logs), logs)
