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

ENVELOPE_KEYS = {"time", "host", "source", "sourcetype", "index", "event", "fields"}
MAX_CONTENT_BYTES = 1_000_000
MAX_LEVELS = 63  # of objects and lists in each other, the envelope's own included
EVENT_PATHS = {"/services/collector", "/services/collector/event", "/services/collector/event/1.0"}

STATUS = {
    **dict.fromkeys((0, 17, 24, 25), 200),
    **dict.fromkeys((5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 21, 22, 28), 400),
    **dict.fromkeys((2, 3), 401),
    **dict.fromkeys((1, 4), 403),
    **dict.fromkeys((26, 27), 429),
    8: 500,
    **dict.fromkeys((9, 18, 19, 20, 23), 503),
}


@dataclass(frozen=True)
class Request:
    """A POST; the names of headers are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


def request(body: bytes, token: str = "the-token", **headers: str) -> Request:
    """A request with events, as a client sends it."""
    return Request("/services/collector/event", {"authorization": f"Splunk {token}"} | headers, body)


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def reply(code: int, index: int | None = None, **headers: str) -> Reply:
    content: dict[str, Any] = {"text": f"what {code} means", "code": code}
    if index is not None:
        content["invalid-event-number"] = index
    return Reply(STATUS[code], json.dumps(content).encode(), headers)


class Rejected(Exception):
    """What the collector's rules answer in place of success."""

    def __init__(self, code: int, index: int | None = None) -> None:
        super().__init__(code)
        self.reply = reply(code, index)


class Collector:
    """Indexes what it is sent, or answers why not; safe to use from several threads."""

    def __init__(
        self,
        tokens: set[str] | None = None,
        indexes: set[str] | None = None,
        max_bytes: int = MAX_CONTENT_BYTES,
    ) -> None:
        self.tokens = tokens if tokens is not None else {"the-token"}
        self.indexes = indexes
        self.max_bytes = max_bytes
        self.indexed: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def ids(self) -> list[str]:
        return [event["fields"]["event_id"] for event in self.indexed]

    def answer(self, request: Request) -> Reply:
        with self._lock:
            try:
                return self._answer(request)
            except Rejected as refused:
                return refused.reply

    def _answer(self, request: Request) -> Reply:
        if request.path not in EVENT_PATHS:
            return Reply(404, b'{"text":"The requested URL was not found on this server.","code":404}')
        self._authorize(request)
        self._index(self._content(request))
        return reply(0)

    def _authorize(self, request: Request) -> None:
        header = request.headers.get("authorization")
        if header is None:
            raise Rejected(2)
        scheme, _, token = header.partition(" ")
        if scheme != "Splunk" or not token:
            raise Rejected(3)
        if token not in self.tokens:
            raise Rejected(4)

    def _content(self, request: Request) -> str:
        body = request.body
        if request.headers.get("content-encoding") == "gzip":
            try:
                body = zlib.decompress(body, wbits=31)
            except zlib.error:
                raise Rejected(6, 0) from None
        if not body.strip():
            raise Rejected(5)
        if len(body) > self.max_bytes:
            raise Rejected(6, 0)  # not 413: this is what Splunk Cloud was seen to do
        try:
            return body.decode()
        except UnicodeDecodeError:
            raise Rejected(6, 0) from None

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
                raise Rejected(6, number) from None
            if not isinstance(event, dict):
                raise Rejected(6, number)
            if event.keys() - ENVELOPE_KEYS or _levels(content[start:at]) > MAX_LEVELS:
                return  # "Success", and this event and all after it are gone
            self._check(event, number)
            self.indexed.append(_without_lone_surrogates(event))
            number += 1

    def _check(self, event: dict[str, Any], number: int) -> None:
        if "event" not in event:
            raise Rejected(12, number)
        value = event["event"]
        if isinstance(value, str) and not value.strip():
            raise Rejected(13, number)
        if value is None or value is False:
            raise Rejected(6, number)
        fields = event.get("fields", {})
        if not isinstance(fields, dict) or any(not isinstance(v, str | int | float) for v in fields.values()):
            raise Rejected(15, number)
        if not isinstance(event.get("time", 0), int | float) or event.get("time", 0) < 0:
            raise Rejected(6, number)
        if self.indexes is not None and event.get("index", "main") not in self.indexes:
            raise Rejected(7, number + 1)  # names the event after the bad one


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
