"""A stage made by `chalice deploy` on the local AWS, as far as that goes.

MiniStack's ImportRestApi drops the definition of the API, so no route is called through the gateway here: the
functions are invoked with the events that it would send. The API of the packaged way is called in test_deployed.py.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore
import pytest
import trustme
from chalice.local import LambdaEventConverter, RouteMatcher

from chalicelib.http.routes import BASE_PATH, ROUTES
from deploy import logs, policies
from deploy.archive import REPLACED
from deploy.resources import read_template
from deploy.template import to_yaml
from deploy.vendor import vendor
from dev.engine import ROOT
from tests.support.api import NODE, Credentials
from tests.support.hec_rules import Collector
from tests.support.hec_server import HecServer
from tests.support.local_aws import LocalAws, Package, local_aws
from tests.support.splunk_world import SCHEDULED, subscription
from tests.support.waiting import wait_until

HEC_TOKEN = "3f6b2c0e-1d1f-4a57-93a5-0b8c6a0a7e55"
HEC_TOKEN_PARAMETER = "/tokenservice/dev/splunk-hec-token"
BUCKET = "tokenservice-dev-failures-000000000000-us-east-1"
HANDLERS = {
    "api_handler": ("tokenservice-dev", "app.app"),
    "basic_auth": ("tokenservice-dev-basic_auth", "app.basic_auth"),
    "forward_logs": ("tokenservice-dev-forward_logs", "app.forward_logs"),
    "forward_events": ("tokenservice-dev-forward_events", "app.forward_events"),
    "redrive": ("tokenservice-dev-redrive", "app.redrive"),
}
PROJECT = ("app.py", "chalicelib", "tokenctl", "requirements.txt", ".chalice/config.json")


class Project:
    """A copy of the sources: Chalice writes what it deployed among them, and the settings are changed.

    Args:
        folder: where the copy goes.
        variables: environment variables of all functions of the stage dev.
    """

    def __init__(self, folder: Path, aws: LocalAws, variables: dict[str, str]) -> None:
        self.folder = folder
        self.aws = aws
        for name in PROJECT:
            source, copy = ROOT / name, folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
        policies.write(folder / ".chalice" / "policies")
        path = folder / ".chalice" / "config.json"
        config = json.loads(path.read_text())
        dev = config["stages"]["dev"]
        dev["environment_variables"] |= variables
        for function, (_, handler) in HANDLERS.items():
            # Lambda tells a function its handler; MiniStack does not. (AWS refuses the name among the settings.)
            dev["lambda_functions"][function]["environment_variables"] = {"_HANDLER": handler}
        path.write_text(json.dumps(config))
        self._models = impatient_models(folder.parent / "models")

    def run(self, *command: str) -> str:
        """Run a program in the copy, as a person would in a checkout."""
        environ = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), **self.aws.environ}
        environ["AWS_DATA_PATH"] = str(self._models)
        said = subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stdout + said.stderr
        return said.stdout

    def chalice(self, *arguments: str) -> str:
        return self.run(str(Path(sys.executable).with_name("chalice")), *arguments, "--stage", "dev")

    def tokenctl(self, *arguments: str) -> Any:
        return json.loads(self.run(sys.executable, "-m", "tokenctl", *arguments, "--stage", "dev", "--json"))

    def invoke(self, function: str, event: dict[str, Any]) -> Any:
        """Invoke a function and give what it answers."""
        said = self.aws.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event))
        answer = json.loads(said["Payload"].read() or b"null")
        assert "FunctionError" not in said, answer
        return answer

    def authorize(self, client: Credentials) -> dict[str, Any]:
        """Ask the authorizer as the gateway does."""
        arn = f"arn:aws:execute-api:us-east-1:000000000000:api-id/api/GET{BASE_PATH}/version"
        event = {"type": "TOKEN", "methodArn": arn, "authorizationToken": client.header}
        return dict(self.invoke("tokenservice-dev-basic_auth", event))

    def call(self, client: Credentials, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """Call a route as the gateway does: the authorizer first, then the REST function with what it said."""
        said = self.authorize(client)
        event = LambdaEventConverter(RouteMatcher([BASE_PATH + route.path for route in ROUTES])).create_lambda_event(
            method, BASE_PATH + path, {"Content-Type": "application/json"}, json.dumps(body) if body else None
        )
        event["requestContext"] |= {
            "requestId": "8a1a4b6e-3c1c-4a57-8f3e-3f2b8f0e6d11",
            "authorizer": {**said.get("context", {}), "principalId": said["principalId"]},
        }
        answer = self.invoke("tokenservice-dev", event)
        return answer["statusCode"], json.loads(answer["body"])


def impatient_models(folder: Path) -> Path:
    """Let botocore, and with it Chalice, look often whether a function is active; it waits five seconds."""
    name = Path("lambda", "2015-03-31", "waiters-2.json")
    waiters = json.loads(Path(botocore.__file__).with_name("data").joinpath(name).read_text())
    for waiter in waiters["waiters"].values():
        waiter |= {"delay": 0.2, "maxAttempts": 600}
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text(json.dumps(waiters))
    return folder


@pytest.fixture(scope="module")
def hec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HecServer]:
    authority = trustme.CA()
    with HecServer(Collector(tokens={HEC_TOKEN}), authority) as server:
        authority.cert_pem.write_to_path(str(tmp_path_factory.getbasetemp() / "chalice-deploy-ca.pem"))
        yield server


def deploy_logs(aws: LocalAws, folder: Path, action: str, splunk_url: str) -> None:
    """Deploy the template of the logs; without an address of Splunk nothing in it needs a function."""
    logs.write(folder)
    template = read_template(folder / "logs-dev.yaml")
    # MiniStack is called without TLS, and keeps to the policy that demands it.
    del template["Resources"]["FailureBucketPolicy"]
    aws.deploy(action, "tokenservice-dev-logs", {"SplunkHecUrl": splunk_url}, TemplateBody=to_yaml(template))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, hec: HecServer, packages: Path) -> Iterator[Project]:
    """The steps of docs/deploy.md, in their order."""
    made = Package.of("dev", packages)
    folder = tmp_path_factory.mktemp("chalice")
    splunk = {
        "SPLUNK_HEC_URL": hec.url,
        "SPLUNK_HEC_TOKEN_PARAMETER": HEC_TOKEN_PARAMETER,
        "SPLUNK_FAILURE_BUCKET": BUCKET,
        "SPLUNK_CA_BUNDLE": str(tmp_path_factory.getbasetemp() / "chalice-deploy-ca.pem"),
    }
    with local_aws(folder / "engine.log") as aws:
        project = Project(folder / "project", aws, splunk)
        aws.client("ssm").put_parameter(Name=HEC_TOKEN_PARAMETER, Type="SecureString", Value=HEC_TOKEN)
        project.tokenctl("tables", "create")
        deploy_logs(aws, folder, "create", "")
        with pytest.MonkeyPatch.context() as patch:
            # The libraries are those of the package, which is made already.
            patch.setattr("deploy.vendor.lay_out", lambda stage, root: shutil.unpack_archive(made.archive, root))
            vendor(project.folder / "vendor")
        project.chalice("deploy")
        deploy_logs(aws, folder, "update", hec.url)
        yield project


@pytest.fixture(scope="module")
def client(project: Project) -> Credentials:
    scopes = [option for scope in ("issue", "use", "manage") for option in ("--scope", scope)]
    return Credentials("appian", project.tokenctl("client", "add", "appian", *scopes)["secret"])


def test_a_token_is_issued_and_used_and_found_in_splunk(project: Project, client: Credentials, hec: HecServer) -> None:
    status, issued = project.call(client, "POST", "/token", {"nodeId": NODE})
    assert status == 201, issued
    status, used = project.call(client, "POST", "/use", {"token": issued["token"]})
    assert (status, used["nodeId"]) == (200, NODE)
    status, again = project.call(client, "POST", "/use", {"token": issued["token"]})
    assert (status, again["code"]) == (410, "token_exhausted")

    def found() -> set[str]:
        indexed = [each["event"] for each in list(hec.collector.indexed)]
        events = [each for each in indexed if isinstance(each, dict) and each.get("tokenId") == issued["tokenId"]]
        return {each["event"] for each in events}

    assert wait_until(found, lambda seen: len(seen) == 3) == {"token.issued", "token.used", "token.refused"}
    assert issued["token"] not in json.dumps(hec.collector.indexed)


def test_every_log_but_the_forwarders_own_goes_to_splunk_and_what_fails_into_the_bucket(project: Project) -> None:
    client, functions = project.aws.client("logs"), project.aws.client("lambda")
    groups = {each["logGroupName"]: each["retentionInDays"] for each in client.describe_log_groups()["logGroups"]}
    access = "/tokenservice/dev/access"
    assert groups == dict.fromkeys([access, *(f"/aws/lambda/{name}" for name, _ in HANDLERS.values())], 14)
    filters = {
        group: [(each["filterPattern"], each["destinationArn"].rpartition(":")[2]) for each in found]
        for group in groups
        if (found := client.describe_subscription_filters(logGroupName=group)["subscriptionFilters"])
    }
    forwarder = "tokenservice-dev-forward_logs"
    whole = {group: [("", forwarder)] for group in groups.keys() - {access, f"/aws/lambda/{forwarder}"}}
    assert filters == whole | {access: [('{ ($.status = "401") || ($.error = "ACCESS_DENIED") }', forwarder)]}
    [allowed] = json.loads(functions.get_policy(FunctionName=forwarder)["Policy"])["Statement"]
    assert (allowed["Principal"], allowed["Action"]) == ({"Service": "logs.amazonaws.com"}, "lambda:InvokeFunction")
    assert allowed["Condition"]["StringEquals"]["AWS:SourceAccount"] == "000000000000"
    for function in (forwarder, "tokenservice-dev-forward_events"):
        config = functions.get_function_event_invoke_config(FunctionName=function, Qualifier="$LATEST")
        assert config["DestinationConfig"]["OnFailure"]["Destination"] == f"arn:aws:s3:::{BUCKET}"
        assert (config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]) == (2, 21600)
    # A run that failed is followed by the next one; repeating it would only cost.
    once = functions.get_function_event_invoke_config(FunctionName="tokenservice-dev-redrive", Qualifier="$LATEST")
    assert once["MaximumRetryAttempts"] == 0


def test_no_cold_start_compiles_a_library(project: Project) -> None:
    """What is compiled fits the source beside it, and is checked: an old one would be compiled anew, not believed."""
    [path] = (project.folder / ".chalice" / "deployments").glob("*.zip")
    # Nothing loads AWS's library and what it needs: our own client takes its place. Our own modules are compiled beside
    # their sources in the checkout, of which this project is a copy.
    apart = (*REPLACED, "chalicelib")
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        sources = [name for name in names if name.endswith(".py") and not name.startswith(apart)]
        stale = []
        for source in sources:
            compiled = importlib.util.cache_from_source(source)
            expected = b"\x03\0\0\0" + importlib.util.source_hash(archive.read(source))
            if compiled not in names or archive.read(compiled)[4:16] != expected:
                stale.append(source)
    assert len(sources) > 100
    assert stale == []


def test_a_schedule_redrives_what_waits_in_the_bucket(project: Project, hec: HecServer) -> None:
    [rule] = [each for each in project.aws.client("events").list_rules()["Rules"] if "ScheduleExpression" in each]
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(15 minutes)", "ENABLED")
    record = {"requestPayload": subscription(["it waited"])}
    project.aws.s3.put_object(Bucket=BUCKET, Key="failed/1.json", Body=json.dumps(record).encode())
    project.invoke("tokenservice-dev-redrive", SCHEDULED)
    assert [each["event"] for each in hec.collector.indexed].count("it waited") == 1
    assert project.aws.s3.list_objects_v2(Bucket=BUCKET, Prefix="failed/")["KeyCount"] == 0


def test_each_function_has_its_settings_and_a_role_with_its_policy_alone(project: Project, hec: HecServer) -> None:
    functions, iam = project.aws.client("lambda"), project.aws.client("iam")
    for key, (name, handler) in HANDLERS.items():
        found = functions.get_function_configuration(FunctionName=name)
        variables = found["Environment"]["Variables"]
        assert (variables["STAGE"], variables["SPLUNK_HEC_URL"]) == ("dev", hec.url)
        assert variables["_HANDLER"] == handler
        assert found["Timeout"] == (300 if "redrive" in name else 90 if "forward" in name else 29)
        role = found["Role"].rpartition("/")[2]
        [policy] = iam.list_role_policies(RoleName=role)["PolicyNames"]
        document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
        assert document == policies.policies("dev")[key]
        assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
