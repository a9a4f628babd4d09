"""Replaying what Splunk did not take, for a person: what is tried, what stays, and what the commands print."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from chalicelib.aws.errors import Refused
from chalicelib.splunk.record import Kind
from chalicelib.splunk.redrive import Outcome, redrive
from chalicelib.splunk.waiting import Entry, parse
from tests.support.hec_faults import ForcedCode
from tests.support.hec_server import HecServer
from tests.support.memory_bucket import BUCKET
from tests.support.splunk_world import MarkedCollector, Place, lambda_record, subscription
from tokenctl.splunk import splunk, summary
from tokenctl.terminal import Terminal


def replay(place: Place, entries: Iterable[Entry] | None = None) -> Outcome:
    entries = place.source.entries(Kind.DEFERRED) if entries is None else entries
    return redrive(place.source, place.forwarder, entries, lambda: 60.0)


def names(place: Place, kind: Kind = Kind.DEFERRED) -> list[str]:
    return list(place.source.names(kind))


@pytest.fixture
def place() -> Any:
    with HecServer(MarkedCollector()) as server:
        yield Place(server)


@pytest.mark.parametrize(
    ("nth_is_good", "replayed", "refused", "stopped"),
    [(21, 0, 5, "refused 5 in a row; the last: the collector refuses"), (5, 4, 16, "None")],
    ids=["all are refused", "some are accepted in between"],
)
def test_five_refusals_in_a_row_end_a_redrive(
    place: Place, nth_is_good: int, replayed: int, refused: int, stopped: str
) -> None:
    for number in range(1, 21):
        place.wait(f"failed/{number:02d}.json", "☠07" if number % nth_is_good else "good")
    outcome = replay(place)
    assert (outcome.replayed, len(outcome.refused), len(names(place))) == (replayed, refused, 20 - replayed)
    assert str(outcome.stopped).startswith(stopped)


def test_an_entry_too_deep_to_be_rewritten_is_rejected_and_stays(place: Place) -> None:
    """Some versions of Python read what they can't write."""
    place.wait("failed/b.json", "b")
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    outcome = replay(place, [Entry("failed/a.json", {"detail": deep}, "", ""), *place.source.entries(Kind.DEFERRED)])
    assert (outcome.replayed, list(outcome.refused), outcome.stopped) == (1, ["failed/a.json"], None)
    while deep:  # without recursion either
        deep = deep.popitem()[1]


def test_a_busy_splunk_ends_a_redrive_and_no_entry_counts_as_refused(place: Place) -> None:
    for name in "ab":
        place.wait(f"failed/{name}.json", name)
    place.server.faults.append(ForcedCode(9, retry_after="900"))
    outcome = replay(place)
    assert (outcome.replayed, outcome.refused) == (0, {})
    assert "server is busy" in str(outcome.stopped)
    assert len(place.server.requests) == 1


def test_an_unavailable_failure_record_ends_a_redrive(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise Refused({"Error": {"Code": "AccessDenied", "Message": ""}}, "PutObject")

    for name in "ab":
        place.wait(f"failed/{name}.json", name, "☠13")
    monkeypatch.setattr(place.bucket, "put_object", refuse)
    outcome = replay(place)
    assert (outcome.replayed, outcome.refused) == (0, {})
    assert "did not take an entry" in str(outcome.stopped)
    assert len(names(place)) == 2


def test_poison_is_left_for_a_person_and_stays_the_same_entry_if_it_still_is_poison(place: Place) -> None:
    """However its events met their end the first time."""
    place.forwarder.forward(subscription(["☠13", "x" * 600_000, None, "y" * 600_000, "☠15", None]), lambda: 60_000)
    (name,) = names(place, Kind.POISON)
    assert replay(place).replayed == 0
    outcome = replay(place, place.source.entries(Kind.POISON))
    assert (outcome.replayed, outcome.set_aside) == (0, 4)
    assert names(place, Kind.POISON) == [name]


def test_a_failed_eventbridge_event_is_replayed_as_one(place: Place) -> None:
    event = {"id": "1", "time": "2026-11-21T04:00:00Z", "source": "aws.codebuild", "detail": {}}
    place.wait("failed/a.json", content=lambda_record(event))
    assert replay(place).events == 1
    assert place.server.collector.indexed[0]["sourcetype"] == "aws:cloudwatch:event"


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "content", ["", "[]", "null", DEEP, '{"requestPayload": {"a": ' + DEEP + "}}", '{"requestPayload": 1}', "{}"]
)
def test_what_is_no_record_has_no_payload(content: str) -> None:
    assert parse("n", content) == Entry("n", None, "not a record of a failed invocation", "")


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"reason": "ours", "responsePayload": {"errorMessage": "the error"}}, "ours"),
        ({"responsePayload": {"errorMessage": "the error"}, "requestContext": {"condition": "Expired"}}, "the error"),
        ({"requestContext": {"condition": "Expired"}}, "Expired"),
        ({}, "unknown"),
    ],
)
def test_the_reason_of_an_entry_is_ours_or_what_lambda_writes(members: dict[str, Any], reason: str) -> None:
    assert parse("n", json.dumps(members | {"requestPayload": {}})) == Entry("n", {}, reason, "")


