"""Stages side by side in one account: made, updated while calls are running, and deleted without a trace."""

from __future__ import annotations

import shutil
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
import requests

from deploy.template import versioned
from tests.support.api import NODE
from tests.support.local_aws import LocalAws, Package, Stack, Template

DONE_BEFORE_AND_AFTER = 20
KINDS = ("clients", "tokens")


@pytest.fixture(scope="module")
def prod(aws: LocalAws, packages: Path) -> Stack:
    return Stack(aws, Package.of("prod", packages))


def test_a_stage_without_a_splunk_serves_and_forwards_nothing(dev: Stack) -> None:
    client = dev.add_client("appian")
    assert dev.call("POST", "/token", client, {"nodeId": NODE}).status_code == 201
    logs = dev.aws.client("logs")
    for group in dev.log_groups():
        assert logs.describe_subscription_filters(logGroupName=group)["subscriptionFilters"] == []
    rules = [each for each in dev.aws.client("events").list_rules()["Rules"] if "dev" in each["Name"]]
    assert [rule["State"] for rule in rules] == ["DISABLED", "DISABLED"]


def test_stages_are_independent(dev: Stack, prod: Stack) -> None:
    in_dev, in_prod = dev.add_client("one-stage"), prod.add_client("one-stage")
    assert prod.call("GET", "/version", in_prod).json()["stage"] == "prod"
    assert prod.call("GET", "/version", in_dev).status_code == 401
    token = dev.call("POST", "/token", in_dev, {"nodeId": NODE}).json()["token"]
    assert prod.call("POST", "/use", in_prod, {"token": token}).json()["code"] == "token_not_found"
    assert dev.call("POST", "/use", in_dev, {"token": token}).status_code == 200
    # MiniStack names a stage of the gateway, and what is of the log group, without the API and the group.
    shared = set(dev.resources().values()) & set(prod.resources().values())
    assert shared <= {"api", "splunk"}


