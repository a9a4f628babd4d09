"""What `tokenctl cost` reads of the repository.

Durations are results of `make bench`; the rest is from `deploy/` and `.chalice/config.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chalicelib.settings import Settings
from tokenctl.deployment import CONFIG, ROOT, stage_environ
from tokenctl.errors import DeploymentError
from tokenctl.resources import FOLDER, of_type, stage_template

LAMBDA_BOX: Final = ROOT / "studies" / "bench" / "results" / "lambda_box.json"
DASHBOARD: Final = FOLDER / "dashboard.json"
_SOURCE: Final = re.compile(r"SOURCE '/aws/lambda/tokenservice-\$\{Stage\}-?(\w*)'")
_FUNCTIONS: Final = {"api_handler": "APIHandler", "basic_auth": "BasicAuth", "forward_logs": "ForwardLogs"}
"""Of those that log for every call: Chalice's name to the one of the template."""
FORWARDER: Final = ROOT / "studies" / "bench" / "results" / "forwarder.json"


@dataclass(frozen=True, slots=True)
class Measured:
    """Median milliseconds at one memory size.

    Attributes:
        issue_ms, use_ms: a warm call of the REST function.
        authorizer_ms: the same of the authorizer; it was measured at 128 MB alone.
        init_ms: the start of the REST function; the others start about as fast.
    """

    issue_ms: float
    use_ms: float
    authorizer_ms: float
    init_ms: float


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage's template and configuration.

    Attributes:
        alarm_metrics: metrics of all alarms; an alarm on an expression has several.
        queried: functions whose logs the dashboard reads, one for each log group of each query.
        traced: functions with active tracing, by Chalice's names.
        quiet: functions for which Lambda writes nothing if an invocation succeeds.
        redrive_minutes: from one scheduled redrive to the next.
    """

    name: str
    memory_mb: int
    log_days: int
    alarms: int
    alarm_metrics: int
    queried: tuple[str, ...]
    traced: frozenset[str]
    quiet: frozenset[str]
    rate_limit: int
    burst_limit: int
    forwarders: int
    redrive_minutes: int
    authorizer_ttl_seconds: int


def measured(memory_mb: int, path: Path = LAMBDA_BOX) -> Measured:
    """Return the measurements at a memory size.

    Raises:
        DeploymentError: there are none.
    """
    results = json.loads(path.read_text("utf-8"))
    runs = {run["memory_mb"]: {row["name"]: row for row in run["rows"]} for run in results["runs"] if run["tls"]}
    if memory_mb not in runs:
        known = ", ".join(str(size) for size in sorted(runs))
        raise DeploymentError(f"no duration was measured at {memory_mb} MB, only at {known}")
    ours, authorizer = runs[memory_mb]["ours"], runs[128]["authorizer"]
    return Measured(
        issue_ms=ours["warm"]["issue"]["wall_ms"]["p50"],
        use_ms=ours["warm"]["use"]["wall_ms"]["p50"],
        authorizer_ms=authorizer["warm"]["authorize"]["wall_ms"]["p50"],
        init_ms=ours["init_ms"]["median"],
    )


def events_per_cpu_second() -> float:
    """Return how many log events of 200 bytes the forwarder forwards in a second of a whole processor."""
    return float(json.loads(FORWARDER.read_text("utf-8"))["events_per_cpu_second"][0]["median"])


def stage(name: str) -> Stage:
    """Read what the stage's template and configuration say.

    Raises:
        DeploymentError: there is no such stage.
    """
    template = stage_template(name)
    configured = json.loads(CONFIG.read_text("utf-8"))
    settings = configured["stages"][name]
    deployed = Settings.from_environ({"STAGE": name, **stage_environ(name)})
    alarms = of_type(template, "AWS::CloudWatch::Alarm").values()
    widgets = json.loads(DASHBOARD.read_text("utf-8"))["widgets"]
    [gateway] = template["Resources"]["RestAPI"]["Properties"]["MethodSettings"]
    return Stage(
        name=name,
        memory_mb=configured["lambda_memory_size"],
        log_days=template["Mappings"]["Stages"][name]["LogDays"],
        alarms=len(alarms),
        alarm_metrics=sum(len(metrics(alarm)) for alarm in alarms),
        queried=tuple(
            name or "api_handler"
            for widget in widgets
            for name in _SOURCE.findall(widget["properties"].get("query", ""))
        ),
        traced=frozenset(name for name, each in settings["lambda_functions"].items() if each.get("xray")),
        quiet=frozenset(
            name
            for name, each in _FUNCTIONS.items()
            if template["Resources"][each]["Properties"].get("LoggingConfig", {}).get("SystemLogLevel") == "WARN"
        ),
        rate_limit=gateway["ThrottlingRateLimit"],
        burst_limit=gateway["ThrottlingBurstLimit"],
        forwarders=template["Parameters"]["ForwarderConcurrency"]["Default"],
        redrive_minutes=deployed.splunk.redrive_minutes,
        authorizer_ttl_seconds=deployed.authorizer_ttl_seconds,
    )


def metrics(alarm: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the metrics that an alarm watches: its own, or those of its expression, each with its name and dimensions.

    Args:
        alarm: properties of an `AWS::CloudWatch::Alarm`.
    """
    if "MetricName" in alarm:
        return [alarm]
    return [query["MetricStat"]["Metric"] for query in alarm["Metrics"] if "MetricStat" in query]
