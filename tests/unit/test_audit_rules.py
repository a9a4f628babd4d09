"""The rules of `tokenctl audit`: a log that the service wrote holds in any order; each planted line is found."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib import addresses
from chalicelib.audit import timestamp as at
from chalicelib.instants import epoch_ms
from chalicelib.tokens import Action
from tests.support.audited import ADDRESS, HOUR, NEW, NOON, SECOND, UNNUMBERED, World, changed, events, life
from tokenctl.audit_rules import MEANING, Fact, Finding, Log, Stored, judge

DAY = timedelta(days=1)


def findings(lines: Iterable[str], stored: dict[str, Stored] | None = None, since: datetime = NOON) -> list[Finding]:
    found, damaged = events(lines)
    assert not damaged
    by_token: dict[str, list[Fact]] = {token_id: [] for token_id in stored or ()}
    for token_id, fact in found:
        by_token.setdefault(token_id, []).append(fact)
    read_at = None if stored is None else epoch_ms(NOON + DAY)
    log = Log(epoch_ms(since), epoch_ms(NOON + DAY), read_at=read_at)
    return [
        each
        for token_id, facts in by_token.items()
        for each in judge(token_id, facts, stored.get(token_id) if stored else None, log)
    ]


def kinds(lines: Iterable[str], stored: dict[str, Stored] | None = None, since: datetime = NOON) -> set[str]:
    return {finding.kind for finding in findings(lines, stored, since)}


class TestRules:
    @settings(deadline=None)
    @given(st.data())
    def test_a_true_log_holds_in_any_order_and_however_often_it_comes(self, data: st.DataObject) -> None:
        world = life()
        twice = [line for line in world.lines for _ in range(data.draw(st.integers(1, 2)))]
        shuffled = data.draw(st.permutations(twice))
        assert findings(shuffled, world.stored()) == []

    @settings(deadline=None)
    @given(st.data())
    def test_missing_lines_are_gaps_unless_a_use_stays_without_its_issue(self, data: st.DataObject) -> None:
        world = life()
        some = [line for line in world.lines if '"token.issued"' in line or data.draw(st.booleans())]
        assert kinds(some) <= {"uses_missing"}

    @settings(deadline=None)
    @given(st.integers(0, 40))
    def test_a_log_without_its_beginning_has_gaps_and_no_breach(self, start: int) -> None:
        lines = [line for line in life().lines if '"event"' in line][start:]
        begin = min((datetime.fromisoformat(json.loads(line)["time"]) for line in lines), default=NOON)
        assert kinds(lines, since=begin + timedelta(milliseconds=1)) <= {"issue_before_log", "uses_missing"}

    @pytest.mark.parametrize(
        ("terms", "members", "kind"),
        [
            ({}, NEW, "use_beyond_allowance"),
            ({}, {**NEW, **UNNUMBERED}, "use_beyond_allowance"),
            ({"max_uses": 5}, NEW, "number_repeated"),
            ({"max_uses": 5}, {**NEW, "uses": 6}, "use_beyond_allowance"),
            ({"max_uses": 5}, {**NEW, **UNNUMBERED, "time": at(NOON + HOUR)}, "use_after_expiry"),
            ({"max_uses": 5, "not_before": NOON}, {**NEW, "time": at(NOON - SECOND)}, "use_before_start"),
            ({"max_uses": 5}, {**NEW, **UNNUMBERED, "time": at(NOON - 4 * SECOND)}, "use_without_issue"),
            ({}, {"tokenId": "tok_" + "9" * 32}, "use_without_issue"),
            ({"user": "alice"}, {"user": "bob"}, "use_by_other_user"),
            ({"user": "alice"}, {"user": None}, "use_by_other_user"),
            ({"audience": frozenset({"app"})}, {"clientId": "else"}, "use_by_other_client"),
            (
                {"networks": frozenset({addresses.parse_network("10.0.0.1")})},
                {"ipAddress": "10.0.0.2"},
                "use_from_other_address",
            ),
            ({}, {"action": "edit"}, "use_for_other_action"),
        ],
    )
    def test_a_planted_use_is_found(self, terms: dict[str, Any], members: dict[str, Any], kind: str) -> None:
        world = World()
        secret = world.issue(**terms)
        world.use(secret, user="alice", address=ADDRESS, action=Action.DOWNLOAD)
        assert kinds(world.lines) == set()
        used = next(line for line in world.lines if '"token.used"' in line)
        assert kind in kinds([*world.lines, changed(used, **members)])

    @pytest.mark.parametrize("end", ["use_after_revocation", "use_after_lock"])
    def test_an_end_is_held_against_numbers_and_without_them_against_clocks(self, end: str) -> None:
        world = World()
        secret = world.issue(max_uses=9, user="alice")
        world.use(secret, user="alice")
        if end == "use_after_lock":
            for _ in range(5):
                world.use(secret, user="bob", after=timedelta())
        else:
            world.revoke(secret, after=timedelta())
        used = next(line for line in world.lines if '"token.used"' in line)

        def planted(late: timedelta, **members: Any) -> set[str]:
            line = changed(used, **{**NEW, **UNNUMBERED, "time": at(world.now + late), **members})
            return kinds([*world.lines, line])

        assert end in planted(-SECOND, uses=2)
        assert end in planted(4 * SECOND)
        assert planted(3 * SECOND) == set(), "it may have begun before the end was written"
        assert end in planted(4 * SECOND, reason="replayed", useId=json.loads(used)["useId"], uses=1)

    def test_a_slow_clock_makes_no_breach_of_a_use_before_the_end(self) -> None:
        world = World()
        secret = world.issue(max_uses=9)
        world.use(secret)
        world.revoke(secret, after=-20 * SECOND)
        assert kinds(world.lines) == set()

    @pytest.mark.parametrize("member", ["time", "clientId", "useId", "user", "ipAddress", "action"])
    def test_an_altered_line_does_not_fit_the_digest_after_it(self, member: str) -> None:
        world = World()
        secret = world.issue(max_uses=3)
        for _ in range(2):
            world.use(secret, user="alice", address=ADDRESS, action=Action.DOWNLOAD)
        first = next(place for place, line in enumerate(world.lines) if '"token.used"' in line)
        world.lines[first] = changed(world.lines[first], **{member: at(NOON) if member == "time" else "10.9.9.9"})
        assert "event_altered" in kinds(world.lines)

    def test_a_removed_use_is_a_gap_and_with_the_table_a_breach(self) -> None:
        world = World()
        secret = world.issue(max_uses=3)
        for _ in range(3):
            world.use(secret)
        for number in (1, 2):
            lines = [line for line in world.lines if f'"uses":{number},' not in line or '"token.used"' not in line]
            [gap] = findings(lines)
            assert (gap.kind, gap.is_gap) == ("uses_missing", True)
            assert gap.why.endswith(f"missing: {number}")
            assert kinds(lines, world.stored()) == {"uses_missing", "claim_without_event"}
        world.use(secret)
        lines = [line for line in world.lines if '"uses":3,' not in line or '"token.used"' not in line]
        assert kinds(lines) == {"uses_missing"}, "the refusal after it knows of the last use"

    def test_uses_before_the_log_begins_are_not_missing(self) -> None:
        world = World()
        secret = world.issue(max_uses=3)
        for _ in range(3):
            world.use(secret)
        used = [line for line in world.lines if '"token.used"' in line]
        assert kinds(used[1:], since=NOON + SECOND) == {"issue_before_log"}
        assert kinds([used[0], used[2]], since=NOON + SECOND) == {"issue_before_log", "uses_missing"}

    def test_a_use_that_the_table_does_not_have_is_found(self) -> None:
        world = World()
        world.use(world.issue())
        [(token_id, token)] = world.stored().items()
        without = Stored(token.issue, {})
        assert kinds(world.lines, {token_id: without}) == {"event_without_claim"}
        assert kinds(world.lines, {}) == {"event_without_claim"}, "no item goes within seven days"

    def test_the_table_says_when_a_token_was_issued(self) -> None:
        world = World()
        world.use(world.issue())
        lines = [changed(line, issuedAt=None) for line in world.lines if '"token.used"' in line]
        assert kinds(lines) == {"issue_before_log"}, "it may be 30 days old"
        assert kinds(lines, world.stored()) == {"use_without_issue"}
        assert kinds(lines, since=NOON - 31 * DAY) == {"use_without_issue"}

    def test_events_of_older_versions_have_no_limits(self) -> None:
        world = World()
        world.use(world.issue())
        lines = [changed(line, maxUses=None, expiresAt=None, **UNNUMBERED, issuedAt=None) for line in world.lines]
        assert kinds(lines) == {"limits_unknown"}
        assert kinds(lines, world.stored()) == set()

    def test_every_kind_has_a_meaning_and_a_line_in_the_documentation(self) -> None:
        page = (Path(__file__).resolve().parents[2] / "docs" / "audit.md").read_text("utf-8")
        assert {kind for kind in MEANING if f"| `{kind}` |" not in page} == set()
