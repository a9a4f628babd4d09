"""The two dashboards ask the same questions, and ask them of what the service really writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from functools import cache
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from chalice.package import YAMLTemplateSerializer

from chalicelib.audit import NAMESPACE
from chalicelib.splunk.forward import EVENT_SOURCETYPE
from deploy.checks.splunk_app import APP
from dev.engine import ROOT
from tests.support import dashboard_definition as definition
from tests.support.dashboard_definition import Graph, Series
from tests.support.splunk_search import Search, Unknown, known_to, written
from tokenctl.costs import lines

DEFINITION = json.loads(definition.DEFINITION.read_text("utf-8"))
VIEW = ET.parse(APP / "default/data/ui/views/tokenservice.xml").getroot()
QUESTIONS = 5

AWS_METRICS = {
    "AWS/ApiGateway": {"Count", "Latency", "5XXError"},
    "AWS/Lambda": {"Duration", "Errors", "Throttles"},
}
"""Source: the developer guides of API Gateway and Lambda, "metrics"."""


# --- The questions ---------------------------------------------------------------------------------------------------


def rows_of_cloudwatch() -> list[list[Graph]]:
    graphs = definition.graphs(DEFINITION)
    heights = sorted({graph.place[1] for graph in graphs})
    return [[graph for graph in graphs if graph.place[1] == y] for y in heights]


def headings_of_splunk() -> list[str]:
    """What stands over the first panel of each row."""
    return [row.findtext("panel[1]/title") or "" for row in VIEW.findall("row")]


def test_the_five_questions_are_the_same_in_the_same_order() -> None:
    asked = [row[0].title for row in rows_of_cloudwatch()]
    assert len(asked) == QUESTIONS
    assert all(title.endswith("?") for title in asked)
    assert headings_of_splunk()[:QUESTIONS] == asked
    table = (
        (ROOT / "docs" / "splunk.md").read_text("utf-8").partition("\n## The five questions\n")[2].partition("\n## ")[0]
    )
    assert re.findall(r"^\| ([^|]+\?) \|", table, re.MULTILINE) == asked


def test_what_is_beyond_the_questions_stands_below_them_under_a_heading_of_its_own() -> None:
    beyond = headings_of_splunk()[QUESTIONS:]
    assert beyond
    assert beyond[0]
    assert not any(title.endswith("?") for title in beyond)


def test_the_documents_name_every_graph_and_every_panel_of_the_questions() -> None:
    told = (ROOT / "docs" / "splunk.md").read_text("utf-8")
    for row in rows_of_cloudwatch():
        for graph in row[1:]:
            assert graph.title in told
    for row in VIEW.findall("row")[:QUESTIONS]:
        for title in row.findall("panel/title")[1:]:
            assert str(title.text) in told


# --- CloudWatch ------------------------------------------------------------------------------------------------------


def test_widgets_fill_the_grid_without_overlap() -> None:
    taken = [
        (column, line)
        for row in rows_of_cloudwatch()
        for x, y, width, height in (graph.place for graph in row)
        for column in range(x, x + width)
        for line in range(y, y + height)
    ]
    assert len(taken) == len(set(taken))
    assert set(taken) == {(column, line) for column in range(24) for line in range(max(y for _, y in taken) + 1)}


def shown(namespaces: Sequence[str]) -> Iterator[Series]:
    for graph in definition.graphs(DEFINITION):
        yield from (series for series in graph.series if series.namespace in namespaces)


def test_every_metric_of_ours_is_written_with_these_dimensions() -> None:
    known = {(name, tuple(key for key, _ in dimensions)) for name, dimensions in lines.series(written())}
    for series in shown([NAMESPACE]):
        assert (series.name, tuple(key for key, _ in series.dimensions)) in known, series
        assert dict(series.dimensions)["Stage"] == "prod"


@cache
def resources() -> dict[str, dict[str, Any]]:
    path = ROOT / "deploy" / "resources.yaml"
    found: dict[str, dict[str, Any]] = YAMLTemplateSerializer().load_template(path.read_text("utf-8"), path.name)[
        "Resources"
    ]
    return found


def named(kind: str) -> set[str]:
    """What the template calls its resources by a property, in the stage prod."""
    found = (each["Properties"].get(kind) for each in resources().values())
    return {
        each["Fn::Sub"].replace("${Stage}", "prod") for each in found if isinstance(each, dict) and "Fn::Sub" in each
    }


def test_every_metric_of_aws_is_of_a_function_or_api_that_the_template_has() -> None:
    stages = json.loads((ROOT / ".chalice" / "config.json").read_text("utf-8"))["stages"]
    [api_stage] = {stage["api_gateway_stage"] for name, stage in stages.items() if name != "local"}
    api = resources()["RestAPI"]["Properties"]["Name"]["Fn::Sub"].replace("${Stage}", "prod")
    others = list(shown(list(AWS_METRICS)))
    assert len(others) + len(list(shown([NAMESPACE]))) == sum(len(g.series) for g in definition.graphs(DEFINITION))
    for series in others:
        assert series.name in AWS_METRICS[series.namespace], series
        if series.namespace == "AWS/ApiGateway":
            assert series.dimensions == (("ApiName", api), ("Stage", api_stage))
        else:
            [(key, name)] = series.dimensions
            assert key == "FunctionName"
            assert name in named("FunctionName")


# --- Splunk ----------------------------------------------------------------------------------------------------------


def bases() -> dict[str, str]:
    return {str(each.get("id")): str(each.findtext("query")) for each in VIEW.findall("search")}


def searches() -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """Each search of the view: its text and the name of the one that it goes on from."""
    for number, each in enumerate(VIEW.iter("search")):
        yield f"{number}", str(each.findtext("query")), each.attrib


@pytest.mark.parametrize(
    ("text", "attributes"), [found[1:] for found in searches()], ids=[found[0] for found in searches()]
)
def test_every_field_of_a_search_is_one_that_arrives_or_that_props_conf_makes(
    text: str, attributes: Mapping[str, str]
) -> None:
    if "base" in attributes:
        begun = bases()[attributes["base"]]
        Search(Search(known_to(begun)).follow(begun)).follow(text)
    else:
        Search(known_to(text)).follow(text)


@pytest.mark.parametrize(
    "text",
    [
        "`tokenservice_index` sourcetype=tokenservice evnt=token.used",
        "sourcetype=tokenservice | stats count by reasn",
        "sourcetype=tokenservice | stats avg(StoreLatncy) AS mean",
        "sourcetype=tokenservice | stats count by reason | sort - clientId",
        'sourcetype=tokenservice | eval a=if(evnt=="x", 1, 0)',
    ],
)
def test_a_field_that_is_not_there_is_found(text: str) -> None:
    with pytest.raises(Unknown):
        Search(known_to(text)).follow(text)


def test_what_goes_on_from_another_search_finds_all_of_its_results() -> None:
    """Of a search that hands on plain events, Splunk keeps the first 500,000."""
    for text in bases().values():
        assert "| stats " in text


def test_every_search_names_log_groups_that_are_forwarded() -> None:
    subscribed = {
        resources()[each["Properties"]["LogGroupName"]["Ref"]]["Properties"]["LogGroupName"]["Fn::Sub"]
        for each in resources().values()
        if each.get("Type") == "AWS::Logs::SubscriptionFilter"
    }
    named_groups = {group for _, text, _ in searches() for group in re.findall(r' \(?source="([^"]+)"', text)}
    assert named_groups
    assert {group.replace("$stage$", "${Stage}") for group in named_groups} <= subscribed


def test_the_alarms_of_the_forwarders_are_alarms_that_there_are() -> None:
    [text] = [text for _, text, _ in searches() if EVENT_SOURCETYPE in text]
    [wanted] = re.findall(r"detail\.alarmName IN \(([^)]+)\)", text.replace("$stage$", "prod"))
    alarms = named("AlarmName")
    found = [{alarm for alarm in alarms if fnmatch(alarm, pattern)} for pattern in re.findall(r'"([^"]+)"', wanted)]
    assert all(found)
    about = {alarm for alarm in alarms if re.search("forwarder|events-|entries-|redrive|failure-record", alarm)}
    assert set().union(*found) == about


def test_the_duration_of_a_call_is_found_in_the_line_that_lambda_writes() -> None:
    [pattern] = {each for _, text, _ in searches() for each in re.findall(r'rex "([^"]+)"', text)}
    found = [re.search(pattern.replace("(?<", "(?P<"), line) for line in lines.PLATFORM]
    assert [match["duration"] for match in found if match] == ["9.87"]
