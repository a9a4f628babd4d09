"""Replaying what Splunk did not take: twice, half-way, and without touching poison."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from chalicelib.settings import Splunk
from chalicelib.splunk.forward import forwarder
from chalicelib.splunk.record import FolderRecord, Kind
from chalicelib.splunk.redrive import Outcome, redrive
from chalicelib.splunk.waiting import Entry, Source, parse
from tests.support.hec_faults import ForcedCode
from tests.support.hec_server import HecServer, splunk_settings
from tests.support.splunk_world import MarkedCollector, subscription
from tokenctl.redrive import FolderSource, summary
from tokenctl.splunk import splunk
from tokenctl.terminal import Terminal


def lambda_record(event: Mapping[str, Any], **changes: Any) -> str:
    """What Lambda writes to its on-failure destination."""
    return json.dumps(
        {
            "version": "1.0",
            "timestamp": "2026-11-21T04:00:00.000Z",
            "requestContext": {"condition": "RetriesExhausted", "approximateInvokeCount": 3},
            "requestPayload": event,
            "responseContext": {"statusCode": 200, "functionError": "Unhandled"},
            "responsePayload": {"errorMessage": "the collector did not accept the events in time"},
        }
        | changes
    )


@dataclass
class Place:
    """A record in a folder and a Splunk."""

    folder: Path
    server: HecServer

    def __post_init__(self) -> None:
        self.record = FolderRecord(self.folder)
        self.source = FolderSource(self.folder)
        self.settings = splunk_settings(self.server.url)
        self.forwarder = forwarder(self.settings, "test", record=self.record)

    def keep(self, name: str, event: Mapping[str, Any]) -> None:
        path = self.folder / "failed" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(lambda_record(event))

    def redrive(self, **options: Any) -> Any:
        return self.replay(self.source.entries(Kind.FAILED), **options)

    def replay(self, entries: Iterable[Entry], source: Source | None = None, **options: Any) -> Outcome:
        return redrive(source or self.source, self.forwarder, entries, lambda: 60.0, **options)

    def names(self, kind: Kind) -> list[str]:
        return [entry.name for entry in self.source.entries(kind)]


@pytest.fixture
def place(tmp_path: Path) -> Any:
    with HecServer(MarkedCollector()) as server:
        yield Place(tmp_path, server)


def test_entries_that_are_all_refused_are_not_all_tried(place: Place) -> None:
    for number in range(20):
        place.keep(f"{number:02d}", subscription(["☠07"]))
    outcome = place.redrive()
    assert (outcome.replayed, len(outcome.refused)) == (0, 5)
    assert outcome.stopped.startswith("refused 5 in a row; the last: the collector refuses")
    assert len(place.names(Kind.FAILED)) == 20


def test_an_entry_too_deep_to_be_rewritten_is_rejected_and_stays(place: Place) -> None:
    """Some versions of Python read what they can't write."""
    place.keep("b", subscription(["b"]))
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    entries = [Entry("failed/a.json", {"detail": deep}, "", "", ""), *place.source.entries(Kind.FAILED)]
    outcome = place.replay(entries)
    assert (outcome.replayed, list(outcome.refused), outcome.stopped) == (1, ["failed/a.json"], None)
    while deep:  # without recursion either
        deep = deep.popitem()[1]


def test_a_busy_splunk_ends_a_redrive_and_no_entry_counts_as_refused(place: Place) -> None:
    for name in "ab":
        place.keep(name, subscription([name]))
    place.server.faults.append(ForcedCode(9, retry_after="900"))
    outcome = place.redrive()
    assert (outcome.replayed, outcome.refused) == (0, {})
    assert "server is busy" in outcome.stopped
    assert len(place.server.requests) == 1


