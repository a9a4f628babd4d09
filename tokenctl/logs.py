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
"""By the names that commands take."""
FILTER_NAME: Final = "splunk"
"""The subscription that forwards a log group."""
RETENTIONS: Final = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
"""Days for which CloudWatch Logs can store events. Source: its API reference, PutRetentionPolicy."""
_POLL_SECONDS: Final = 0.5
_UNNAMED_REGION: Final = "us-east-1"  # S3 wants every region but this one named


@click.group("logs")
def logs() -> None:
    """Search log groups; create and subscribe those of a stage that 'chalice deploy' made."""


@logs.command("create")
@click.option(
    "--days",
    type=click.Choice([str(days) for days in RETENTIONS]),
    metavar="DAYS",
    help="How long log events are stored. Default: 90 days in prod, 14 elsewhere.",
)
@common
def logs_create(terminal: Terminal, days: str | None) -> None:
    """Create missing log groups and the failure bucket, before 'chalice deploy'."""
    _show(terminal, create(terminal.deployment(), int(days) if days else None))


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
    rows = query(terminal.deployment(), groups, text, since, until or now())
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
    with aws_errors("account"):
        account = deployment.aws("sts").get_caller_identity()
    client = deployment.aws("logs")
    bucket = _bucket_name(deployment, template, account["Account"], client.meta.region_name)
    done = {}
    for group in _names(template, "LogGroupName", deployment.stage).values():
        if not _is_of_function(group):
            continue  # `chalice deploy` makes no access log
        with aws_errors(f"log group {group}"):
            is_new = unless("ResourceAlreadyExistsException", client.create_log_group, logGroupName=group)
            client.put_retention_policy(logGroupName=group, retentionInDays=days)
        done[group] = f"{'created' if is_new else 'exists'}; stores events for {days} days"
    with aws_errors(f"bucket {bucket}"):
        done[bucket] = _create_bucket(deployment.aws("s3"), bucket, account, template)
    return done


def subscribe(deployment: Deployment) -> dict[str, str]:
    """Subscribe the log forwarder to all other functions' logs, and store the inputs at which the forwarders fail.

    If there is an access log (`chalice deploy` makes none), its lines about refused credentials are forwarded, too.
    Needed after the first deployment, and after one that changes the failure bucket. Idempotent.

    Returns:
        Name of log group or function to what was done.

    Raises:
        DeploymentError: functions or log groups are missing, there is no Splunk, or AWS refused something.
    """
    check_stage(deployment)
    template = stage_template(deployment.stage)
    with aws_errors("functions"):
        client = deployment.aws("lambda")
    names = _names(template, "FunctionName", deployment.stage)
    retries = {
        config["FunctionName"]["Ref"]: config
        for config in of_type(template, "AWS::Lambda::EventInvokeConfig").values()
        if "DestinationConfig" in config
    }
    forwarders = {function: _deployed_forwarder(client, names[function], deployment.stage) for function in retries}
    done = {}
    with aws_errors("log groups"):
        log_client = deployment.aws("logs")
    groups = _names(template, "LogGroupName", deployment.stage)
    for subscription in of_type(template, "AWS::Logs::SubscriptionFilter").values():
        group = groups[subscription["LogGroupName"]["Ref"]]
        with aws_errors(f"log group {group}"):
            if _is_of_function(group) or _exists(log_client, group):
                destination = forwarders[subscription["DestinationArn"]["Fn::GetAtt"][0]]["FunctionArn"]
                done[group] = _subscribe(client, log_client, group, destination, subscription)
    for function, forwarder in forwarders.items():
        with aws_errors(f"function {names[function]}"):
            done[names[function]] = _store_failed_inputs(client, forwarder, retries[function])
    return done


