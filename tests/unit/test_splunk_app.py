"""The Splunk app keeps up with the service: its events, its reasons, and what the forwarder sends."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from markdown_it import MarkdownIt

from chalicelib.clients import Doubt
from chalicelib.log_names import Event
from chalicelib.splunk.forward import EVENT_SOURCETYPE
from chalicelib.tokens import Reason
from dev.engine import ROOT
from tests.support import cim, splunk_app
from tests.support import log_lines as lines
from tests.support.splunk_app import APP, config, expanded
from tests.support.splunk_search import Search, forwarded, known_to, logged, written
from tests.support.splunk_world import ALARM, START_MS

PAGE = ROOT / "docs" / "splunk.md"
SEARCHES = {name: section for name, section in config("savedsearches.conf").items() if "search" in section}
HAPPENED = START_MS // 1000


def test_every_reason_of_a_refusal_has_its_meaning() -> None:
    with (APP / "lookups" / "tokenservice_reasons.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    known = {row["reason"] for row in rows}
    assert len(known) == len(rows)
    assert known >= {reason.value for reason in Reason} | {doubt.value for doubt in Doubt} | {"insufficient_scope"}
    assert {row["severity"] for row in rows} <= {"low", "medium", "high"}


def test_every_event_that_the_service_writes_has_an_outcome() -> None:
    outcomes = {event["event"]: event["action"] for event in cim.events() if "event" in event}
    assert outcomes.keys() == {*Event, "access"}
    assert None not in outcomes.values()


def test_every_field_beside_an_event_is_declared_as_indexed() -> None:
    """Otherwise Splunk searches the event's text for its value, and finds nothing."""
    sent = {(each["sourcetype"], name) for each in forwarded(lines.PLATFORM, ALARM) for name in each["fields"]}
    declared = {tuple(name.split("::")[1:]) for name in config("fields.conf").sections()}
    assert declared == sent
    assert all(section["INDEXED"] == "true" for name, section in config("fields.conf").items() if name != "DEFAULT")
    assert {sourcetype for sourcetype, _ in declared} == {"tokenservice", EVENT_SOURCETYPE}


def test_a_field_that_is_also_in_the_event_has_one_value() -> None:
    made = [splunk_app.event(each, HAPPENED) for each in forwarded(written(), ALARM)]
    several = {name for event in made for name, value in event.items() if isinstance(value, list)}
    # `source` is Splunk's own field, and EventBridge's name for the same. The others are lists in the event.
    assert several == {"eventtype", "tag", "_aws.CloudWatchMetrics{}", "source", "actions{}", "resources{}"}


def in_documents() -> list[str]:
    blocks = [token.content for token in MarkdownIt().parse(PAGE.read_text("utf-8")) if token.type == "fence"]
    return [" ".join(text.split()) for text in blocks if text.startswith(("`", "index="))]


def test_alerts_are_off_by_default() -> None:
    searches = config("savedsearches.conf")
    scheduled = [name for name in searches.sections() if searches[name].get("enableSched") == "1"]
    assert scheduled
    assert all(searches[name]["disabled"] == "1" for name in scheduled)


def all_searches() -> Iterator[tuple[str, list[str]]]:
    """Every search of the app and of its documents, with the search that it goes on from."""
    for name, section in SEARCHES.items():
        yield name, [section["search"]]
    view = ET.parse(APP / "default/data/ui/views/tokenservice.xml").getroot()
    bases = {each.get("id"): str(each.findtext("query")) for each in view.findall("search")}
    for number, each in enumerate(view.findall(".//row//search")):
        base = [bases[each.get("base")]] if "base" in each.attrib else []
        yield f"panel {number}", [text.replace("$stage$", "*") for text in [*base, str(each.findtext("query"))]]
    for number, text in enumerate(in_documents()):
        yield f"documents {number}", [text]


@pytest.mark.parametrize("texts", [pytest.param(texts, id=name) for name, texts in all_searches()])
def test_indexers_filter_before_duplicates_are_removed(texts: list[str]) -> None:
    commands = [command.split()[0] for command in expanded(texts[0]).split("|")[1:]]
    assert "search" not in commands
    assert "dedup" not in commands[1:]


COUNTING = [
    pytest.param(texts, id=name)
    for name, texts in all_searches()
    if "| stats " in texts[0] and "_indextime" not in texts[0]
]


def answers(texts: list[str], events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    search = Search(known_to(texts[0]), events)
    for text in texts:
        search.follow(text)
    return search.rows


@pytest.mark.parametrize("texts", [pytest.param(texts, id=name) for name, texts in all_searches()])
def test_every_field_of_a_search_exists_where_it_is_used(texts: list[str]) -> None:
    answers(texts, [])


def test_the_documents_have_searches() -> None:
    assert len(in_documents()) >= 4


@pytest.mark.parametrize("texts", COUNTING)
def test_an_event_that_comes_again_is_counted_once(texts: list[str]) -> None:
    events = logged(["token.issued", "token.used", "token.refused", "auth.refused"], HAPPENED, reason="user_mismatch")
    again = [event | {"_indextime": HAPPENED + 60} for event in events]
    assert answers(texts, [*events, *again]) == answers(texts, events)


@pytest.mark.parametrize("texts", COUNTING)
def test_a_replay_is_no_second_use(texts: list[str]) -> None:
    events = logged(["token.issued", "token.used"], HAPPENED)
    [replay] = logged(["token.used"], HAPPENED, reason="replayed")
    assert answers(texts, [*events, replay | {"event_id": "another"}]) == answers(texts, events)
