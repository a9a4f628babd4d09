"""What `tokenctl cost` reads of the repository.

Durations are results of `make bench`; the rest is from `deploy/` and `.chalice/config.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chalicelib.settings import Settings
from tokenctl.deployment import CONFIG, ROOT, in_checkout
from tokenctl.errors import DeploymentError
from tokenctl.resources import of_type, stage_template

LAMBDA_BOX: Final = ROOT / "studies" / "bench" / "results" / "lambda_box.json"
FORWARDER: Final = ROOT / "studies" / "bench" / "results" / "forwarder.json"


class NotMeasured(DeploymentError):
    """A measurement is missing; the message is one line that says how to do without."""


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
        traced: functions with active tracing, by Chalice's names.
        redrive_minutes: from one scheduled redrive to the next.
    """

    name: str
    memory_mb: int
    log_days: int
    alarms: int
    traced: frozenset[str]
    rate_limit: int
    burst_limit: int
    forwarders: int
    redrive_minutes: int


def measured(memory_mb: int, path: Path = LAMBDA_BOX) -> Measured:
    """Return the measurements at a memory size.

    Raises:
        NotMeasured: there are none, or the results can't be read.
    """
    results = _read_json(path)
    try:
        runs = {run["memory_mb"]: _rows(run) for run in results["runs"] if run["tls"]}
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
    """Return how many log events of 200 bytes the forwarder forwards in a second of a whole processor."""
    results = _read_json(path)
    try:
        return float(results["events_per_cpu_second"][0]["median"])
    except (KeyError, TypeError, IndexError):
        raise NotMeasured(f"{path.name} has no events_per_cpu_second: 'make bench' measures it") from None


def stage(name: str, config: Path = CONFIG) -> Stage:
    """Read what the stage's template and configuration say.

    Raises:
        DeploymentError: there is no such stage.
    """
    template = stage_template(name)
    configured = _read_json(config)
    settings = configured["stages"][name]
    variables = {"STAGE": name, **configured.get("environment_variables", {}), **settings["environment_variables"]}
    [gateway] = template["Resources"]["RestAPI"]["Properties"]["MethodSettings"]
    return Stage(
        name=name,
        memory_mb=configured["lambda_memory_size"],
        log_days=template["Mappings"]["Stages"][name]["LogDays"],
        alarms=len(of_type(template, "AWS::CloudWatch::Alarm")),
        traced=frozenset(settings["lambda_functions"] if configured["xray"] else ()),
        rate_limit=gateway["ThrottlingRateLimit"],
        burst_limit=gateway["ThrottlingBurstLimit"],
        forwarders=template["Parameters"]["ForwarderConcurrency"]["Default"],
        redrive_minutes=Settings.from_environ(variables).splunk.redrive_minutes,
    )


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
