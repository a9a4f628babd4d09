"""Seeded courses of log events through the forwarder, with faults. Lambda and its time are simulated."""

from __future__ import annotations

import json
import random
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chalicelib.splunk.delivery import Deliverer
from chalicelib.splunk.entries import LARGEST_RESERVE, RESERVE_SECONDS
from chalicelib.splunk.envelope import decode
from chalicelib.splunk.errors import SplunkError
from chalicelib.splunk.forward import Forwarder
from chalicelib.splunk.record import Kind
from chalicelib.splunk.secret import HecToken
from chalicelib.splunk.transport import NoAnswer, Transport
from chalicelib.splunk.verdicts import Answer
from tests.support.hec_faults import INDEXED_BUT_UNANSWERED, Fault, ForcedCode, happen
from tests.support.hec_rules import MAX_CONTENT_BYTES, Collector, request
from tests.support.hec_server import HecServer
from tests.support.splunk_world import GZIP, START_MS, MarkedCollector, MemoryRecord, subscription

SLOW = (Fault.SLOW, Fault.DRIP)
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
Exchange = Callable[[Fault | ForcedCode | None, bytes, str], Answer]
"""One request to Splunk, its body and its token, through a fault."""


def in_process(collector: Collector) -> Exchange:
    def exchange(fault: Fault | ForcedCode | None, body: bytes, token: str) -> Answer:
        reply = happen(fault, collector, request(body, token, **GZIP))
        if reply is None or fault in INDEXED_BUT_UNANSWERED:
            raise NoAnswer("no answer")
        after = reply.headers.get("Retry-After")
        return Answer(reply.status, reply.body, float(after) if after else None)

    return exchange


def over_http(server: HecServer) -> Exchange:
    transport = Transport(server.url)

    def exchange(fault: Fault | ForcedCode | None, body: bytes, token: str) -> Answer:
        server.faults.append(fault)
        return transport.post(body, token, 60)  # seconds, of a busy machine

    return exchange


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


class World:
    """One seeded course of events: an input, a Splunk with faults, Lambda's retries, then a redrive.

    Args:
        server: a Splunk behind real connections; None means one in this process.
    """

    def __init__(self, seed: int, server: HecServer | None) -> None:
        self.collector = server.collector if server else MarkedCollector()
        self.exchange = over_http(server) if server else in_process(self.collector)
        # A slow answer over a real connection would only cost time; the tests of the transport have it.
        self.faults = [fault for fault in ANY_FAULT if not (server and fault in SLOW)]
        self.record, self.clock = MemoryRecord(), Clock()
        self.destination: list[dict[str, Any]] = []
        self.may_repeat: set[str] = set()
        self.accused: set[str] = set()
        self.fault_rate = self.slow_record_rate = 0.0
        self.faults_met: Counter[str] = Counter()
        self.random = random.Random(seed)
        random.seed(seed)  # the jitter's source
        self.valid_token = "the-token"
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
        fault = self.random.choice(self.faults) if self.random.random() < self.fault_rate else None
        self.faults_met[str(fault)] += 1
        ids, before = _ids(body), len(self.collector.indexed)
        if fault is Fault.TOO_LARGE_413 and len(ids) == 1:
            self.accused.update(ids)
        if isinstance(fault, ForcedCode) and fault.code in (6, 12, 13, 15):
            self.accused.update(ids[:1] if fault.index == 0 or len(ids) == 1 else [])
        took = timeout_seconds if fault in SLOW else min(timeout_seconds, self.random.expovariate(1 / 0.2))
        try:
            return self.exchange(fault, body, token)
        finally:
            self.clock.pass_seconds(took)
            is_hidden = fault in INDEXED_BUT_UNANSWERED or (isinstance(fault, ForcedCode) and fault.takes)
            if is_hidden and len(self.collector.indexed) > before:
                self.may_repeat.update(ids)

    def invoke(self, event: dict[str, Any]) -> None:
        """Invoke as Lambda does: three times at most, then to the on-failure destination."""
        for _ in range(3):
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
            waiting = self.destination + [kept["requestPayload"] for kept in self.record.of(Kind.DEFERRED)]
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


