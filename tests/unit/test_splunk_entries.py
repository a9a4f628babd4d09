"""Storing what Splunk did not accept: how long it may take."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest

from chalicelib.splunk.entries import RESERVE_SECONDS, EntryWriter, TimeLeft
from chalicelib.splunk.envelope import LogEvent
from chalicelib.splunk.errors import OutOfTime, RecordUnavailable
from chalicelib.splunk.ledger import Ledger
from chalicelib.splunk.record import PUT_SECONDS, S3Record
from chalicelib.splunk.verdicts import Answer
from tests.support.memory_bucket import MemoryBucket
from tests.support.splunk_world import MemoryRecord, forwarding, subscription


class Watch:
    """Remaining time that a test advances."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def remaining_ms(self) -> int:
        return int(self.left * 1000)

    def pass_seconds(self, seconds: float) -> None:
        self.left -= seconds


def success(body: bytes, token: str, timeout_seconds: float) -> Answer:
    return Answer(200, b'{"text":"Success","code":0}')


@pytest.mark.parametrize("seconds", [0.5, 3.0, 29.0, 90.0, 900.0])
def test_the_reserve_holds_two_entries_and_a_moment_to_return(seconds: float) -> None:
    watch = Watch(seconds)
    time_left = TimeLeft(watch.remaining_ms)
    watch.left -= time_left.budget()
    for _ in range(2):
        watch.left -= time_left.entry_seconds()
    assert watch.left >= min(RESERVE_SECONDS, seconds / 4) * 0.09


def test_the_reserve_is_20_seconds_of_long_invocations() -> None:
    time_left = TimeLeft(lambda: 90_000)
    assert (time_left.budget(), time_left.entry_seconds()) == (70.0, PUT_SECONDS)


@pytest.mark.parametrize("left", [-1.0, 0.0, 0.5, 2.0, 5.0, 20.0, 25.0, 60.0, 89.0])
def test_no_entry_may_take_longer_than_there_is_time(left: float) -> None:
    watch = Watch(90.0)
    time_left = TimeLeft(watch.remaining_ms)
    watch.left = left
    assert 0 <= time_left.entry_seconds() <= min(PUT_SECONDS, max(0.0, left))


@pytest.mark.parametrize("seconds", [3.0, 29.0, 90.0])
def test_a_slow_record_is_given_up_before_the_end(seconds: float) -> None:
    watch, record = Watch(seconds), MemoryRecord()
    record.take_seconds, record.pass_seconds = lambda: 1_000.0, watch.pass_seconds
    with pytest.raises(RecordUnavailable):
        forwarding(success, record=record).forward(subscription(["a", None, None]), watch.remaining_ms)
    assert watch.left > 0


def test_no_entry_is_begun_when_the_time_is_up() -> None:
    watch, record = Watch(90.0), MemoryRecord()

    def slow(body: bytes, token: str, timeout_seconds: float) -> Answer:
        watch.left = 1.0  # a processor that stood still
        return success(body, token, timeout_seconds)

    with pytest.raises(RecordUnavailable, match="no time left"):
        forwarding(slow, record=record).forward(subscription(["a", None]), watch.remaining_ms)
    assert record.entries == {}


def test_encoding_that_takes_too_long_is_given_up() -> None:
    watch, record, ledger = Watch(90.0), MemoryRecord(), Ledger(received=5_001, delivered=1)
    writer = EntryWriter(record, TimeLeft(watch.remaining_ms), ledger)

    def encode(events: Any) -> bytes:
        for _ in events:
            watch.left -= 0.01
        return b"{}"

    log = LogEvent("1", 1, "a")
    with pytest.raises(RecordUnavailable, match="no time left"):
        writer.write_rest(itertools.repeat(log, 5_000), encode, OutOfTime("busy"))
    assert watch.left > 90 - PUT_SECONDS - 6
    assert (record.entries, ledger.deferred, ledger.pending) == ({}, 0, 5_000)


def test_a_bucket_whose_answer_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own time-outs count from byte to byte."""
    bucket, release = MemoryBucket(), threading.Event()
    monkeypatch.setattr(bucket, "called", lambda *_: release.wait())
    with pytest.raises(RecordUnavailable, match="s3://kept did not take an entry: no answer in time"):
        forwarding(success, record=S3Record("kept", bucket)).forward(subscription([None]), lambda: 400)
    release.set()