def shape(aws: LocalAws, stage: str, kind: str) -> dict[str, Any]:
    """What matters of a table, and nothing that names the stage.

    MiniStack passes over TTL and recovery in a template: the tests of the package look at them.
    """
    table = aws.client("dynamodb").describe_table(TableName=f"tokenservice-{stage}-{kind}")["Table"]
    indexes = sorted(table.get("GlobalSecondaryIndexes", []), key=lambda index: index["IndexName"])
    return {
        "attributes": sorted(table["AttributeDefinitions"], key=lambda attribute: attribute["AttributeName"]),
        "key": table["KeySchema"],
        "indexes": [(index["IndexName"], index["KeySchema"], index["Projection"]) for index in indexes],
        "billing": table["BillingModeSummary"]["BillingMode"],
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_tables_of_a_stack_are_those_that_tokenctl_makes(aws: LocalAws, dev: Stack, kind: str) -> None:
    aws.tokenctl("test", "tables", "create")
    assert shape(aws, "test", kind) == shape(aws, dev.stage, kind)


def test_each_stage_has_one_door(dev: Stack, prod: Stack) -> None:
    for stack in (dev, prod):
        stages = stack.aws.client("apigateway").get_stages(restApiId=stack.outputs["RestAPIId"])["item"]
        assert [stage["stageName"] for stage in stages] == ["api"]


# --- New versions


def live(stack: Stack) -> tuple[str, tuple[str, int]]:
    """The version that the gateway calls, and the code and memory it has."""
    functions = stack.aws.client("lambda")
    version = functions.get_alias(FunctionName=f"tokenservice-{stack.stage}", Name="live")["FunctionVersion"]
    named = functions.get_function_configuration(FunctionName=f"tokenservice-{stack.stage}", Qualifier=version)
    return version, (named["CodeSha256"], named["MemorySize"])


def with_memory(made: Package, size_mb: int) -> Template:
    """The template of a package whose functions behind the gateway have another memory size."""
    template = made.template()
    for name in ("APIHandler", "BasicAuth"):
        template["Resources"][name]["Properties"]["MemorySize"] = size_mb
    return versioned(template, made.archive.read_bytes())


def test_the_same_package_from_another_address_is_deployed_and_publishes_nothing(dev: Stack, packages: Path) -> None:
    before, made = live(dev), Package.of("dev", packages)
    template = made.template()
    for name in ("APIHandler", "BasicAuth"):
        template["Resources"][name]["Properties"]["Tags"] = {"cost-centre": "7"}
    dev.update(made, template)  # each update has an address of its own
    assert live(dev) == before


def test_other_code_with_other_properties_is_deployed_and_taken_back(
    dev: Stack, packages: Path, tmp_path: Path
) -> None:
    (before, first), made = live(dev), Package.of("dev", packages)
    other = Package("dev", tmp_path)
    for path in made.folder.iterdir():
        shutil.copy(path, tmp_path)
    with zipfile.ZipFile(other.archive, "a") as archive:
        archive.writestr("another.txt", "other code")
    dev.update(other, with_memory(other, 256))
    changed, second = live(dev)
    assert (second[0] == first[0], second[1]) == (False, 256)
    dev.update(made, made.template())
    again, third = live(dev)
    assert len({before, changed, again}) == 3
    assert third == first


def test_a_deployment_that_failed_can_be_tried_again(dev: Stack, packages: Path) -> None:
    before, made = live(dev), Package.of("dev", packages)
    broken = with_memory(made, 512)
    broken["Resources"]["SecondAlias"] = {
        "Type": "AWS::Lambda::Alias",
        "DependsOn": "APIHandlerAliaslive",
        "Properties": {"FunctionName": {"Ref": "APIHandler"}, "FunctionVersion": "1", "Name": "live"},
    }
    with pytest.raises(AssertionError, match="already exists"):
        dev.update(made, broken)
    assert live(dev) == before
    dev.update(made, with_memory(made, 512))
    assert live(dev)[1] == (before[1][0], 512)


def test_calls_go_on_while_a_new_version_is_deployed(dev: Stack, packages: Path) -> None:
    """None fails, none is answered twice, and in the end the new version answers."""
    client = dev.add_client("busy")
    made = Package.of("dev", packages)
    template = made.template()
    template["Resources"]["APIHandler"]["Properties"]["Environment"]["Variables"]["COMMIT"] = "the-next-one"
    ended = threading.Event()
    answers: list[requests.Response] = []

    def call() -> None:
        while not ended.is_set():
            token = dev.call("POST", "/token", client, {"nodeId": NODE})
            use = {"token": token.json()["token"]}
            answers.extend((token, dev.call("POST", "/use", client, use), dev.call("POST", "/use", client, use)))

    def wait_for(calls: int) -> None:
        wanted = len(answers) + calls
        while len(answers) < wanted and thread.is_alive():
            ended.wait(0.05)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        wait_for(DONE_BEFORE_AND_AFTER)
        dev.update(made, versioned(template, made.archive.read_bytes()))
        wait_for(DONE_BEFORE_AND_AFTER)
    finally:
        ended.set()
        thread.join()
    statuses = [answer.status_code for answer in answers]
    assert statuses == [201, 200, 410] * (len(statuses) // 3)
    assert len(statuses) >= 2 * DONE_BEFORE_AND_AFTER
    assert dev.call("GET", "/version", client).json()["commit"] == "the-next-one"


def everything(aws: LocalAws) -> dict[str, Any]:
    """All that an account holds of what a stage makes."""
    client = aws.client
    alarms = client("cloudwatch").describe_alarms()["MetricAlarms"]
    roles = [each["RoleName"] for each in client("iam").list_roles()["Roles"]]
    return {
        "tables": client("dynamodb").list_tables()["TableNames"],
        "functions": [each["FunctionName"] for each in client("lambda").list_functions()["Functions"]],
        "log groups": [each["logGroupName"] for each in client("logs").describe_log_groups()["logGroups"]],
        "alarms": [each["AlarmName"] for each in alarms],
        "dashboards": [each["DashboardName"] for each in client("cloudwatch").list_dashboards()["DashboardEntries"]],
        "rules": [each["Name"] for each in client("events").list_rules()["Rules"]],
        "roles": [role for role in roles if role.startswith("tokenservice")],
        "buckets": [each["Name"] for each in client("s3").list_buckets()["Buckets"]],
        "apis": [each["name"] for each in client("apigateway").get_rest_apis()["items"]],
    }


def test_deleting_the_dev_stage_leaves_nothing_of_it_and_all_of_the_others(
    aws: LocalAws, dev: Stack, prod: Stack
) -> None:
    before = everything(aws)
    dev.delete()
    after = everything(aws)
    for kind, found in after.items():
        assert found == [name for name in before[kind] if "dev" not in name], kind
        assert len(found) < len(before[kind]), kind
    assert prod.call("GET", "/version").status_code == 401


def test_deleting_prod_keeps_its_data(aws: LocalAws, prod: Stack) -> None:
    prod.delete()
    left = everything(aws)
    assert {name for name in left["tables"] if "prod" in name} == {f"tokenservice-prod-{kind}" for kind in KINDS}
    assert any(name.startswith("tokenservice-prod-failures-") for name in left["buckets"])
    assert len(left["log groups"]) == 6
    assert left["functions"] == left["apis"] == left["alarms"] == []
