"""A package, deployed into the local AWS by CloudFormation and called through its API Gateway.

MiniStack enforces IAM here. Where it differs from AWS, `adapted()` changes the template, with the reason; the rest is
what a pipeline deploys.
"""

from __future__ import annotations

import copy
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import requests
import yaml
from botocore.exceptions import ClientError

from deploy import package
from deploy.resources import Template, of_type
from dev.engine import ROOT, Engine
from tests.support.api import BASE_PATH, Credentials
from tests.support.expansion import expanded
from tests.support.waiting import wait_until

PATIENCE_SECONDS = 60
FUNCTIONS = ("APIHandler", "BasicAuth", "ForwardLogs", "ForwardEvents", "Redrive")
SERVICES = (
    *("apigateway", "cloudformation", "dynamodb", "events", "iam", "lambda", "logs", "monitoring"),
    *("s3", "sns", "sqs", "ssm", "states", "sts"),
)
"""What a deployment consists of, and what tests look at."""
_ARTIFACTS = "artifacts"
_CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]


@dataclass(frozen=True)
class Package:
    """What `make package` made of a stage."""

    stage: str
    folder: Path

    @classmethod
    def of(cls, stage: str, folder: Path) -> Package:
        """Make it, unless another test has; what tests share is below `folder`.

        Each stage has the same archive (`test_package.py` holds it to that), so it is made for dev alone.
        """
        made = cls(stage, folder / stage)
        folder.mkdir(exist_ok=True)
        with (
            (folder / f"{stage}.lock").open("w") as lock,
            mock.patch.dict(os.environ, {"AWS_DEFAULT_REGION": "eu-central-1"}),
        ):
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.folder.exists() and stage == "dev":
                package.package(stage, made.folder)
            elif not made.folder.exists():
                shutil.copytree(cls.of("dev", folder).folder, made.folder)
                with tempfile.TemporaryDirectory() as scratch:
                    package.write_template(stage, package.chalice_package(stage, Path(scratch)), made.folder)
        return made

    @property
    def archive(self) -> Path:
        return self.folder / "deployment.zip"

    def template(self) -> Template:
        # The loader in C: the template is read a hundred times.
        return dict(
            yaml.load((self.folder / "template.yaml").read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        )


def adapted(template: Template, environ: Mapping[str, str] | None = None) -> Template:
    """The same template for MiniStack.

    Args:
        environ: more environment variables for every function.
    """
    template = copy.deepcopy(template)
    resources = template["Resources"]
    for name in FUNCTIONS:
        properties = resources[name]["Properties"]
        # MiniStack has no CodeDeploy; the alias changes at once.
        properties.pop("DeploymentPreference", None)
        # Lambda tells a function its handler; MiniStack does not. (AWS refuses the name in a template.)
        properties["Environment"]["Variables"] |= {"_HANDLER": properties["Handler"], **(environ or {})}
    # MiniStack is called without TLS, and keeps to the policy that demands it.
    del resources["FailureBucketPolicy"]
    # MiniStack's alarms know no expressions: the first metric takes the place of one.
    for properties in of_type(template, "AWS::CloudWatch::Alarm").values():
        if queries := properties.pop("Metrics", None):
            [first, *_] = (query["MetricStat"] for query in queries if "MetricStat" in query)
            properties |= {**first["Metric"], "Statistic": first["Stat"], "Period": first["Period"]}
    # MiniStack passes over gateway responses inside the definition of the API.
    body = resources["RestAPI"]["Properties"]["DefinitionBody"]
    for kind, response in body.pop("x-amazon-apigateway-gateway-responses").items():
        resources[f"GatewayResponse{kind.title().replace('_', '')}"] = {
            "Type": "AWS::ApiGateway::GatewayResponse",
            "Properties": {
                "RestApiId": {"Ref": "RestAPI"},
                "ResponseType": kind,
                "StatusCode": str(response["statusCode"]),
                "ResponseParameters": response["responseParameters"],
                "ResponseTemplates": response["responseTemplates"],
            },
        }
    return template


class LocalAws:
    """A running MiniStack that enforces IAM."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.environ = engine.client_environ
        self.s3 = self.client("s3")
        self.s3.create_bucket(Bucket=_ARTIFACTS)

    def client(self, service: str, **credentials: str) -> Any:
        """A boto3 client; without credentials it may do everything."""
        environ = self.environ
        return boto3.client(
            service,
            endpoint_url=self.engine.endpoint_url,
            region_name=environ["AWS_DEFAULT_REGION"],
            aws_access_key_id=credentials.get("AccessKeyId", environ["AWS_ACCESS_KEY_ID"]),
            aws_secret_access_key=credentials.get("SecretAccessKey", environ["AWS_SECRET_ACCESS_KEY"]),
            aws_session_token=credentials.get("SessionToken"),
        )

    def new_role(self, name: str, *statements: Mapping[str, Any], **named: str) -> str:
        """Make a role that anybody in the account may take on, with these permissions."""
        trusted = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
        trust, policy = (json.dumps({"Version": "2012-10-17", "Statement": each}) for each in ([trusted], statements))
        iam = self.client("iam")
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust, **named)
        iam.put_role_policy(RoleName=name, PolicyName="policy", PolicyDocument=policy)
        return name

    def credentials(self, role: str) -> dict[str, str]:
        arn = self.client("iam").get_role(RoleName=role)["Role"]["Arn"]
        granted = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
        return {name: granted[name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")}

    def as_role(self, name: str) -> Callable[[str], Any]:
        """Clients that may do what a role may."""
        granted = self.credentials(name)
        return lambda service: self.client(service, **granted)

    def deploy(self, action: str, stack: str, parameters: Mapping[str, str], **template: str) -> dict[str, str]:
        """Create or update a stack and wait; returns its outputs."""
        cloudformation = self.client("cloudformation")
        given = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]
        change = getattr(cloudformation, f"{action}_stack")
        change(StackName=stack, Parameters=given, Capabilities=_CAPABILITIES, **template)

        def described() -> dict[str, Any]:
            return dict(cloudformation.describe_stacks(StackName=stack)["Stacks"][0])

        ended = wait_until(described, lambda stack: not stack["StackStatus"].endswith("IN_PROGRESS"))
        events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
        failures = [event for event in events if "FAILED" in event["ResourceStatus"]]
        assert ended["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE"), failures
        return {output["OutputKey"]: output["OutputValue"] for output in ended.get("Outputs", ())}

    def tokenctl(self, stage: str, *arguments: str) -> Any:
        """Run the operator's command and read its JSON."""
        command = [str(Path(sys.executable).with_name("tokenctl")), *arguments, "--stage", stage, "--json"]
        environ = {"PATH": "/usr/bin:/bin", **self.environ}
        said = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stderr
        return json.loads(said.stdout)


@contextmanager
def local_aws(log: Path, environ: Mapping[str, str] | None = None) -> Iterator[LocalAws]:
    """Start MiniStack with IAM enforced and with quick retries of failed invocations.

    At the end it is killed together with the functions' processes: in order, it would first work off what is queued.
    """
    quick = {"LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.1", **(environ or {})}
    with Engine(services=SERVICES, log=log, environ=quick) as engine:
        try:
            yield LocalAws(engine)
        finally:
            os.killpg(engine.pid, signal.SIGKILL)


class Stack:
    """One stage, deployed.

    Args:
        made: its package.
        parameters: of the template.
        environ: more environment variables for every function.
    """

    def __init__(
        self, aws: LocalAws, made: Package, parameters: Mapping[str, str] | None = None, **environ: str
    ) -> None:
        self.aws = aws
        self.stage = made.stage
        self._made = made
        self.name = f"tokenservice-{made.stage}"
        self._cloudformation = aws.client("cloudformation")
        self._parameters = dict(parameters or {})
        self._environ = environ
        self._apply("create", made, made.template())

    def update(self, made: Package, template: Template) -> None:
        """Deploy another version over this one."""
        self._apply("update", made, template)

    def change_parameters(self, parameters: Mapping[str, str]) -> None:
        """Deploy the same package with other values of parameters."""
        self._parameters = dict(parameters)
        self.update(self._made, self._made.template())

    def _apply(self, action: str, made: Package, template: Template) -> None:
        key = f"{self.stage}/{time.monotonic_ns()}"
        self.aws.s3.upload_file(str(made.archive), _ARTIFACTS, f"{key}.zip")
        # By the translator that CloudFormation has; MiniStack would need it in an environment that users install.
        template = expanded(adapted(template, self._environ), self._parameters, f"s3://{_ARTIFACTS}/{key}.zip")
        self.aws.s3.put_object(Bucket=_ARTIFACTS, Key=f"{key}.json", Body=json.dumps(template).encode())
        url = f"{self.aws.engine.endpoint_url}/{_ARTIFACTS}/{key}.json"
        self.outputs = self.aws.deploy(action, self.name, self._parameters, TemplateURL=url)

    def resources(self) -> dict[str, str]:
        """Logical to physical id of everything in the stack."""
        pages = self._cloudformation.get_paginator("list_stack_resources").paginate(StackName=self.name)
        found = [each for page in pages for each in page["StackResourceSummaries"]]
        return {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in found}

    def delete(self) -> None:
        self._cloudformation.delete_stack(StackName=self.name)

        def is_there() -> bool:
            try:
                [stack] = self._cloudformation.describe_stacks(StackName=self.name)["Stacks"]
            except ClientError:
                return False
            return bool(stack["StackStatus"] != "DELETE_COMPLETE")

        wait_until(is_there, lambda there: not there)

    @property
    def url(self) -> str:
        """Where its API answers, up to the base path."""
        return f"{self.aws.engine.endpoint_url}/_aws/execute-api/{self.outputs['RestAPIId']}/api"

    def add_client(self, name: str, *scopes: str) -> Credentials:
        options = [
            option for scope in scopes or ("issue", "use", "introspect", "manage") for option in ("--scope", scope)
        ]
        made = self.aws.tokenctl(self.stage, "client", "add", name, *options)
        return Credentials(name, made["secret"])

    def call(
        self, method: str, path: str, client: Credentials | None = None, body: Any = None, **named: Any
    ) -> requests.Response:
        """Call the API as a REST client does."""
        auth = (client.user, client.password) if client else None
        return requests.request(
            method, f"{self.url}{BASE_PATH}{path}", auth=auth, json=body, timeout=PATIENCE_SECONDS, **named
        )

    def invoke(self, function: str, event: Mapping[str, Any]) -> dict[str, Any]:
        """Invoke a function and wait; returns its result, and `error` if it failed."""
        said = self.aws.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event))
        return {"error": said.get("FunctionError"), "answer": json.loads(said["Payload"].read() or b"null")}

    def restart(self, function: str) -> None:
        """Let the next invocation find a new process."""
        functions = self.aws.client("lambda")
        variables = functions.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
        variables["RESTARTED"] = str(time.monotonic_ns())
        functions.update_function_configuration(FunctionName=function, Environment={"Variables": variables})

    def log_groups(self) -> list[str]:
        return [each["logGroupName"] for each in self.aws.client("logs").describe_log_groups()["logGroups"]]

    def log(self, group: str) -> list[str]:
        """The lines of a log group, oldest first."""
        pages = self.aws.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
        return [event["message"] for page in pages for event in page["events"]]
