"""The scheduled redrive: what it tries, what it leaves alone, and that nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import pytest

from chalicelib.aws.errors import Refused
from chalicelib.splunk import redrive
from chalicelib.splunk.forward import Forwarder
from chalicelib.splunk.record import Kind
from chalicelib.splunk.redrive import MOST_ATTEMPTS, ScheduledRedrive
from chalicelib.splunk.waiting import LAMBDA_PREFIX, BucketSource
from tests.support.hec_faults import ForcedCode
from tests.support.hec_server import HecServer
from tests.support.memory_bucket import BUCKET, MemoryBucket
from tests.support.splunk_world import MarkedCollector, Place, lambda_record, subscription


class World(Place):
    """A place where entries wait, and the function that tries them."""

    def __init__(self, server: HecServer) -> None:
        super().__init__(server)
        self.metrics: dict[str, float] = {}
        self.schedule = ScheduledRedrive(self.source, self.forwarder, self.metric)

    def metric(self, values: Mapping[str, tuple[float, str]]) -> None:
        assert {unit for _, unit in values.values()} == {"Count"}
        self.metrics = {name: value for name, (value, _) in values.items()}

    def run(self) -> Any:
        self.metrics.clear()
        return self.schedule.run(lambda: 300_000)


@pytest.fixture
def server() -> Iterator[HecServer]:
    with HecServer(MarkedCollector()) as server:
        yield server


@pytest.fixture
def world(server: HecServer) -> World:
    return World(server)


def test_what_waits_is_delivered_and_goes(world: World) -> None:
    for name in ("failed/a.json", "failed/b.json", "failed/c.json", f"{LAMBDA_PREFIX}f/2026/11/21/d"):
        world.wait(name, name)
    world.bucket.objects["failed/"] = b""  # the console makes it for a folder: no entry
    outcome = world.run()
    assert (outcome.replayed, outcome.events) == (4, 4)
    assert world.bucket.objects == {"failed/": b""}
    assert len(world.arrived()) == 4
    assert world.metrics == {"EntriesWaiting": 0}


def test_if_nothing_waits_nothing_is_sent_and_only_that_is_counted(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.wait("poison/a.json", "a")
    world.wait("refused/failed/b.json", "b")
    assert world.run() is None
    assert (world.server.requests, world.metrics, caplog.records) == ([], {"EntriesWaiting": 0}, [])
    assert len(world.bucket.objects) == 2


def test_without_a_splunk_nothing_is_done() -> None:
    idle = Forwarder(None, stage="test")
    assert ScheduledRedrive(None, idle, lambda *_: None).run(lambda: 300_000) is None
    bucket = MemoryBucket({"failed/a.json": lambda_record(subscription(["a"]))})
    assert ScheduledRedrive(BucketSource(bucket, BUCKET), idle, lambda *_: None).run(lambda: 300_000) is None
    assert list(bucket.objects) == ["failed/a.json"]


@pytest.mark.parametrize("sickness", [ForcedCode(4), ForcedCode(7), ForcedCode(10)], ids=str)
def test_an_unavailable_splunk_costs_a_probe_and_no_entry_is_read(
    world: World, sickness: ForcedCode, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(5):
        world.wait(f"failed/{number}.json", "a")
    world.server.sickness = sickness
    assert world.run() is None
    assert {operation for operation, _ in world.bucket.calls} == {"list"}
    assert len(world.server.requests) <= 2
    assert world.metrics == {"EntriesWaiting": 5}
    assert "5 wait; it stopped: the collector refuses" in caplog.text


def test_a_splunk_that_fails_again_ends_the_run_and_no_refusal_is_counted(world: World) -> None:
    for number in range(5):
        world.wait(f"failed/{number}.json", "a")
    world.server.faults.extend([None, None])
    world.server.sickness = ForcedCode(4)
    outcome = world.run()
    assert (outcome.replayed, outcome.refused) == (1, {})
    assert "invalid token" in outcome.stopped
    assert world.bucket.metadata == {}
    assert world.metrics["EntriesWaiting"] == 4


def test_an_entry_that_splunk_rejects_again_and_again_is_moved_to_the_refused_ones(world: World) -> None:
    world.wait("failed/bad.json", "☠07")
    bad = world.bucket.objects["failed/bad.json"]
    for run in range(MOST_ATTEMPTS):
        world.wait(f"failed/good-{run}.json", f"good {run:02d}")
        assert list(world.run().refused) == ["failed/bad.json"]
        assert world.metrics.get("EventsSetAside", 0) == (1 if run == MOST_ATTEMPTS - 1 else 0)
    assert world.bucket.objects == {"refused/failed/bad.json": bad}
    assert world.bucket.metadata["refused/failed/bad.json"] == {"attempts": str(MOST_ATTEMPTS)}
    assert world.arrived() == [f"good {run:02d}" for run in range(MOST_ATTEMPTS)]
    assert world.run() is None


def test_the_order_is_random_so_rejected_entries_block_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redrive.random, "shuffle", list.reverse)
    for number in range(30):
        world.wait(f"failed/{number:02d}.json", "☠07")
    world.wait("failed/99.json", "good")
    world.run()
    assert world.arrived() == ["good"]


@pytest.mark.parametrize("content", ["", "{}", "[" * 100_000])
def test_an_unreadable_entry_is_moved_to_the_refused_ones_at_once(
    world: World, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("failed/b.json", "failed/c.json"):
        world.bucket.objects[name] = content.encode()
    world.wait("failed/a.json", "a")
    assert sorted(world.run().unreadable) == ["failed/b.json", "failed/c.json"]
    assert world.bucket.objects == {f"refused/failed/{name}.json": content.encode() for name in "bc"}
    assert world.metrics == {"EventsSetAside": 2, "EntriesWaiting": 0}
    assert sorted(record.getMessage() for record in caplog.records) == [
        "an entry is put aside for a person: failed/b.json",
        "an entry is put aside for a person: failed/c.json",
        "the redrive replayed 1 entries and put 2 aside; 0 wait",
    ]


def test_poison_of_an_entry_is_stored_as_such_and_the_rest_arrives(world: World) -> None:
    world.wait("failed/a.json", "good", "☠13", None)
    world.wait("failed/b.json", "☠13")
    outcome = world.run()
    assert (outcome.replayed, outcome.set_aside) == (2, 3)
    assert [name.partition("/")[0] for name in world.bucket.objects] == ["poison", "poison"]
    assert world.arrived() == ["good"]


@pytest.mark.parametrize(("milliseconds", "replayed"), [(44_999, 0), (45_000, 1)])
def test_an_entry_is_begun_with_20_seconds_for_it_and_25_for_what_follows(
    world: World, milliseconds: int, replayed: int
) -> None:
    world.wait("failed/a.json", "a")
    outcome = world.schedule.run(lambda: milliseconds)
    assert outcome is not None
    assert (outcome.replayed, outcome.stopped) == (replayed, None if replayed else "no time left for another entry")


def test_a_run_tries_no_more_entries_than_its_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redrive, "MOST_ENTRIES", 3)
    monkeypatch.setattr(redrive, "MOST_LISTED", 5)
    for number in range(7):
        world.wait(f"failed/{number}.json", "a")
    runs = [(world.run().replayed, world.metrics["EntriesWaiting"]) for _ in range(3)]
    assert runs == [(3, 2), (3, 1), (1, 0)]


@pytest.mark.parametrize(("milliseconds", "metadata"), [(4_999, {}), (5_000, {"failed/bad.json": {"attempts": "1"}})])
def test_the_time_that_is_left_is_not_spent_on_counting(
    world: World, milliseconds: int, metadata: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    world.wait("failed/bad.json", "☠07")
    # A probe, the entry, another probe: then the time is nearly up.
    outcome = world.schedule.run(lambda: 300_000 if len(world.server.requests) < 3 else milliseconds)
    assert outcome is not None
    assert list(outcome.refused) == ["failed/bad.json"]
    assert world.bucket.metadata == metadata
    refused = "the collector refuses the events: HTTP 400, code 7 (incorrect index)"
    assert [record.getMessage() for record in caplog.records] == [
        f"the events stay with Lambda: {refused}",
        "the redrive replayed 0 entries and put 0 aside; 1 wait",
        f"rejected, although Splunk accepts others: failed/bad.json: {refused}",
    ]


def test_the_rest_of_a_partly_accepted_entry_waits_for_the_next_run(world: World) -> None:
    world.wait("failed/a.json", "x" * 600_000, "y" * 600_000)
    world.server.faults.extend([None, None])
    world.server.sickness = ForcedCode(7, 1)
    outcome = world.run()
    assert "only a part" in outcome.stopped
    world.server.sickness = None
    assert world.run().replayed == 1
    assert [event[0] for event in world.arrived()] == ["x", "y"]
    assert world.bucket.objects == {}


class Killed(BaseException):
    """The process ends here."""


def calls_until(bucket: MemoryBucket, moment: int, interrupt: Callable[[], object]) -> list[str]:
    """Let something happen in the middle of one of the bucket's calls; the list gets each of them."""
    calls: list[str] = []

    def called(operation: str, name: str) -> None:
        calls.append(operation)
        if len(calls) == moment + 1:
            interrupt()

    bucket.called = called  # type: ignore[method-assign] # what a test may replace
    return calls


