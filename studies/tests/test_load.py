"""The judge of a load run sees what no single answer shows; and docs/load.md shows what was found."""

from __future__ import annotations

from typing import Any

import pytest

from studies import page
from studies.load import growth, ladder
from studies.load.__main__ import DOCUMENT, PARTS
from studies.load.ladder import Stored

BEFORE = Stored(tokens=3, claims=1, overspent=0)


def level(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"users": 4, "calls": 40, "issued": 10, "granted": 10}
    return found | {"unanswered_issues": 0, "unanswered_uses": 0, "errors": {}} | changes


def agrees(level: dict[str, Any], tokens: int, claims: int, overspent: int = 0) -> bool:
    after = Stored(BEFORE.tokens + tokens, BEFORE.claims + claims, overspent)
    return bool(ladder.verdict([level], BEFORE, after)["agrees"])


@pytest.mark.parametrize(
    ("tokens", "claims", "overspent", "agreed"),
    [
        (10, 10, 0, True),
        (9, 9, 0, False),
        (11, 10, 0, False),
        (10, 9, 0, False),
        (10, 11, 0, False),
        (10, 10, 1, False),
    ],
    ids=["as answered", "a token lost", "a token too many", "a claim lost", "a use not granted", "used too often"],
)
def test_a_table_agrees_only_with_what_was_answered(tokens: int, claims: int, overspent: int, agreed: bool) -> None:
    assert agrees(level(), tokens, claims, overspent) is agreed


@pytest.mark.parametrize(
    ("tokens", "claims", "agreed"), [(10, 10, True), (12, 11, True), (13, 10, False), (12, 12, False)]
)
def test_a_call_without_an_answer_may_have_been_carried_out_or_not(tokens: int, claims: int, agreed: bool) -> None:
    assert agrees(level(unanswered_issues=2, unanswered_uses=1), tokens, claims) is agreed


def test_there_are_never_more_uses_than_tokens_of_one_use() -> None:
    assert not agrees(level(unanswered_uses=1), 10, 11)


def test_a_wrong_answer_where_none_is_expected_and_a_wrong_table_fail_the_run() -> None:
    levels = [level(users=16, errors={"use: 503": 2}), level(users=17, errors={"use: 503": 3})]
    assert ladder.failures({"levels": levels, "sound_up_to": 16, "verdict": {"agrees": False}}) == [
        "2 wrong answers at 16 callers",
        "the table holds something else than was answered",
    ]


def test_an_engine_that_charges_something_else_than_was_calculated_fails_the_run() -> None:
    rows = [{"write_units": 3, "write_units_charged": 3.0}, {"write_units": 3, "write_units_charged": 4.0}]
    assert growth.failures(rows) == ["4.0 write units, not 3"]


def test_the_document_has_a_place_for_the_table_of_every_part() -> None:
    assert sorted(page.names(DOCUMENT.read_text("utf-8"), "load")) == sorted(PARTS)


def test_a_run_replaces_the_tables_of_its_parts_alone() -> None:
    text = "<!-- load:deployed -->\nold\n<!-- /load -->\n<!-- load:growth -->\nolder\n<!-- /load -->\n"
    filled = page.filled(text, "load", {"deployed": page.table(["callers", ""], [[1_000, "x"]])})
    assert "| callers |  |\n| ---: | --- |\n| 1,000 | x |\n" in filled
    assert "old\n" not in filled
    assert "older" in filled
