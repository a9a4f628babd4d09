"""Splunk's expressions and search terms, compiled to Python: what an event has to be like, without a Splunk.

Only what the app in splunk/ and Splunk's data models use. Anything else raises `NotUnderstood`, so that no check passes
on a text that was read wrongly. Sources: Splunk, "Search Reference", evaluation functions; "Search Manual", boolean
expressions and time modifiers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

Event = Mapping[str, Any]
"""A field's name to its value: text, number, or a list of texts; a field that is missing is not in it, or None."""
Evaluate = Callable[[Event], Any]

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_RELATIVE: Final = re.compile(r"(?:([+-])(\d+)([smhd]))?(?:@([smhd]))?")
_SYMBOL: Final = re.compile(r"\s*(\"(?:[^\"\\]|\\.)*\"|'[^']*'|\d+(?:\.\d+)?|[A-Za-z_]\w*|==|!=|<=|>=|[-+*/%.<>=(),])")
_TERM: Final = re.compile(
    r"\s*(?:(?P<bracket>[()])"
    r"|(?P<member>[\w.]+)\s+IN\s*\((?P<members>[^)]*)\)"
    r"|(?P<field>[\w.]+)\s*(?P<operator>!=|=|<=|>=|<|>)\s*(?P<value>\"[^\"]*\"|[^\s()\"]+)"
    r"|(?P<word>\"[^\"]*\"|[^\s()\"]+))"
)


class NotUnderstood(ValueError):
    """The text uses something that is not implemented here."""


class Compiled(NamedTuple):
    """What a text became: the fields that it uses, and its value for an event."""

    fields: frozenset[str]
    value: Evaluate


def seconds(span: str) -> int:
    """Return the length of a span of time: `5m` is 300."""
    return int(span[:-1]) * _SECONDS[span[-1]]


def instant(modifier: str, now: int) -> int:
    """Return the epoch seconds that a time modifier stands for: `-5m@m`, `+2h`, `now`, or seconds as they are."""
    if modifier == "now":
        return now
    if modifier.isdigit():
        return int(modifier)
    match = _RELATIVE.fullmatch(modifier)
    if match is None or not modifier:
        raise NotUnderstood(f"time modifier {modifier!r}")
    sign, amount, unit, snap = match.groups()
    at = now + int(f"{sign}{amount}") * _SECONDS[unit] if sign else now
    return at // _SECONDS[snap] * _SECONDS[snap] if snap else at


# --- Expressions of eval and where -----------------------------------------------------------------------------------


@cache
def expression(text: str) -> Compiled:
    """Compile an expression of `eval`."""
    parser = _Parser(text)
    value = parser.disjunction()
    if parser.peek():
        raise NotUnderstood(f"{text!r}: {parser.peek()!r}")
    return Compiled(frozenset(parser.fields), value)


class _Parser:
    """Recursive descent, the loosest operator first: OR, AND, NOT, comparison, `.`, `+ -`, `* / %`."""

    def __init__(self, text: str) -> None:
        self.fields: set[str] = set()
        self._symbols: list[str] = []
        at = 0
        while at < len(text.rstrip()):
            match = _SYMBOL.match(text, at)
            if match is None:
                raise NotUnderstood(f"{text!r} from position {at}")
            self._symbols.append(match[1])
            at = match.end()

    def peek(self) -> str:
        return self._symbols[0] if self._symbols else ""

    def _take(self, *wanted: str) -> str:
        if not self._symbols or (wanted and self.peek() not in wanted):
            raise NotUnderstood(f"{self.peek()!r} where {' or '.join(wanted) or 'a value'} is needed")
        return self._symbols.pop(0)

    def disjunction(self) -> Evaluate:
        parts = [self._conjunction()]
        while self.peek() == "OR":
            self._take()
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else lambda event: any(part(event) for part in parts)

    def _conjunction(self) -> Evaluate:
        parts = [self._negation()]
        while self.peek() == "AND":
            self._take()
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else lambda event: all(part(event) for part in parts)

    def _negation(self) -> Evaluate:
        if self.peek() != "NOT":
            return self._comparison()
        self._take()
        negated = self._negation()
        return lambda event: not negated(event)

    def _comparison(self) -> Evaluate:
        left = self._chain(0)
        if self.peek() not in _COMPARE:
            return left
        compare, right = _COMPARE[self._take()], self._chain(0)
        return lambda event: _compared(compare, left(event), right(event))

    def _chain(self, level: int) -> Evaluate:
        if level == len(_BINARY):
            return self._operand()
        value = self._chain(level + 1)
        while self.peek() in _BINARY[level]:
            value = _applied(_BINARY[level][self._take()], value, self._chain(level + 1))
        return value

    def _operand(self) -> Evaluate:
        symbol = self._take()
        constant: Any = None
        if symbol == "(":
            inner = self.disjunction()
            self._take(")")
            return inner
        if symbol[0] == '"':
            constant = re.sub(r"\\(.)", r"\1", symbol[1:-1])
        elif symbol[0].isdigit():
            constant = float(symbol)
        elif self.peek() == "(":
            return self._call(symbol)
        else:
            name = symbol.strip("'")
            self.fields.add(name)
            return lambda event: event.get(name)
        return lambda event: constant

    def _call(self, name: str) -> Evaluate:
        function = _FUNCTIONS.get(name)
        if function is None:
            raise NotUnderstood(f"function {name}")
        self._take("(")
        arguments: list[Evaluate] = []
        while self.peek() != ")":
            arguments.append(self.disjunction())
            if self.peek() != ")":
                self._take(",")
        self._take(")")
        return lambda event: function(*(argument(event) for argument in arguments))


