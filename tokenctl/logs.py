"""`tokenctl logs`: search log groups; create and subscribe those of a stage that `chalice deploy` made.

What is created is what `deploy/resources.yaml` gives to a stage that CloudFormation made.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import click
from rich.console import Console

from chalicelib.instants import now
from tokenctl.deployment import LOCAL_STAGE, Deployment
from tokenctl.errors import DeploymentError, aws_errors, unless
from tokenctl.resources import Template, filled, of_type, stage_template
from tokenctl.terminal import Instant, Terminal, common, plain, table

LOG_GROUPS: Final = {
    "access": "/tokenservice/{stage}/access",
    "api": "/aws/lambda/tokenservice-{stage}",
    "authorizer": "/aws/lambda/tokenservice-{stage}-basic_auth",
    "events": "/aws/lambda/tokenservice-{stage}-forward_events",
    "forwarder": "/aws/lambda/tokenservice-{stage}-forward_logs",
    "redrive": "/aws/lambda/tokenservice-{stage}-redrive",
}
"""By the names that commands take. `chalice deploy` makes no access log."""
FILTER_NAME: Final = "splunk"
"""The subscription that forwards a log group."""
_FORWARDERS: Final = ("forward_logs", "forward_events")
_POLL_SECONDS: Final = 0.5
_UNNAMED_REGION: Final = "us-east-1"  # S3 wants every region but this one named


@click.group("logs")
def logs() -> None:
    """Search log groups; create and subscribe those of a stage that 'chalice deploy' made."""


@logs.command("create")
@click.option(
    "--days", type=click.IntRange(1), help="How long events are stored. Default: 90 days in prod, 14 elsewhere."
)
@common
def logs_create(terminal: Terminal, days: int | None) -> None:
    """Create missing log groups and the failure bucket, before 'chalice deploy'."""
    _show(terminal, create(terminal.deployment(), days))


@logs.command("subscribe")
@common
def logs_subscribe(terminal: Terminal) -> None:
    """Subscribe the log forwarder to the logs and store its failed inputs, after 'chalice deploy'."""
    _show(terminal, subscribe(terminal.deployment()))


def _show(terminal: Terminal, done: Mapping[str, str]) -> None:
    """One line each and no table, which would break long names."""
    text = "\n".join(f"{name}: {what}" for name, what in done.items())
    terminal.show(done, lambda console: console.print(plain(text)))


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


def create(deployment: Deployment, days: int | None = None) -> dict[str, str]:
    """Create missing log groups and the failure bucket; needed before the first deployment.

    The roles of the functions may create no log group: without one, what they write is lost.

    Args:
        days: how long log events are stored; None means as long as in a stage that CloudFormation made.

    Returns:
        Name to what was done.

    Raises:
        DeploymentError: AWS refused something.
    """
    check_stage(deployment)
    template = stage_template(deployment.stage)
    days = days or template["Mappings"]["Stages"][deployment.stage]["LogDays"]
    done = {}
    with aws_errors(f"stage {deployment.stage}"):
        client, values = deployment.aws("logs"), _values(deployment)
        bucket = _bucket_name(deployment, template, values)
        for group in (name.format(stage=deployment.stage) for key, name in LOG_GROUPS.items() if key != "access"):
            is_new = unless("ResourceAlreadyExistsException", client.create_log_group, logGroupName=group)
            client.put_retention_policy(logGroupName=group, retentionInDays=days)
            done[group] = f"{'created' if is_new else 'exists'}; stores events for {days} days"
        done[bucket] = _create_bucket(deployment.aws("s3"), bucket, values, template)
    return done


def subscribe(deployment: Deployment) -> dict[str, str]:
    """Subscribe the log forwarder to all other functions' logs, and store the inputs at which the forwarders fail.

    If there is an access log, its lines about refused credentials are forwarded, too. Needed after the first
    deployment, and after one that changes the failure bucket. Idempotent.

    Returns:
        Name of log group or function to what was done.

    Raises:
        DeploymentError: functions or log groups are missing, there is no Splunk, or AWS refused something.
    """
    check_stage(deployment)
    stage, done = deployment.stage, {}
    template = stage_template(stage)
    with aws_errors(f"stage {stage}"):
        functions, client, values = deployment.aws("lambda"), deployment.aws("logs"), _values(deployment)
        forwarders = [_deployed(functions, f"tokenservice-{stage}-{name}", stage) for name in _FORWARDERS]
        permission = template["Resources"]["LogPermission"]["Properties"]
        unless(
            "ResourceConflictException",  # the permission exists
            functions.add_permission,
            FunctionName=forwarders[0]["FunctionName"],
            StatementId="logs",
            Action=permission["Action"],
            Principal=permission["Principal"],
            SourceAccount=values["AWS::AccountId"],
            SourceArn=filled(permission["SourceArn"], values),
        )
        for subscription in of_type(template, "AWS::Logs::SubscriptionFilter").values():
            group = filled(
                template["Resources"][subscription["LogGroupName"]["Ref"]]["Properties"]["LogGroupName"], values
            )
            answer = unless(
                "ResourceNotFoundException",
                client.put_subscription_filter,
                logGroupName=group,
                filterName=subscription["FilterName"],
                filterPattern=subscription["FilterPattern"],
                destinationArn=forwarders[0]["FunctionArn"],
            )
            if answer:
                done[group] = f"goes to {forwarders[0]['FunctionName']}"
            elif group.startswith("/aws/lambda/"):
                raise DeploymentError(f"there is no log group {group}: run 'tokenctl logs create' for this stage first")
        config = template["Resources"]["ForwardLogsOnFailure"]["Properties"]
        for forwarder in forwarders:
            done[forwarder["FunctionName"]] = _store_failed_inputs(functions, forwarder, config)
    return done


def check_stage(deployment: Deployment) -> None:
    """Reject the local stage, which has no log groups.

    Raises:
        DeploymentError
    """
    if deployment.stage == LOCAL_STAGE:
        raise DeploymentError(f"stage {LOCAL_STAGE!r} has no functions on AWS; name another with --stage")


def _values(deployment: Deployment) -> dict[str, str]:
    """What the template's variables mean here."""
    sts = deployment.aws("sts")
    _, partition, _, _, account, *_ = sts.get_caller_identity()["Arn"].split(":")
    return {
        "Stage": deployment.stage,
        "AWS::Partition": partition,
        "AWS::AccountId": account,
        "AWS::Region": sts.meta.region_name,
    }


