"""Log groups, subscriptions and the failure bucket, for stages that are not made by CloudFormation.

For those that are, `deploy/resources.yaml` says the same.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from tokenctl.deployment import LOCAL_STAGE, Deployment, DeploymentError

# What follows `tokenservice-<stage>` in the names that Chalice gives; the REST function has nothing more.
LOG_FORWARDER: Final = "-forward_logs"
FORWARDERS: Final = (LOG_FORWARDER, "-forward_events")
FUNCTIONS: Final = ("", "-basic_auth", *FORWARDERS, "-redrive")

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
REFUSED_CREDENTIALS: Final = '{ ($.status = "401") || ($.error = "ACCESS_DENIED") }'
"""What of the access log goes to Splunk; `deploy/resources.yaml` says why."""
PROD_DAYS: Final = 90
OTHER_DAYS: Final = 14
RETENTIONS: Final = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
"""Days for which CloudWatch Logs can keep events. Source: its API reference, PutRetentionPolicy."""

MAX_RETRIES: Final = 2
MAX_AGE_SECONDS: Final = 6 * 60 * 60
_POLL_SECONDS: Final = 0.5
_UNNAMED_REGION: Final = "us-east-1"  # S3 wants every region but this one named


def create(deployment: Deployment, days: int | None = None) -> dict[str, str]:
    """Make the log groups and the failure bucket that are missing; wanted before the first deployment.

    The roles of the functions may make no log group: without one, what they write is lost.

    Args:
        days: how long log events are kept; None: 90 in prod, else 14.

    Returns:
        Name to what was done.

    Raises:
        DeploymentError: AWS refused something.
    """
    check_stage(deployment)
    kept_days = days or (PROD_DAYS if deployment.stage == "prod" else OTHER_DAYS)
    with aws_errors("account"):
        account = deployment.aws("sts").get_caller_identity()
    logs = deployment.aws("logs")
    bucket = _bucket_name(deployment, account["Account"], logs.meta.region_name)
    done = {}
    for function in FUNCTIONS:
        group = _group(deployment, function)
        with aws_errors(f"log group {group}"):
            is_new = _unless("ResourceAlreadyExistsException", logs.create_log_group, logGroupName=group)
            logs.put_retention_policy(logGroupName=group, retentionInDays=kept_days)
        done[group] = f"{'created' if is_new else 'exists'}; keeps events for {kept_days} days"
    with aws_errors(f"bucket {bucket}"):
        done[bucket] = _create_bucket(deployment.aws("s3"), bucket, account)
    return done


def subscribe(deployment: Deployment) -> dict[str, str]:
    """Hand the logs of all other functions to the log forwarder, and keep the inputs at which the forwarders fail.

    If there is an access log (`chalice deploy` makes none), its lines about refused credentials go there, too.
    Wanted after the first deployment, and after one that changes the failure bucket. Once more changes nothing.

    Returns:
        Name of log group or function to what was done.

    Raises:
        DeploymentError: functions or log groups are missing, there is no Splunk, or AWS refused something.
    """
    check_stage(deployment)
    with aws_errors("functions"):
        functions = deployment.aws("lambda")
    forwarders = [_deployed_forwarder(functions, deployment, function) for function in FORWARDERS]
    destination = forwarders[FORWARDERS.index(LOG_FORWARDER)]["FunctionArn"]
    logs = deployment.aws("logs")
    done = {}
    for function in FUNCTIONS:
        if function == LOG_FORWARDER:
            continue  # each delivery would cause the next
        group = _group(deployment, function)
        with aws_errors(f"log group {group}"):
            done[group] = _subscribe(functions, logs, group, destination)
    group = f"/tokenservice/{deployment.stage}/access"
    with aws_errors(f"log group {group}"):
        found = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
        if any(each["logGroupName"] == group for each in found):
            done[group] = _subscribe(functions, logs, group, destination, REFUSED_CREDENTIALS)
    for forwarder in forwarders:
        name = forwarder["FunctionName"]
        with aws_errors(f"function {name}"):
            done[name] = _keep_failed_inputs(functions, forwarder)
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
        DeploymentError: a log group is not there, or CloudWatch refused or gave up the query.
    """
    check_stage(deployment)
    names = [LOG_GROUPS[group].format(stage=deployment.stage) for group in groups]
    times = {"startTime": int(since.timestamp()), "endTime": math.ceil(until.timestamp())}
    with aws_errors(f"query of {', '.join(names)}"):
        logs = deployment.aws("logs")
        query_id = logs.start_query(logGroupNames=names, queryString=text, **times)["queryId"]
        while (answer := logs.get_query_results(queryId=query_id))["status"] in ("Scheduled", "Running"):
            time.sleep(_POLL_SECONDS)
    if answer["status"] != "Complete":
        raise DeploymentError(f"query of {', '.join(names)}: it ended as {answer['status']}")
    return [{cell["field"]: cell["value"] for cell in row if cell["field"] != "@ptr"} for row in answer["results"]]


def check_stage(deployment: Deployment) -> None:
    """Refuse the local stage, which has no log groups.

    Raises:
        DeploymentError
    """
    if deployment.stage == LOCAL_STAGE:
        raise DeploymentError(f"stage {LOCAL_STAGE!r} has no functions on AWS; name another with --stage")


