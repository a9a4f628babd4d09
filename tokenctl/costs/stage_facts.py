"""What is read of the repository, so that no figure of `tokenctl cost` is copied by hand.

Durations are what `make bench` measured; the rest is what `deploy/` and `.chalice/config.json` say of a stage.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chalicelib.http.routes import ROUTES
from chalicelib.settings import Settings
from tokenctl.deployment import CONFIG, ROOT, DeploymentError, in_checkout

LAMBDA_BOX: Final = ROOT / "studies" / "bench" / "results" / "lambda_box.json"
FORWARDER: Final = ROOT / "studies" / "bench" / "results" / "forwarder.json"
_INFRA: Final = ROOT / "deploy"
_ALARM: Final = re.compile(r"^    Type: AWS::CloudWatch::Alarm$", re.MULTILINE)


class NotMeasured(DeploymentError):
    """There is no figure for what was asked; the message says how to do without."""


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
    """What a stage's template and configuration say.

    Attributes:
        traced: functions with active tracing, by Chalice's names.
        method_metrics: whether the gateway keeps metrics of each method, which are charged.
        methods: how many methods the API has.
        redrive_minutes: from one scheduled redrive to the next.
    """

    name: str
    memory_mb: int
    log_days: int
    alarms: int
    traced: frozenset[str]
    method_metrics: bool
    methods: int
    rate_limit: int
    burst_limit: int
    forwarders: int
    redrive_minutes: int


def measured(memory_mb: int, path: Path = LAMBDA_BOX) -> Measured:
    """What was measured at that size.

    Raises:
        NotMeasured: nothing was, or the results can't be read.
    """
    told = _read_json(path)
    try:
        runs = {run["memory_mb"]: _rows(run) for run in told["runs"] if run["tls"]}
        if memory_mb not in runs:
            known = ", ".join(str(size) for size in sorted(runs))
            raise NotMeasured(
                f"no duration was measured at {memory_mb} MB, only at {known}: give it with --duration-ms"
            )
        ours, authorizer = runs[memory_mb]["ours"], runs[128]["authorizer"]
        return Measured(
            issue_ms=ours["warm"]["issue"]["wall_ms"]["p50"],
            use_ms=ours["warm"]["use"]["wall_ms"]["p50"],
            authorizer_ms=authorizer["warm"]["authorize"]["wall_ms"]["p50"],
            init_ms=ours["init_ms"]["median"],
        )
    except (KeyError, TypeError) as error:
        raise NotMeasured(f"{path.name} has no {error}: 'make bench' measures it") from None


def events_per_cpu_second(path: Path = FORWARDER) -> float:
    """How many log events of 200 bytes the forwarder takes in a second of a whole processor."""
    told = _read_json(path)
    try:
        return float(told["events_per_cpu_second"][0]["median"])
    except (KeyError, TypeError, IndexError):
        raise NotMeasured(f"{path.name} has no events_per_cpu_second: 'make bench' measures it") from None


def stage(name: str, infra: Path = _INFRA, config: Path = CONFIG) -> Stage:
    """Read what the stage's template and configuration say.

    Raises:
        DeploymentError: there is no such stage.
    """
    configured = _read_json(config)
    template = (infra / "resources.yaml").read_text("utf-8")
    days = dict(re.findall(r"^    (\w+): \{LogDays: (\d+)\}$", template, re.MULTILINE))
    if name not in days or name not in configured["stages"]:
        raise DeploymentError(f"there is no stage {name!r} to reckon with: {', '.join(sorted(days))}")
    overlay = infra / f"{name}.yaml"
    text = template + (overlay.read_text("utf-8") if overlay.exists() else "")
    functions = configured["stages"][name].get("lambda_functions", {})
    variables = configured.get("environment_variables", {}) | configured["stages"][name].get(
        "environment_variables", {}
    )
    return Stage(
        name=name,
        memory_mb=int(configured["lambda_memory_size"]),
        log_days=int(days[name]),
        alarms=len(_ALARM.findall(text)),
        traced=frozenset(functions if configured["xray"] else ()),
        method_metrics=_setting(template, "MetricsEnabled") == "true",
        methods=len(ROUTES),
        rate_limit=int(_setting(template, "ThrottlingRateLimit")),
        burst_limit=int(_setting(template, "ThrottlingBurstLimit")),
        forwarders=int(_setting(template.partition("\n  ForwarderConcurrency:")[2], "Default")),
        redrive_minutes=Settings.from_environ({"STAGE": name} | variables).splunk.redrive_minutes,
    )


def _setting(template: str, name: str) -> str:
    found = re.search(rf"^ +{name}: (\S+)$", template, re.MULTILINE)
    if found is None:
        raise DeploymentError(f"deploy/resources.yaml has no {name}")
    return found[1]


def _rows(run: dict[str, Any]) -> dict[str, Any]:
    return {row["name"]: row for row in run["rows"]}


def _read_json(path: Path) -> Any:
    if not in_checkout():
        raise NotMeasured("this command reads the templates and measurements of a checkout, and there is none here")
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise NotMeasured(
            f"{path.name}: {error.strerror}; 'make bench' makes what is in studies/bench/results"
        ) from None
    except ValueError as error:
        raise NotMeasured(f"{path.name} is not JSON: {error}") from None
