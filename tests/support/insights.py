"""Queries of CloudWatch Logs Insights, as far as the runbook and the dashboard use them.

Source: CloudWatch Logs user guide, "Query syntax" and "Supported logs and discovered fields".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final

import pyparsing as pp

from tests.support import searches
from tests.support.searches import Field, Row

_NAME: Final = pp.Regex(r"@?[A-Za-z]\w*")
_FUNCTIONS: Final = {name: name for name in ("avg", "coalesce", "count", "max", "sum")} | {
    "ispresent": "is_there",
    "latest": "latest_of",
    "pct": "topmost",
}
_WORDS: Final = {word: word for word in ("and", "or", "in", "=", "!=", ">=", "(", ")", ",", "*")} | {"[": "(", "]": ")"}
_LIKE: Final = pp.Suppress(pp.Keyword("like")) + (
    pp.QuotedString("/", unquote_results=True) | pp.QuotedString('"').add_parse_action(lambda t: re.escape(t[0]))
).add_parse_action(lambda t: ["REGEXP", searches.text(t[0])])
_EXPRESSION: Final = searches.tokens(_NAME.copy().add_parse_action(lambda t: Field(t[0])), _FUNCTIONS, _WORDS, _LIKE)
_ITEM: Final = pp.original_text_for(_NAME + pp.Opt(pp.nested_expr()))("made") + pp.Opt("as" + _NAME("name"))
_ITEMS: Final = pp.DelimitedList(pp.Group(_ITEM))


def fields_of(line: str) -> Row:
    """Return the fields that CloudWatch Logs discovers in a line, those that it adds included."""
    added: Row = {"@message": line, "@log": "1:group", "@logStream": "stream", "@timestamp": 1_795_262_400_000}
    if line.startswith("{"):
        return added | dict(searches.flat(json.loads(line)))
    report = {"@duration": 9.87, "@initDuration": 310.5} if line.startswith("REPORT ") else {}
    return added | report | {"@type": line.partition(" ")[0]}


class Query(searches.Search):
    """Follows a query over lines of a log.

    Attributes:
        matched: how many lines its filters left.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        rows = [fields_of(line) for line in lines]
        super().__init__({name for row in rows for name in row}, rows)

    def follow(self, query: str) -> None:
        self.matched = len(self.rows)
        for command in query.split(" | "):
            name, _, rest = command.partition(" ")
            getattr(self, f"_{name}")(rest)

    def _filter(self, rest: str) -> None:
        self.keep(_EXPRESSION.parse_string(rest, parse_all=True))
        self.matched = len(self.rows)

    def _fields(self, rest: str) -> None:
        self.set(dict(_items(rest)))

    def _stats(self, rest: str) -> None:
        made, _, by = rest.partition(" by ")
        names = by.replace("bin(5m)", "@timestamp")  # how the time is cut does not matter here
        self.group(dict(_items(made)), [name.strip() for name in names.split(",")])

    def _sort(self, rest: str) -> None:
        self.sort(rest.removesuffix(" desc"), descending=rest.endswith(" desc"))

    def _display(self, rest: str) -> None:
        self.use(*rest.split(", "))

    def _limit(self, rest: str) -> None:
        self.rows = self.rows[: int(rest)]

    def _SOURCE(self, rest: str) -> None:  # noqa: N802 - a name of the language
        """The log group; its lines are there."""


def _items(text: str) -> Iterator[tuple[str, searches.Sql]]:
    for item in _ITEMS.parse_string(text, parse_all=True):
        yield item.get("name", item["made"]), _EXPRESSION.parse_string(item["made"], parse_all=True)
