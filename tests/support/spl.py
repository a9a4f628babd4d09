"""Splunk's expressions and search terms, compiled to Python: what an event has to be like, without a Splunk.

Only what the app in splunk/ and Splunk's data models use. Anything else raises `NotUnderstood`, so that no check passes
on a text that was read wrongly. Sources: Splunk, "Search Reference", evaluation functions; "Search Manual", boolean
expressions and time modifiers.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from functools import cache, partial, reduce
from typing import Any, Final

import pyparsing as pp

Event = Mapping[str, Any]
"""A field's name to its value: text, number, or a list of texts; a field that is missing is not in it, or None."""

SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class NotUnderstood(ValueError):
    """The text uses something that is not implemented here."""


Value = Callable[[Event], Any]
"""What a text became: its value for an event."""


def fields_of(value: Value) -> set[str]:
    """Return the fields that a text uses: all are read, whatever the value depends on."""
    used: set[str] = set()

    class Recorder(dict[str, Any]):
        def get(self, name: str, default: object = None) -> Any:
            used.add(name)
            return default

    value(Recorder())
    return used


def parse(grammar: pp.ParserElement, text: str) -> pp.ParseResults:
    """Parse a whole text.

    Raises:
        NotUnderstood: the grammar does not cover it.
    """
    try:
        return grammar.parse_string(text.strip(), parse_all=True)
    except pp.ParseException as error:
        raise NotUnderstood(f"{text!r}: {error}") from None


# --- Time ------------------------------------------------------------------------------------------------------------

_UNIT: Final = pp.one_of(list(SECONDS))
SPAN: Final = (pp.Regex(r"\d+") + _UNIT).add_parse_action(lambda span: int(span[0]) * SECONDS[span[1]])
_SIGN: Final = pp.one_of("+ -").add_parse_action(lambda sign: 1 if sign[0] == "+" else -1)
_MODIFIER: Final = (
    pp.Keyword("now")
    | pp.Regex(r"\d+")("second") + pp.StringEnd()
    | _SIGN("sign") + SPAN("span") + pp.Opt("@" + _UNIT("snap"))
    | "@" + _UNIT("snap")
)


@cache
def _modifier(modifier: str) -> pp.ParseResults:
    return parse(_MODIFIER, modifier)


def instant(modifier: str, now: int) -> int:
    """Return the epoch seconds that a time modifier names: `-5m@m`, `+2h`, `now`, or seconds as they are."""
    parts = _modifier(modifier)
    if "second" in parts:
        return int(parts["second"])
    at: int = now + parts.get("sign", 0) * parts.get("span", 0)
    return at - at % SECONDS[parts["snap"]] if "snap" in parts else at


# --- Values ----------------------------------------------------------------------------------------------------------


def _number(value: object) -> float | None:
    """Return a value as Splunk compares it, if it is a number."""
    try:
        return float(value) if isinstance(value, str | int | float) else None
    except ValueError:
        return None


def order(value: object) -> tuple[bool, float, str]:
    """Return a value as Splunk's `min` and `max` order it: numbers by value, before texts by their letters."""
    number = _number(value)
    return (True, 0.0, text(value)) if number is None else (False, number, "")


