"""Seeded courses of log events through the forwarder, with faults."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from chalicelib.splunk.record import Kind
from tests.support.hec_rules import MAX_CONTENT_BYTES
from tests.support.splunk_world import World, subscription

TEXTS = [
    "started", "café ☃ 😀", '{"event":"token.used","requestId":"r-1","n":1}', '{"n":NaN}', '{"a":1,"a":2}', "[1]",
    '{"a":' * 70 + "1" + "}" * 70, '{"half":"\\ud800"}',
]  # fmt: skip


@dataclass
class Findings:
    """What a number of runs came to; the first three must stay 0."""

    lost: int = 0
    unexplained_duplicates: int = 0
    overruns: int = 0
    wrongly_set_aside: int = 0
    runs: int = 0
    events: int = 0
    set_aside: int = 0
    entries_refused_or_too_slow: int = 0
    explained_duplicates: int = 0
    invocations: int = 0
    requests: int = 0
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


def run(seed: int, findings: Findings) -> None:
    """One course of events: faults and Lambda's retries, then a redrive, then the count."""
    source = random.Random(f"input {seed}")
    world = World(seed)
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
    findings.set_aside += len(aside)
    findings.entries_refused_or_too_slow += world.record.refused
    findings.invocations += world.invocations
    findings.requests += sum(world.faults_met.values())
    findings.faults.update(world.faults_met)
    if lost or unexplained or wrong or world.clock.overruns:
        findings.failed_runs.append(seed)
