"""The CloudWatch dashboard as `deploy/dashboard.json` defines it: which graph stands where and shows which metrics.

A part that is not known here is an error, so that nothing is left out in silence. What a SEARCH finds is what the code
can write.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chalicelib.tokens import Reason

ROOT: Final = Path(__file__).resolve().parents[2]
DEFINITION: Final = ROOT / "deploy" / "dashboard.json"
STAGE: Final = "prod"
REGION: Final = "eu-central-1"

COLUMNS: Final = 24  # Source: Amazon CloudWatch API reference, "Dashboard body structure and syntax"
STEP: Final = 300  # seconds between two points

_SEARCH: Final = re.compile(
    r"SEARCH\('\{(?P<namespace>[\w/]+),Stage,(?P<dimension>\w+)\} "
    r"MetricName=\"(?P<name>\w+)\" Stage=\"(?P<stage>[\w-]+)\"', '(?P<stat>\w+)', (?P<period>\d+)\)"
)


class UnknownPart(Exception):
    """The definition has a part that is not known here; the message is one line that names it."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a graph.

    Attributes:
        dimensions: names and values in the order of the definition.
        stat: `Sum`, `p99` and the like.
        right: whether it counts on the right axis.
    """

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    stat: str
    label: str
    colour: str | None = None
    right: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """One widget.

    Attributes:
        place: x, y, width and height in units of the grid.
        legend: `bottom` or `right`.
        labels: what each axis, `left` and perhaps `right`, counts.
    """

    place: tuple[int, int, int, int]
    title: str
    series: tuple[Series, ...]
    stacked: bool
    legend: str
    labels: Mapping[str, str]


def graphs(definition: Mapping[str, Any]) -> list[Graph]:
    """The widgets of a dashboard, from top left to bottom right.

    Raises:
        UnknownPart: the definition has something that is not known here.
    """
    text = json.dumps(definition).replace("${Stage}", STAGE).replace("${AWS::Region}", REGION)
    known = _Known(json.loads(text), "the dashboard")
    known.want("start", "-P1D")
    found = [_graph(each) for each in known.take("widgets")]
    known.end()
    return sorted(found, key=lambda graph: (graph.place[1], graph.place[0]))


class _Known:
    """An object of the definition, of which everything has to be taken."""

    def __init__(self, members: Mapping[str, Any], where: str) -> None:
        self._left = dict(members)
        self.where = where

    def take(self, name: str, *default: Any) -> Any:
        if name not in self._left and not default:
            raise UnknownPart(f"{self.where}: {name} is missing")
        return self._left.pop(name, *default)

    def want(self, name: str, *values: Any) -> Any:
        """Take what has to be one of these values; of several, the first stands for nothing said."""
        value = self.take(name, *values[: len(values) > 1])
        if value not in values:
            raise UnknownPart(f"{self.where}: {name} {value!r} is not known here")
        return value

    def inner(self, name: str, *default: Any) -> _Known:
        return _Known(self.take(name, *default), f"{self.where}, {name}")

    def end(self) -> None:
        if self._left:
            raise UnknownPart(f"{self.where}: {', '.join(self._left)} is not known here")


def _graph(members: Mapping[str, Any]) -> Graph:
    widget = _Known(members, f"widget at {members.get('x')}, {members.get('y')}")
    widget.want("type", "metric")
    x, y, width, height = (widget.take(name) for name in ("x", "y", "width", "height"))
    said = widget.inner("properties")
    widget.end()
    said.want("region", REGION)
    said.want("view", "timeSeries")
    said.want("period", STEP)
    legend, axes = said.inner("legend", {}), said.inner("yAxis")
    series = tuple(_all_series(said.take("metrics"), said.take("stat"), said.where))
    sides = ["left", *("right" for _ in range(any(each.right for each in series)))]
    graph = Graph(
        (x, y, width, height),
        title=said.take("title"),
        series=series,
        stacked=said.want("stacked", False, True),
        legend=legend.want("position", "bottom", "right"),
        labels={side: _axis_label(axes.inner(side)) for side in sides},
    )
    for each in (legend, axes, said):
        each.end()
    return graph


def _axis_label(axis: _Known) -> str:
    axis.want("min", 0)
    axis.want("showUnits", False)
    label = str(axis.take("label"))
    axis.end()
    return label


def _all_series(metrics: Sequence[Sequence[Any]], stat: str, where: str) -> Iterator[Series]:
    before: list[str] = []
    for metric in metrics:
        options = _Known(metric[-1] if isinstance(metric[-1], dict) else {}, f"{where}, metrics")
        expression = options.take("expression", None)
        if expression is not None:
            options.take("id")
            options.want("label", "")  # CloudWatch then calls each line by what tells it from the others
            yield from _found(expression, where)
        else:
            before = _in_full([text for text in metric if isinstance(text, str)], before)
            namespace, name, *dimensions = before
            yield Series(
                namespace,
                name,
                tuple(zip(dimensions[::2], dimensions[1::2], strict=True)),
                stat=options.take("stat", stat),
                label=options.take("label", name),
                colour=options.take("color", None),
                right=options.want("yAxis", "left", "right") == "right",
            )
        options.end()


def _in_full(written: list[str], before: list[str]) -> list[str]:
    """A metric's names: `.` stands for what the one before has in its place, `...` for all that is not written."""
    if written[0] == "...":
        written = before[: len(before) - len(written) + 1] + written[1:]
    return [before[place] if text == "." else text for place, text in enumerate(written)]


def _found(expression: str, where: str) -> Iterator[Series]:
    match = _SEARCH.fullmatch(expression)
    values = {"Reason": reasons, "Operation": operations}.get(match["dimension"]) if match else None
    if match is None or values is None or int(match["period"]) != STEP:
        raise UnknownPart(f"{where}: {expression} is not known here")
    for value in values():
        dimensions = (("Stage", match["stage"]), (match["dimension"], value))
        yield Series(match["namespace"], match["name"], dimensions, match["stat"], value)


def reasons() -> list[str]:
    """Why a use is refused, in the order of the rules."""
    return [reason.value for reason in Reason]


def operations() -> list[str]:
    """What the service and the authorizer ask of their stores, by the names under which the stores time it."""
    code, found = ROOT / "chalicelib", []
    for room, store, kept in (("service", "TokenStore", "token_store"), ("authorizer", "ClientStore", "client_store")):
        asked = {method.name for method in _methods(code / f"{room}.py", store)}
        for method in _methods(code / "storage" / f"{kept}.py", store):
            calls = (ast.unparse(node) for node in ast.walk(method) if isinstance(node, ast.Call))
            names = [match[1] for call in calls if (match := re.match(r"self\._\w+\('(\w+)'", call))]
            found += names if method.name in asked else []
    return found


def _methods(path: Path, name: str) -> Iterator[ast.FunctionDef]:
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield from (each for each in node.body if isinstance(each, ast.FunctionDef))