def query(
    deployment: Deployment, groups: Sequence[str], text: str, since: datetime, until: datetime
) -> list[dict[str, str]]:
    """Search log groups with CloudWatch Logs Insights.

    Args:
        groups: of `LOG_GROUPS`.
        text: in the language of Logs Insights.

    Returns:
        The rows of the answer, each by the names of its columns.

    Raises:
        DeploymentError: a log group does not exist, or CloudWatch refused or aborted the query.
    """
    check_stage(deployment)
    names = [LOG_GROUPS[group].format(stage=deployment.stage) for group in groups]
    times = {"startTime": int(since.timestamp()), "endTime": math.ceil(until.timestamp())}
    with aws_errors(f"query of {', '.join(names)}"):
        client = deployment.aws("logs")
        query_id = client.start_query(logGroupNames=names, queryString=text, **times)["queryId"]
        while (answer := client.get_query_results(queryId=query_id))["status"] in ("Scheduled", "Running"):
            time.sleep(_POLL_SECONDS)
    if answer["status"] != "Complete":
        raise DeploymentError(f"query of {', '.join(names)}: it ended as {answer['status']}")
    return [{cell["field"]: cell["value"] for cell in row if cell["field"] != "@ptr"} for row in answer["results"]]


def check_stage(deployment: Deployment) -> None:
    """Reject the local stage, which has no log groups.

    Raises:
        DeploymentError
    """
    if deployment.stage == LOCAL_STAGE:
        raise DeploymentError(f"stage {LOCAL_STAGE!r} has no functions on AWS; name another with --stage")


def _names(template: Template, attribute: str, stage: str) -> dict[str, str]:
    """Logical ids to names, of all resources that have this attribute as their own name."""
    return {
        logical_id: filled(properties[attribute], {"Stage": stage})
        for logical_id, properties in ((key, resource["Properties"]) for key, resource in template["Resources"].items())
        if "Fn::Sub" in properties.get(attribute, ())
    }


def _is_of_function(group: str) -> bool:
    return group.startswith("/aws/lambda/")


def _exists(client: Any, group: str) -> bool:
    groups = client.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    return group in [found["logGroupName"] for found in groups]


def _bucket_name(deployment: Deployment, template: Template, account: str, region: str) -> str:
    """The configured name, if the functions' policies let them write there, or else that of the template."""
    values = {"Stage": deployment.stage, "AWS::AccountId": account, "AWS::Region": region}
    default: str = filled(template["Resources"]["FailureBucket"]["Properties"]["BucketName"], values)
    prefix = default.removesuffix(f"{account}-{region}")
    name = deployment.settings.splunk.failure_bucket or default
    if not name.startswith(prefix):
        raise DeploymentError(f"SPLUNK_FAILURE_BUCKET: {name!r} does not begin with {prefix!r}, as the roles demand")
    return name


def _create_bucket(s3: Any, bucket: str, account: Mapping[str, str], template: Template) -> str:
    """Create the bucket as the template has it. A policy that a person gave it stays."""
    properties = template["Resources"]["FailureBucket"]["Properties"]
    region = s3.meta.region_name
    owned = {"Bucket": bucket, "ExpectedBucketOwner": account["Account"]}
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
        arn = f"arn:{account['Arn'].split(':')[1]}:s3:::{bucket}"
        document = template["Resources"]["FailureBucketPolicy"]["Properties"]["PolicyDocument"]
        s3.put_bucket_policy(**owned, Policy=json.dumps(filled(document, {"FailureBucket.Arn": arn})))
    return f"{'created' if is_new else 'exists'}; set it as SPLUNK_FAILURE_BUCKET"


def _deployed_forwarder(client: Any, name: str, stage: str) -> dict[str, Any]:
    deploy = f"'chalice deploy --stage {stage}'"
    with aws_errors(f"function {name}"):
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


def _subscribe(functions: Any, client: Any, group: str, destination: str, subscription: Mapping[str, Any]) -> str:
    _, partition, _, region, account, _, forwarder = destination.split(":")
    unless(
        "ResourceConflictException",  # the permission exists
        functions.add_permission,
        FunctionName=forwarder,
        StatementId=f"logs-of-{group.rpartition('/')[2]}",
        Action="lambda:InvokeFunction",
        Principal="logs.amazonaws.com",
        SourceAccount=account,
        SourceArn=f"arn:{partition}:logs:{region}:{account}:log-group:{group}:*",
    )
    answer = unless(
        "ResourceNotFoundException",
        client.put_subscription_filter,
        logGroupName=group,
        filterName=subscription["FilterName"],
        filterPattern=subscription["FilterPattern"],
        destinationArn=destination,
    )
    if answer is None:
        raise DeploymentError(f"there is no log group {group}: run 'tokenctl logs create' for this stage first")
    return f"goes to {forwarder}"


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
