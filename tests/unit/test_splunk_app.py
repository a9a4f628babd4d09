"""The Splunk app keeps up with the service: its events, reasons and searches. Its alerts ring once for each event."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from configparser import SectionProxy
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from chalicelib.clients import AuthRefusal
from chalicelib.splunk.forward import EVENT_SOURCETYPE
from chalicelib.tokens import Reason
from dev.engine import ROOT
from tests.support import audited, log_lines, splunk_app, stage_logs
from tests.support.searches import Row
from tests.support.splunk_app import APP, config, expanded, lookup
from tests.support.splunk_world import ALARM
from tests.support.stage_logs import INDEXED_AT, answers, forwarded, logged

SAVED = config("savedsearches.conf")


def test_every_reason_of_a_refusal_has_its_meaning() -> None:
    rows = lookup("tokenservice_reasons")
    known = {row["reason"] for row in rows}
    assert len(known) == len(rows)
    assert known >= {reason.value for reason in Reason} | {refusal.value for refusal in AuthRefusal} | {
        "insufficient_scope"
    }
    assert {row["severity"] for row in rows} <= {"low", "medium", "high"}


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
    for name, section in SAVED.items():
        if "search" in section:
            yield name, [section["search"]]
    view = ET.parse(APP / "default/data/ui/views/tokenservice.xml").getroot()
    bases = {each.get("id"): str(each.findtext("query")) for each in view.findall("search")}
    for number, each in enumerate(view.findall(".//row//search")):
        base = [bases[each.get("base")]] if "base" in each.attrib else []
        yield f"panel {number}", [text.replace("$stage$", "prod") for text in [*base, str(each.findtext("query"))]]


SEARCHES = dict(all_searches())
COUNTING = [name for name, (text, *_) in SEARCHES.items() if "| stats " in text and "_indextime" not in text]


def test_the_documents_name_every_report_and_alert() -> None:
    rows = (ROOT / "docs" / "splunk.md").read_text("utf-8").splitlines()
    names = {name.rpartition(" - ")[2].removeprefix("alert: ") for name in SAVED.sections()}
    assert {name for name in names if not any(row.startswith(f"| {name} |") for row in rows)} == set()


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_uses_fields_that_exist_and_a_report_or_panel_finds_a_stage_in_trouble(name: str) -> None:
    found = answers([text.replace("tok_...", "tok_*") for text in SEARCHES[name]], stage_logs.events())
    has_found = any(value not in (0, "0") for row in found for key, value in row.items() if key != "_time")
    assert has_found or "alert" in name or name == "Token service - duplicates"
    # Indexers filter before duplicates are removed.
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


# --- Alerts ----------------------------------------------------------------------------------------------------------

SCHEDULED = {name: section for name, section in SAVED.items() if section.get("enableSched") == "1"}
ALERTS = {name: section for name, section in SCHEDULED.items() if "dispatch.index_earliest" in section}
"""Those that look at what arrived since their last run."""
RULES = SAVED["Token service - alert: the log breaks a rule"]
SILENCE = "Token service - alert: no events arrive"
RINGING = {
    "Token service - alert: a token is probed": ["token.locked"],
    "Token service - alert: many refused credentials": ["auth.refused"] * 20,
    "Token service - alert: refusals are unusually many": ["token.used"] * 40 + ["token.refused"] * 11,
}
"""What has to happen for an alert to ring."""


def test_alerts_are_off_by_default_and_a_run_that_was_missed_is_made_up_for() -> None:
    assert {*RINGING, SILENCE} == set(ALERTS)
    assert {section["disabled"] for section in SCHEDULED.values()} == {"1"}
    assert {section["realtime_schedule"] for section in SCHEDULED.values()} == {"0"}


@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
def test_each_second_of_index_time_is_looked_at_by_one_run_however_late_an_event_is(alert: SectionProxy) -> None:
    """A run looks at the index time of one period, which ends a minute before it; the next run goes on there."""
    step, *others = alert["cron_schedule"].split()
    minutes = int(step.removeprefix("*/"))
    assert (60 % minutes, others) == (0, ["*"] * 4)
    assert (alert["dispatch.index_earliest"], alert["dispatch.index_latest"]) == (f"-{minutes + 1}m@m", "-1m@m")
    assert (alert["dispatch.earliest_time"], alert["dispatch.latest_time"]) == ("-90d@d", "+2h")


@pytest.mark.parametrize("name", RINGING)
def test_an_alert_rings_for_what_it_says_and_for_no_less(name: str) -> None:
    alert, events = ALERTS[name], logged(RINGING[name], INDEXED_AT)
    assert answers([alert["search"]], events[:-1]) == []
    [row] = answers([alert["search"]], events)
    # One about a token or client does not silence those about others.
    if "alert.suppress" in alert:
        assert alert["alert.digest_mode"] == "0"
        assert alert["alert.suppress.fields"] in row


def test_silence_rings() -> None:
    assert len(answers([ALERTS[SILENCE]["search"]], [])) == 1
    assert answers([ALERTS[SILENCE]["search"]], logged(["token.used"], INDEXED_AT)) == []


def broken_rules(lines: Iterable[str]) -> dict[str, str]:
    """By token, the rule that the alert finds broken."""
    events = splunk_app.events(forwarded(lines), INDEXED_AT)
    return {row["tokenId"]: row["kind"] for row in answers([RULES["search"]], events)}


def test_a_true_log_breaks_no_rule_however_it_is_delivered() -> None:
    lines = audited.life().lines
    assert broken_rules([*reversed(lines), *lines]) == {}


PLANTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # To the terms of an issue, and the members of a use that is planted.
    "use_beyond_allowance": ({}, {**audited.NEW, **audited.UNNUMBERED}),
    "use_after_expiry": ({"max_uses": 5}, {**audited.NEW, "uses": 2, "time": "2026-11-21T13:00:00.000Z"}),
    "use_before_start": ({"max_uses": 5, "not_before": audited.NOON}, {"time": "2026-11-21T11:59:59.999Z"}),
    "use_after_revocation": ({"max_uses": 5}, {**audited.NEW, "uses": 2}),
    "use_after_lock": ({"max_uses": 5, "user": "alice"}, {**audited.NEW, "uses": 2}),
    "number_repeated": ({"max_uses": 5}, audited.NEW),
    "use_without_issue": ({}, {"tokenId": "tok_new"}),
}


def test_each_broken_rule_is_found() -> None:
    lines, expected = [*audited.World().lines], {}
    for kind, (terms, members) in PLANTED.items():
        world = audited.World()
        secret = world.issue(**terms)
        world.use(secret, user="alice")
        if kind == "use_after_revocation":
            world.revoke(secret)
        for _ in range(5 if kind == "use_after_lock" else 0):
            world.use(secret, user="bob")
        used = next(line for line in world.lines if '"token.used"' in line)
        planted = audited.changed(used, **members)
        lines += [*world.lines, planted]
        expected[json.loads(planted)["tokenId"]] = kind
    assert broken_rules(lines) == expected


def test_a_token_rings_once_in_the_time_that_is_looked_at() -> None:
    assert (RULES["dispatch.earliest_time"], RULES["dispatch.latest_time"]) == ("-32d@d", "now")
    assert (RULES["alert.suppress.fields"], RULES["alert.suppress.period"]) == ("tokenId", "32d")
