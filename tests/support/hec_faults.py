"""What can go wrong between the forwarder and Splunk, the same for a real connection and a simulated one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from tests.support.hec_rules import Collector, Reply, Request, reply


class Fault(Enum):
    """One fault on one request."""

    REFUSED = auto()  # no connection
    RESET_BEFORE = auto()  # connection reset before the body is read
    RESET_MID = auto()  # connection reset half-way through the body
    RESET_AFTER = auto()  # the events are indexed, the answer is lost
    SLOW = auto()  # the events are indexed, the answer comes after the client has given up
    DRIP = auto()  # the events are indexed, the answer comes byte by byte, too slowly
    TRUNCATED = auto()  # the events are indexed, the answer is cut off
    HTML_502 = auto()
    EMPTY_503 = auto()
    NOT_JSON_200 = auto()  # the page of something in between; nothing is indexed
    REDIRECT = auto()
    TOO_LARGE_413 = auto()


INDEXED_BUT_UNANSWERED = {Fault.RESET_AFTER, Fault.SLOW, Fault.DRIP, Fault.TRUNCATED}
UNREACHED = {Fault.REFUSED, Fault.RESET_BEFORE, Fault.RESET_MID}
_PAGES = {
    Fault.HTML_502: Reply(502, b"<html><h1>Bad Gateway</h1></html>", {"Content-Type": "text/html"}),
    Fault.EMPTY_503: Reply(503, b""),
    Fault.NOT_JSON_200: Reply(200, b"<html>Welcome</html>", {"Content-Type": "text/html"}),
    Fault.REDIRECT: Reply(307, b"", {"Location": "http://127.0.0.1:9/elsewhere"}),
    Fault.TOO_LARGE_413: Reply(413, b"<html>Content-Length too large</html>"),
}


@dataclass(frozen=True)
class ForcedCode:
    """The collector answers with this code, whatever it was sent; where the code means success it indexes.

    Attributes:
        takes: of another code, how many events it indexes all the same before it names the next one.
    """

    code: int
    index: int | None = None
    retry_after: str | None = None
    takes: int = 0


def happen(fault: Fault | ForcedCode | None, collector: Collector, request: Request) -> Reply | None:
    """Let a request meet a fault, and the collector as far as the fault lets it through.

    Returns:
        The answer; None if there is none. Of those `INDEXED_BUT_UNANSWERED` it does not reach the client in time.
    """
    match fault:
        case ForcedCode(0 | 17 | 24 | 25 as code):
            answer = collector.answer(request)
            return reply(code) if answer.status == 200 else answer
        case ForcedCode(code, index, retry_after, takes):
            headers = {"Retry-After": retry_after} if retry_after else {}
            before = len(collector.indexed)
            collector.answer(request)
            del collector.indexed[before + takes :]
            return reply(code, index, **headers)
        case Fault() if fault in UNREACHED:
            return None
        case Fault() if fault in _PAGES:
            return _PAGES[fault]
        case _:
            return collector.answer(request)
