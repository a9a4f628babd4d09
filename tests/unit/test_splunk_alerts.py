"""The Splunk app's alerts, run by a clock: late events fire them, and each event fires once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from tests.support import audited, splunk_app
from tests.support.searches import Row
from tests.support.splunk_app import instant
from tests.support.stage_logs import INDEXED_AT as HAPPENED
from tests.support.stage_logs import answers, forwarded, logged

HOUR = 3600
SEARCHES = splunk_app.config("savedsearches.conf")
SCHEDULED = {name: section for name, section in SEARCHES.items() if section.get("enableSched") == "1"}
ALERTS = {name: section for name, section in SCHEDULED.items() if "dispatch.index_earliest" in section}
"""Those that look at what arrived since their last run."""
RULES = SEARCHES["Token service - alert: the log breaks a rule"]
SILENCE = "Token service - alert: no events arrive"
RINGING = {
    "Token service - alert: a token is probed": ["token.locked"],
    "Token service - alert: many refused credentials": ["auth.refused"] * 20,
    "Token service - alert: refusals are unusually many": ["token.used"] * 40 + ["token.refused"] * 20,
}
"""What has to happen for an alert to ring."""


def period(name: str) -> int:
    """Seconds from one run of an alert to the next."""
    minutes, *rest = ALERTS[name]["cron_schedule"].split()
    assert rest == ["*"] * 4
    return 60 * int(minutes.removeprefix("*/"))


def runs(name: str, begin: int, end: int) -> range:
    """When the scheduler runs an alert."""
    return range(-(-begin // period(name)) * period(name), end, period(name))


def finds(name: str, now: int, event: Row) -> bool:
    """Whether a run looks at an event, by its time and by its index time: `[earliest, latest)`."""
    alert = ALERTS[name]
    return (
        instant(alert["dispatch.earliest_time"], now) <= event["_time"] < instant(alert["dispatch.latest_time"], now)
    ) and (
        instant(alert["dispatch.index_earliest"], now)
        <= event["_indextime"]
        < instant(alert["dispatch.index_latest"], now)
    )


def results(name: str, now: int, events: Iterable[Row]) -> list[Row]:
    return answers([ALERTS[name]["search"]], [event for event in events if finds(name, now, event)])


def test_alerts_are_off_by_default_and_a_run_that_was_missed_is_made_up_for() -> None:
    assert {*RINGING, SILENCE} == set(ALERTS)
    assert {section["disabled"] for section in SCHEDULED.values()} == {"1"}
    assert {section["realtime_schedule"] for section in SCHEDULED.values()} == {"0"}


@pytest.mark.parametrize("late", [0, HOUR, 89 * 24 * HOUR], ids=["on time", "an hour late", "89 days late"])
@pytest.mark.parametrize("name", RINGING)
def test_a_late_event_fires_an_alert_once(name: str, late: int) -> None:
    indexed_at = HAPPENED + late
    events = logged(RINGING[name], indexed_at)
    moments = {*runs(name, HAPPENED - HOUR, HAPPENED + HOUR), *runs(name, indexed_at - HOUR, indexed_at + 3 * HOUR)}
    [(rung, rows)] = [(now, found) for now in moments if (found := results(name, now, events))]
    assert 0 < rung - indexed_at <= period(name) + 60
    # An alert about one token or client does not silence those of others.
    if "alert.suppress" in ALERTS[name]:
        assert ALERTS[name]["alert.digest_mode"] == "0"
        assert [ALERTS[name]["alert.suppress.fields"] in row for row in rows] == [True]


def test_late_events_count_as_arrived() -> None:
    indexed_at = HAPPENED + HOUR
    events = logged(["token.used"], indexed_at)
    quiet = [now for now in runs(SILENCE, HAPPENED, HAPPENED + 3 * HOUR) if not results(SILENCE, now, events)]
    assert len(quiet) == 1
    assert 0 < quiet[0] - indexed_at <= period(SILENCE) + 60


@pytest.mark.parametrize("name", ALERTS)
def test_every_second_of_index_time_is_looked_at_by_one_run(name: str) -> None:
    length = period(name)
    seen = Counter(
        second
        for now in runs(name, HAPPENED, HAPPENED + 4 * length)
        for minute in range((HAPPENED - length) // 60, (HAPPENED + 5 * length) // 60)
        for second in (60 * minute - 1, 60 * minute, 60 * minute + 1)
        if finds(name, now, {"_time": HAPPENED - HOUR, "_indextime": second})
    )
    assert set(seen.values()) == {1}
    assert len(seen) == 3 * 4 * length // 60


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