def _name(deployment: Deployment, function: str) -> str:
    return f"tokenservice-{deployment.stage}{function}"


def _group(deployment: Deployment, function: str) -> str:
    return f"/aws/lambda/{_name(deployment, function)}"


def _bucket_name(deployment: Deployment, account: str, region: str) -> str:
    """Where the functions' policies let them write."""
    beginning = f"tokenservice-{deployment.stage}-failures-"
    named = deployment.settings.splunk.failure_bucket
    if named and not named.startswith(beginning):
        raise DeploymentError(
            f"SPLUNK_FAILURE_BUCKET: {named!r} does not begin with {beginning!r}, as the roles demand"
        )
    return named or f"{beginning}{account}-{region}"


def _create_bucket(s3: Any, bucket: str, account: Mapping[str, str]) -> str:
    """Private, encrypted, reached through TLS alone. A policy that a person gave it stays."""
    region = s3.meta.region_name
    owned = {"Bucket": bucket, "ExpectedBucketOwner": account["Account"]}
    is_new = _unless("404", s3.head_bucket, **owned) is None
    if is_new:
        where = {} if region == _UNNAMED_REGION else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=bucket, ObjectOwnership="BucketOwnerEnforced", **where)
    # Also where it exists: an earlier run may have been cut off here.
    closed = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    s3.put_public_access_block(**owned, PublicAccessBlockConfiguration=closed)
    encryption = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
    s3.put_bucket_encryption(**owned, ServerSideEncryptionConfiguration=encryption)
    if _unless("NoSuchBucketPolicy", s3.get_bucket_policy, **owned) is None:
        s3.put_bucket_policy(**owned, Policy=json.dumps(_tls_only(bucket, account["Arn"].split(":")[1])))
    return f"{'created' if is_new else 'exists'}; set it as SPLUNK_FAILURE_BUCKET"


def _tls_only(bucket: str, partition: str) -> dict[str, Any]:
    arn = f"arn:{partition}:s3:::{bucket}"
    statement = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def _deployed_forwarder(functions: Any, deployment: Deployment, function: str) -> dict[str, Any]:
    name = _name(deployment, function)
    deploy = f"'chalice deploy --stage {deployment.stage}'"
    with aws_errors(f"function {name}"):
        found = _unless("ResourceNotFoundException", functions.get_function_configuration, FunctionName=name)
    if found is None:
        raise DeploymentError(f"there is no function {name}: run {deploy} first")
    if not _variable(found, "SPLUNK_HEC_URL"):
        raise DeploymentError(
            f"function {name} has no SPLUNK_HEC_URL: set it for stage {deployment.stage} in .chalice/config.json, "
            f"then run {deploy} again"
        )
    return dict(found)


def _variable(function: Mapping[str, Any], name: str) -> str:
    value: str = function.get("Environment", {}).get("Variables", {}).get(name, "")
    return value.strip()


def _subscribe(functions: Any, logs: Any, group: str, destination: str, pattern: str = "") -> str:
    _, partition, _, region, account, _, forwarder = destination.split(":")
    _unless(
        "ResourceConflictException",  # it was given before
        functions.add_permission,
        FunctionName=forwarder,
        StatementId=f"logs-of-{group.rpartition('/')[2]}",
        Action="lambda:InvokeFunction",
        Principal="logs.amazonaws.com",
        SourceAccount=account,
        SourceArn=f"arn:{partition}:logs:{region}:{account}:log-group:{group}:*",
    )
    answer = _unless(
        "ResourceNotFoundException",
        logs.put_subscription_filter,
        logGroupName=group,
        filterName=FILTER_NAME,
        filterPattern=pattern,
        destinationArn=destination,
    )
    if answer is None:
        stage = forwarder.removeprefix("tokenservice-").removesuffix(LOG_FORWARDER)
        raise DeploymentError(f"there is no log group {group}: run 'tokenctl logs create --stage {stage}' first")
    return f"goes to {forwarder}"


def _keep_failed_inputs(functions: Any, forwarder: Mapping[str, Any]) -> str:
    bucket = _variable(forwarder, "SPLUNK_FAILURE_BUCKET")
    if not bucket:
        return "failed inputs are lost: SPLUNK_FAILURE_BUCKET is not set"
    partition = forwarder["FunctionArn"].split(":")[1]
    functions.put_function_event_invoke_config(
        FunctionName=forwarder["FunctionName"],
        MaximumRetryAttempts=MAX_RETRIES,
        MaximumEventAgeInSeconds=MAX_AGE_SECONDS,
        DestinationConfig={"OnFailure": {"Destination": f"arn:{partition}:s3:::{bucket}"}},
    )
    return f"failed inputs go to s3://{bucket}"


def _unless(code: str, call: Callable[..., Any], **named: Any) -> Any:
    """What a call answers; None where AWS refuses it with this code."""
    try:
        return call(**named)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == code:
            return None
        raise


@contextmanager
def aws_errors(what: str) -> Iterator[None]:
    """Turn an error of AWS into one line.

    Raises:
        DeploymentError
    """
    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        raise DeploymentError(f"{what}: {told.get('Code')}: {' '.join(told.get('Message', '').split())}") from None
    except BotoCoreError as error:
        raise DeploymentError(f"{what}: {error}") from None
