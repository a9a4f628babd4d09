"""`tokenctl logs`: what a stage made by `chalice deploy` lacks, on the local AWS."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError

from deploy.policies import policies
from dev.engine import HOST, Engine, free_port
from tokenctl import __main__ as program
from tokenctl import logs
from tokenctl.deployment import Deployment, open_stage
from tokenctl.errors import DeploymentError

STAGE = "test"
BUCKET = f"tokenservice-{STAGE}-failures-000000000000-us-east-1"
FORWARDER = f"tokenservice-{STAGE}-forward_logs"
ACCESS = f"/tokenservice/{STAGE}/access"
ROLE = "arn:aws:iam::000000000000:role/forwarder"
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)
FORWARDERS = ("-forward_logs", "-forward_events")
GROUPS = [f"/aws/lambda/tokenservice-{STAGE}{function}" for function in ("", "-basic_auth", *FORWARDERS, "-redrive")]
REFUSED_CREDENTIALS = '{ ($.status = "401") || ($.error = "ACCESS_DENIED") }'
CLOSED = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}


@pytest.fixture
def stage(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """A stage of which nothing is there yet."""
    monkeypatch.delenv("SPLUNK_FAILURE_BUCKET", raising=False)
    stage = open_stage(STAGE)
    yield stage
    for function in stage.aws("lambda").list_functions()["Functions"]:
        stage.aws("lambda").delete_function(FunctionName=function["FunctionName"])
    for group in stage.aws("logs").describe_log_groups()["logGroups"]:
        stage.aws("logs").delete_log_group(logGroupName=group["logGroupName"])
    for bucket in stage.aws("s3").list_buckets()["Buckets"]:
        stage.aws("s3").delete_bucket(Bucket=bucket["Name"])


def deploy(stage: Deployment, functions: tuple[str, ...] = FORWARDERS, **environ: str) -> None:
    """Make functions by the names that Chalice gives them."""
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as zipped:
        zipped.writestr("app.py", "def handler(event, context): pass\n")
    with suppress(stage.aws("iam").exceptions.EntityAlreadyExistsException):
        stage.aws("iam").create_role(RoleName=ROLE.rpartition("/")[2], AssumeRolePolicyDocument=TRUST)
    for function in functions:
        stage.aws("lambda").create_function(
            FunctionName=f"tokenservice-{STAGE}{function}",
            Runtime="python3.11",
            Handler="app.handler",
            Role=ROLE,
            Code={"ZipFile": code.getvalue()},
            Environment={"Variables": environ},
        )


SPLUNK = {"SPLUNK_HEC_URL": "https://splunk.example:8088", "SPLUNK_FAILURE_BUCKET": BUCKET}


def retention(stage: Deployment) -> dict[str, int | None]:
    groups = stage.aws("logs").describe_log_groups()["logGroups"]
    return {each["logGroupName"]: each.get("retentionInDays") for each in groups}


def seen(stage: Deployment) -> dict[str, Any]:
    """All that a subscription is."""
    functions, log = stage.aws("lambda"), stage.aws("logs")
    filters = [log.describe_subscription_filters(logGroupName=group)["subscriptionFilters"] for group in GROUPS]
    configs = [
        functions.get_function_event_invoke_config(FunctionName=f"tokenservice-{STAGE}{function}")
        for function in FORWARDERS
    ]
    for volatile in (*(each for found in filters for each in found), *configs):
        for name in ("creationTime", "LastModified", "ResponseMetadata"):
            volatile.pop(name, None)
    return {
        "policy": json.loads(functions.get_policy(FunctionName=FORWARDER)["Policy"]),
        "filters": dict(zip(GROUPS, filters, strict=True)),
        "configs": configs,
    }


class TestCreate:
    def test_the_log_groups_of_all_functions_are_there_and_forget_in_time(self, stage: Deployment) -> None:
        logs.create(stage)
        assert retention(stage) == dict.fromkeys(GROUPS, 14)

    def test_the_failure_bucket_is_private_encrypted_and_reached_through_tls_alone(self, stage: Deployment) -> None:
        done = logs.create(stage)
        assert "SPLUNK_FAILURE_BUCKET" in done[BUCKET]
        s3 = stage.aws("s3")
        assert s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"] == CLOSED
        [rule] = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
        [statement] = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])["Statement"]
        assert (statement["Effect"], statement["Action"]) == ("Deny", "s3:*")
        assert statement["Resource"] == [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"]
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}

    def test_a_second_run_changes_nothing_and_reports_that(self, stage: Deployment) -> None:
        first, second = logs.create(stage), logs.create(stage)
        assert [reported.split(";")[0] for reported in first.values()] == ["created"] * 6
        assert [reported.split(";")[0] for reported in second.values()] == ["exists"] * 6
        assert retention(stage) == dict.fromkeys(GROUPS, 14)

    def test_the_days_can_be_chosen_and_changed(self, stage: Deployment) -> None:
        logs.create(stage)
        logs.create(stage, 365)
        assert retention(stage) == dict.fromkeys(GROUPS, 365)

    def test_prod_remembers_longer(self, stage: Deployment) -> None:
        logs.create(open_stage("prod"))
        assert set(retention(stage).values()) == {90}

    def test_a_region_is_named_where_the_bucket_is_made(
        self, stage: Deployment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        for reported in ("created", "exists"):
            assert logs.create(stage)[BUCKET.replace("us-east-1", "eu-central-1")].startswith(reported)
        [bucket] = stage.aws("s3").list_buckets()["Buckets"]
        assert stage.aws("s3").get_bucket_location(Bucket=bucket["Name"])["LocationConstraint"] == "eu-central-1"

    def test_a_bucket_that_was_left_half_made_is_finished(self, stage: Deployment) -> None:
        s3 = stage.aws("s3")
        s3.create_bucket(Bucket=BUCKET)
        logs.create(stage)
        assert s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"] == CLOSED
        assert s3.get_bucket_policy(Bucket=BUCKET)["Policy"]

    def test_a_policy_that_the_bucket_has_stays(self, stage: Deployment) -> None:
        s3 = stage.aws("s3")
        logs.create(stage)
        policy = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])
        policy["Statement"][0]["Sid"] = "Mine"
        s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))
        logs.create(stage)
        assert '"Mine"' in s3.get_bucket_policy(Bucket=BUCKET)["Policy"]

    def test_a_bucket_of_another_name_is_made_where_the_settings_name_one(
        self, stage: Deployment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SPLUNK_FAILURE_BUCKET", f"tokenservice-{STAGE}-failures-ours")
        logs.create(open_stage(STAGE))
        assert [each["Name"] for each in stage.aws("s3").list_buckets()["Buckets"]] == [
            f"tokenservice-{STAGE}-failures-ours"
        ]

    def test_a_bucket_where_no_role_may_write_is_refused_before_anything_is_made(
        self, stage: Deployment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SPLUNK_FAILURE_BUCKET", "failures")
        with pytest.raises(DeploymentError, match="SPLUNK_FAILURE_BUCKET: 'failures'"):
            logs.create(open_stage(STAGE))
        assert retention(stage) == {}

    def test_the_name_of_the_bucket_is_what_the_policies_admit(self) -> None:
        for function in FORWARDERS:
            policy = json.dumps(policies(STAGE)[function[1:]])
            assert f'"arn:aws:s3:::{BUCKET.partition("0")[0]}*/*"' in policy


class TestSubscribe:
    def test_every_log_but_the_forwarders_own_goes_to_the_forwarder(self, stage: Deployment) -> None:
        logs.create(stage)
        deploy(stage, **SPLUNK)
        logs.subscribe(stage)
        arn = stage.aws("lambda").get_function_configuration(FunctionName=FORWARDER)["FunctionArn"]
        for group, filters in seen(stage)["filters"].items():
            if group.endswith("-forward_logs"):
                assert filters == []
                continue
            [each] = filters
            assert (each["filterName"], each["filterPattern"], each["destinationArn"]) == ("splunk", "", arn)

    def test_of_an_access_log_refused_credentials_go_to_the_forwarder(self, stage: Deployment) -> None:
        logs.create(stage)
        deploy(stage, **SPLUNK)
        stage.aws("logs").create_log_group(logGroupName=f"{ACCESS}-of-old")
        assert ACCESS not in logs.subscribe(stage)
        stage.aws("logs").create_log_group(logGroupName=ACCESS)
        assert logs.subscribe(stage)[ACCESS] == f"goes to {FORWARDER}"
        [each] = stage.aws("logs").describe_subscription_filters(logGroupName=ACCESS)["subscriptionFilters"]
        assert each["filterPattern"] == REFUSED_CREDENTIALS
        sources = [found["Condition"]["ArnLike"]["AWS:SourceArn"] for found in seen(stage)["policy"]["Statement"]]
        assert sources[-1].endswith(f":log-group:{ACCESS}:*")

    def test_logs_may_invoke_the_forwarder_for_these_groups_of_this_account_alone(self, stage: Deployment) -> None:
        logs.create(stage)
        deploy(stage, **SPLUNK)
        logs.subscribe(stage)
        statements = seen(stage)["policy"]["Statement"]
        assert {each["Principal"]["Service"] for each in statements} == {"logs.amazonaws.com"}
        assert {each["Action"] for each in statements} == {"lambda:InvokeFunction"}
        assert {each["Condition"]["StringEquals"]["AWS:SourceAccount"] for each in statements} == {"000000000000"}
        sources = [each["Condition"]["ArnLike"]["AWS:SourceArn"] for each in statements]
        begin = "arn:aws:logs:us-east-1:000000000000:log-group:"
        assert sources == [f"{begin}{group}:*" for group in GROUPS if not group.endswith("-forward_logs")]

    def test_what_the_forwarders_fail_at_goes_to_the_failure_bucket(self, stage: Deployment) -> None:
        logs.create(stage)
        deploy(stage, **SPLUNK)
        done = logs.subscribe(stage)
        for config in seen(stage)["configs"]:
            assert config["DestinationConfig"]["OnFailure"]["Destination"] == f"arn:aws:s3:::{BUCKET}"
            assert (config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]) == (2, 21600)
        assert f"s3://{BUCKET}" in done[FORWARDER]

    def test_once_more_changes_nothing(self, stage: Deployment) -> None:
        logs.create(stage)
        deploy(stage, **SPLUNK)
        reported = logs.subscribe(stage)
        before = seen(stage)
        assert logs.subscribe(stage) == reported
        assert seen(stage) == before

    def test_without_a_failure_bucket_it_warns(self, stage: Deployment) -> None:
        logs.create(stage)
        deploy(stage, SPLUNK_HEC_URL=SPLUNK["SPLUNK_HEC_URL"], SPLUNK_HEC_TOKEN="for-local-use")
        done = logs.subscribe(stage)
        assert done[FORWARDER] == "failed inputs are lost: SPLUNK_FAILURE_BUCKET is not set"
        with pytest.raises(ClientError):
            stage.aws("lambda").get_function_event_invoke_config(FunctionName=FORWARDER)

    @pytest.mark.parametrize("functions", [(), ("-forward_logs",), ("-forward_events",)])
    def test_functions_that_are_not_deployed_are_named_and_nothing_is_changed(
        self, stage: Deployment, functions: tuple[str, ...]
    ) -> None:
        logs.create(stage)
        deploy(stage, functions, **SPLUNK)
        with pytest.raises(DeploymentError, match=f"no function tokenservice.*'chalice deploy --stage {STAGE}' first"):
            logs.subscribe(stage)
        for group in GROUPS:
            assert not stage.aws("logs").describe_subscription_filters(logGroupName=group)["subscriptionFilters"]

    def test_a_forwarder_without_a_splunk_is_not_subscribed(self, stage: Deployment) -> None:
        logs.create(stage)
        deploy(stage, SPLUNK_FAILURE_BUCKET=BUCKET, SPLUNK_HEC_URL=" ")
        with pytest.raises(DeploymentError, match=r"no SPLUNK_HEC_URL: set it .* \.chalice/config\.json"):
            logs.subscribe(stage)
        assert not stage.aws("logs").describe_subscription_filters(logGroupName=GROUPS[0])["subscriptionFilters"]

    def test_a_log_group_that_is_missing_is_named(self, stage: Deployment) -> None:
        deploy(stage, **SPLUNK)
        with pytest.raises(DeploymentError, match=f"no log group {GROUPS[0]}: run 'tokenctl logs create'"):
            logs.subscribe(stage)


@pytest.fixture
def tokenctl(
    stage: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the program in this process; gives exit code, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tokenctl", *arguments])
        with pytest.raises(SystemExit) as ended:
            program.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


class TestAtTheTerminal:
    def test_long_names_are_not_truncated(
        self, tokenctl: Any, stage: Deployment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "40")
        code, out, _ = tokenctl("logs", "create", "--stage", STAGE, "--days", "30")
        assert code == 0
        assert [line.split(": ")[0] for line in out.splitlines()] == [*GROUPS, BUCKET]
        assert retention(stage) == dict.fromkeys(GROUPS, 30)

    def test_programs_read_json(self, tokenctl: Any, stage: Deployment) -> None:
        assert list(json.loads(tokenctl("logs", "create", "--stage", STAGE, "--json")[1])) == [*GROUPS, BUCKET]
        deploy(stage, **SPLUNK)
        reported = json.loads(tokenctl("logs", "subscribe", "--stage", STAGE, "--json")[1])
        assert reported[GROUPS[0]] == f"goes to {FORWARDER}"

    def test_days_that_cloudwatch_does_not_know_are_refused(self, tokenctl: Any, stage: Deployment) -> None:
        for days in ("0", "-1", "31", "a"):
            code, _, err = tokenctl("logs", "create", "--stage", STAGE, "--days", days)
            assert code == 2
            assert "'--days'" in err
        assert retention(stage) == {}

    @pytest.mark.parametrize("command", ["create", "subscribe"])
    def test_errors_are_reported_in_one_line(
        self, tokenctl: Any, command: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        local = tokenctl("logs", command)
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        without_region = tokenctl("logs", command, "--stage", STAGE)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        with monkeypatch.context() as away:
            away.setenv("AWS_ENDPOINT_URL", f"http://{HOST}:{free_port()}")
            unreachable = tokenctl("logs", command, "--stage", STAGE)
        for (code, out, err), words in (
            (local, "stage 'local' has no functions on AWS"),
            (without_region, "You must specify a region"),
            (unreachable, "Could not connect"),
        ):
            assert (code, out) == (1, "")
            assert err.startswith("Error: ")
            assert err.count("\n") == 1
            assert words in err
