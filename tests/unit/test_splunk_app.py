"""The Splunk app keeps up with the service: its events, its reasons, and what the forwarder sends."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree as ET

import pytest

from chalicelib.clients import Doubt
from chalicelib.log_names import Event
from chalicelib.splunk.forward import EVENT_SOURCETYPE
from chalicelib.tokens import Reason
from dev.engine import ROOT
from tests.support import log_lines, stage_logs
from tests.support.searches import Row
from tests.support.splunk_app import APP, config, expanded, lookup
from tests.support.splunk_world import ALARM
from tests.support.stage_logs import INDEXED_AT, answers, forwarded, logged


def test_every_reason_of_a_refusal_has_its_meaning() -> None:
    rows = lookup("tokenservice_reasons")
    known = {row["reason"] for row in rows}
    assert len(known) == len(rows)
    assert known >= {reason.value for reason in Reason} | {doubt.value for doubt in Doubt} | {"insufficient_scope"}
    assert {row["severity"] for row in rows} <= {"low", "medium", "high"}


def test_every_event_that_the_service_writes_has_an_outcome() -> None:
    outcomes = {event["event"]: event.get("action") for event in stage_logs.events() if "event" in event}
    assert {name for name, outcome in outcomes.items() if outcome} == {*Event, "access"}


def test_every_field_beside_an_event_is_declared_as_indexed() -> None:
    """Otherwise Splunk searches the event's text for its value, and finds nothing."""
    sent = {(each["sourcetype"], name) for each in forwarded(log_lines.PLATFORM, ALARM) for name in each["fields"]}
    declared = {tuple(name.split("::")[1:]) for name in config("fields.conf").sections()}
    assert declared == sent
    assert all(section["INDEXED"] == "true" for name, section in config("fields.conf").items() if name != "DEFAULT")
    assert {sourcetype for sourcetype, _ in declared} == {"tokenservice", EVENT_SOURCETYPE}


def test_a_field_that_is_also_in_the_event_has_one_value() -> None:
    several = {name for event in stage_logs.events() for name, value in event.items() if "\n" in str(value)}
    # `source` is Splunk's own field, and EventBridge's name for the same. The others are texts of several lines.
    assert several == {"eventtype", "tag", "source", "_raw", "exception"}


def all_searches() -> Iterator[tuple[str, list[str]]]:
    """Every search of the app, with the search that it goes on from."""
    for name, section in config("savedsearches.conf").items():
        if "search" in section:
            yield name, [section["search"]]
    view = ET.parse(APP / "default/data/ui/views/tokenservice.xml").getroot()
    bases = {each.get("id"): str(each.findtext("query")) for each in view.findall("search")}
    for number, each in enumerate(view.findall(".//row//search")):
        base = [bases[each.get("base")]] if "base" in each.attrib else []
        yield f"panel {number}", [text.replace("$stage$", "*") for text in [*base, str(each.findtext("query"))]]


SEARCHES = dict(all_searches())
COUNTING = [name for name, (text, *_) in SEARCHES.items() if "| stats " in text and "_indextime" not in text]


def test_the_documents_name_every_report_and_alert() -> None:
    rows = (ROOT / "docs" / "splunk.md").read_text("utf-8").splitlines()
    names = {name.rpartition(" - ")[2].removeprefix("alert: ") for name in config("savedsearches.conf").sections()}
    assert {name for name in names if not any(row.startswith(f"| {name} |") for row in rows)} == set()


@pytest.mark.parametrize("name", SEARCHES)
def test_every_field_of_a_search_exists_and_indexers_filter_before_duplicates_are_removed(name: str) -> None:
    assert answers(SEARCHES[name], []) is not None
    commands = [command.split()[0] for command in expanded(SEARCHES[name][0]).split("|")[1:]]
    assert "search" not in commands
    assert "dedup" not in commands[1:]


@pytest.mark.parametrize("name", COUNTING)
def test_an_event_that_comes_again_or_a_replay_is_not_counted(name: str) -> None:
    events = logged(["token.issued", "token.used", "token.refused", "auth.refused"], INDEXED_AT, reason="user_mismatch")
    again: list[Row] = [event | {"_indextime": INDEXED_AT + 60} for event in events]
    replay = [event | {"event_id": "another"} for event in logged(["token.used"], INDEXED_AT, reason="replayed")]
    expected = answers(SEARCHES[name], events)
    assert answers(SEARCHES[name], [*events, *again]) == expected
    assert answers(SEARCHES[name], [*events, *replay]) == expected
