"""Seeded faults: nothing is lost, nothing comes twice without a lost answer, no deadline is passed."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from chalicelib.splunk.errors import SplunkError
from chalicelib.splunk.record import Kind
from chalicelib.splunk.transport import Transport
from tests.support.forwarder_runs import Findings, run
from tests.support.hec_faults import INDEXED_BUT_UNANSWERED, Fault, ForcedCode
from tests.support.hec_server import HecServer
from tests.support.splunk_world import ANY_FAULT, MarkedCollector, MemoryRecord, forwarding, subscription

RUNS = 400  # `make soak` makes 10,000
PARTS = 2


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_is_lost_in_seeded_fault_runs(part: int) -> None:
    findings = Findings()
    for seed in range(part * RUNS // PARTS, (part + 1) * RUNS // PARTS):
        run(seed, findings)
    assert findings.good, findings
    assert findings.runs == RUNS // PARTS
    assert len(findings.faults) > len(ANY_FAULT) / 2, "the runs must meet faults of most kinds"
    assert findings.explained_duplicates, "the runs must lose answers"


@pytest.mark.parametrize("seed", range(20))
def test_the_same_holds_over_real_connections(seed: int) -> None:
    """SLOW and DRIP are left to the tests of the transport: here they would only cost time."""
    source = random.Random(seed)
    quick = [fault for fault in ANY_FAULT if fault not in (Fault.SLOW, Fault.DRIP, Fault.TOO_LARGE_413)]
    texts = [source.choice(["a", "café", "☠13", "", '{"n":1}', None]) for _ in range(source.choice([1, 5, 20]))]
    record = MemoryRecord()
    with HecServer(MarkedCollector()) as server:
        transport = Transport(server.url)
        forwarder = forwarding(transport.post, record=record)
        faults = [source.choice(quick) for _ in range(source.choice([0, 1, 2, 5]))]
        faults = [f for f in faults if not (isinstance(f, ForcedCode) and f.code in (6, 12, 13, 15))]
        server.faults.extend(faults)
        # Lambda would try three times and a redrive would follow; each try meets the faults that are left.
        waiting = [subscription(texts)]
        for _ in range(20):
            if not waiting:
                break
            try:
                forwarder.forward(waiting[0], lambda: 60_000)
                waiting.pop(0)
            except SplunkError:
                pass
            waiting += [entry["requestPayload"] for entry in record.of(Kind.FAILED)]
            for name in [name for name in record.entries if name.startswith("failed/")]:
                del record.entries[name]
        assert not waiting
        indexed = Counter(server.collector.ids())
        aside = record.ids(Kind.POISON)
        assert set(indexed) | set(aside) == {f"{number:056d}" for number, text in enumerate(texts) if text != ""}
        assert not set(indexed) & set(aside)
        answers_lost = [fault for fault in faults if fault in INDEXED_BUT_UNANSWERED]
        assert sum(indexed.values()) - len(indexed) <= len(answers_lost) * len(texts)
        if not answers_lost:
            assert set(indexed.values()) <= {1}
