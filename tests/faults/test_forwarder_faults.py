"""Seeded faults: nothing is lost, nothing comes twice without a lost answer, no deadline is passed."""

from __future__ import annotations

import pytest

from tests.support.forwarder_runs import ANY_FAULT, Findings, run
from tests.support.hec_server import HecServer
from tests.support.splunk_world import MarkedCollector

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


def test_the_same_holds_over_real_connections() -> None:
    findings = Findings()
    for seed in range(40):
        with HecServer(MarkedCollector()) as server:
            run(seed, findings, server)
    assert findings.good, findings
    assert len(findings.faults) > len(ANY_FAULT) / 2
    assert findings.explained_duplicates