def test_an_unavailable_failure_record_ends_a_redrive(place: Place) -> None:
    for name in "ab":
        place.keep(name, subscription([name, "☠13"]))
    (place.folder / "poison").write_text("in the way")
    outcome = place.redrive()
    assert (outcome.replayed, outcome.refused) == (0, {})
    assert "did not take an entry" in outcome.stopped
    assert len(place.names(Kind.FAILED)) == 2


def test_poison_of_several_reasons_is_one_entry_and_stays_the_same_entry(place: Place) -> None:
    """However its events met their end the first time."""
    place.forwarder.forward(subscription(["☠13", "x" * 600_000, None, "y" * 600_000, "☠15", None]), lambda: 60_000)
    (name,) = place.names(Kind.POISON)
    outcome = place.replay(place.source.entries(Kind.POISON))
    assert (outcome.replayed, outcome.set_aside) == (0, 4)
    assert place.names(Kind.POISON) == [name]


def test_a_failed_eventbridge_event_is_replayed_as_one(place: Place) -> None:
    place.keep("a", {"id": "1", "time": "2026-11-21T04:00:00Z", "source": "aws.codebuild", "detail": {}})
    assert place.redrive().events == 1
    assert place.server.collector.indexed[0]["sourcetype"] == "aws:cloudwatch:event"


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        "null",
        DEEP,
        '{"requestPayload": {"a": ' + DEEP + "}}",
        '{"requestPayload": 1}',
        '{"requestPayload": null}',
    ],
)
def test_what_is_no_record_has_no_payload(content: str) -> None:
    assert parse("n", content, "h").payload is None


def test_a_summary_counts_events_and_shows_no_message() -> None:
    found = summary(parse("n", lambda_record(subscription(["private", "b"])), "h"))
    assert found == {
        "name": "n",
        "at": "2026-11-21T04:00:00.000Z",
        "reason": "the collector did not accept the events in time",
        "events": 2,
        "source": "/aws/lambda/service",
    }


@pytest.fixture(autouse=True)
def no_log_on_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service logs there, and tests that ran before may have made it so; the command does not."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])


def terminal(place: Place, settings: Splunk | None = None, **clients: Any) -> Any:
    class At(Terminal):
        def deployment(self) -> Any:
            splunk = SimpleNamespace(splunk=settings or place.settings)
            stage = SimpleNamespace(settings=splunk, stage="test", aws=clients.get)
            stage.with_deployed_splunk = lambda: stage
            return stage

    return At()


def command(place: Place, *arguments: str, name: str = "redrive") -> Any:
    return CliRunner().invoke(splunk, [name, "--folder", str(place.folder), *arguments], obj=terminal(place))


def reported(place: Place, *arguments: str, exit_code: int = 0) -> Any:
    """What a redrive reports as JSON."""
    run = command(place, *arguments, "--json")
    assert run.exit_code == exit_code, run.output
    return json.loads(run.stdout)[str(place.folder)]


def listed(place: Place) -> list[Any]:
    run = command(place, "--json", name="failed")
    assert run.exit_code == 0, run.output
    rows: list[Any] = json.loads(run.stdout)
    return rows


def test_the_command_replays_and_prints_the_result(place: Place) -> None:
    place.keep("a", subscription(["a", "☠13"]))
    run = command(place)
    assert run.exit_code == 0, run.output
    assert "1 entries replayed, 1 events accepted" in run.output
    assert "1 events are poison" in run.output


def test_the_command_names_rejected_entries_and_fails(place: Place) -> None:
    for name in "abc":
        place.keep(name, subscription([name]))
    place.server.faults.extend([None, ForcedCode(7, 1)])
    run = command(place)
    assert run.exit_code == 1
    assert "2 entries replayed" in run.stdout
    assert "rejected, not removed: failed/b.json: the collector refuses" in run.stderr
    place.server.faults.extend([ForcedCode(7, 1)])
    assert list(reported(place, exit_code=1)["refused"]) == ["failed/b.json"]


