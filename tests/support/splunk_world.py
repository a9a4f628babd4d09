"""Subscription events, a record in memory and a world with faults: Lambda, Splunk and time, all simulated."""

from __future__ import annotations

import base64
import gzip
import json
import random
import zlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from chalicelib.splunk.delivery import Deliverer
from chalicelib.splunk.entries import LARGEST_RESERVE, RESERVE_SECONDS
from chalicelib.splunk.envelope import decode
from chalicelib.splunk.errors import RecordUnavailable, SplunkError
from chalicelib.splunk.forward import Forwarder
from chalicelib.splunk.record import FailureRecord, Kind
from chalicelib.splunk.secret import HecToken, fixed
from chalicelib.splunk.transport import NoAnswer
from chalicelib.splunk.verdicts import Answer
from tests.support.hec_faults import INDEXED_BUT_UNANSWERED, Fault, ForcedCode, happen
from tests.support.hec_rules import Collector, Rejected, reply, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

START_MS = 1_700_000_000_123


def aws_event(source: str, kind: str, resource: str, **detail: Any) -> dict[str, Any]:
    """What EventBridge hands over."""
    return {
        "version": "0",
        "id": "c4c1c1c9-6542-e61b-6ef0-8c4d36933a92",
        "detail-type": kind,
        "source": source,
        "account": "123456789012",
        "time": "2026-11-21T04:05:06Z",
        "region": "eu-central-1",
        "resources": [f"arn:aws:{resource}"],
        "detail": detail,
    }


def state_change(alarm: str, reason: str = "too slow") -> dict[str, Any]:
    """The event of an alarm. Source: Amazon CloudWatch user guide, "Alarm events and EventBridge"."""
    state = {"value": "ALARM", "reason": reason}
    arn = f"cloudwatch:us-east-1:000000000000:alarm:{alarm}"
    return aws_event("aws.cloudwatch", "CloudWatch Alarm State Change", arn, alarmName=alarm, state=state)


ALARM = state_change("tokenservice-prod-slow")
SCHEDULED = aws_event("aws.events", "Scheduled Event", "events:us-east-1:000000000000:rule/redrive")
GZIP = {"content-encoding": "gzip"}


def subscription(
    messages: Iterable[str | None], *, log_group: str = "/aws/lambda/service", first_id: int = 0, **changes: Any
) -> dict[str, Any]:
    """A subscription event as CloudWatch Logs makes it; each message gets an id and a time of its own.

    None is a message that CloudWatch Logs would not write: the item is no log event.
    """
    content: dict[str, Any] = {
        "messageType": "DATA_MESSAGE",
        "owner": "123456789012",
        "logGroup": log_group,
        "logStream": "2026/11/21/[$LATEST]0123456789abcdef",
        "subscriptionFilters": ["splunk"],
        "logEvents": [
            {"id": f"{first_id + n:056d}", "timestamp": START_MS + n, "message": message}
            for n, message in enumerate(messages)
        ],
    }
    return pack(content | changes)


def content(**changes: Any) -> dict[str, Any]:
    """What a subscription event with one log event holds."""
    found = json.loads(gzip.decompress(base64.b64decode(subscription(["a"])["awslogs"]["data"])))
    return {**found, **changes}


def pack(content: Any, **options: Any) -> dict[str, Any]:
    """A subscription event with this content, bytes or what `json.dumps` takes with these options."""
    text = content if isinstance(content, bytes) else json.dumps(content, **options).encode()
    return {"awslogs": {"data": base64.b64encode(gzip.compress(text, 1, mtime=0)).decode()}}


