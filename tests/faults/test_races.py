"""Seeded races in memory, and on both engines over the store and over HTTP: every history is linearizable."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import takewhile
from pathlib import Path

import pytest

from tests.support.dynamodb_proxy import QUICK, Proxy
from tests.support.fault_ways import Service
from tests.support.memory_store import Memory
from tests.support.races import Findings, Kind, plan
from tests.support.races_over import OverHttp, OverKills, OverStore, Track, Way
from tests.support.store_engines import StoreEngine

SEED = 20  # its first six races are of every kind


def races(way: Way, count: int) -> Findings:
    findings = Findings()
    with Track(way) as track:
        track.run((plan(number, SEED) for number in range(count)), findings)
    assert findings.wrong == []
    assert set(findings.kinds) == set(Kind)
    assert findings.tokens == count
    return findings


def test_over_the_store_every_race_grants_exactly_the_possible_uses(store_engine: StoreEngine) -> None:
    way = OverStore(store_engine)
    findings = races(way, 60)
    assert dict(way.failures) == {}
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
    races(OverStore(Memory()), 320)


@pytest.mark.usefixtures("_threads_change_often")
def test_in_memory_a_store_without_its_lock_is_caught() -> None:
    memory, findings = Memory(), Findings()
    memory.token_store()._lock = nullcontext()
    plans = (plan(number, SEED) for number in range(10_000))
    with Track(OverStore(memory)) as track:
        track.run(takewhile(lambda _: not findings.wrong, plans), findings)
    assert findings.wrong


def test_with_faults_before_the_store_every_race_grants_exactly_the_possible_uses(store_engine: StoreEngine) -> None:
    with Proxy(store_engine.environ["AWS_ENDPOINT_URL"]) as proxy:
        findings = races(OverStore(store_engine, proxy), 20)
        assert set(proxy.met) == set(QUICK), "the races must meet every fault"
    assert findings.unanswered > 0


def test_over_http_every_race_grants_exactly_the_possible_uses(store_engine: StoreEngine, tmp_path: Path) -> None:
    """Some callers may get no answer within the service's own time-outs, on a machine with much else to do."""
    with Service(store_engine.environ, store_engine.client_store(), tmp_path / "service.log") as service:
        races(OverHttp(service), 20)


@pytest.fixture
def behind(store_engine: StoreEngine, tmp_path: Path) -> Iterator[tuple[Service, Proxy]]:
    """The service over HTTP, with its store behind a proxy."""
    with Proxy(store_engine.environ["AWS_ENDPOINT_URL"]) as proxy:
        environ = {**store_engine.environ, "AWS_ENDPOINT_URL": proxy.url}
        with Service(environ, store_engine.client_store(), tmp_path / "service.log") as service:
            yield service, proxy


def test_over_http_with_faults_every_race_grants_exactly_the_possible_uses(behind: tuple[Service, Proxy]) -> None:
    """The faults also affect the authorizer's store."""
    service, proxy = behind
    way = OverHttp(service, proxy)
    findings = races(way, 6)
    assert findings.replayed > 0
    assert way.failures["503 store_unavailable"] > 0, "the races must meet a store that is away"
    assert service.password not in service.output


def test_a_service_that_is_killed_between_write_and_answer_neither_loses_nor_doubles_a_use(
    behind: tuple[Service, Proxy],
) -> None:
    findings = races(OverKills(*behind), 6)
    assert findings.unanswered > 0
    assert findings.replayed > 0
