"""The scoreboard fails if its races do not show what is known of a counter."""

from __future__ import annotations

import pytest

from studies.rivals.__main__ import Score


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
