"""The package itself: what a reviewer of the template would look for, and whether the archive holds what it must."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

from chalicelib.http import problems
from deploy import package
from dev.engine import ROOT
from tests.support.local_aws import FUNCTIONS, Package, Template
from tests.support.pins import hashes, pins

MAX_ARCHIVE_BYTES = 2_500_000
SOURCES = ("app.py", "requirements.txt", ".chalice", "chalicelib", "deploy", "dev", "tokenctl")


@pytest.fixture(scope="module")
def made(packages: Path) -> Package:
    return Package.of("dev", packages)


@pytest.fixture(scope="module")
def template(made: Package) -> Template:
    return made.template()


@pytest.fixture(scope="module")
def prod(packages: Path) -> Template:
    return Package.of("prod", packages).template()


def make(stage: str, out: Path, root: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command of `make package`, with no AWS variables in its environment except the given ones."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    command = [sys.executable, "-m", "deploy.package", "--stage", stage, "--out", str(out)]
    environ = {**kept, "HOME": str(out), **environ}
    return subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)


# --- The archive


def copy_of_the_project(root: Path, **settings: Any) -> Path:
    """Copy what packaging reads, with other settings in `.chalice/config.json`."""
    root.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            without = shutil.ignore_patterns("__pycache__", "deployments", "deployed")
            shutil.copytree(source, root / name, ignore=without)
        else:
            shutil.copy(source, root / name)
    config = root / ".chalice" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **settings}))
    return root


def test_the_archive_is_small_and_the_same_for_each_stage_and_wherever_it_is_made(
    made: Package, tmp_path: Path
) -> None:
    root = copy_of_the_project(tmp_path / "elsewhere")
    done = make("prod", tmp_path / "out", root, AWS_DEFAULT_REGION="us-west-2", HOME=os.environ["HOME"])
    assert done.returncode == 0, done.stderr
    packed = made.archive.read_bytes()
    assert (
        hashlib.sha256((tmp_path / "out" / "deployment.zip").read_bytes()).digest() == hashlib.sha256(packed).digest()
    )
    assert len(packed) <= MAX_ARCHIVE_BYTES


def test_one_setting_packages_for_arm64(tmp_path: Path) -> None:
    root = copy_of_the_project(tmp_path / "elsewhere", lambda_architecture="arm64")
    done = make("dev", tmp_path / "out", root, AWS_DEFAULT_REGION="eu-central-1", HOME=os.environ["HOME"])
    assert done.returncode == 0, done.stderr
    packed = Package("dev", tmp_path / "out")
    functions = resources(packed.template(), "AWS::Serverless::Function").values()
    assert [each["Properties"]["Architectures"] for each in functions] == [["arm64"]] * len(FUNCTIONS)
    with zipfile.ZipFile(packed.archive) as archive:
        compiled = [name for name in archive.namelist() if name.endswith(".so")]
    assert compiled
    assert all("-aarch64-linux-" in name for name in compiled)


@pytest.fixture(scope="module")
def task(made: Package, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive as Lambda lays it out."""
    root = tmp_path_factory.mktemp("task")
    with zipfile.ZipFile(made.archive) as archive:
        archive.extractall(root)
    return root


ALONE = """
import sys
sys.path.insert(0, sys.argv[1])
import app
getattr(app, sys.argv[2])
from importlib import import_module
getattr(import_module(f"chalicelib.entry.{sys.argv[3]}"), sys.argv[4])()
"""