TEXTS = [
    "started", "café ☃ 😀", '{"event":"token.used","requestId":"r-1","n":1}', '{"n":NaN}', '{"a":1,"a":2}', "[1]",
    '{"a":' * 70 + "1" + "}" * 70, '{"half":"\\ud800"}',
]  # fmt: skip


@dataclass
class Findings:
    """What a number of runs came to; the first four must stay 0."""

    lost: int = 0
    unexplained_duplicates: int = 0
    overruns: int = 0
    wrongly_set_aside: int = 0
    runs: int = 0
    events: int = 0
    explained_duplicates: int = 0
    failed_runs: list[int] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)

    @property
    def good(self) -> bool:
        return not (self.lost or self.unexplained_duplicates or self.overruns or self.wrongly_set_aside)


LIMITS = [MAX_CONTENT_BYTES, MAX_CONTENT_BYTES, 600_000, 200_000, 50_000, 20_000]
OVERHEAD_BYTES = 500  # of a HEC event around its message, at most


def messages(source: random.Random, max_bytes: int) -> tuple[list[str | None], set[int]]:
    """Messages of all sorts, and the numbers of those that a collector with this limit can never take."""
    found: list[str | None] = []
    poison: set[int] = set()
    if source.random() < 0.002:  # much poison
        found = [source.choice([None, None, "", "x"]) for _ in range(source.choice([12_000, 25_000]))]
        return found, {number for number, text in enumerate(found) if text is None}
    large = source.random() < 0.05
    for number in range(source.choice([1, 2, 5, 20, 60])):
        luck = source.random()
        if luck < 0.02:
            found.append(source.choice(["", " ", "\n\t"]))
        elif luck < 0.03:
            found.append(None)
            poison.add(number)
        elif luck < 0.08:
            found.append(f"☠{source.choice(['06', '12', '13', '15'])} {number}")
            poison.add(number)
        elif large and luck < 0.3:
            found.append(text := "x" * source.choice([100_000, 400_000, 999_000]))
            if len(text) > max_bytes - OVERHEAD_BYTES:
                poison.add(number)
        elif large and luck < 0.32:
            found.append("y" * 1_000_000)
            poison.add(number)
        else:
            found.append(source.choice(TEXTS) * source.choice([1, 1, 1, 30]))
    return found, poison


def run(seed: int, findings: Findings, server: HecServer | None = None) -> None:
    """One course of events: faults and Lambda's retries, then a redrive, then the count."""
    source = random.Random(f"input {seed}")
    world = World(seed, server)
    world.collector.max_bytes = source.choice(LIMITS)
    texts, poison = messages(source, world.collector.max_bytes)
    world.fault_rate = source.choice([0.0, 0.1, 0.3, 0.6, 0.95, 1.0])
    world.record.refusals = source.choice([0, 0, 0, 0, 0, 1, 3])
    world.slow_record_rate = source.choice([0.0, 0.0, 0.3, 1.0])
    if source.random() < 0.1:  # a token that was replaced in Splunk and, a moment later, in the parameter
        world.forwarder.deliverer._secret.get(1)
        world.valid_token = "the-next-token"
        world.collector.tokens = {"the-next-token"}
    world.invoke(subscription(texts))
    world.redrive()

    every = {f"{number:056d}" for number, text in enumerate(texts) if text is None or text.strip()}
    indexed = Counter(world.collector.ids())
    aside = set(world.record.ids(Kind.POISON))
    twice = {event_id for event_id, times in indexed.items() if times > 1}
    expected = {f"{number:056d}" for number in poison}
    lost = every - indexed.keys() - aside
    unexplained = twice - world.may_repeat
    wrong = (aside - expected - world.accused) | (expected - aside)
    findings.runs += 1
    findings.events += len(every)
    findings.lost += len(lost)
    findings.unexplained_duplicates += len(unexplained)
    findings.explained_duplicates += len(twice) - len(unexplained)
    findings.overruns += world.clock.overruns
    findings.wrongly_set_aside += len(wrong)
    findings.faults.update(world.faults_met)
    if lost or unexplained or wrong or world.clock.overruns:
        findings.failed_runs.append(seed)
