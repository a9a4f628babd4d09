"""The rules of Splunk's HTTP Event Collector, stricter than Splunk is documented to be, for a test receiver.

They follow the documentation and other people's measurements, not a real Splunk.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
import zlib
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

ENVELOPE_KEYS = {"time", "host", "source", "sourcetype", "index", "event", "fields"}
MAX_CONTENT_BYTES = 1_000_000
MAX_LEVELS = 63  # of objects and lists in each other, the envelope's own included
EVENT_PATHS = {"/services/collector", "/services/collector/event", "/services/collector/event/1.0"}
HEALTH_PATHS = {"/services/collector/health", "/services/collector/health/1.0"}
ACK_PATH = "/services/collector/ack"

STATUS = {
    **dict.fromkeys((0, 17, 24, 25), 200),
    **dict.fromkeys((5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 21, 22, 28), 400),
    **dict.fromkeys((2, 3), 401),
    **dict.fromkeys((1, 4), 403),
    **dict.fromkeys((26, 27), 429),
    8: 500,
    **dict.fromkeys((9, 18, 19, 20, 23), 503),
}
TEXT = {
    0: "Success", 1: "Token disabled", 2: "Token is required", 3: "Invalid authorization", 4: "Invalid token",
    5: "No data", 6: "Invalid data format", 7: "Incorrect index", 8: "Internal server error",
    9: "Server is busy", 10: "Data channel is missing", 11: "Invalid data channel",
    12: "Event field is required", 13: "Event field cannot be blank", 14: "ACK is disabled",
    15: "Error in handling indexed fields", 16: "Query string authorization is not enabled",
    17: "HEC is healthy", 18: "HEC is unhealthy", 23: "Server is shutting down",
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def reply(code: int, index: int | None = None, **headers: str) -> Reply:
    content: dict[str, Any] = {"text": TEXT.get(code, "?"), "code": code}
    if index is not None:
        content["invalid-event-number"] = index
    return Reply(STATUS[code], json.dumps(content).encode(), headers)


class _Refused(Exception):
    def __init__(self, code: int, index: int | None = None) -> None:
        super().__init__(code)
        self.reply = reply(code, index)


class Collector:
    """Indexes what it is sent, or answers why not; safe to use from several threads."""

    def __init__(
        self,
        tokens: set[str] | None = None,
        indexes: set[str] | None = None,
        acknowledgement: bool = False,
        max_bytes: int = MAX_CONTENT_BYTES,
    ) -> None:
        self.tokens = tokens if tokens is not None else {"the-token"}
        self.disabled: set[str] = set()
        self.indexes = indexes
        self.acknowledgement = acknowledgement
        self.max_bytes = max_bytes
        self.indexed: list[dict[str, Any]] = []
        self.requests = 0
        self._acks: dict[int, bool] = {}
        self._lock = threading.Lock()

    def ids(self) -> list[str]:
        return [event["fields"]["event_id"] for event in self.indexed]

    def answer(self, request: Request) -> Reply:
        with self._lock:
            self.requests += 1
            try:
                return self._answer(request)
            except _Refused as refused:
                return refused.reply

    def _answer(self, request: Request) -> Reply:
        parts = urlsplit(request.path)
        if parts.path in HEALTH_PATHS and request.method == "GET":
            return reply(17)
        if parts.path not in EVENT_PATHS | {ACK_PATH}:
            return Reply(404, b'{"text":"The requested URL was not found on this server.","code":404}')
        if request.method != "POST":
            return Reply(405, b'{"text":"Method Not Allowed","code":405}')
        self._authorize(request, parts.query)
        if parts.path == ACK_PATH:
            return self._acknowledge(request)
        if self.acknowledgement:
            channel = request.headers.get("x-splunk-request-channel")
            if channel is None:
                raise _Refused(10)
            if len(channel) != 36:
                raise _Refused(11)
        self._index(self._content(request))
        if not self.acknowledgement:
            return reply(0)
        ack = len(self._acks)
        self._acks[ack] = True
        return Reply(200, json.dumps({"text": "Success", "code": 0, "ackId": ack}).encode())

    def _authorize(self, request: Request, query: str) -> None:
        header = request.headers.get("authorization")
        if header is None:
            raise _Refused(16 if "token" in parse_qs(query) else 2)
        scheme, _, token = header.partition(" ")
        if scheme != "Splunk" or not token:
            raise _Refused(3)
        if token not in self.tokens:
            raise _Refused(4)
        if token in self.disabled:
            raise _Refused(1)

    def _acknowledge(self, request: Request) -> Reply:
        if not self.acknowledgement:
            raise _Refused(14)
        asked = json.loads(request.body)["acks"]
        # An id answers true once and is then forgotten.
        return Reply(200, json.dumps({"acks": {str(n): self._acks.pop(n, False) for n in asked}}).encode())

    def _content(self, request: Request) -> str:
        body = request.body
        if request.headers.get("content-encoding") == "gzip":
            try:
                body = zlib.decompress(body, wbits=31)
            except zlib.error:
                raise _Refused(6, 0) from None
        if not body.strip():
            raise _Refused(5)
        if len(body) > self.max_bytes:
            raise _Refused(6, 0)  # not 413: this is what Splunk Cloud was seen to do
        try:
            return body.decode()
        except UnicodeDecodeError:
            raise _Refused(6, 0) from None

    def _index(self, content: str) -> None:
        """Index event after event; the events before a bad one stay indexed."""
        at = number = 0
        while True:
            while at < len(content) and content[at] in " \t\r\n":
                at += 1
            if at == len(content):
                return
            start = at
            try:
                event, at = _JSON.raw_decode(content, at)
            except (ValueError, RecursionError):
                raise _Refused(6, number) from None
            if not isinstance(event, dict):
                raise _Refused(6, number)
            if event.keys() - ENVELOPE_KEYS or _levels(content[start:at]) > MAX_LEVELS:
                return  # "Success", and this event and all after it are gone
            self._check(event, number)
            self.indexed.append(_without_lone_surrogates(event))
            number += 1

    def _check(self, event: dict[str, Any], number: int) -> None:
        if "event" not in event:
            raise _Refused(12, number)
        value = event["event"]
        if isinstance(value, str) and not value.strip():
            raise _Refused(13, number)
        if value is None or value is False:
            raise _Refused(6, number)
        fields = event.get("fields", {})
        if not isinstance(fields, dict) or any(not isinstance(v, str | int | float) for v in fields.values()):
            raise _Refused(15, number)
        if not isinstance(event.get("time", 0), int | float) or event.get("time", 0) < 0:
            raise _Refused(6, number)
        if self.indexes is not None and event.get("index", "main") not in self.indexes:
            raise _Refused(7, number + 1)  # names the event after the bad one


def _levels(text: str) -> int:
    brackets = (
        re.findall(r'"(?:[^"\\]|\\.)*"|([\[\]{}])', text) if text.count("{") + text.count("[") > MAX_LEVELS else ""
    )
    return max(itertools.accumulate({"{": 1, "[": 1, "}": -1, "]": -1}.get(each, 0) for each in brackets), default=0)


def _without_lone_surrogates(event: dict[str, Any]) -> dict[str, Any]:
    """What is left of half a surrogate pair is U+FFFD."""
    text = json.dumps(event, ensure_ascii=False)
    kept: dict[str, Any] = json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return kept


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_constant(name: str) -> object:
    raise ValueError(name)


_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
