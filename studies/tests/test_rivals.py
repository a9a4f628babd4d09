"""The scoreboard fails if its races do not show what is known of a counter."""

from __future__ import annotations

from pathlib import Path

import pytest

from studies import rivals
from studies.rivals.__main__ import RIVALS, Score
from studies.rivals.ours import Ours


@pytest.mark.parametrize(
    ("exact", "granted", "word"),
    [
        (True, [1] * 20, None),
        (True, [1] * 19 + [2], "granted 1 uses too many"),
        (False, [2, 32], None),
        (False, [32, 1, 2], "1 of 3 races did not show it"),
    ],
)
def test_a_wrong_counter_must_be_caught_in_each_race(exact: bool, granted: list[int], word: str | None) -> None:
    verdict = Score("it", exact, granted).verdict()
    assert (verdict is None) if word is None else word in str(verdict)


def test_each_of_at_least_five_rivals_has_at_most_forty_lines() -> None:
    others = [rival for rival in RIVALS if rival is not Ours]
    assert len(others) >= 5
    [folder] = map(Path, rivals.__path__)
    for rival in others:
        assert len((folder / f"{rival.__module__.rpartition('.')[2]}.py").read_text("utf-8").splitlines()) <= 40
