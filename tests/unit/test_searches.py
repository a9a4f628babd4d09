"""Splunk's searches find what its documentation says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import searches, splunk_app
from tests.support.searches import NOT_UNDERSTOOD, Row

EVENT: Row = {"event": "token.used", "status": 401, "stage": "prod\nprod", "_raw": "a Plain text"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('if(event=="token.used", "yes", "no")', "yes"),
        ('case(event=="x", 1, status>=400 AND NOT status>=500, "client", true(), "other")', "client"),
        ('"tokenservice-".mvindex(stage, 0)', "tokenservice-prod"),
        ("mvdedup(stage)", "prod"),
        ("coalesce(missing, status)", 401),
        ('if(missing=="x" OR missing!="x", "compares", "does not")', "does not"),
        ('isnull(missing) AND isnotnull(status) AND status=="401"', True),
        ('in(event, "token.issued", "token.used")', True),
        ("1 + 2 * 3 - 3 / 2", 5.5),
        ('like(event, "token.%") AND NOT like(event, "TOKEN.%")', True),
        ("case(missing, 1)", None),
    ],
)
def test_an_expression_of_splunk_has_its_value(text: str, value: object) -> None:
    assert searches.value(splunk_app.expression(text), EVENT) == value


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
def test_terms_of_splunk_find_an_event(text: str, fits: bool) -> None:
    assert searches.value(splunk_app.terms(text), EVENT) == fits


@pytest.mark.parametrize(
    ("read", "text"),
    [
        *((splunk_app.expression, text) for text in ("lower(a)", "a ==", "a b", '"open', "if(a, b", "a IS NULL")),
        *((splunk_app.terms, text) for text in ("(a=b", "a=b)", "NOT")),
    ],
)
def test_what_is_not_understood_is_refused(read: Callable[[str], searches.Sql], text: str) -> None:
    with pytest.raises(NOT_UNDERSTOOD):
        searches.value(read(text), EVENT)


@pytest.mark.parametrize(
    "text",
    ["stats count by reasn", "stats count by event | sort - status", 'eval a=if(Event=="x", 1, 0)', "search evnt=*"],
)
def test_a_field_that_does_not_exist_is_named(text: str) -> None:
    with pytest.raises(searches.UnknownField):
        splunk_app.Search(EVENT, [EVENT]).follow(text)
