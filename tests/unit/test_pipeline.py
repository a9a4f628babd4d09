"""What a reviewer looks for in the pipeline, the deployer and the account template, and in how they are checked."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from chalicelib.splunk.errors import Misconfigured
from chalicelib.splunk.transport import endpoint
from deploy.checks import grants as grants_check
from deploy.checks import vulnerabilities
from deploy.resources import FOLDER, read_template

TEMPLATES = ("account.yaml", "deployer.yaml", "pipeline.yaml")
READ = {name: read_template(FOLDER / name) for name in (*TEMPLATES, "resources.yaml")}
BUILD = yaml.safe_load((FOLDER / "buildspec.yml").read_text("utf-8"))
SMOKE = yaml.safe_load(READ["pipeline.yaml"]["Resources"]["Smoke"]["Properties"]["Source"]["BuildSpec"])

WIDE = {
    # API Gateway makes up the ids of APIs, so nobody can name them beforehand.
    "arn:${AWS::Partition}:apigateway:${AWS::Region}::/restapis/*",
    "arn:${AWS::Partition}:apigateway:${AWS::Region}::/tags/*",
    # A listing: AWS takes no narrower resource for it.
    "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:*",
    # AWS's own ways of shifting traffic; they are named, and can only be read.
    "arn:${AWS::Partition}:codedeploy:${AWS::Region}:${AWS::AccountId}:deploymentconfig:CodeDeployDefault.*",
    # See ANYWHERE.
    "*",
    "arn:${AWS::Partition}:apigateway:${AWS::Region}::/domainnames/*",
    "arn:${AWS::Partition}:apigateway:${AWS::Region}::/usageplans/*",
    # AWS Backup makes up the ids of plans.
    "arn:${AWS::Partition}:backup:${AWS::Region}:${AWS::AccountId}:backup-plan:*",
    "arn:${AWS::Partition}:apigateway:${AWS::Region}::/restapis/*/stages/api",
    # AWS's own rules.
    "arn:${AWS::Partition}:wafv2:${AWS::Region}:${AWS::AccountId}:regional/managedruleset/*/*",
    # The bucket of a stage's first deployments, which its owner names.
    "arn:${AWS::Partition}:s3:::${HandBucket}/*",
}
"""Granted resources that end in `*` and hold nothing of ours before it."""


ANYWHERE = {
    # None of these takes a narrower resource; all but the first two only read.
    "backup-storage:MountCapsule",
    "codedeploy:StopDeployment",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
}


def resources(name: str, kind: str) -> dict[str, dict[str, Any]]:
    return {key: each for key, each in READ[name]["Resources"].items() if each["Type"] == kind}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def text(resource: Any) -> str:
    """An ARN as it is written; a reference to a resource of the template is `!Name`. Of a choice, the first."""
    if isinstance(resource, str):
        return resource
    [(kind, value)] = resource.items()
    if kind == "Fn::If":
        return text(value[1])
    return str(value) if kind == "Fn::Sub" else "!" + ".".join(as_list(value))


def policies() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and document of each policy that a role has by itself or from a policy of the template."""
    for name in TEMPLATES:
        for key, role in resources(name, "AWS::IAM::Role").items():
            for policy in role["Properties"].get("Policies", []):
                yield f"{name}:{key}", policy["PolicyDocument"]
        for key, policy in resources(name, "AWS::IAM::ManagedPolicy").items():
            yield f"{name}:{key}", policy["Properties"]["PolicyDocument"]