def test_a_summary_counts_events_and_shows_no_message() -> None:
    assert summary(parse("n", lambda_record(subscription(["private", "b"])))) == {
        "name": "n",
        "at": "2026-11-21T04:00:00.000Z",
        "reason": "the collector did not accept the events in time",
        "events": 2,
        "source": "/aws/lambda/service",
    }


# --- Commands --------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_log_on_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service logs there, and tests that ran before may have made it so; the command does not."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])


def command(place: Place, name: str, *arguments: str, bucket: str = BUCKET) -> Any:
    class At(Terminal):
        def deployment(self) -> Any:
            stage = SimpleNamespace(
                settings=SimpleNamespace(splunk=place.settings), stage="test", aws=lambda _: place.bucket
            )
            stage.with_deployed_splunk = lambda: stage
            return stage

    return CliRunner().invoke(splunk, [name, "--bucket", bucket, *arguments], obj=At())


def reported(place: Place, *arguments: str, exit_code: int = 0) -> Any:
    """What a redrive reports as JSON."""
    run = command(place, "redrive", *arguments, "--json")
    assert run.exit_code == exit_code, run.output
    return json.loads(run.stdout)[f"s3://{BUCKET}"]


def listed(place: Place) -> list[tuple[str, str, int | None]]:
    """Kind, name and events of what `failed` lists."""
    run = command(place, "failed", "--json")
    assert run.exit_code == 0, run.output
    return [(row["kind"], row["name"], row["events"]) for row in json.loads(run.stdout)]


def test_the_command_replays_and_prints_the_result(place: Place) -> None:
    place.wait("failed/a.json", "a", "☠13")
    run = command(place, "redrive")
    assert run.exit_code == 0, run.output
    assert "1 entries replayed, 1 events accepted" in run.output
    assert "1 events are poison" in run.output


def test_the_command_names_rejected_entries_and_fails(place: Place) -> None:
    for name in "abc":
        place.wait(f"failed/{name}.json", "☠07" if name == "b" else name)
    run = command(place, "redrive")
    assert run.exit_code == 1
    assert "2 entries replayed" in run.stdout
    assert "rejected, not removed: failed/b.json: the collector refuses" in run.stderr
    assert list(reported(place, exit_code=1)["refused"]) == ["failed/b.json"]


def test_entries_can_be_named_whatever_their_kind(place: Place) -> None:
    for name in ("failed/a", "failed/b", "refused/failed/c", "poison/d"):
        place.wait(f"{name}.json", name)
    named = ["refused/failed/c.json", "failed/a.json", "failed/a.json", "poison/d.json"]
    assert reported(place, *named)["replayed"] == 3
    assert place.arrived() == ["failed/a", "poison/d", "refused/failed/c"]
    assert names(place) == ["failed/b.json"]


def test_named_entries_are_all_tried_however_many_are_refused(place: Place) -> None:
    named = [f"failed/{number}.json" for number in range(8)]
    for name in named:
        place.wait(name, "good" if name == named[-1] else "☠07")
    outcome = reported(place, *named, exit_code=1)
    assert (outcome["replayed"], len(outcome["refused"])) == (1, 7)


@pytest.mark.parametrize(
    "wrong", ["failed/x.json", "x", "", "failed/../outside.json", "/etc/passwd", "failed/" + "x" * 300]
)
def test_a_name_of_no_entry_is_an_error_and_the_others_are_replayed(place: Place, wrong: str) -> None:
    place.wait("failed/a.json", "a")
    place.wait("outside.json", "no entry")
    for option in ([], ["--json"]):
        run = command(place, "redrive", wrong, "failed/a.json", *option)
        assert run.exit_code == 1
        assert f"Error: there is no entry {wrong}\n" in run.stderr
    assert place.arrived() == ["a"]
    assert "outside.json" in place.bucket.objects


def test_all_that_waits_is_listed_and_what_is_not_poison_replayed(place: Place) -> None:
    place.wait("failed/a.json", "a")
    place.wait("refused/failed/b.json", "b")
    place.wait("failed/c.json", content=DEEP)
    place.wait("failed/d.json", content='{"requestPayload": {"detail": ' + DEEP + "}}")
    place.forwarder.forward(subscription([None, "ok", "☠15"]), lambda: 60_000)
    (poison,) = names(place, Kind.POISON)
    odd = [("failed", "failed/c.json", None), ("failed", "failed/d.json", None)]
    left = [*odd, ("poison", poison, 2)]
    for _ in range(2):  # to list removes nothing
        assert listed(place) == [
            ("failed", "failed/a.json", 1), *odd, ("refused", "refused/failed/b.json", 1), ("poison", poison, 2)
        ]  # fmt: skip
    run = command(place, "failed")
    assert "1 events: malformed" in run.output
    assert "code 15" in run.output
    outcome = reported(place, exit_code=1)
    assert (outcome["replayed"], outcome["unreadable"]) == (2, ["failed/c.json", "failed/d.json"])
    assert listed(place) == left


def test_a_place_for_poison_must_be_named(place: Place) -> None:
    place.settings = place.settings._replace(failure_bucket=None)
    run = command(place, "redrive", bucket="")
    assert run.exit_code == 2
    assert "--bucket" in run.output
