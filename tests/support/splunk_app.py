"""The Splunk app in splunk/, without a Splunk: its files, the fields that it gives an event, and its searches.

Only what the app and Splunk's data models use of the language. Sources: Splunk, "Search Reference"; "Search Manual",
boolean expressions; "The sequence of search-time operations": calculated fields, all of them from the values before;
then event types, and the tags of these.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping
from configparser import ConfigParser
from functools import cache
from pathlib import Path
from typing import Any, Final

import pyparsing as pp

from tests.support import searches
from tests.support.searches import Field, Row, Sql

APP: Final = Path(__file__).resolve().parents[2] / "splunk"


@cache
def config(name: str) -> ConfigParser:
    """Read one of the app's files, `props.conf` for example."""
    read = ConfigParser(interpolation=None, strict=True, delimiters=("=",))
    read.optionxform = str
    read.read(APP / "default" / name, "utf-8")
    return read


def expanded(search: str) -> str:
    """Put the text of its macros into a search, as Splunk does before it reads it."""
    while "`" in search:
        parts = search.split("`")
        parts[1::2] = [config("macros.conf")[name]["definition"] for name in parts[1::2]]
        search = "".join(parts)
    return search


# --- Expressions of eval and where; terms of search -------------------------------------------------------------------

_NAME: Final = pp.Regex(r"[A-Za-z_]\w*")
_FUNCTIONS: Final = {
    "case": "case_of",
    "coalesce": "coalesce",
    "if": "iif",
    "in": "is_in",
    "isnotnull": "is_there",
    "isnull": "is_missing",
    "like": "like_percent",
    "max": "max",
    "mvdedup": "first_values",
    "mvindex": "value_at",
    "null": "missing",
    "round": "round",
    "true": "true_of",
}
_SAME: Final = ("AND", "OR", "NOT", "==", "!=", "<=", ">=", "=", "<", ">", "+", "-", "*", "(", ")", ",")
_EXPRESSION: Final = searches.tokens(
    (pp.QuotedString("'") | _NAME).add_parse_action(lambda t: Field(t[0])),
    _FUNCTIONS,
    {word: word for word in _SAME} | {".": "||", "/": "* 1.0 /"},
)


def _term(name: str, symbol: str, *values: str) -> list[str]:
    if symbol not in ("=", "!="):
        return [Field(name), symbol, searches.text(values[0])]
    fits = [token for value in values for token in ("OR", "fits(", Field(name), ",", searches.text(value), ")")]
    return ["(", Field(name), "IS NOT NULL AND NOT" if symbol == "!=" else "IS NOT NULL AND", "(", *fits[1:], ")", ")"]


def _terms() -> pp.ParserElement:
    """Comparisons, IN, words, brackets, NOT, OR, and AND, which binds the least and is mostly left out."""
    keyword, quoted = pp.one_of("AND OR NOT", as_keyword=True), pp.QuotedString('"')
    value = quoted | pp.Regex(r"[^\s()\"]+")
    values = pp.Suppress("(") + pp.DelimitedList(quoted | pp.Regex(r"[^\s(),\"]+")) + pp.Suppress(")")
    name = pp.Regex(r"[\w.]+")
    whole = pp.Forward()
    factor = pp.Keyword("NOT")[...] + (
        "(" + whole + ")"
        | (name + pp.Keyword("IN").set_parse_action(lambda: "=") + values).add_parse_action(lambda t: _term(*t))
        | (name + pp.one_of("!= = <= >= < >") + value).add_parse_action(lambda t: _term(*t))
        | (~keyword + value).add_parse_action(lambda t: _term("_raw", "=", f"*{t[0]}*"))
    )
    either = (factor + (pp.Keyword("OR") + factor)[...]).add_parse_action(lambda t: ["(", *t, ")"])
    whole <<= either + (pp.Opt(pp.Keyword("AND"), default="AND") + either)[...]
    return whole


_TERMS: Final = _terms()