def grants() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each statement of these policies, but for a boundary, which grants nothing."""
    for name, document in policies():
        if name == "deployer.yaml:Boundary":
            continue
        for statement in document["Statement"]:
            yield name, statement.get("Fn::If", [None, statement])[1]


def stages() -> dict[str, list[dict[str, Any]]]:
    pipeline = READ["pipeline.yaml"]["Resources"]["Pipeline"]["Properties"]
    return {stage["Name"]: stage["Actions"] for stage in pipeline["Stages"]}


def test_the_pipeline_goes_through_dev_its_test_and_an_approval_to_prod() -> None:
    providers = [
        (name, action["ActionTypeId"]["Category"], action["ActionTypeId"]["Provider"])
        for name, actions in stages().items()
        for action in sorted(actions, key=lambda action: action.get("RunOrder", 1))
    ]
    assert providers == [
        ("Source", "Source", "CodeStarSourceConnection"),
        ("Build", "Build", "CodeBuild"),
        ("Dev", "Deploy", "CloudFormation"),
        ("Dev", "Deploy", "CloudFormation"),
        ("Dev", "Test", "CodeBuild"),
        ("Prod", "Deploy", "CloudFormation"),
        # Here, not before: what is approved is the change set, and the stage's lock keeps it.
        ("Prod", "Approval", "Manual"),
        ("Prod", "Deploy", "CloudFormation"),
    ]


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_a_deployment_is_a_change_set_made_and_executed_by_the_stages_own_role(stage: str) -> None:
    actions = (each for each in stages()[stage.title()] if each["ActionTypeId"]["Provider"] == "CloudFormation")
    prepare, deploy = (each["Configuration"] for each in sorted(actions, key=lambda each: each["RunOrder"]))
    role = prepare["RoleArn"]
    assert text(role).endswith(f":role/tokenservice-deployer-{stage}")
    change_set = {"StackName": f"tokenservice-{stage}", "ChangeSetName": "pipeline"}
    assert prepare == {
        **change_set,
        "RoleArn": role,
        "ActionMode": "CHANGE_SET_REPLACE",
        "TemplatePath": f"Packages::{stage}/packaged.yaml",
        "TemplateConfiguration": f"Packages::{stage}/parameters.json",
        "Capabilities": "CAPABILITY_IAM,CAPABILITY_AUTO_EXPAND",
    }
    assert deploy == {**change_set, "ActionMode": "CHANGE_SET_EXECUTE", "RoleArn": role}


def test_the_url_of_splunk_may_have_any_collector_path() -> None:
    pattern = READ["resources.yaml"]["Parameters"]["SplunkHecUrl"]["AllowedPattern"]
    for path in ("", "/", "/services/collector", "/services/collector/event/1.0", "/proxy/services/collector/raw"):
        for host in ("https://splunk.example", "HTTPS://http-inputs-x.SplunkCloud.com:443"):
            assert re.fullmatch(pattern, host + path)
            assert endpoint(host + path)
    for bad in (
        "http://splunk.example",
        "splunk.example",
        "https://a@b",
        "https://a/?token=x",
        "https://a/#x",
        "https://",
    ):
        assert not re.fullmatch(pattern, bad), bad
        with pytest.raises(Misconfigured):
            endpoint(bad)


@pytest.mark.parametrize("stage", ["dev", "test", "prod"])
def test_the_pipeline_gives_a_stage_parameters_and_the_boundary_that_its_deployer_demands(stage: str) -> None:
    given = json.loads((FOLDER / "parameters" / f"{stage}.json").read_text("utf-8"))
    assert given.keys() == {"Parameters"}
    known = READ["resources.yaml"]["Parameters"] | read_template(FOLDER / "options.yaml")["Parameters"]
    # The pipeline does not sign, so a stage that wants signed code is deployed by hand.
    assert given["Parameters"].keys() <= known.keys() - {"Stage", "CodeSigningConfigArn"}
    boundary = text(READ["deployer.yaml"]["Resources"]["Boundary"]["Properties"]["ManagedPolicyName"])
    assert given["Parameters"]["Boundary"] == boundary.replace("${Stage}", stage)


def test_no_action_is_granted_by_a_star() -> None:
    assert [(role, action) for role, each in grants() for action in as_list(each["Action"]) if "*" in action] == []


def test_every_resource_is_named_or_its_width_is_explained() -> None:
    # Ours: what begins with the service's name, and what this template made or was given.
    ours = re.compile(
        r".*[:/]{1,3}tokenservice[-/].*|arn:[^*]*[^*]|!.*|\$\{Artifacts\.Arn\}/(tokenservice|packages)/\*"
    )
    granted = {text(each) for _, statement in grants() for each in as_list(statement["Resource"])}
    assert {each for each in granted if not ours.fullmatch(each)} == WIDE


def test_what_is_granted_anywhere_takes_no_narrower_resource() -> None:
    wide = [each for _, each in grants() if "*" in as_list(each["Resource"])]
    assert {action for each in wide for action in as_list(each["Action"])} == ANYWHERE


def test_the_package_of_each_commit_stays_where_a_rollback_finds_it() -> None:
    [package] = [command for command in BUILD["phases"]["post_build"]["commands"] if "package" in command]
    for file, kept in (("packaged.yaml", "yaml"), ("sbom.cdx.json", "cdx.json")):
        assert f'"out/$stage/{file}" "s3://$ARTIFACT_BUCKET/packages/$stage/$COMMIT.{kept}"' in package
    configuration = stages()["Build"][0]["Configuration"]
    assert json.loads(configuration["EnvironmentVariables"])[0]["name"] == "COMMIT"
    bucket = READ["pipeline.yaml"]["Resources"]["Artifacts"]
    assert bucket["DeletionPolicy"] == "Retain"
    rules = bucket["Properties"]["LifecycleConfiguration"]["Rules"]
    assert [rule["Prefix"] for rule in rules if "ExpirationInDays" in rule] == ["tokenservice/"]


def test_each_policy_stays_below_the_limit_of_iam() -> None:
    """IAM does not count white space. What `!Sub` fills in is about as long as the name of the variable."""
    sizes = {name: len("".join(json.dumps(document, separators=(",", ":")).split())) for name, document in policies()}
    for managed in ("deployer.yaml:OptionsPolicy", "deployer.yaml:Boundary"):
        assert sizes.pop(managed) < 6_144
    assert {name: size for name, size in sizes.items() if size > 9_500} == {}


def test_a_deployer_reaches_no_other_stage_and_no_deployer() -> None:
    for role, statement in grants():
        if role in ("deployer.yaml:Deployer", "deployer.yaml:OptionsPolicy"):
            for each in map(text, as_list(statement["Resource"])):
                for named in re.split(r"tokenservice[-/]", each)[1:]:
                    # A layer is nothing of a stage.
                    assert named.startswith(("${Stage}", "pipeline-${")) or ":layer:" in each, each
    name = READ["deployer.yaml"]["Resources"]["Deployer"]["Properties"]["RoleName"]
    assert not re.match(r"tokenservice-(dev|test|prod)-", text(name))


def test_a_role_is_handed_over_to_named_services_alone() -> None:
    passing = [each for _, each in grants() if "iam:PassRole" in as_list(each["Action"])]
    assert len(passing) == 3
    for statement in passing:
        assert statement["Condition"]["StringEquals"]["iam:PassedToService"]


def test_one_service_takes_on_a_role_and_the_build_services_for_this_account_alone() -> None:
    for name in TEMPLATES:
        for key, role in resources(name, "AWS::IAM::Role").items():
            [statement] = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
            if key == "PipelineAction":
                continue
            assert re.fullmatch(r"[a-z]+\.amazonaws\.com", statement["Principal"]["Service"]), key
            # CloudFormation and API Gateway are not documented to say for whom they act; a role that asked would be
            # one that they can't take on. Nobody can hand a role to them across accounts.
            if name == "pipeline.yaml":
                assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}, key


def test_the_request_for_an_approval_names_the_change_set() -> None:
    prepare, approve, _ = sorted(stages()["Prod"], key=lambda action: action["RunOrder"])
    request = approve["Configuration"]
    assert request["NotificationArn"]["Fn::If"][:2] == ["Notifies", {"Ref": "ApprovalTopicArn"}]
    name, stack = (prepare["Configuration"][key] for key in ("ChangeSetName", "StackName"))
    assert f"describe-change-set --stack-name {stack} --change-set-name {name}" in request["CustomData"]


def test_prod_in_an_account_of_its_own_is_deployed_by_roles_of_that_account() -> None:
    for action in stages()["Prod"]:
        if action["ActionTypeId"]["Provider"] != "CloudFormation":
            continue
        assert action["RoleArn"]["Fn::If"][0] == action["Configuration"]["RoleArn"]["Fn::If"][0] == "HasOwnProdAccount"
        assert text(action["RoleArn"]) == "arn:${AWS::Partition}:iam::${ProdAccountId}:role/tokenservice-pipeline-prod"
        assert "${ProdAccountId}" in text(action["Configuration"]["RoleArn"])
    pipeline = READ["pipeline.yaml"]["Resources"]["Pipeline"]["Properties"]
    assert pipeline["ArtifactStore"]["EncryptionKey"]["Fn::If"][1] == {"Id": {"Ref": "ArtifactKeyArn"}, "Type": "KMS"}
    role = READ["deployer.yaml"]["Resources"]["PipelineAction"]["Properties"]
    [trusted] = role["AssumeRolePolicyDocument"]["Statement"]
    # The account alone would let each of its roles in.
    assert text(trusted["Condition"]["ArnLike"]["aws:PrincipalArn"]).endswith(
        ":role/tokenservice-pipeline-PipelineRole-*"
    )


def test_each_deploying_role_has_the_boundary_that_is_given() -> None:
    for name in ("deployer.yaml", "pipeline.yaml"):
        for key, role in resources(name, "AWS::IAM::Role").items():
            assert role["Properties"]["PermissionsBoundary"]["Fn::If"][:2] == ["HasBoundary", {"Ref": "BoundaryArn"}], (
                key
            )


MAKES_ADMINISTRATORS = {
    *("iam:AttachRolePolicy", "iam:CreateRole", "iam:DeleteRolePolicy", "iam:DetachRolePolicy"),
    *("iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"),
}
"""IAM lets a boundary be demanded of these."""
ON_ROLES = {
    *("iam:CreateServiceLinkedRole", "iam:DeleteRole", "iam:GetRole", "iam:GetRolePolicy", "iam:PassRole"),
    *("iam:ListAttachedRolePolicies", "iam:ListRolePolicies", "iam:TagRole", "iam:UntagRole"),
    *("iam:UpdateAssumeRolePolicy", "iam:UpdateRole", "iam:UpdateRoleDescription"),
}
"""None of these adds a permission or takes a boundary away."""


def test_nothing_makes_or_changes_a_role_without_the_boundary_of_its_stage() -> None:
    for name, statement in grants():
        actions = {action for action in as_list(statement["Action"]) if action.startswith("iam:")}
        assert actions <= MAKES_ADMINISTRATORS | ON_ROLES, name
        if actions & MAKES_ADMINISTRATORS:
            demanded = statement["Condition"]["StringEquals"]["iam:PermissionsBoundary"]
            assert demanded["Fn::If"][0] == "MakesBoundary"
            assert [text(each).rpartition(":policy/")[2] for each in demanded["Fn::If"][1:]] == [
                text(READ["deployer.yaml"]["Resources"]["Boundary"]["Properties"]["ManagedPolicyName"]),
                "${StageBoundary}",
            ]


def test_the_artifact_bucket_is_reached_by_tls_and_shared_for_reading() -> None:
    tls, shared = READ["pipeline.yaml"]["Resources"]["ArtifactsPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (tls["Effect"], tls["Principal"], tls["Action"]) == ("Deny", "*", "s3:*")
    assert tls["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert shared["Fn::If"][1]["Action"] == ["s3:GetObject", "s3:GetObjectVersion"]


def test_builds_run_unprivileged_under_the_prefix_that_forward_events_listens_for() -> None:
    projects = [each["Properties"] for each in resources("pipeline.yaml", "AWS::CodeBuild::Project").values()]
    found = [(project["Name"].partition("-")[0], project["Environment"]["PrivilegedMode"]) for project in projects]
    assert found == [("tokenservice", False), ("tokenservice", False)]


def test_the_build_checks_and_packages_what_is_deployed() -> None:
    commands = BUILD["phases"]["build"]["commands"]
    assert commands[0] == "make check"
    assert BUILD["env"]["variables"]["CI"] == "true"
    packaged = [each.removeprefix("make package STAGE=") for each in commands[1:]]
    built = [f"{stage}/{name}" for stage in packaged for name in ("packaged.yaml", "parameters.json")]
    assert built == BUILD["artifacts"]["files"]
    deployed = tomllib.loads((FOLDER / "runtimes.toml").read_text("utf-8"))["deployed"]
    for spec in (BUILD, SMOKE):
        assert str(spec["phases"]["install"]["runtime-versions"]["python"]) == deployed


def test_an_unknown_action_and_a_resource_of_another_kind_are_errors() -> None:
    def policy(action: str) -> dict[str, Any]:
        table = "arn:aws:dynamodb:eu-central-1:111122223333:table/t"
        return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": [action], "Resource": table}]}

    documents = {action: policy(action) for action in ("dynamodb:GetItem", "dynamodb:GetItems", "s3:GetObject")}
    unknown, other_kind = grants_check.errors(documents)
    assert unknown.startswith("dynamodb:GetItems: W3037")
    assert other_kind.startswith("s3:GetObject: I3510")


FOUND = {"name": "leftpad", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}
UNKNOWN = {"name": "private", "skip_reason": "not found"}
CLEAN = {"name": "six", "version": "1.17.0", "vulns": []}


def test_a_vulnerability_is_named_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert vulnerabilities.report("lock.txt", [FOUND, CLEAN]) == 1
    output = capsys.readouterr().out
    assert "VULNERABLE: lock.txt: leftpad 1.0: PYSEC-1; fixed in 1.1\n" in output
    assert "NOT AUDITED" not in output


@pytest.mark.parametrize(
    ("libraries", "line_part"),
    [(None, "can't be reached"), ([UNKNOWN], "1 of 1"), ([UNKNOWN, CLEAN], "1 of 2")],
)
def test_a_failed_lookup_is_reported(
    libraries: list[dict[str, Any]] | None, line_part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vulnerabilities.report("lock.txt", libraries) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("!!!")]
    assert line.startswith("!!! NOT AUDITED: lock.txt: ")
    assert line_part in line