def text(value: object) -> str:
    """Return a value as text: a whole number has no decimal point."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _compared(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool | None:
    """A missing field compares with nothing; of a field with several values one has to fit."""
    if left is None or right is None:
        return None
    if isinstance(left, list):
        return any(_compared(compare, value, right) for value in left)
    a, b = _number(left), _number(right)
    return compare(a, b) if a is not None and b is not None else compare(text(left), text(right))


def _unless_missing(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *values: None if None in values else function(*values)


_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_BINARY: Final[dict[str, Callable[[Any, Any], Any]]] = {
    **{symbol: partial(_compared, compare) for symbol, compare in _COMPARE.items()},
    ".": _unless_missing(lambda a, b: text(a) + text(b)),
    "+": _unless_missing(lambda a, b: float(a) + float(b)),
    "-": _unless_missing(lambda a, b: float(a) - float(b)),
    "*": _unless_missing(lambda a, b: float(a) * float(b)),
    "/": _unless_missing(lambda a, b: float(a) / float(b) if float(b) else None),
    "AND": lambda a, b: bool(a and b),
    "OR": lambda a, b: bool(a or b),
}


def _pattern(wanted: str, any_text: str, flags: int = 0) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, wanted.split(any_text))), re.DOTALL | flags)


def _unique(value: Any) -> Any:
    values = list(dict.fromkeys(value)) if isinstance(value, list) else [value]
    return values if len(values) > 1 else values[0]


_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "case": lambda *pairs: next((value for holds, value in zip(pairs[::2], pairs[1::2], strict=True) if holds), None),
    "coalesce": lambda *values: next((value for value in values if value is not None), None),
    "if": lambda holds, then, otherwise: then if holds else otherwise,
    "in": lambda value, *values: any(_compared(operator.eq, value, other) for other in values),
    "isnotnull": lambda value: value is not None,
    "isnull": lambda value: value is None,
    "isnum": lambda value: _number(value) is not None,
    "like": _unless_missing(lambda value, like: _pattern(text(like), "%").fullmatch(text(value)) is not None),
    "max": _unless_missing(lambda *values: max(values, key=float)),
    "mvdedup": _unique,
    "mvindex": lambda value, index: value[int(index)] if isinstance(value, list) else value,
    "null": lambda: None,
    "round": _unless_missing(lambda value, digits=0: round(value, int(digits))),
    "true": lambda: True,
}


# --- Expressions of eval and where -----------------------------------------------------------------------------------


def _apply(function: Callable[..., Any], *arguments: Value) -> Value:
    return lambda event: function(*[argument(event) for argument in arguments])


def _constant(value: object) -> Value:
    return lambda event: value


def _field(name: str) -> Value:
    return lambda event: event.get(name)


def _call(name: str, *arguments: Value) -> Value:
    if name not in _FUNCTIONS:
        raise NotUnderstood(f"function {name}")
    return _apply(_FUNCTIONS[name], *arguments)


def _fold(tokens: pp.ParseResults) -> Value:
    """`a + b - c`, from the left."""
    first, *rest = tokens[0]
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return reduce(lambda left, pair: _apply(_BINARY[pair[0]], left, pair[1]), pairs, first)


def _negated(tokens: pp.ParseResults) -> Value:
    return _apply(operator.not_, tokens[0][1])


def _expression() -> pp.ParserElement:
    whole = pp.Forward()
    name = ~pp.one_of("AND OR NOT", as_keyword=True) + pp.Regex(r"[A-Za-z_]\w*")
    arguments = pp.Suppress("(") + pp.Opt(pp.DelimitedList(whole)) + pp.Suppress(")")
    operand = (
        pp.QuotedString('"', esc_char="\\", convert_whitespace_escapes=False).add_parse_action(
            lambda t: _constant(t[0])
        )
        | pp.Regex(r"\d+(?:\.\d+)?").add_parse_action(lambda t: _constant(float(t[0])))
        | (name + arguments).add_parse_action(lambda t: _call(*t))
        | (pp.QuotedString("'") | name).add_parse_action(lambda t: _field(t[0]))
    )
    binary = [pp.one_of(symbols) for symbols in ("* /", "+ -", ".", "== != <= >= = < >")]
    binary_left = [(symbols, 2, pp.OpAssoc.LEFT, _fold) for symbols in binary]
    whole <<= pp.infix_notation(
        operand,
        [
            *binary_left,
            (pp.Keyword("NOT"), 1, pp.OpAssoc.RIGHT, _negated),
            (pp.Keyword("AND"), 2, pp.OpAssoc.LEFT, _fold),
            (pp.Keyword("OR"), 2, pp.OpAssoc.LEFT, _fold),
        ],
    )
    return whole


# --- Terms of search -------------------------------------------------------------------------------------------------


def _term(name: str, symbol: str, *values: str) -> Value:
    return lambda event: any(_fits(event.get(name), symbol, value) for value in values)


def _fits(value: Any, symbol: str, wanted: str) -> bool:
    """Whether a field fits a term. The case of letters does not matter; a field that is missing fits no term."""
    if symbol not in ("=", "!="):
        return bool(_compared(_COMPARE[symbol], value, wanted))
    values = value if isinstance(value, list) else [] if value is None else [value]
    equal = any(_pattern(wanted, "*", re.IGNORECASE).fullmatch(text(one)) for one in values)
    return equal if symbol == "=" else bool(values) and not equal


def _word(word: str) -> Value:
    pattern = _pattern(word, "*", re.IGNORECASE)
    return lambda event: pattern.search(str(event.get("_raw", ""))) is not None


def _terms() -> pp.ParserElement:
    keyword = pp.one_of("AND OR NOT", as_keyword=True)
    name = pp.Regex(r"[\w.]+")
    quoted = pp.QuotedString('"')
    values = pp.Suppress("(") + pp.DelimitedList(quoted | pp.Regex(r"[^\s(),\"]+")) + pp.Suppress(")")
    value = quoted | pp.Regex(r"[^\s()\"]+")
    term = (
        (name + pp.Keyword("IN").set_parse_action(lambda: "=") + values).add_parse_action(lambda t: _term(*t))
        | (name + pp.one_of("!= = <= >= < >") + value).add_parse_action(lambda t: _term(*t))
        | (~keyword + value).add_parse_action(lambda t: _word(t[0]))
    )
    return pp.infix_notation(
        term,
        [
            (pp.Keyword("NOT"), 1, pp.OpAssoc.RIGHT, _negated),
            (pp.Keyword("OR"), 2, pp.OpAssoc.LEFT, _fold),
            # AND binds the least, and is mostly left out.
            (pp.Opt(pp.Keyword("AND"), default="AND"), 2, pp.OpAssoc.LEFT, _fold),
        ],
    )


_EXPRESSION: Final = _expression()
_TERMS: Final = _terms()


@cache
def expression(text: str) -> Value:
    """Compile an expression of `eval`."""
    compiled: Value = parse(_EXPRESSION, text)[0]
    return compiled


@cache
def terms(search: str) -> Value:
    """Compile terms of `search`: comparisons, IN, words, brackets, NOT, OR, and AND."""
    compiled: Value = parse(_TERMS, search)[0] if search.strip() else _constant(value=True)
    return compiled
