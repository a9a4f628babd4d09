"""Log searches as SQL over JSON: what the languages of Splunk and of CloudWatch Logs Insights have in common.

A row is a JSON object, and each command makes the next rows of those before. A language turns its expressions into SQL,
token by token; SQLite checks how they are put together. What is not understood raises, so that no check passes on a
text that was read wrongly.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

import pyparsing as pp

Row = dict[str, Any]
"""A field's name to its value: a text or a number; several values are one text, a line each."""

NOT_UNDERSTOOD: Final = (pp.ParseException, sqlite3.OperationalError)


class UnknownField(AssertionError):
    """A search uses a field that is not there at this point of it."""


class Field(str):
    """The name of a field, as a token of SQL."""

    __slots__ = ()


Sql = Sequence[str]
"""Tokens, fields among them."""


def plain(value: object) -> object:
    """Return a value of JSON as a search compares it: a number as a number, even if it is written as text."""
    if isinstance(value, list):
        return "\n".join(one if isinstance(one, str) else json.dumps(one) for one in value)
    if isinstance(value, bool):
        return json.dumps(value)
    return int(value) if isinstance(value, str) and value.isdecimal() and str(int(value)) == value else value


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Return the fields of a JSON object by their dotted names; `null` is no field."""
    for name, member in value.items():
        if isinstance(member, Mapping):
            yield from flat(member, f"{prefix}{name}.")
        elif member is not None:
            yield prefix + name, plain(member)


# --- SQL -------------------------------------------------------------------------------------------------------------


def like(pattern: str, any_text: str, value: object) -> bool:
    """Whether a value fits a pattern in which `any_text` is a wildcard."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split(any_text))), str(value), re.DOTALL) is not None


def _fits(value: object, wanted: object) -> bool:
    """Whether one of a field's values fits a term of Splunk's; the case of letters does not matter."""
    values = [] if value is None else str(value).split("\n")
    return any(like(str(wanted).lower(), "*", one.lower()) for one in values)


def _aggregate(of: Callable[[list[Any]], Any]) -> type:
    class Aggregate:
        def __init__(self) -> None:
            self.values: list[Any] = []

        def step(self, value: Any, *_: Any) -> None:
            if value is not None:
                self.values.append(value)

        def finalize(self) -> Any:
            return of(self.values) if self.values else None

    return Aggregate


@cache
def _database() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:")
    functions: dict[str, Callable[..., Any]] = {
        "case_of": lambda *pairs: next(
            (then for holds, then in zip(pairs[::2], pairs[1::2], strict=True) if holds), None
        ),
        "fits": _fits,
        "is_in": lambda value, *values: value in values,
        "is_missing": lambda value: value is None,
        "is_there": lambda value: value is not None,
        "like_percent": lambda value, pattern: None if value is None else like(pattern, "%", value),
        "missing": lambda: None,
        "true_of": lambda: True,
        "first_values": lambda value: value and "\n".join(dict.fromkeys(str(value).split("\n"))),
        "value_at": lambda value, index: value and str(value).split("\n")[index],
        "regexp": lambda pattern, value: value is not None and re.search(pattern, str(value)) is not None,
    }
    for name, function in functions.items():
        database.create_function(name, -1, function, deterministic=True)
    aggregates: dict[str, Callable[[list[Any]], Any]] = {
        "latest_of": lambda values: values[0],  # the newest event is the first
        "middle": lambda values: sorted(values)[len(values) // 2],
        "topmost": lambda values: sorted(values)[len(values) * 99 // 100],
        "values_of": lambda values: "\n".join(sorted(set(map(str, values)))),
    }
    for name, aggregate in aggregates.items():
        database.create_aggregate(name, -1, _aggregate(aggregate))  # type: ignore[arg-type] # the protocol wants a fixed number of values
    return database


def field(name: str) -> str:
    return f"json_extract(row, '$.\"{name}\"')"


def text(value: object) -> str:
    """Return a literal of SQL."""
    value = plain(value)
    return str(value) if isinstance(value, int | float) else "'" + str(value).replace("'", "''") + "'"


def _written(sql: Sql) -> str:
    return " ".join(field(token) if isinstance(token, Field) else token for token in sql)


def tokens(
    field_name: pp.ParserElement, functions: Mapping[str, str], words: Mapping[str, str], *others: pp.ParserElement
) -> pp.ParserElement:
    """Return the grammar of a language's expressions.

    Args:
        field_name: its parse action returns a `Field`.
        functions: name to that in SQL.
        words: operators and keywords to those in SQL.
        others: further tokens, as SQL.
    """
    function = pp.Regex(r"\w+(?=\()").add_condition(lambda t: t[0] in functions)
    return (
        pp.MatchFirst(others)
        | pp.QuotedString('"', esc_char="\\", convert_whitespace_escapes=False).add_parse_action(lambda t: text(t[0]))
        | pp.Regex(r"\d+(?:\.\d+)?")
        | function.add_parse_action(lambda t: functions[t[0]])
        | pp.one_of([word for word in words if word.isalpha()], as_keyword=True).add_parse_action(lambda t: words[t[0]])
        | pp.one_of([word for word in words if not word.isalpha()]).add_parse_action(lambda t: words[t[0]])
        | field_name
    )[1, ...]


def value(sql: Sql, row: Row) -> Any:
    """Return what an expression is for one row; a field that is missing is null."""
    return _database().execute(f"SELECT {_written(sql)} FROM (SELECT ? AS row)", [json.dumps(row)]).fetchone()[0]


class Search:
    """Rows, and what the commands of a search make of them.

    Args:
        fields: that there are.
        rows: the newest first.
    """

    def __init__(self, fields: Iterable[str], rows: Iterable[Row]) -> None:
        self.fields = set(fields)
        self.rows = list(rows)

    def use(self, *names: str) -> None:
        """Raise `UnknownField` if one of these fields does not exist."""
        if unknown := set(names) - self.fields:
            raise UnknownField(", ".join(sorted(unknown)))

    def _select(self, what: str, rest: str = "", *used: Sql) -> list[Row]:
        self.use(*(token for sql in used for token in sql if isinstance(token, Field)))
        query = f"SELECT {what} FROM (SELECT value AS row FROM json_each(?)) {rest}"
        found = _database().execute(query, [json.dumps(self.rows)])
        return [{name: one for name, one in json.loads(row).items() if one is not None} for (row,) in found]

    def keep(self, condition: Sql) -> None:
        self.rows = self._select("row", f"WHERE {_written(condition)}", condition)

    def set(self, made: Mapping[str, Sql]) -> None:
        """Give each row further fields, all of them from those before."""
        members = "".join(f", '$.\"{name}\"', {_written(sql)}" for name, sql in made.items())
        self.rows = self._select(f"json_set(row{members})", "", *made.values())
        self.fields.update(made)

    def group(self, made: Mapping[str, Sql], by: Sequence[str]) -> None:
        """Make one row of those that agree in some fields; a row that lacks one of them counts nowhere."""
        self.use(*by)
        values = {name: field(name) for name in by} | {name: _written(sql) for name, sql in made.items()}
        members = ", ".join(f"'{name}', {value}" for name, value in values.items())
        present = " AND ".join(f"{field(name)} IS NOT NULL" for name in by)
        rest = f"WHERE {present} GROUP BY {', '.join(map(field, by))}" if by else ""
        self.rows = self._select(f"json_object({members})", rest, *made.values())
        self.fields = {*by, *made}

    def sort(self, name: str, *, descending: bool) -> None:
        self.use(name)
        self.rows = self._select("row", f"ORDER BY {field(name)} {'DESC' if descending else ''}")