def _applied(operator: Callable[[Any, Any], Any], left: Evaluate, right: Evaluate) -> Evaluate:
    def value(event: Event) -> Any:
        a, b = left(event), right(event)
        return None if a is None or b is None else operator(a, b)

    return value


def number(value: object) -> float | None:
    """Return a value as Splunk compares it, if it is a number."""
    if isinstance(value, str | int | float):
        try:
            return float(value)
        except ValueError:
            return None
    return None


def text(value: object) -> str:
    """Return a value as text: a whole number has no decimal point."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _compared(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool | None:
    """A missing field compares with nothing; of a field with several values one has to fit."""
    if left is None or right is None:
        return None
    if isinstance(left, list):
        return any(_compared(compare, each, right) for each in left)
    a, b = number(left), number(right)
    return compare(a, b) if a is not None and b is not None else compare(text(left), text(right))


_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": lambda a, b: a == b,
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_BINARY: Final[Sequence[dict[str, Callable[[Any, Any], Any]]]] = (
    {".": lambda a, b: text(a) + text(b)},
    {"+": lambda a, b: float(a) + float(b), "-": lambda a, b: float(a) - float(b)},
    {"*": lambda a, b: float(a) * float(b), "/": lambda a, b: float(a) / float(b)},
)


def _like(value: object, pattern: object) -> bool | None:
    if value is None or pattern is None:
        return None
    return (
        re.fullmatch(re.escape(text(pattern)).replace("%", ".*").replace("_", "."), text(value), re.DOTALL) is not None
    )


def _unique(value: Any) -> Any:
    values = list(dict.fromkeys(value)) if isinstance(value, list) else [value]
    return values if len(values) > 1 else values[0]


_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "case": lambda *pairs: next((value for holds, value in zip(pairs[::2], pairs[1::2], strict=True) if holds), None),
    "coalesce": lambda *values: next((value for value in values if value is not None), None),
    "if": lambda holds, then, otherwise: then if holds else otherwise,
    "in": lambda value, *values: any(_compared(_COMPARE["="], value, each) for each in values),
    "isnotnull": lambda value: value is not None,
    "isnull": lambda value: value is None,
    "isnum": lambda value: number(value) is not None,
    "like": _like,
    "max": lambda *values: max(values, key=float),
    "mvdedup": _unique,
    "mvindex": lambda value, index: value[int(index)] if isinstance(value, list) else value,
    "null": lambda: None,
    "round": lambda value, digits=0: None if value is None else round(value, int(digits)),
    "true": lambda: True,
}


# --- Terms of search -------------------------------------------------------------------------------------------------


@cache
def terms(search: str) -> Compiled:
    """Compile terms of `search`: comparisons, IN, words, brackets, NOT, OR, and AND, which binds the least."""
    found: list[re.Match[str]] = []
    at = 0
    while at < len(search.rstrip()):
        match = _TERM.match(search, at)
        if match is None:
            raise NotUnderstood(f"{search!r} from position {at}")
        found.append(match)
        at = match.end()
    fields = frozenset(name for match in found if (name := match["field"] or match["member"]))
    value = _all_of(found)
    if found:
        raise NotUnderstood(f"{search!r}: {found[0][0]!r}")
    return Compiled(fields, value)


def _comes(found: Sequence[re.Match[str]]) -> str:
    return found[0][0].strip() if found else ")"


def _all_of(found: list[re.Match[str]]) -> Evaluate:
    parts = []
    while _comes(found) != ")":
        if _comes(found) == "AND":
            found.pop(0)
        parts.append(_any_of(found))
    return lambda event: all(part(event) for part in parts)


def _any_of(found: list[re.Match[str]]) -> Evaluate:
    parts = [_one_of(found)]
    while _comes(found) == "OR":
        found.pop(0)
        parts.append(_one_of(found))
    return lambda event: any(part(event) for part in parts)


def _one_of(found: list[re.Match[str]]) -> Evaluate:
    if not found:
        raise NotUnderstood("a term is missing at the end")
    match = found.pop(0)
    if match["word"] == "NOT":
        negated = _one_of(found)
        return lambda event: not negated(event)
    if match["bracket"]:
        inner = _all_of(found)
        if not found:
            raise NotUnderstood("a bracket is not closed")
        found.pop(0)
        return inner
    if match["member"]:
        values = [value.strip() for value in match["members"].split(",")]
        return lambda event: any(_fits(event.get(match["member"]), "=", value) for value in values)
    if match["field"]:
        return lambda event: _fits(event.get(match["field"]), match["operator"], match["value"])
    word = _wildcards(f"*{match['word'].strip(chr(34))}*")
    return lambda event: word.fullmatch(str(event.get("_raw", ""))) is not None


def _fits(value: Any, operator: str, wanted: str) -> bool:
    """Whether a field fits a term. The case of letters does not matter; a field that is missing fits no term."""
    wanted = wanted.strip('"')
    if operator not in ("=", "!="):
        return bool(_compared(_COMPARE[operator], value, wanted))
    values = value if isinstance(value, list) else [] if value is None else [value]
    equal = any(_wildcards(wanted).fullmatch(text(each)) for each in values)
    return equal if operator == "=" else bool(values) and not equal


def _wildcards(wanted: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, wanted.split("*"))), re.IGNORECASE | re.DOTALL)