def test_a_kill_at_any_call_of_the_bucket_loses_nothing(server: HecServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each course ends at another call; runs that are left alone then bring it to its end."""
    monkeypatch.setattr(redrive, "MOST_ATTEMPTS", 1)

    def kill() -> None:
        raise Killed

    for moment in range(200):
        server.collector.indexed.clear()
        world = World(server)
        for name, messages in {"1": ["good 1"], "2": ["good 2", "☠13"], "3": ["good 3"], "bad": ["☠07"]}.items():
            world.wait(f"failed/{name}.json", *messages)
        world.wait("failed/odd.json", content="{")
        bad = world.bucket.objects["failed/bad.json"]
        calls = calls_until(world.bucket, moment, kill)
        for _ in range(3):
            with suppress(Killed):
                world.run()
        assert set(world.arrived()) == {"good 1", "good 2", "good 3"}
        assert [name.partition("/")[0] for name in sorted(world.bucket.objects)] == ["poison", "refused", "refused"]
        assert world.bucket.objects["refused/failed/bad.json"] == bad
        assert world.bucket.objects["refused/failed/odd.json"] == b"{"
        if len(calls) <= moment:
            break
    assert len(calls) > 15


def test_a_person_and_the_schedule_at_once_lose_nothing(world: World) -> None:
    """In the middle of each call of the one, the other does the whole of its work."""
    names = [f"failed/{number}.json" for number in range(3)]

    def meanwhile() -> None:
        redrive.redrive(world.source, world.forwarder, world.source.entries(Kind.DEFERRED), lambda: 60.0)

    for moment in range(100):
        world.server.collector.indexed.clear()
        for name in names:
            world.wait(name, name)
        calls = calls_until(world.bucket, moment, meanwhile)
        world.run()
        assert set(world.arrived()) == set(names)
        assert world.bucket.objects == {}
        if len(calls) <= moment:
            break
    assert len(calls) > 5


def test_an_entry_that_is_gone_by_the_time_its_refusal_is_counted_does_not_come_back(world: World) -> None:
    world.wait("failed/bad.json", "☠07")
    world.bucket.objects.clear()
    assert world.source.count_refusal("failed/bad.json", 1) is False
    assert world.bucket.objects == {}


@pytest.mark.parametrize("operation", ["get_object", "list_objects_v2"])
def test_a_bucket_that_may_not_be_read_fails_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    def refuse(**_: object) -> None:
        raise Refused({"Error": {"Code": "AccessDenied", "Message": ""}}, operation)

    world.wait("failed/a.json", "a")
    monkeypatch.setattr(world.bucket, operation, refuse)
    with pytest.raises(Refused, match="AccessDenied"):
        world.run()
    assert list(world.bucket.objects) == ["failed/a.json"]