@cache
def expression(text: str) -> Sql:
    """Compile an expression of `eval`."""
    return tuple(_EXPRESSION.parse_string(text, parse_all=True))


@cache
def terms(search: str) -> Sql:
    """Compile terms of `search`."""
    return tuple(_TERMS.parse_string(search, parse_all=True)) if search.strip() else ("1",)


# --- Events ----------------------------------------------------------------------------------------------------------


def events(envelopes: Iterable[Mapping[str, Any]], indexed_at: float) -> list[Row]:
    """Return what a search finds of events that came through the HTTP Event Collector, in their order.

    Args:
        envelopes: `{"time", "host", "source", "sourcetype", "fields", "event"}`.
        indexed_at: epoch seconds.

    Returns:
        Their fields, `eventtype` and `tag` among them.
    """
    # Where no index is named, the HEC token's decides: in the app it is the macro's.
    index = config("macros.conf")["tokenservice_index"]["definition"].removeprefix("index=")
    return [_typed(_received(envelope) | {"_indextime": int(indexed_at), "index": index}) for envelope in envelopes]


def _received(envelope: Mapping[str, Any]) -> Row:
    content = envelope["event"]
    found: Row = {
        **envelope["fields"],
        "_time": float(envelope["time"]),
        "_raw": json.dumps(content) if isinstance(content, dict) else content,
        **{name: envelope[name] for name in ("host", "source", "sourcetype")},
    }
    for name, value in searches.flat(content) if isinstance(content, dict) else ():
        found[name] = f"{found[name]}\n{value}" if name in found else value
    return found


def _typed(found: Row) -> Row:
    """Return an event with the fields that `props.conf` makes of those that are there, and with its types and tags."""
    made = calculations(found["sourcetype"])
    used = {token for sql in made.values() for token in sql if isinstance(token, Field)}
    search = searches.Search(found.keys() | used, [found])
    search.set(made)
    [event] = search.rows
    kinds, tags = config("eventtypes.conf"), dict(config("tags.conf"))
    types = [name for name in kinds.sections() if searches.value(terms(expanded(kinds[name]["search"])), event)]
    return event | {
        "eventtype": "\n".join(types),
        "tag": "\n".join(tag for name in types for tag in tags.get(f"eventtype={name}", ())),
    }


@cache
def calculations(sourcetype: str) -> dict[str, Sql]:
    """Return the calculated fields of a sourcetype, and how each is made."""
    section = config("props.conf")[sourcetype]
    return {key.removeprefix("EVAL-"): expression(section[key]) for key in section if key.startswith("EVAL-")}


# --- Searches --------------------------------------------------------------------------------------------------------

_QUOTED: Final = pp.QuotedString('"', unquote_results=False)
_COMMANDS: Final = pp.DelimitedList(pp.original_text_for((_QUOTED | pp.Regex(r'[^"|]+'))[1, ...]), delim="|")
_ARGUMENT: Final = pp.original_text_for(pp.nested_expr())
_AGGREGATE: Final = _NAME("function") + pp.Opt(_ARGUMENT("argument")) + pp.Opt("AS" + _NAME("name"))
_AGGREGATES_OF: Final = pp.Suppress(pp.Opt(pp.Regex(r"limit=\d+"))) + pp.Group(_AGGREGATE)[1, ...]
_AGGREGATES: Final = {name: (f"{name}(", ")") for name in ("avg", "count", "max", "min", "sum")} | {
    "dc": ("count( DISTINCT", ")"),
    "latest": ("latest_of(", ")"),
    "p50": ("middle(", ")"),
    "p99": ("topmost(", ")"),
    "values": ("values_of(", ")"),
}


def _aggregates(text: str) -> dict[str, Sql]:
    """Read `count dc(tokenId) AS tokens sum(eval(…)) AS used`: the name of each result, and how it is made."""
    made: dict[str, Sql] = {}
    for found in _AGGREGATES_OF.parse_string(text, parse_all=True):
        function, argument = found["function"], found.get("argument", "(1)")
        sql = expression(argument[1:-1].removeprefix("eval"))
        if function == "count" and argument.startswith("(eval("):
            sql = ("nullif(", *sql, ", 0)")  # what a condition says no to is not counted
        begin, end = _AGGREGATES[function]
        made[found.get("name", function + found.get("argument", ""))] = (begin, *sql, end)
    return made