@pytest.mark.parametrize(
    ("handler", "entry", "builds"),
    [
        ("app", "api", "service"),
        ("basic_auth", "authorizer", "authorizer"),
        ("forward_logs", "forwarder", "forwarder"),
        ("forward_events", "forwarder", "forwarder"),
        ("redrive", "redrive", "redriver"),
    ],
)
def test_each_function_starts_with_nothing_but_the_archive(task: Path, handler: str, entry: str, builds: str) -> None:
    environ = {
        "STAGE": "dev",
        "_HANDLER": f"app.{handler}",
        "AWS_LAMBDA_FUNCTION_NAME": "a-function",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",  # nobody listens there
        "SPLUNK_HEC_URL": "https://splunk.example.com:8088",
        "SPLUNK_HEC_TOKEN_PARAMETER": "/tokenservice/dev/splunk-hec-token",
        "SPLUNK_FAILURE_BUCKET": "failures",
    }
    command = [sys.executable, "-I", "-S", "-c", ALONE, str(task), handler, entry, builds]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_is_compiled_at_a_cold_start(task: Path) -> None:
    sources = list(task.rglob("*.py"))
    assert len(sources) > 150
    for source in sources:
        compiled = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
        # Bits 0 and 1 of the flags: valid by hash, and the hash is not even looked at.
        assert compiled.read_bytes()[4:8] == b"\x01\0\0\0", source


def test_nothing_of_the_repository_but_the_application_is_deployed(task: Path) -> None:
    names = {path.name for path in task.iterdir()}
    assert {"app.py", "chalicelib", "chalice"} <= names
    assert names.isdisjoint({"tests", "studies", "tokenctl", "dev", "deploy", "boto3", "s3transfer", "pytest", "bin"})
    assert not [name for name in names if name.startswith(("botocore", "jmespath", "dateutil", "six"))]


def test_an_archive_unpacked_in_another_repository_takes_no_commit_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    monkeypatch.setattr(package, "ROOT", tmp_path / "unpacked")
    for name in ("COMMIT", "CODEBUILD_RESOLVED_SOURCE_VERSION"):
        monkeypatch.delenv(name, raising=False)
    assert package.commit() == "unknown"


def test_the_bill_of_materials_names_what_is_in_the_archive(made: Package, task: Path) -> None:
    text = (made.folder / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    root = bill["metadata"]["component"]
    assert root["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(made.archive.read_bytes()).hexdigest()}]
    components = {each["name"].lower(): each for each in bill["components"]}
    installed = {canonicalize_name(each.name): each for each in distributions(path=[str(task)])}
    assert components.keys() == {*installed, "chalice"}
    for name, component in components.items():
        assert component["purl"] == f"pkg:pypi/{name}@{pins('requirements/run.txt')[name]}"
        assert component["licenses"]
        assert "supplier" in component or name == "msgspec"  # the one that names nobody
    for name, distribution in installed.items():
        assert components[name]["version"] == distribution.version
        assert {each["content"] for each in components[name]["hashes"]} <= hashes("requirements.txt", name)
    for file in components["chalice"]["components"]:
        assert file["hashes"][0]["content"] == hashlib.sha256((task / file["name"]).read_bytes()).hexdigest()


def test_the_bill_of_materials_says_which_library_needs_which(made: Package) -> None:
    needs = {
        each["ref"].partition("@")[0]: {ref.partition("@")[0].rpartition("/")[2] for ref in each["dependsOn"]}
        for each in json.loads((made.folder / "sbom.cdx.json").read_text())["dependencies"]
    }
    assert needs["pkg:generic/tokenservice"] == {"chalice", "msgspec", "pynamodb", "requests", "tenacity"}
    assert needs["pkg:pypi/requests"] == {"certifi", "charset-normalizer", "idna", "urllib3"}


# --- What goes wrong


@pytest.mark.parametrize(
    ("stage", "error"),
    [
        ("dev", "AWS_DEFAULT_REGION: missing; wanted: the region to deploy to, for example eu-central-1"),
        ("nope", ".chalice/config.json has no stage 'nope'; it has: local, dev, test, prod"),
        ("local", "stage 'local' is served by 'make run' and never deployed"),
    ],
)
def test_what_is_missing_is_reported_in_one_line(tmp_path: Path, stage: str, error: str) -> None:
    done = make(stage, tmp_path)
    assert (done.returncode, done.stderr) == (1, f"Error: {error}\n")


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("yes", "'yes' is not true or false"),
        (True, "Lambda has it for Python 3.12 and newer, and this package is for 3.11"),
    ],
)
def test_snapshots_that_lambda_would_refuse_are_an_error(
    value: object, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "stage_setting", lambda *_: value)
    monkeypatch.setattr(package, "sys", SimpleNamespace(version_info=(3, 11)))
    with pytest.raises(package.PackageError, match=f"^snap_start: {error}$"):
        package._check("dev")


