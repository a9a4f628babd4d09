"""Keeping what Splunk did not take: how long it may take and how much of it is held in memory."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from chalicelib.splunk.delivery import Deliverer
from chalicelib.splunk.entries import RESERVE_SECONDS, EntryWriter, TimeLeft
from chalicelib.splunk.envelope import LogEvent
from chalicelib.splunk.errors import OutOfTime, RecordUnavailable
from chalicelib.splunk.forward import Forwarder
from chalicelib.splunk.hec import Answer
from chalicelib.splunk.ledger import Ledger
from chalicelib.splunk.record import PUT_SECONDS, S3Record
from chalicelib.splunk.secret import Secret, fixed
from tests.support.splunk_world import MemoryRecord, subscription


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


def forwarder(record: Any, post: Callable[[bytes, str, float], Answer] = success) -> Forwarder:
    return Forwarder(Deliverer(post, Secret(fixed("the-token"))), stage="test", record=record)


@pytest.mark.parametrize("seconds", [0.5, 3.0, 29.0, 90.0, 900.0])
def test_the_reserve_holds_two_entries_and_a_moment_to_return(seconds: float) -> None:
    watch = Watch(seconds)
    time_left = TimeLeft(watch.remaining_ms)
    watch.left -= time_left.budget()
    for _ in range(2):
        watch.left -= time_left.entry_seconds()
    assert watch.left >= min(RESERVE_SECONDS, seconds / 4) * 0.09


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
        forwarder(record).forward(subscription(["a", None, None]), watch.remaining_ms)
    assert watch.left > 0


def test_no_entry_is_begun_when_the_time_is_up() -> None:
    watch, record = Watch(90.0), MemoryRecord()

    def slow(body: bytes, token: str, timeout_seconds: float) -> Answer:
        watch.left = 1.0  # a processor that stood still
        return success(body, token, timeout_seconds)

    with pytest.raises(RecordUnavailable, match="no time left"):
        forwarder(record, slow).forward(subscription(["a", None]), watch.remaining_ms)
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


@contextmanager
def dripping_bucket() -> Iterator[tuple[str, list[bytes]]]:
    """Takes what it is sent and answers byte by byte, without an end, each in good time for a client's time-out."""
    ended, puts = threading.Event(), []

    def serve(connection: socket.socket) -> None:
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(1)
            puts.append(head.split(b" ")[1])
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
            try:
                while not ended.wait(0.05):
                    connection.sendall(b".")
            except OSError:
                pass

    def accept(listener: socket.socket) -> None:
        while not ended.is_set():
            try:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", puts
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)


def test_a_bucket_that_drips_its_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bound on the whole this does not end."""
    with dripping_bucket() as (url, puts):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        with pytest.raises(RecordUnavailable, match="s3://kept did not take an entry: no answer in time"):
            forwarder(S3Record("kept")).forward(subscription([None, "a", "x" * 1_000_000]), lambda: 4_000)
        [name] = set(puts)  # on a slow machine a drip may be late, and the same entry is sent again
        assert name.startswith(b"/kept/poison/")