class Search(searches.Search):
    """Follows a search of Splunk's from command to command."""

    def follow(self, text: str) -> None:
        for command in _COMMANDS.parse_string(expanded(text), parse_all=True):
            name, _, rest = command.strip().partition(" ")
            step: Callable[[str], None] | None = getattr(self, f"_{name}", None)
            if step is None:
                self.keep(terms(command))
            else:
                step(rest)

    def _search(self, rest: str) -> None:
        self.keep(terms(rest))

    def _where(self, rest: str) -> None:
        self.keep(expression(rest))

    def _eval(self, rest: str) -> None:
        name, _, text = rest.partition("=")
        self.set({name: expression(text)})

    def _dedup(self, rest: str) -> None:
        name = rest.removesuffix(" keepempty=true")
        self.use(name)
        firsts: dict[Any, Row] = {}
        self.rows = [row for row in self.rows if name not in row or firsts.setdefault(row[name], row) is row]

    def _fillnull(self, rest: str) -> None:
        value, *names = rest.split()
        self.use(*names)
        self.rows = [dict.fromkeys(names, value.removeprefix("value=").strip('"')) | row for row in self.rows]

    def _bin(self, rest: str) -> None:
        name = rest.removesuffix(" span=5m")
        self.set({name: ("CAST(", Field(name), "AS INTEGER) / 300 * 300")})

    def _stats(self, rest: str) -> None:
        made, _, by = rest.partition(" by ")
        self.group(_aggregates(made), by.split())

    def _eventstats(self, rest: str) -> None:
        """Add to each row what is made of all rows."""
        whole = Search(self.fields, self.rows)
        whole.group(_aggregates(rest), [])
        self.fields |= whole.fields
        self.rows = [row | whole.rows[0] for row in self.rows]

    def _timechart(self, rest: str) -> None:
        """How the time is cut does not matter here."""
        self._stats(f"{rest} _time" if " by " in rest else f"{rest} by _time")

    def _rex(self, rest: str) -> None:
        self.use("_raw")
        pattern = re.compile(rest.strip('"').replace("(?<", "(?P<"))
        self.fields.update(pattern.groupindex)
        self.rows = [row | found.groupdict() if (found := pattern.search(row["_raw"])) else row for row in self.rows]

    def _lookup(self, rest: str) -> None:
        table, field, output, *made = rest.split()
        assert output == "OUTPUT"
        self.use(field)
        found = {row[field]: {name: row[name] for name in made} for row in lookup(table)}
        self.fields.update(made)
        self.rows = [row | found.get(row[field], {}) for row in self.rows]

    def _rename(self, rest: str) -> None:
        names = rest.replace(",", " ").split()
        assert set(names[1::3]) == {"AS"}
        renamed = dict(zip(names[::3], names[2::3], strict=True))
        self.use(*renamed)
        self.fields = self.fields - set(renamed) | set(renamed.values())
        self.rows = [{renamed.get(name, name): value for name, value in row.items()} for row in self.rows]

    def _sort(self, rest: str) -> None:
        self.sort(rest.removeprefix("- "), descending=rest.startswith("- "))

    def _table(self, rest: str) -> None:
        self.use(*rest.split())
        self.fields = set(rest.split())

    _fields = _table

    def _head(self, rest: str) -> None:
        self.rows = self.rows[: int(rest)]

    def _convert(self, rest: str) -> None:
        self.use(*re.findall(r"ctime\((\w+)\)", rest))


def lookup(table: str) -> list[dict[str, str]]:
    """Read a lookup table of the app."""
    path = APP / "lookups" / config("transforms.conf")[table]["filename"]
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