# --- The template


def resources(template: Template, kind: str) -> dict[str, Any]:
    return {name: each for name, each in template["Resources"].items() if each["Type"] == kind}


def test_a_package_is_for_its_own_stage_only(template: Template, prod: Template) -> None:
    assert template["Parameters"]["Stage"]["AllowedValues"] == ["dev"]
    assert prod["Parameters"]["Stage"]["AllowedValues"] == ["prod"]


def test_each_function_has_a_role_and_a_log_group_of_its_own(template: Template) -> None:
    functions = resources(template, "AWS::Serverless::Function")
    assert set(functions) == set(FUNCTIONS)
    roles = [each["Properties"]["Role"]["Fn::GetAtt"][0] for each in functions.values()]
    made = {name for name, role in resources(template, "AWS::IAM::Role").items() if "Condition" not in role}
    assert set(roles) == made
    assert len(set(roles)) == len(FUNCTIONS)
    groups = resources(template, "AWS::Logs::LogGroup")
    for name, function in functions.items():
        group = groups[function["DependsOn"]]
        named = {"Fn::Sub": "/aws/lambda/" + function["Properties"]["FunctionName"]["Fn::Sub"]}
        assert group["Properties"]["LogGroupName"] == named, name
    assert all("RetentionInDays" in group["Properties"] for group in groups.values())


def test_no_right_is_for_another_account_or_region(template: Template) -> None:
    for role in resources(template, "AWS::IAM::Role").values():
        for policy in role["Properties"]["Policies"]:
            text = json.dumps(policy)
            assert ":*:*:" not in text
            assert "failures-*" not in text


def test_the_tables_are_kept_safe_and_those_of_prod_outlive_the_stack(template: Template, prod: Template) -> None:
    for each, policy in ((template, "Delete"), (prod, "RetainExceptOnCreate")):
        tables = resources(each, "AWS::DynamoDB::Table")
        assert set(tables) == {"TokenTable", "ClientTable"}
        for table in tables.values():
            properties = table["Properties"]
            assert properties["BillingMode"] == "PAY_PER_REQUEST"
            assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
            assert properties["SSESpecification"]["SSEEnabled"] is True
            assert properties.get("DeletionProtectionEnabled", False) is (policy != "Delete")
            assert table["DeletionPolicy"] == policy
    purge = {"AttributeName": "purge_at", "Enabled": True}
    assert template["Resources"]["TokenTable"]["Properties"]["TimeToLiveSpecification"] == purge


