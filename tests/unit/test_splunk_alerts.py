"""The Splunk app's alerts: each event rings once, however late it arrives, and what breaks a rule is found."""

from __future__ import annotations

import json
from collections.abc import Iterable
from configparser import SectionProxy
from typing import Any

import pytest

from tests.support import audited, splunk_app
from tests.support.stage_logs import INDEXED_AT as HAPPENED
from tests.support.stage_logs import answers, forwarded, logged

SEARCHES = splunk_app.config("savedsearches.conf")
SCHEDULED = {name: section for name, section in SEARCHES.items() if section.get("enableSched") == "1"}
ALERTS = {name: section for name, section in SCHEDULED.items() if "dispatch.index_earliest" in section}
"""Those that look at what arrived since their last run."""
RULES = SEARCHES["Token service - alert: the log breaks a rule"]
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
    alert, events = ALERTS[name], logged(RINGING[name], HAPPENED)
    assert answers([alert["search"]], events[:-1]) == []
    [row] = answers([alert["search"]], events)
    # One about a token or client does not silence those about others.
    if "alert.suppress" in alert:
        assert alert["alert.digest_mode"] == "0"
        assert alert["alert.suppress.fields"] in row


def test_silence_rings() -> None:
    assert len(answers([ALERTS[SILENCE]["search"]], [])) == 1
    assert answers([ALERTS[SILENCE]["search"]], logged(["token.used"], HAPPENED)) == []


def broken_rules(lines: Iterable[str]) -> dict[str, str]:
    """By token, the rule that the alert finds broken."""
    events = splunk_app.events(forwarded(lines), HAPPENED)
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
