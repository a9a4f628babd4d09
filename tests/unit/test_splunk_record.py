"""The failure record: its entries, how long writing them may take, and what happens when that fails."""

from __future__ import annotations

import itertools
import json
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from chalicelib.aws.errors import NoAnswer, Refused
from chalicelib.splunk.entries import RESERVE_SECONDS, EntryWriter, TimeLeft
from chalicelib.splunk.envelope import LogEvent
from chalicelib.splunk.errors import OutOfTime, RecordUnavailable
from chalicelib.splunk.ledger import Ledger
from chalicelib.splunk.record import PUT_SECONDS, Kind, S3Record, entry, name_of
from chalicelib.splunk.verdicts import Answer
from tests.support.memory_bucket import MemoryBucket
from tests.support.splunk_world import MemoryRecord, forwarding, subscription
from tokenctl.errors import OwnErrors

BODY = b'{"awslogs": {"data":   "H4sI"}}'
AT = datetime(2026, 11, 21, 4, 5, 6, 789_000, tzinfo=UTC)


def test_an_entry_holds_the_body_byte_for_byte() -> None:
    made = entry(Kind.POISON, BODY, 'a "reason" - é', AT, {"a": [0]})
    assert BODY in made
    assert json.loads(made) == {
        "version": "1.0",
        "timestamp": "2026-11-21T04:05:06.789Z",
        "requestContext": {"condition": "SetAside"},
        "reason": 'a "reason" - é',
        "reasons": {"a": [0]},
        "requestPayload": json.loads(BODY),
    }
    assert json.loads(entry(Kind.DEFERRED, BODY, "r", AT))["requestContext"] == {"condition": "Undelivered"}


def test_the_name_follows_from_kind_and_content_alone() -> None:
    assert name_of(Kind.DEFERRED, BODY) == name_of(Kind.DEFERRED, BODY)
    assert name_of(Kind.DEFERRED, BODY).startswith("failed/")
    assert name_of(Kind.POISON, BODY).startswith("poison/")
    assert name_of(Kind.DEFERRED, BODY) != name_of(Kind.DEFERRED, BODY + b" ")


def test_an_entry_is_put_into_the_bucket() -> None:
    bucket = MemoryBucket()
    assert S3Record("kept", bucket, lambda: AT).put(Kind.POISON, BODY, "why") == name_of(Kind.POISON, BODY)
    assert bucket.objects == {name_of(Kind.POISON, BODY): entry(Kind.POISON, BODY, "why", AT)}


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (Refused({"Error": {"Code": "AccessDenied", "Message": "some text"}}, "PutObject"), "AccessDenied"),
        (NoAnswer("S3", "timed out"), "timed out"),
        # An operator's commands have a client of AWS's library.
        (ClientError({"Error": {"Code": "AccessDenied", "Message": "some text"}}, "PutObject"), "AccessDenied"),
        (EndpointConnectionError(endpoint_url="https://s3.example"), "EndpointConnectionError"),
    ],
)
def test_a_failed_write_names_the_bucket_and_the_reason(
    error: Exception, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise error

    bucket = MemoryBucket()
    monkeypatch.setattr(bucket, "put_object", fail)
    with pytest.raises(RecordUnavailable) as caught:
        S3Record("kept", OwnErrors(bucket)).put(Kind.DEFERRED, BODY, "r")
    assert str(caught.value) == f"the failure record s3://kept did not take an entry: {why}"


def test_without_credentials_the_error_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    with pytest.raises(RecordUnavailable, match="s3://kept did not take an entry: AWS_ACCESS_KEY_ID: missing"):
        S3Record("kept").put(Kind.DEFERRED, BODY, "r")


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