def test_the_failure_bucket_is_reached_through_tls_alone(template: Template) -> None:
    policy = template["Resources"]["FailureBucketPolicy"]["Properties"]
    [statement] = policy["PolicyDocument"]["Statement"]
    assert (policy["Bucket"], statement["Effect"], statement["Action"]) == ({"Ref": "FailureBucket"}, "Deny", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_gateway_throttles_and_keeps_tokens_and_credentials_out_of_its_logs(template: Template) -> None:
    api = template["Resources"]["RestAPI"]["Properties"]
    [settings] = api["MethodSettings"]
    assert settings["ThrottlingRateLimit"] > 0 < settings["ThrottlingBurstLimit"]
    assert (settings["DataTraceEnabled"], settings["LoggingLevel"]) == (False, "OFF")
    reported = set(re.findall(r"\$context\.[A-Za-z.]+", api["AccessLogSetting"]["Format"]))
    # A trace of the gateway's would hold the whole URL.
    assert api["TracingEnabled"] is False
    # The path of a call may be anything that a caller writes; its query may hold a token.
    assert not {name for name in reported if re.search(r"(?i)query|header|\.path$|requestOverride|body", name)}
    line = json.loads(api["AccessLogSetting"]["Format"])
    assert line["route"] == "$context.resourcePath"
    # All ids by which other lines are found.
    assert {name: line[name] for name in line if name.endswith("equestId")} == {
        "requestId": "$context.requestId",
        "extendedRequestId": "$context.extendedRequestId",
        "lambdaRequestId": "$context.integration.requestId",
        "authRequestId": "$context.authorizer.authRequestId",
    }


def test_what_the_gateway_refuses_by_itself_is_a_problem_like_any_other(template: Template) -> None:
    body = template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]
    responses = body["x-amazon-apigateway-gateway-responses"]
    for kind, response in responses.items():
        reported = json.loads(response["responseTemplates"]["application/json"])
        row = problems.TABLE[reported["code"]]
        assert (reported["status"], reported["title"]) == (row.status, row.title) == (response["statusCode"], row.title)
        assert reported["requestId"] == "$context.requestId"
        headers = response["responseParameters"]
        assert headers["gatewayresponse.header.Content-Type"] == "'application/problem+json'"
        challenge = headers.get("gatewayresponse.header.WWW-Authenticate")
        assert challenge == (f"'{problems.CHALLENGE}'" if reported["code"] == "unauthorized" else None), kind
        # Anything else of the request could be an echo of credentials.
        assert set(re.findall(r"\$[A-Za-z.]+", json.dumps(response))) == {"$context.requestId"}
    assert {"DEFAULT_4XX", "DEFAULT_5XX", "ACCESS_DENIED", "UNAUTHORIZED", "THROTTLED"} <= responses.keys()


def test_the_gateway_calls_aliases_which_only_prod_moves_by_degrees(template: Template, prod: Template) -> None:
    text = json.dumps(template["Resources"]["RestAPI"])
    for name in ("APIHandler", "BasicAuth"):
        assert f"${{{name}.Arn}}:live/invocations" in text
        assert f"${{{name}.Arn}}/invocations" not in text
        permission = template["Resources"][f"{name}InvokePermission"]["Properties"]
        assert permission["FunctionName"] == {"Ref": f"{name}.Alias"}
        properties = template["Resources"][name]["Properties"]
        # The digest of the package does not see a parameter's value change: it would never reach the alias.
        assert all(isinstance(value, str) for value in properties["Environment"]["Variables"].values())
        assert "DeploymentPreference" not in properties
        preference = prod["Resources"][name]["Properties"]["DeploymentPreference"]
        assert preference["Type"].startswith("Canary")
        assert preference["Alarms"] == [{"Ref": "FailedCallAlarm"}]


def test_every_alarm_notifies_the_topic(prod: Template) -> None:
    for name, alarm in resources(prod, "AWS::CloudWatch::Alarm").items():
        assert alarm["Properties"]["AlarmActions"]["Fn::If"][0] == "Notifies", name


def test_only_the_rest_function_is_traced_and_may_send_traces(template: Template) -> None:
    tracing = {
        name: function["Properties"]["Tracing"]
        for name, function in resources(template, "AWS::Serverless::Function").items()
    }
    assert {name for name, mode in tracing.items() if mode == "Active"} == {"APIHandler"}
    senders = {name for name, role in resources(template, "AWS::IAM::Role").items() if "xray:" in json.dumps(role)}
    assert senders == {"ApiHandlerRole"}


def test_the_settings_of_a_function_are_those_it_needs(template: Template) -> None:
    for name, function in resources(template, "AWS::Serverless::Function").items():
        variables = set(function["Properties"]["Environment"]["Variables"])
        is_forwarder = name in ("ForwardLogs", "ForwardEvents", "Redrive")
        assert {variable.startswith("SPLUNK_") for variable in variables - {"STAGE"}} <= {is_forwarder}, name
        assert "SPLUNK_HEC_TOKEN" not in variables
