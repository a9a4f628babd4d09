"""The two dashboards answer the same questions, from metrics and events that the service writes."""

from __future__ import annotations

import json
import re
import shlex
from fnmatch import fnmatch
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import pytest

from chalicelib.audit import NAMESPACE
from chalicelib.log_names import KEPT, WATCHED_REASON, Metric
from chalicelib.splunk.forward import EVENT_SOURCETYPE
from chalicelib.tokens import Reason
from deploy.resources import of_type, read_template, stage_template
from dev.engine import ROOT
from tests.support import insights, stage_logs
from tests.support import log_lines as lines
from tests.support.splunk_app import APP
from tokenctl.logs import LOG_GROUPS

Widget = dict[str, Any]
WIDGETS: list[Widget] = json.loads((ROOT / "deploy" / "dashboard.json").read_text("utf-8").replace("${Stage}", "prod"))[
    "widgets"
]
VIEW = ET.parse(APP / "default/data/ui/views/tokenservice.xml").getroot()
QUESTIONS = 5

AWS_METRICS = {
    "AWS/ApiGateway": {"Count", "Latency", "5XXError"},
    "AWS/Lambda": {"Duration", "Errors", "Throttles"},
    "AWS/DynamoDB": {"WriteThrottleEvents"},
}
"""Source: the developer guides of API Gateway, Lambda and DynamoDB, "metrics"."""


def test_the_five_questions_are_the_same_in_the_same_order() -> None:
    """The first widget of each row of CloudWatch, and the first panel of each row of Splunk, has the question."""
    widgets = sorted(WIDGETS, key=lambda widget: (widget["y"], widget["x"]))
    rows = [list(row) for _, row in groupby(widgets, key=lambda widget: widget["y"])]
    questions = [row[0]["properties"]["title"] for row in rows]
    headings = [row.findtext("panel[1]/title") or "" for row in VIEW.findall("row")]
    assert len(questions) == QUESTIONS
    assert all(title.endswith("?") for title in questions)
    assert headings == questions


class Shown(NamedTuple):
    """A metric of a widget or an alarm."""

    namespace: str
    name: str
    dimensions: dict[str, Any]


def shown() -> list[Shown]:
    """The metrics of the dashboard."""
    found = []
    for widget in WIDGETS:
        for namespace, name, *rest in widget["properties"].get("metrics", ()):
            dimensions = [text for text in rest if isinstance(text, str)]
            found.append(Shown(namespace, name, dict(zip(dimensions[::2], dimensions[1::2], strict=True))))
    return found


def metrics_of(alarm: dict[str, Any]) -> list[dict[str, Any]]:
    """The metrics that an alarm watches: its own, or those of its expression."""
    if "MetricName" in alarm:
        return [alarm]
    return [query["MetricStat"]["Metric"] for query in alarm["Metrics"] if "MetricStat" in query]


def watched() -> dict[str, list[Shown]]:
    """The metrics of each alarm of prod."""
    alarms = of_type(stage_template("prod"), "AWS::CloudWatch::Alarm").values()
    return {
        alarm["AlarmName"]["Fn::Sub"].removeprefix("tokenservice-${Stage}-"): [
            Shown(each["Namespace"], each["MetricName"], {each["Name"]: each["Value"] for each in each["Dimensions"]})
            for each in metrics_of(alarm)
        ]
        for alarm in alarms
    }


def written() -> list[str]:
    """The lines that are JSON."""
    return [line for group in stage_logs.lines().values() for line in group if line.startswith("{")]


@cache
def kept() -> set[tuple[str, tuple[str, ...]]]:
    """Names and dimensions of the metrics that CloudWatch keeps of our lines."""
    return {(name, tuple(key for key, _ in dimensions)) for name, dimensions in lines.series(written())}


def test_every_metric_of_the_dashboard_and_of_an_alarm_is_written_with_its_dimensions() -> None:
    alarmed = [each for metrics in watched().values() for each in metrics]
    for metrics, stage in ((shown(), "prod"), (alarmed, {"Ref": "Stage"})):
        ours = [metric for metric in metrics if metric.namespace == NAMESPACE]
        assert ours
        for metric in ours:
            assert (metric.name, tuple(metric.dimensions)) in kept(), metric
            assert metric.dimensions["Stage"] == stage
            assert metric.dimensions.get("Reason", Reason.LOCKED) == Reason.LOCKED == WATCHED_REASON


def test_every_measurement_is_written_and_those_that_are_kept_are_metrics() -> None:
    members = {name for line in written() for name in json.loads(line)}
    assert {*Metric} <= members
    assert {name for name, _ in kept()} == KEPT


# The public names of the log events, which the contract has as metrics; an alarm watches `AuthRefused` as well.
PUBLIC = {"TokensIssued", "TokensUsed", "TokensRefused", "StoreLatency"}


def test_ten_metrics_are_kept_at_most_each_for_an_alarm_or_by_a_public_name() -> None:
    assert len(set(lines.series(written()))) <= 10
    assert len(watched()) <= 12
    alarmed = {(each.name, tuple(each.dimensions)) for metrics in watched().values() for each in metrics}
    assert kept() == {(name, ("Stage",)) for name in PUBLIC} | {each for each in alarmed if each[0] in KEPT}
    assert {("TokensRefused", ("Stage", "Reason")), ("AuthRefused", ("Stage",))} <= alarmed