def _bucket_name(deployment: Deployment, template: Template, values: Mapping[str, str]) -> str:
    """The configured name, if the functions' policies let them write there, or else that of the template."""
    default: str = filled(template["Resources"]["FailureBucket"]["Properties"]["BucketName"], values)
    prefix = default.removesuffix(f"{values['AWS::AccountId']}-{values['AWS::Region']}")
    name = deployment.settings.splunk.failure_bucket or default
    if not name.startswith(prefix):
        raise DeploymentError(f"SPLUNK_FAILURE_BUCKET: {name!r} does not begin with {prefix!r}, as the roles demand")
    return name


def _create_bucket(s3: Any, bucket: str, values: Mapping[str, str], template: Template) -> str:
    """Create the bucket as the template has it. A policy that a person gave it stays."""
    properties = template["Resources"]["FailureBucket"]["Properties"]
    region = s3.meta.region_name
    owned = {"Bucket": bucket, "ExpectedBucketOwner": values["AWS::AccountId"]}
    is_new = unless("404", s3.head_bucket, **owned) is None
    if is_new:
        where = {} if region == _UNNAMED_REGION else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=bucket, **properties["OwnershipControls"]["Rules"][0], **where)
    # Also if it exists: an earlier run may have been cut off here.
    s3.put_public_access_block(**owned, PublicAccessBlockConfiguration=properties["PublicAccessBlockConfiguration"])
    [rule] = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    encryption = {"Rules": [{"ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"]}]}
    s3.put_bucket_encryption(**owned, ServerSideEncryptionConfiguration=encryption)
    if unless("NoSuchBucketPolicy", s3.get_bucket_policy, **owned) is None:
        document = template["Resources"]["FailureBucketPolicy"]["Properties"]["PolicyDocument"]
        arn = f"arn:{values['AWS::Partition']}:s3:::{bucket}"
        s3.put_bucket_policy(**owned, Policy=json.dumps(filled(document, {"FailureBucket.Arn": arn})))
    return f"{'created' if is_new else 'exists'}; set it as SPLUNK_FAILURE_BUCKET"


def _deployed(client: Any, name: str, stage: str) -> dict[str, Any]:
    """The configuration of a forwarder that has a Splunk."""
    deploy = f"'chalice deploy --stage {stage}'"
    function = unless("ResourceNotFoundException", client.get_function_configuration, FunctionName=name)
    if function is None:
        raise DeploymentError(f"there is no function {name}: run {deploy} first")
    if not _variable(function, "SPLUNK_HEC_URL"):
        raise DeploymentError(
            f"function {name} has no SPLUNK_HEC_URL: set it for stage {stage} in .chalice/config.json, "
            f"then run {deploy} again"
        )
    return dict(function)


def _variable(function: Mapping[str, Any], name: str) -> str:
    value: str = function.get("Environment", {}).get("Variables", {}).get(name, "")
    return value.strip()


def _store_failed_inputs(client: Any, forwarder: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    bucket = _variable(forwarder, "SPLUNK_FAILURE_BUCKET")
    if not bucket:
        return "failed inputs are lost: SPLUNK_FAILURE_BUCKET is not set"
    partition = forwarder["FunctionArn"].split(":")[1]
    client.put_function_event_invoke_config(
        FunctionName=forwarder["FunctionName"],
        MaximumRetryAttempts=config["MaximumRetryAttempts"],
        MaximumEventAgeInSeconds=config["MaximumEventAgeInSeconds"],
        DestinationConfig={"OnFailure": {"Destination": f"arn:{partition}:s3:::{bucket}"}},
    )
    return f"failed inputs go to s3://{bucket}"