def test_entries_can_be_named_whatever_their_kind(place: Place) -> None:
    for name in ("a", "b"):
        place.keep(name, subscription([name]))
    refused = place.folder / "refused" / "failed" / "c.json"
    refused.parent.mkdir(parents=True)
    refused.write_text(lambda_record(subscription(["c"])))
    assert reported(place, "refused/failed/c.json", "failed/a.json", "failed/a.json")["replayed"] == 2
    assert [event["event"] for event in place.server.collector.indexed] == ["c", "a"]
    assert place.names(Kind.FAILED) == ["failed/b.json"]


def test_named_entries_are_all_tried_however_many_are_refused(place: Place) -> None:
    names = [f"failed/{number}.json" for number in range(8)]
    for number in range(8):
        place.keep(str(number), subscription(["☠07" if number < 7 else "good"]))
    outcome = reported(place, *names, exit_code=1)
    assert (outcome["replayed"], list(outcome["refused"])) == (1, names[:7])


@pytest.mark.parametrize(
    "wrong", ["failed/x.json", "x", "", "failed/../outside.json", "/etc/passwd", "failed/" + "x" * 300]
)
def test_a_name_of_no_entry_is_an_error_and_the_others_are_replayed(place: Place, wrong: str) -> None:
    place.keep("a", subscription(["a"]))
    outside = place.folder / "outside.json"
    outside.write_text(lambda_record(subscription(["no entry"])))
    for option in ([], ["--json"]):
        run = command(place, wrong, "failed/a.json", *option)
        assert run.exit_code == 1
        assert f"Error: there is no entry {wrong}\n" in run.stderr
    assert [event["event"] for event in place.server.collector.indexed] == ["a"]
    assert outside.exists()


def test_refused_entries_are_listed_and_replayed_with_the_rest(place: Place) -> None:
    put_aside = place.folder / "refused" / "failed" / "a.json"
    put_aside.parent.mkdir(parents=True)
    put_aside.write_text(lambda_record(subscription(["a"])))
    assert [(row["kind"], row["name"]) for row in listed(place)] == [("refused", "refused/failed/a.json")]
    assert command(place).exit_code == 0
    assert not put_aside.exists()


def test_the_list_shows_both_kinds_and_removes_nothing(place: Place) -> None:
    place.keep("a", subscription(["a"]))
    place.forwarder.forward(subscription([None, "ok", "☠15"]), lambda: 60_000)
    for _ in range(2):
        assert [(row["kind"], row["events"]) for row in listed(place)] == [("failed", 1), ("poison", 2)]
    run = command(place, name="failed")
    assert "1 events: malformed" in run.output
    assert "code 15" in run.output


def test_an_entry_that_is_nested_too_deep_is_listed_and_named_and_the_others_go_on(place: Place) -> None:
    place.keep("b", subscription(["b"]))
    (place.folder / "failed" / "a.json").write_text(DEEP)
    (place.folder / "failed" / "c.json").write_text('{"requestPayload": {"detail": ' + DEEP + "}}")
    assert [(row["name"], row["events"]) for row in listed(place)] == [
        ("failed/a.json", None), ("failed/b.json", 1), ("failed/c.json", None),
    ]  # fmt: skip
    outcome = place.redrive()
    assert (outcome.replayed, outcome.unreadable) == (1, ["failed/a.json", "failed/c.json"])
    assert place.names(Kind.FAILED) == ["failed/a.json", "failed/c.json"]


def test_named_poison_can_be_replayed(place: Place) -> None:
    place.forwarder.forward(subscription(["☠13"]), lambda: 60_000)
    (name,) = place.names(Kind.POISON)
    place.server.collector._check = lambda *_: None
    assert reported(place, name)["replayed"] == 1


@pytest.mark.parametrize("options", [[], ["--queue-url", "https://queue"]])
def test_a_place_for_poison_must_be_named(place: Place, options: list[str]) -> None:
    run = CliRunner().invoke(splunk, ["redrive", *options], obj=terminal(place))
    assert run.exit_code == 2
    assert "--bucket" in run.output
