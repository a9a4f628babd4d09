"""The judge of a load run sees what no single answer shows; and docs/load.md shows what was found."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from studies.context import context
from studies.load import report
from studies.load.__main__ import PARTS
from studies.load.ladder import verdict

EMPTY = SimpleNamespace(tokens=3, claims=1, overspent=0)


def level(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"users": 4, "calls": 40, "issued": 10, "granted": 10}
    return found | {"unanswered_issues": 0, "unanswered_uses": 0, "errors": {}} | changes


def table(tokens: int, claims: int, overspent: int = 0) -> SimpleNamespace:
    return SimpleNamespace(tokens=EMPTY.tokens + tokens, claims=EMPTY.claims + claims, overspent=overspent)


def test_a_table_that_matches_the_answers_agrees() -> None:
    found = verdict([level(), level(issued=5, granted=4)], EMPTY, table(15, 14))
    assert found["agrees"]
    assert (found["calls"], found["issued"], found["granted"]) == (80, 15, 14)
    assert (found["tokens_stored"], found["claims_stored"], found["overspent"]) == (15, 14, 0)


@pytest.mark.parametrize(
    ("tokens", "claims", "overspent"),
    [(9, 9, 0), (11, 10, 0), (10, 9, 0), (10, 11, 0), (10, 10, 1)],
    ids=["a token lost", "a token too many", "a claim lost", "a use that nobody was granted", "used too often"],
)
def test_any_other_table_does_not(tokens: int, claims: int, overspent: int) -> None:
    found = verdict([level()], EMPTY, table(tokens, claims, overspent))
    assert not found["agrees"]
    assert report.failures({"levels": [level()], "sound_up_to": 4, "verdict": found}) == [
        "the table holds something else than was answered"
    ]


@pytest.mark.parametrize(
    ("tokens", "claims", "agrees"), [(10, 10, True), (12, 11, True), (13, 10, False), (12, 12, False)]
)
def test_a_call_without_an_answer_may_have_been_carried_out_or_not(tokens: int, claims: int, agrees: bool) -> None:
    unsure = level(unanswered_issues=2, unanswered_uses=1, errors={"use: no answer": 1, "issue: no answer": 2})
    found = verdict([unsure], EMPTY, table(tokens, claims))
    assert (found["agrees"], found["errors"]) == (agrees, 3)


def test_a_missing_unused_token_is_noticed() -> None:
    assert not verdict([level(granted=9)], EMPTY, table(9, 9))["agrees"]


def test_there_are_never_more_uses_than_tokens_of_one_use() -> None:
    unsure = level(unanswered_uses=1, errors={"use: no answer": 1})
    assert not verdict([unsure], EMPTY, table(10, 11))["agrees"]


@pytest.mark.parametrize(("users", "failures"), [(16, ["2 wrong answers at 16 callers"]), (17, [])])
def test_a_wrong_answer_fails_the_run_where_none_is_expected(users: int, failures: list[str]) -> None:
    wrong = level(users=users, errors={"use: 503": 2})
    assert report.failures({"levels": [wrong], "sound_up_to": 16, "verdict": {"agrees": True}}) == failures


def test_an_engine_that_charges_something_else_than_was_reckoned_fails_the_run() -> None:
    charged = {
        "levels": [
            {"users": 1, "write_units": 3, "write_units_charged": 3.0},
            {"write_units": 3, "write_units_charged": 4.0},
        ]
    }
    assert report.failures(charged) == ["4.0 write units, not 3"]


def test_the_document_has_a_place_for_the_table_of_every_part() -> None:
    assert sorted(re.findall(r"<!-- load:(\S+) -->", report.DOCUMENT.read_text("utf-8"))) == sorted(PARTS)


def test_a_run_replaces_the_tables_of_its_parts_alone(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("<!-- load:deployed -->\nold\n<!-- /load -->\n<!-- load:growth -->\nolder\n<!-- /load -->\n")
    levels = [level(milliseconds={"p99": 5.0}, calls_per_second=9.0, cpu_ms_per_call={"service": 2.0})]
    part = context("command", ()) | {"levels": levels, "verdict": verdict(levels, EMPTY, table(10, 10)), "target": "x"}
    report.write(tmp_path, {"parts": {"deployed": part}}, document)
    text = document.read_text()
    assert "| 4 | 40 | 0 | 9.0 | - | 5.0 |" in text
    assert "old\n" not in text
    assert "older" in text
    report.draw(tmp_path, report.read(tmp_path))
    assert (tmp_path / "latency.svg").exists()