class MemoryRecord(FailureRecord):
    """A failure record in memory that can fail, and can be slow."""

    def __init__(self) -> None:
        super().__init__(lambda: datetime(2026, 11, 21, tzinfo=UTC))
        self.entries: dict[str, bytes] = {}
        self.refusals = 0
        self.refused = 0
        # Seconds that an entry takes: the caller lets them pass.
        self.take_seconds: Callable[[], float] = lambda: 0.0
        self.pass_seconds: Callable[[float], None] = lambda seconds: None

    def _store(self, name: str, content: bytes, within_seconds: float) -> None:
        if self.refusals:
            self.refusals -= 1
            self._refuse()
        seconds = self.take_seconds()
        self.pass_seconds(min(seconds, within_seconds))
        # What is given up may be kept all the same: only the answer is missing.
        self.entries[name] = content
        if seconds > within_seconds:
            self._refuse()

    def _refuse(self) -> None:
        self.refused += 1
        raise RecordUnavailable("the failure record did not take an entry")

    def of(self, kind: Kind) -> list[dict[str, Any]]:
        return [json.loads(v) for k, v in sorted(self.entries.items()) if k.startswith(kind.value + "/")]

    def ids(self, kind: Kind) -> list[str]:
        logs = [log for kept in self.of(kind) for log in decode(kept["requestPayload"]).events]
        return [json.loads(log.message)["id"] if log.fault else log.id for log in logs]


class Clock:
    """A clock that advances only when a step takes time."""

    def __init__(self) -> None:
        self.ms = 0.0
        self.deadline_ms = 0.0
        self.overruns = 0

    def start_invocation(self, timeout_ms: int) -> None:
        self.deadline_ms = self.ms + timeout_ms
        self.reserve_ms = min(RESERVE_SECONDS * 1000, timeout_ms * LARGEST_RESERVE)

    def remaining_ms(self) -> int:
        return int(self.deadline_ms - self.ms)

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass that a delivery takes: the reserve is not its own."""
        self._pass(seconds, self.deadline_ms - self.reserve_ms)

    def pass_seconds_of_record(self, seconds: float) -> None:
        """Advance the clock by the failure record's time, up to what is needed to return."""
        self._pass(seconds, self.deadline_ms - self.reserve_ms / 20)

    def _pass(self, seconds: float, until_ms: float) -> None:
        self.ms += seconds * 1000
        if self.ms > until_ms + 2:  # remaining_ms() is cut to whole milliseconds
            self.overruns += 1


class MarkedCollector(Collector):
    """Refuses an event whose text holds `☠<code>`, as Splunk might for a reason that the forwarder can't know."""

    def _check(self, event: dict[str, Any], number: int) -> None:
        super()._check(event, number)
        text = json.dumps(event["event"], ensure_ascii=False)
        if "☠" in text:
            raise Rejected(int(text.partition("☠")[2][:2]), number)


def forwarding(post: Callable[[bytes, str, float], Answer], **options: Any) -> Forwarder:
    """A forwarder that never waits, to a collector that knows the token of `Collector`."""
    deliverer = Deliverer(post, HecToken(fixed("the-token")), lambda seconds: None)
    return Forwarder(deliverer, **{"stage": "test", **options})


def coded(code: int, index: int | None = None, after: float | None = None) -> Answer:
    """The collector's answer with this code; `after` is its Retry-After in seconds."""
    answer = reply(code, index)
    return Answer(answer.status, answer.body, after)


class ScriptedCollector:
    """Posts to a collector in this process; each request takes the next answer of `script` first."""

    def __init__(self, collector: Collector | None = None) -> None:
        self.collector = collector or MarkedCollector()
        self.script: list[Answer | Exception] = []

    def post(self, body: bytes, token: str, timeout_seconds: float) -> Answer:
        scripted = self.script.pop(0) if self.script else None
        if isinstance(scripted, Exception):
            raise scripted
        if scripted is not None:
            return scripted
        answer = self.collector.answer(request(body, token, **GZIP))
        return Answer(answer.status, answer.body)


ANY_FAULT: list[Fault | ForcedCode] = [
    *Fault,
    *(ForcedCode(code) for code in range(29)),
    *(ForcedCode(code, retry_after=after) for code in (9, 26) for after in ("0", "3", "45", "900")),
    *(ForcedCode(code, index=0) for code in (6, 12, 13, 15)),
    ForcedCode(7, index=1),
    # Busy at event 2: of those before it, one source says that they are indexed, and another that none is.
    ForcedCode(9, index=2),
    ForcedCode(9, index=2, takes=2),
]


