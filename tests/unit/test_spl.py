"""Splunk's expressions and search terms are evaluated as Splunk's documentation defines them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support import spl

EVENT: dict[str, Any] = {"event": "token.used", "status": "401", "stage": ["prod", "prod"], "_raw": "a Plain text"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('if(event=="token.used", "yes", "no")', "yes"),
        ('case(event=="x", 1, status>=400 AND NOT status>=500, "client", true(), "other")', "client"),
        ('"tokenservice-".mvindex(stage, 0)', "tokenservice-prod"),
        ("mvdedup(stage)", "prod"),
        ("coalesce(missing, status)", "401"),
        ('if(missing=="x" OR missing!="x", "compares", "does not")', "does not"),
        ("isnull(missing) AND isnotnull(status)", True),
        ('in(event, "token.issued", "token.used")', True),
        ("1 + 2 * 3 - 4 / 2", 5.0),
        ('like(event, "token.%")', True),
        ("case(missing, 1)", None),
    ],
)
def test_an_expression_has_its_value(text: str, value: object) -> None:
    assert spl.expression(text)(EVENT) == value


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("event=token.* status=401", True),
        ("event=TOKEN.USED", True),
        ("event IN (auth.refused, token.*)", True),
        ("missing!=x", False),  # a field that is missing fits no term
        ("NOT missing=x", True),
        ("status=404 OR status=401 event=auth.refused", False),  # OR binds tighter than AND
        ("status=404 OR (status=401 event=token.used)", True),
        ('"plain text" NOT "other text"', True),
        ("status>400 status<=401", True),
        ("*", True),
    ],
)
def test_terms_find_an_event(text: str, fits: bool) -> None:
    assert spl.terms(text)(EVENT) is fits


@pytest.mark.parametrize(
    ("modifier", "second"),
    [("now", 3_725), ("0", 0), ("-5m", 3_425), ("-5m@m", 3_420), ("@h", 3_600), ("+2h", 10_925), ("-1d@d", -86_400)],
)
def test_a_time_modifier_is_a_second(modifier: str, second: int) -> None:
    assert spl.instant(modifier, 3_725) == second


@pytest.mark.parametrize(
    ("read", "text"),
    [
        *((spl.expression, text) for text in ("sha256(a)", "a ==", "a b", '"open', "if(a, b", "(a")),
        *((spl.terms, text) for text in ("(a=b", "a=b)", "NOT")),
        *((lambda text: spl.instant(text, 0), text) for text in ("", "-5w", "@y", "yesterday")),
    ],
)
def test_what_is_not_understood_is_refused(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(spl.NotUnderstood):
        read(text)
