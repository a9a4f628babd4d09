"""`tokenctl logs`: search the log groups of a stage."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import click
from rich.console import Console

from chalicelib.instants import now
from tokenctl.deployment import LOCAL_STAGE, Deployment
from tokenctl.errors import DeploymentError, aws_errors
from tokenctl.terminal import Instant, Terminal, common, table

LOG_GROUPS: Final = {
    "access": "/tokenservice/{stage}/access",
    "api": "/aws/lambda/tokenservice-{stage}",
    "authorizer": "/aws/lambda/tokenservice-{stage}-basic_auth",
    "events": "/aws/lambda/tokenservice-{stage}-forward_events",
    "forwarder": "/aws/lambda/tokenservice-{stage}-forward_logs",
    "redrive": "/aws/lambda/tokenservice-{stage}-redrive",
}
"""By the names that commands take."""
FILTER_NAME: Final = "splunk"
"""The subscription that forwards a log group."""
_POLL_SECONDS: Final = 0.5


@click.group("logs")
def logs() -> None:
    """Search the log groups of a stage."""


def _log_groups(_: click.Context, __: click.Parameter, value: str) -> list[str]:
    names = value.split(",")
    if not set(names) <= set(LOG_GROUPS):
        raise click.BadParameter(f"{value!r} is not one or more of {', '.join(LOG_GROUPS)}, with commas between")
    return names


@logs.command("query")
@click.argument("groups", metavar="GROUP[,GROUP…]", callback=_log_groups)
@click.argument("text", metavar="QUERY")
@click.option("--since", type=Instant(), default="1h", show_default=True, help="RFC 3339, or 30m, 2h, 3d ago.")
@click.option("--until", type=Instant(), help="RFC 3339, or 30m, 2h, 3d ago. Default: now.")
@common
def logs_query(terminal: Terminal, groups: Sequence[str], text: str, since: datetime, until: datetime | None) -> None:
    """Search log groups with a QUERY in the language of CloudWatch Logs Insights.

    A GROUP is 'access', 'api', 'authorizer', 'events', 'forwarder' or 'redrive'.
    """
    deployment = terminal.deployment()
    check_stage(deployment)
    names = [LOG_GROUPS[group].format(stage=deployment.stage) for group in groups]
    times = {"startTime": int(since.timestamp()), "endTime": math.ceil((until or now()).timestamp())}
    with aws_errors(f"query of {', '.join(names)}"):
        client = deployment.aws("logs")
        query_id = client.start_query(logGroupNames=names, queryString=text, **times)["queryId"]
        while (answer := client.get_query_results(queryId=query_id))["status"] in ("Scheduled", "Running"):
            time.sleep(_POLL_SECONDS)
    if answer["status"] != "Complete":
        raise DeploymentError(f"query of {', '.join(names)}: it ended as {answer['status']}")
    rows = [{cell["field"]: cell["value"] for cell in row if cell["field"] != "@ptr"} for row in answer["results"]]
    columns = list(dict.fromkeys(name for row in rows for name in row))

    def human(console: Console) -> None:
        if rows:
            console.print(table(columns, [[row.get(name, "") for name in columns] for row in rows]))
        else:
            console.print("No matching events.")

    terminal.show(rows, human)


def check_stage(deployment: Deployment) -> None:
    """Reject the local stage, which has no log groups.

    Raises:
        DeploymentError
    """
    if deployment.stage == LOCAL_STAGE:
        raise DeploymentError(f"stage {LOCAL_STAGE!r} has no functions on AWS; name another with --stage")