@dataclass
class World:
    """One seeded course of events: an input, a Splunk with faults, Lambda's retries, then a redrive."""

    seed: int
    collector: Collector = field(default_factory=MarkedCollector)
    record: MemoryRecord = field(default_factory=MemoryRecord)
    clock: Clock = field(default_factory=Clock)
    destination: list[dict[str, Any]] = field(default_factory=list)
    may_repeat: set[str] = field(default_factory=set)
    accused: set[str] = field(default_factory=set)
    fault_rate: float = 0.0
    invocations: int = 0
    faults_met: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        random.seed(self.seed)  # the jitter's source
        self.valid_token = "the-token"
        self.slow_record_rate = 0.0
        self.record.take_seconds = self._seconds_of_an_entry
        self.record.pass_seconds = self.clock.pass_seconds_of_record
        self.forwarder = Forwarder(
            Deliverer(self.post, HecToken(lambda: self.valid_token, clock=self._seconds), self.clock.pass_seconds),
            stage="test",
            record=self.record,
            clock_ms=lambda: START_MS,
        )

    def _seconds(self) -> float:
        return self.clock.ms / 1000

    def _seconds_of_an_entry(self) -> float:
        """Mostly a moment; sometimes long, and sometimes longer than anybody waits."""
        if self.random.random() < self.slow_record_rate:
            return self.random.choice([2.0, 8.0, 60.0])
        return min(self.random.expovariate(1 / 0.05), 0.3)

    def post(self, body: bytes, token: str, timeout_seconds: float) -> Answer:
        """One request to Splunk, through whatever fault comes up."""
        fault = self.random.choice(ANY_FAULT) if self.random.random() < self.fault_rate else None
        self.faults_met[str(fault)] += 1
        happening = happen(fault, self.collector, request(body, token, **GZIP))
        ids = _ids(body)
        if happening.answer_lost:
            self.may_repeat.update(ids)
        if fault is Fault.TOO_LARGE_413 and len(ids) == 1:
            self.accused.update(ids)
        if isinstance(fault, ForcedCode) and fault.code in (6, 12, 13, 15):
            self.accused.update(ids[:1] if fault.index == 0 or len(ids) == 1 else [])
        if fault in (Fault.SLOW, Fault.DRIP):
            self.clock.pass_seconds(timeout_seconds)
        else:
            self.clock.pass_seconds(min(timeout_seconds, self.random.expovariate(1 / 0.2)))
        if happening.reply is None or fault in INDEXED_BUT_UNANSWERED:
            raise NoAnswer("no answer")
        reply = happening.reply
        asked = reply.headers.get("Retry-After")
        return Answer(reply.status, reply.body, float(asked) if asked else None)

    def invoke(self, event: dict[str, Any]) -> None:
        """Invoke as Lambda does: three times at most, then to the on-failure destination."""
        for _ in range(3):
            self.invocations += 1
            self.clock.start_invocation(self.random.choice([3_000, 30_000, 90_000, 900_000]))
            refused = self.record.refused
            try:
                self.forwarder.forward(event, self.clock.remaining_ms)
                return
            except SplunkError:
                if self.record.refused > refused:
                    # Splunk had a part of it and the record refused the rest: nothing is lost, some may come twice.
                    self.may_repeat.update(log.id for log in decode(event).events)
            self.clock.ms += 60_000
        self.destination.append(event)

    def redrive(self) -> None:
        """Replay the kept entries until none is left; Splunk is healthy again."""
        self.fault_rate = self.slow_record_rate = 0.0
        self.record.refusals = 0
        for _ in range(5):
            waiting = self.destination + [kept["requestPayload"] for kept in self.record.of(Kind.FAILED)]
            self.destination = []
            for name in [name for name in self.record.entries if name.startswith("failed/")]:
                del self.record.entries[name]
            for event in waiting:
                self.invoke(event)
        assert not self.destination


def _ids(body: bytes) -> list[str]:
    text, at, found = zlib.decompress(body, wbits=31).decode(), 0, []
    while at < len(text):
        event, at = json.JSONDecoder().raw_decode(text, at)
        found.append(event["fields"]["event_id"])
    return found
