"""The picture of the CloudWatch dashboard shows the dashboard as it is defined, and leaves nothing out in silence."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from chalicelib.audit import NAMESPACE
from chalicelib.tokens import Reason
from infra.dashboard.day import STEPS, values
from infra.dashboard.definition import DEFINITION as PATH
from infra.dashboard.definition import Series, UnknownPart, digest, graphs, operations
from infra.dashboard.picture import NOTE, PICTURE
from tests.splunk_search import written
from tokenctl.costs import lines

DEFINITION = json.loads(PATH.read_text("utf-8"))


def notes(png: bytes) -> dict[str, str]:
    """The text entries of a PNG file. Source: PNG specification, "tEXt Textual data"."""
    found, at = {}, 8
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        if kind == b"tEXt":
            name, _, text = png[at + 8 : at + 8 + length].decode("latin-1").partition("\0")
            found[name] = text
        at += length + 12
    return found


def test_the_picture_shows_the_dashboard_as_it_is() -> None:
    told = notes(PICTURE.read_bytes())
    assert told[NOTE] == digest(DEFINITION), "the dashboard has changed: run make dashboard"
    assert "Generated data" in told["Title"]


def test_there_is_generated_data_for_every_metric() -> None:
    for graph in graphs(DEFINITION):
        for series in graph.series:
            made = values(series)
            assert len(made) == STEPS
            assert made == values(series)


def test_searches_find_what_the_code_knows() -> None:
    ours = [series for graph in graphs(DEFINITION) for series in graph.series if series.namespace == NAMESPACE]
    found = {series.label for series in ours if len(series.dimensions) > 1}
    assert found >= {reason.value for reason in Reason}
    timed = {dict(dimensions).get("Operation") for name, dimensions in lines.series(written())} - {None}
    assert found - {reason.value for reason in Reason} == set(operations())
    assert timed <= set(operations())
    assert not {name for name in operations() if name.endswith("_clients")}, "tokenctl alone lists clients"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("widgets", 0, "type"), "text"),
        (("widgets", 0, "stacked"), True),
        (("widgets", 0, "properties", "view"), "pie"),
        (("widgets", 0, "properties", "annotations"), {}),
        (("widgets", 0, "properties", "period"), 60),
        (("widgets", 0, "properties", "legend"), {"position": "hidden"}),
        (("widgets", 0, "properties", "yAxis"), {}),
        (("widgets", 0, "properties", "metrics", 0, -1, "visible"), False),
        (("widgets", 2, "properties", "metrics", 0, 0, "expression"), "SEARCH('{A,B}', 'Sum', 300)"),
        (("variables",), []),
        (("start",), "-PT3H"),
    ],
)
def test_a_part_of_the_dashboard_that_can_t_be_drawn_is_an_error(place: tuple[Any, ...], value: Any) -> None:
    changed = json.loads(json.dumps(DEFINITION))
    inner = changed
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    with pytest.raises(UnknownPart):
        graphs(changed)


def test_a_metric_without_generated_data_is_an_error() -> None:
    with pytest.raises(UnknownPart):
        values(Series(NAMESPACE, "TokensLost", (("Stage", "prod"),), "Sum", "lost"))
