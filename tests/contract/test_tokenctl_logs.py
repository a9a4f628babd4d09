"""`tokenctl logs create` and `subscribe`: what a stage made by `chalice deploy` lacks, on the local AWS."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import suppress

import pytest
from botocore.exceptions import ClientError

from deploy.policies import policies
from dev.engine import HOST, Engine, free_port
from tests.support.operator import Tokenctl
from tokenctl.deployment import Deployment, open_stage

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
GROUPS = [f"/aws/lambda/tokenservice-{STAGE}{name}" for name in ("", "-basic_auth", *FORWARDERS, "-redrive")]
REFUSED_CREDENTIALS = '{ ($.status = "401") || ($.error = "ACCESS_DENIED") }'
CLOSED = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
SPLUNK = {"SPLUNK_HEC_URL": "https://splunk.example:8088", "SPLUNK_FAILURE_BUCKET": BUCKET}


@pytest.fixture(autouse=True)
def stage(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """A stage of which nothing is there yet."""
    monkeypatch.delenv("SPLUNK_FAILURE_BUCKET", raising=False)
    stage = open_stage(STAGE)
    yield stage
    for function in stage.aws("lambda").list_functions()["Functions"]:
        stage.aws("lambda").delete_function(FunctionName=function["FunctionName"])
    for group in stage.aws("logs").describe_log_groups()["logGroups"]:
        stage.aws("logs").delete_log_group(logGroupName=group["logGroupName"])
    for bucket in buckets(stage):
        stage.aws("s3").delete_bucket(Bucket=bucket)


def buckets(stage: Deployment) -> list[str]:
    """The failure buckets of all stages; other tests have other buckets on the same engine."""
    names = (bucket["Name"] for bucket in stage.aws("s3").list_buckets()["Buckets"])
    return [name for name in names if name.startswith("tokenservice-")]


def create(tokenctl: Tokenctl, *arguments: str, stage: str = STAGE) -> dict[str, str]:
    """`tokenctl logs create`: name to what was done."""
    run = tokenctl("logs", "create", "--stage", stage, "--json", *arguments)
    assert run.code == 0, run.err
    return dict(run.json)


def deploy(stage: Deployment, *functions: str, **environ: str) -> None:
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


def retention(stage: Deployment) -> dict[str, int | None]:
    groups = stage.aws("logs").describe_log_groups()["logGroups"]
    return {each["logGroupName"]: each.get("retentionInDays") for each in groups}


def filters(stage: Deployment, group: str) -> list[tuple[str, str, str]]:
    found = stage.aws("logs").describe_subscription_filters(logGroupName=group)["subscriptionFilters"]
    return [(each["filterName"], each["filterPattern"], each["destinationArn"]) for each in found]


class TestCreate:
    def test_every_function_has_a_log_group_that_forgets_in_time(self, tokenctl: Tokenctl, stage: Deployment) -> None:
        for arguments, days, what in (((), 14, "created"), (("--days", "365"), 365, "exists"), ((), 14, "exists")):
            done = create(tokenctl, *arguments)
            assert [reported.split(";")[0] for reported in done.values()] == [what] * 6
            assert retention(stage) == dict.fromkeys(GROUPS, days)
        assert "SPLUNK_FAILURE_BUCKET" in done[BUCKET]

    def test_prod_remembers_longer(self, tokenctl: Tokenctl, stage: Deployment) -> None:
        create(tokenctl, stage="prod")
        assert set(retention(stage).values()) == {90}

    def test_long_names_are_not_truncated(self, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "40")
        run = tokenctl("logs", "create", "--stage", STAGE)
        assert sorted(line.split(": ")[0] for line in run.out.splitlines()) == sorted([*GROUPS, BUCKET])

    @pytest.mark.parametrize("is_half_made", [False, True], ids=["new", "half made"])
    def test_the_failure_bucket_is_private_encrypted_and_reached_through_tls_alone(
        self, tokenctl: Tokenctl, stage: Deployment, is_half_made: bool
    ) -> None:
        s3 = stage.aws("s3")
        if is_half_made:
            s3.create_bucket(Bucket=BUCKET)
        create(tokenctl)
        assert s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"] == dict.fromkeys(
            CLOSED, True
        )
        [rule] = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
        policy = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])
        [statement] = policy["Statement"]
        assert (statement["Effect"], statement["Action"]) == ("Deny", "s3:*")
        assert statement["Resource"] == [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"]
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        statement["Sid"] = "Mine"
        s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))
        create(tokenctl)
        assert '"Mine"' in s3.get_bucket_policy(Bucket=BUCKET)["Policy"], "a person's policy stays"

    def test_a_region_is_named_where_the_bucket_is_made(
        self, tokenctl: Tokenctl, stage: Deployment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        for reported in ("created", "exists"):
            assert create(tokenctl)[BUCKET.replace("us-east-1", "eu-central-1")].startswith(reported)
        [bucket] = buckets(stage)
        assert stage.aws("s3").get_bucket_location(Bucket=bucket)["LocationConstraint"] == "eu-central-1"

    def test_the_settings_may_name_a_bucket_where_the_roles_may_write(
        self, tokenctl: Tokenctl, stage: Deployment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SPLUNK_FAILURE_BUCKET", "failures")
        tokenctl("logs", "create", "--stage", STAGE).assert_refused("SPLUNK_FAILURE_BUCKET: 'failures'")
        assert retention(stage) == {}
        ours = f"tokenservice-{STAGE}-failures-ours"
        monkeypatch.setenv("SPLUNK_FAILURE_BUCKET", ours)
        create(tokenctl)
        assert buckets(stage) == [ours]
        for function in FORWARDERS:
            assert f'"arn:aws:s3:::{ours.removesuffix("ours")}*/*"' in json.dumps(policies(STAGE)[function[1:]])


class TestSubscribe:
    def test_every_log_but_the_forwarders_own_goes_to_the_forwarder(
        self, tokenctl: Tokenctl, stage: Deployment
    ) -> None:
        create(tokenctl)
        deploy(stage, *FORWARDERS, **SPLUNK)
        functions, logs = stage.aws("lambda"), stage.aws("logs")
        arn = functions.get_function_configuration(FunctionName=FORWARDER)["FunctionArn"]
        logs.create_log_group(logGroupName=f"{ACCESS}-of-old")
        for has_access_log in (False, True):
            if has_access_log:
                logs.create_log_group(logGroupName=ACCESS)
            done = tokenctl("logs", "subscribe", "--stage", STAGE, "--json").json
            assert (ACCESS in done) == has_access_log
            assert done[GROUPS[0]] == f"goes to {FORWARDER}"
            assert f"s3://{BUCKET}" in done[FORWARDER]
            for group in GROUPS:
                assert filters(stage, group) == ([] if group.endswith(FORWARDER) else [("splunk", "", arn)])
            [allowed] = json.loads(functions.get_policy(FunctionName=FORWARDER)["Policy"])["Statement"]
            assert (allowed["Principal"], allowed["Action"]) == (
                {"Service": "logs.amazonaws.com"},
                "lambda:InvokeFunction",
            )
            assert allowed["Condition"]["StringEquals"]["AWS:SourceAccount"] == "000000000000"
            groups = f"arn:aws:logs:us-east-1:000000000000:log-group:*tokenservice?{STAGE}*"
            assert allowed["Condition"]["ArnLike"]["AWS:SourceArn"] == groups
            for function in FORWARDERS:
                config = functions.get_function_event_invoke_config(FunctionName=f"tokenservice-{STAGE}{function}")
                assert config["DestinationConfig"]["OnFailure"]["Destination"] == f"arn:aws:s3:::{BUCKET}"
                assert (config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]) == (2, 21600)
        assert filters(stage, ACCESS) == [("splunk", REFUSED_CREDENTIALS, arn)]
        assert filters(stage, f"{ACCESS}-of-old") == []

    def test_without_a_failure_bucket_it_warns(self, tokenctl: Tokenctl, stage: Deployment) -> None:
        create(tokenctl)
        deploy(stage, *FORWARDERS, SPLUNK_HEC_URL=SPLUNK["SPLUNK_HEC_URL"], SPLUNK_HEC_TOKEN="for-local-use")
        run = tokenctl("logs", "subscribe", "--stage", STAGE)
        assert f"{FORWARDER}: failed inputs are lost: SPLUNK_FAILURE_BUCKET is not set" in run.out
        with pytest.raises(ClientError):
            stage.aws("lambda").get_function_event_invoke_config(FunctionName=FORWARDER)

    @pytest.mark.parametrize(
        ("functions", "environ", "words"),
        [
            ((), SPLUNK, ["no function tokenservice", f"'chalice deploy --stage {STAGE}' first"]),
            (("-forward_logs",), SPLUNK, ["no function tokenservice-test-forward_events"]),
            (FORWARDERS, {"SPLUNK_HEC_URL": " "}, ["no SPLUNK_HEC_URL: set it", ".chalice/config.json"]),
        ],
        ids=["no function", "one function", "no Splunk"],
    )
    def test_what_is_not_deployed_is_named_and_nothing_is_changed(
        self,
        tokenctl: Tokenctl,
        stage: Deployment,
        functions: tuple[str, ...],
        environ: dict[str, str],
        words: list[str],
    ) -> None:
        create(tokenctl)
        deploy(stage, *functions, **environ)
        tokenctl("logs", "subscribe", "--stage", STAGE).assert_refused(*words)
        assert [filters(stage, group) for group in GROUPS] == [[]] * len(GROUPS)

    def test_a_log_group_that_is_missing_is_named(self, tokenctl: Tokenctl, stage: Deployment) -> None:
        deploy(stage, *FORWARDERS, **SPLUNK)
        tokenctl("logs", "subscribe", "--stage", STAGE).assert_refused(
            f"no log group {GROUPS[0]}: run 'tokenctl logs create'"
        )


@pytest.mark.parametrize("command", ["create", "subscribe"])
def test_errors_are_reported_in_one_line(tokenctl: Tokenctl, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenctl("logs", command).assert_refused("stage 'local' has no functions on AWS")
    with monkeypatch.context() as nowhere:
        nowhere.delenv("AWS_DEFAULT_REGION")
        tokenctl("logs", command, "--stage", STAGE).assert_refused("You must specify a region")
    with monkeypatch.context() as away:
        away.setenv("AWS_ENDPOINT_URL", f"http://{HOST}:{free_port()}")
        tokenctl("logs", command, "--stage", STAGE).assert_refused("Could not connect")


def test_days_must_be_a_number(tokenctl: Tokenctl, stage: Deployment) -> None:
    for days in ("0", "-1", "a"):
        tokenctl("logs", "create", "--stage", STAGE, "--days", days).assert_refused("'--days'", code=2)
    assert retention(stage) == {}