LOSSES = {
    ("AWS/Logs", "DeliveryErrors"): "logs-undelivered",
    ("AWS/Logs", "DeliveryThrottling"): "logs-undelivered",
    ("AWS/Lambda", "AsyncEventAge"): "forwarder-failing",
    ("AWS/Lambda", "AsyncEventsDropped"): "forwarder-failing",
    ("AWS/Lambda", "DestinationDeliveryFailures"): "failure-record-refused",
    (NAMESPACE, "EntriesWaiting"): "redrive-stuck",
    (NAMESPACE, "EventsSetAside"): "events-set-aside",
}
"""Each place where an event can be lost or stay, and the alarm that watches it."""


def test_every_way_to_lose_an_event_has_its_alarm() -> None:
    found = {(each.namespace, each.name): alarm for alarm, metrics in watched().items() for each in metrics}
    assert found.items() >= LOSSES.items()
    dropped = [each for each in watched()["forwarder-failing"] if each.name == "AsyncEventsDropped"]
    with_a_destination = [each for each in resources().values() if "DestinationConfig" in each.get("Properties", {})]
    assert len(dropped) == len(with_a_destination) == 2


def test_a_log_group_whose_deliveries_are_not_watched_shares_function_permission_and_filter() -> None:
    [permission] = [
        each["Properties"]
        for each in resources().values()
        if each.get("Type") == "AWS::Lambda::Permission" and each["Properties"].get("Principal") == "logs.amazonaws.com"
    ]
    groups = permission["SourceArn"]["Fn::Sub"].rpartition(":log-group:")[2]
    subscriptions = [each for each in resources().values() if each.get("Type") == "AWS::Logs::SubscriptionFilter"]
    for each in subscriptions:
        assert (
            each["Properties"]["DestinationArn"] == permission["FunctionName"] == {"Fn::GetAtt": ["ForwardLogs", "Arn"]}
        )
        name = resources()[each["Properties"]["LogGroupName"]["Ref"]]["Properties"]["LogGroupName"]["Fn::Sub"]
        assert fnmatch(f"{name}:*", groups), name
    assert len(subscriptions) == 5
    filters = {each["Properties"]["FilterName"] for each in subscriptions}
    assert {each.dimensions["FilterName"] for each in watched()["logs-undelivered"]} == filters


def log_queries() -> list[str]:
    return [widget["properties"]["query"] for widget in WIDGETS if widget["type"] == "log"]


@pytest.mark.parametrize("query", log_queries())
def test_a_log_query_finds_lines_in_its_log_groups(query: str) -> None:
    groups = re.findall(r"SOURCE '([^']+)'", query)
    assert {*groups} <= named("LogGroupName")
    written = {LOG_GROUPS[name].format(stage="prod"): lines for name, lines in stage_logs.lines().items()}
    found = insights.Query(line for group in groups for line in written[group])
    found.follow(query)
    assert found.rows


@cache
def resources() -> dict[str, dict[str, Any]]:
    return dict(read_template(ROOT / "deploy" / "resources.yaml")["Resources"])


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
    others = [metric for metric in shown() if metric.namespace != NAMESPACE]
    assert others
    for namespace, name, dimensions in others:
        assert name in AWS_METRICS[namespace], name
        if namespace == "AWS/ApiGateway":
            assert dimensions == {"ApiName": api, "Stage": api_stage}
        elif namespace == "AWS/DynamoDB":
            assert dimensions["TableName"] in named("TableName")
        else:
            assert list(dimensions) == ["FunctionName"]
            assert dimensions["FunctionName"] in named("FunctionName")


def searches() -> list[str]:
    """The text of each search of the view. That its fields exist is in test_splunk_app.py."""
    return [str(each.findtext("query")) for each in VIEW.iter("search")]


def test_every_base_search_aggregates_its_events() -> None:
    """Of a search that hands on plain events, Splunk keeps the first 500,000."""
    for each in VIEW.findall("search"):
        assert "| stats " in str(each.findtext("query"))


def test_every_search_names_log_groups_that_are_forwarded() -> None:
    subscribed = {
        resources()[each["Properties"]["LogGroupName"]["Ref"]]["Properties"]["LogGroupName"]["Fn::Sub"]
        for each in resources().values()
        if each.get("Type") == "AWS::Logs::SubscriptionFilter"
    }
    terms = [term.strip("()") for text in searches() for term in shlex.split(text)]
    named_groups = {term.removeprefix("source=") for term in terms if term.startswith("source=")}
    assert named_groups
    assert {group.replace("$stage$", "${Stage}") for group in named_groups} <= subscribed


def test_the_alarms_of_the_forwarders_are_alarms_that_there_are() -> None:
    [text] = [text for text in searches() if EVENT_SOURCETYPE in text]
    patterns = text.replace("$stage$", "prod").partition("detail.alarmName IN (")[2].partition(")")[0]
    alarms = named("AlarmName")
    found = [
        {alarm for alarm in alarms if fnmatch(alarm, pattern)} for pattern in shlex.split(patterns.replace(",", " "))
    ]
    assert all(found)
    about = {alarm for alarm in alarms if re.search("forwarder|events-|undelivered|redrive|failure-record", alarm)}
    assert set().union(*found) == about
