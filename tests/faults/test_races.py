"""Seeded races in memory, and on both engines over the store and over HTTP: every history is linearizable."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.support.dynamodb_proxy import Proxy
from tests.support.fault_ways import Service
from tests.support.memory_store import Memory
from tests.support.races import Findings, Kind, Track, Way, plan
from tests.support.races_over import OverFaults, OverHttp, OverStore
from tests.support.store_engines import StoreEngine

SEED = 9  # its first twenty races are of every kind


def races(way: Way, count: int) -> Findings:
    findings = Findings()
    with Track(way) as track:
        track.run(way.issue([plan(number, SEED) for number in range(count)]), findings)
    assert set(findings.kinds) == set(Kind)
    assert findings.tokens == count
    return findings


def test_over_the_store_every_race_grants_exactly_the_possible_uses(store_engine: StoreEngine) -> None:
    way = OverStore(store_engine)
    findings = races(way, 60)
    assert (findings.wrong, dict(way.failures)) == ([], {})
    assert findings.cut_short.total() > 0, "the races must be disturbed before all uses are spent"


@pytest.fixture
def _threads_change_often() -> Iterator[None]:
    """Ten times in a millisecond, so that calls of a store in memory overlap."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_threads_change_often")
def test_in_memory_every_race_grants_exactly_the_possible_uses() -> None:
    assert races(OverStore(Memory()), 320).wrong == []


@pytest.mark.usefixtures("_threads_change_often")
def test_in_memory_a_store_without_its_lock_is_caught() -> None:
    memory, findings = Memory(), Findings()
    memory.token_store()._lock = nullcontext()
    way, numbers = OverStore(memory), iter(range(10_000))
    with Track(way) as track:
        while not findings.wrong:
            track.run(way.issue([plan(next(numbers), SEED)]), findings)


def test_with_faults_before_the_store_every_race_grants_exactly_the_possible_uses(store_engine: StoreEngine) -> None:
    with Proxy(store_engine.environ["AWS_ENDPOINT_URL"]) as proxy:
        findings = races(OverFaults(store_engine, proxy), 20)
    assert findings.wrong == []
    assert findings.unanswered > 0


def test_over_http_every_race_grants_exactly_the_possible_uses(store_engine: StoreEngine, tmp_path: Path) -> None:
    """Some callers may get no answer within the service's own time-outs, on a machine with much else to do."""
    with Service(store_engine.environ, store_engine.client_store(), tmp_path / "service.log") as service:
        assert races(OverHttp(service), 20).wrong == []
