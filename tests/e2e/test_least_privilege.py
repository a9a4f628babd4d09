"""Each function may do what it needs and nothing else: on the local AWS with IAM enforced."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from botocore.exceptions import ClientError

from deploy.policies import policies
from deploy.resources import FOLDER, filled, read_template
from tests.support.api import NODE, gateway_event
from tests.support.expansion import expansion
from tests.support.hec_server import HecServer
from tests.support.local_aws import Package, Stack, local_aws
from tests.support.splunk_world import SCHEDULED, MarkedCollector, state_change, subscription

HEC_TOKEN = "0c7ad0c4-6f5b-4d4e-8f0a-51f7a3a0c0de"
HEC_TOKEN_PARAMETER = "/tokenservice/dev/splunk-hec-token"
INDEX_KEY_PARAMETER = "/tokenservice/dev/index-key"
ROLES = {
    "api_handler": "ApiHandlerRole",
    "basic_auth": "BasicAuthRole",
    "forward_logs": "ForwardLogsRole",
    "forward_events": "ForwardEventsRole",
    "redrive": "RedriveRole",
}
BUCKET = "tokenservice-dev-failures-000000000000-us-east-1"
# MiniStack grants these without asking, so taking them away shows nothing. On AWS each is needed:
UNASKED = {
    "logs:CreateLogStream",  # or a function's lines are lost
    "logs:PutLogEvents",
    "xray:PutTraceSegments",  # or there are no traces; neither takes a resource
    "xray:PutTelemetryRecords",
    "s3:ListBucket",  # of a forwarder by Lambda itself, which puts failed inputs into the bucket in the role's name
}


class Grant(NamedTuple):
    """One action on one resource."""

    function: str
    action: str
    resource: str


def grants(policy: dict[str, Any], function: str) -> Iterator[Grant]:
    for statement in policy["Statement"]:
        resources = statement["Resource"]
        for resource in resources if isinstance(resources, list) else [resources]:
            yield from (Grant(function, action, resource) for action in statement["Action"])


DEV = policies("dev")
ALL = [grant for function in ROLES for grant in grants(DEV[function], function)]
ASKED = [
    grant
    for grant in ALL
    if grant.action not in UNASKED or (grant.function, grant.action) == ("redrive", "s3:ListBucket")
]


@pytest.fixture(scope="module")
def stack(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("least")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    made = Package.of("dev", packages)
    with HecServer(MarkedCollector(tokens={HEC_TOKEN}), authority) as hec, local_aws(folder / "engine.log") as aws:
        for name, value in ((HEC_TOKEN_PARAMETER, HEC_TOKEN), (INDEX_KEY_PARAMETER, secrets.token_hex(32))):
            aws.client("ssm").put_parameter(Name=name, Type="SecureString", Value=value)
        # Nothing is forwarded on its own: the tests invoke the forwarders.
        settings = {"SPLUNK_CA_BUNDLE": str(folder / "ca.pem"), "INDEX_KEY_PARAMETER": INDEX_KEY_PARAMETER}
        yield Stack(aws, made, {"SplunkHecUrl": hec.url}, **settings)


names = (f"client-{number}" for number in itertools.count())


class Probes:
    """What a user would notice of each grant: does the call that needs it succeed?"""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._client = stack.add_client("prober")
        issued = stack.call("POST", "/token", self._client, {"nodeId": NODE, "maxUses": 100})
        assert issued.status_code == 201, issued.text
        self._token, self._token_id = issued.json()["token"], issued.json()["tokenId"]

    def _succeeds(self, method: str, path: str, body: Any = None) -> bool:
        answer = self._stack.call(method, path, self._client, body)
        assert answer.ok or (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), answer.text
        return answer.ok

    def of(self, grant: Grant) -> Callable[[], bool]:
        """Some probes need a new process: a running one keeps the HEC token for some minutes."""
        resource = grant.resource
        whose = {"nodeId": "n"} if resource.endswith("by-node") else {"user": "u"}
        alarm = state_change("tokenservice-dev-slow")
        # Larger than any collector takes.
        large = state_change("tokenservice-dev-slow", reason="x" * 2_000_000)
        waiting, message = {
            "aws/lambda/async": ("aws/lambda/async/", "☠07"),  # refused: one more attempt is noted
            "poison": ("failed/", None),
            "refused": ("failed/", ""),  # can't be read
        }.get(resource.rpartition("/")[0].rpartition("failures-*-*/")[2], ("failed/", "☠07"))
        return {
            ("api_handler", "dynamodb:GetItem"): lambda: self._succeeds("GET", f"/token/{self._token_id}"),
            ("api_handler", "dynamodb:PutItem"): lambda: self._succeeds("POST", "/token", {"nodeId": NODE}),
            ("api_handler", "dynamodb:UpdateItem"): lambda: self._succeeds("POST", "/use", {"token": self._token}),
            ("api_handler", "dynamodb:Query"): lambda: self._succeeds("POST", "/revoke", whose),
            ("api_handler", "ssm:GetParameter"): self._issues_in_a_new_process,
            ("basic_auth", "dynamodb:GetItem"): self._newcomer_is_let_in,
            ("forward_logs", "ssm:GetParameter"): lambda: self._forwards("logs", subscription(["good"]), is_new=True),
            ("forward_logs", "s3:PutObject"): lambda: self._forwards("logs", subscription([None])),
            ("forward_events", "ssm:GetParameter"): lambda: self._forwards("events", alarm, is_new=True),
            ("forward_events", "s3:PutObject"): lambda: self._forwards("events", large),
            ("redrive", "ssm:GetParameter"): lambda: self._redrives("failed/", "good", is_new=True),
            ("redrive", "s3:PutObject"): lambda: self._redrives(waiting, message),
        }.get((grant.function, grant.action), lambda: self._redrives(waiting, "good"))

    def _issues_in_a_new_process(self) -> bool:
        """Past the gateway, which calls a published version: that can't be restarted."""
        self._stack.restart("tokenservice-dev")
        event = gateway_event(self._client, "POST", "/token", json.dumps({"nodeId": NODE}))
        answer = self._stack.invoke("tokenservice-dev", event)["answer"]
        assert answer["statusCode"] in (201, 503), answer
        return bool(answer["statusCode"] == 201)

    def _redrives(self, waits: str, message: str | None, *, is_new: bool = False) -> bool:
        if is_new:
            self._stack.restart("tokenservice-dev-redrive")
        s3, name = self._stack.aws.s3, f"{waits}{next(names)}.json"
        body = json.dumps({"requestPayload": subscription([message])}) if message != "" else "{"
        s3.put_object(Bucket=BUCKET, Key=name, Body=body.encode())
        said = self._stack.invoke("tokenservice-dev-redrive", SCHEDULED)
        left = s3.list_objects_v2(Bucket=BUCKET, Prefix=name)["KeyCount"]
        s3.delete_object(Bucket=BUCKET, Key=name)
        return said["error"] is None and left == (1 if message == "☠07" else 0)

    def _newcomer_is_let_in(self) -> bool:
        """The gateway keeps the authorizer's answers; that of a client who was never seen it must ask for."""
        answer = self._stack.call("GET", "/version", self._stack.add_client(next(names)))
        assert answer.status_code in (200, 503), answer.text
        return answer.ok

    def _forwards(self, function: str, event: dict[str, Any], *, is_new: bool = False) -> bool:
        if is_new:
            self._stack.restart(f"tokenservice-dev-forward_{function}")
        return self._stack.invoke(f"tokenservice-dev-forward_{function}", event)["error"] is None


@pytest.fixture(scope="module")
def probes(stack: Stack) -> Probes:
    return Probes(stack)


@contextmanager
def without(stack: Stack, grant: Grant) -> Iterator[None]:
    """Take a grant from the deployed role, and give it back."""
    iam = stack.aws.client("iam")
    role = stack.resources()[ROLES[grant.function]]
    [name] = iam.list_role_policies(RoleName=role)["PolicyNames"]
    whole = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    rest = list(grants(whole, grant.function))
    # In the same place: the deployed role names account and Region.
    del rest[list(grants(DEV[grant.function], grant.function)).index(grant)]
    statements = [{"Effect": "Allow", "Action": [kept.action], "Resource": [kept.resource]} for kept in rest]
    part = {"Version": whole["Version"], "Statement": statements}
    iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(part))
    try:
        yield
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(whole))


@pytest.mark.parametrize("grant", ASKED, ids=lambda grant: f"{grant.function}-{grant.action}-{grant.resource[-12:]}")
def test_nothing_is_granted_without_a_need(stack: Stack, probes: Probes, grant: Grant) -> None:
    succeeds = probes.of(grant)
    assert succeeds()
    with without(stack, grant):
        assert not succeeds()


def test_untested_permissions_are_the_minimum_that_aws_documents() -> None:
    assert {grant.action for grant in ALL if grant not in ASKED} == UNASKED
    everything = {grant.action for grant in ALL if grant.resource == "*"}
    assert everything == {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}


TABLE, FAILURES = "table/tokenservice-dev-tokens", "tokenservice-dev-failures-*-*"
FORWARDER = {"parameter/tokenservice/dev/*", f"{FAILURES}/*"}
OWN = {
    "api_handler": {TABLE, f"{TABLE}/index/by-node", f"{TABLE}/index/by-user", "parameter/tokenservice/dev/index-key"},
    "basic_auth": {"table/tokenservice-dev-clients"},
    "forward_logs": FORWARDER,
    "forward_events": FORWARDER,
    "redrive": {
        "parameter/tokenservice/dev/*",
        *(f"{FAILURES}/{folder}/*" for folder in ("failed", "aws/lambda/async", "poison", "refused")),
    },
}
"""What each function may touch, but for its log and its traces."""


@pytest.mark.parametrize("function", ROLES)
def test_a_function_is_granted_what_is_its_own_alone(function: str) -> None:
    granted = {grant.resource for grant in ALL if grant.function == function and grant.action not in UNASKED}
    assert {resource.rpartition(":")[2] for resource in granted} == OWN[function]


# --- Roles that a deployment makes


@pytest.fixture(scope="module")
def deployer() -> Any:
    """The deploying role of dev and the boundary, without variables."""
    values = {"Stage": "dev", "AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "000000000000"}
    resources = expansion(read_template(FOLDER / "deployer.yaml"), Stage="dev")["Resources"]
    return {name: filled(resources[name]["Properties"], values) for name in ("Boundary", "Deployer")}


EVERYTHING = {"Effect": "Allow", "Action": "*", "Resource": "*"}


def test_a_role_with_every_permission_does_no_more_than_its_boundary(stack: Stack, deployer: Any) -> None:
    document = json.dumps(deployer["Boundary"]["PolicyDocument"])
    boundary = stack.aws.client("iam").create_policy(PolicyName="boundary", PolicyDocument=document)["Policy"]["Arn"]
    bounded = stack.aws.as_role(stack.aws.new_role("bounded", EVERYTHING, PermissionsBoundary=boundary))
    stack.aws.as_role(stack.aws.new_role("unbounded", EVERYTHING))("iam").get_role(RoleName="bounded")
    key = {"id": {"S": "x"}}
    bounded("dynamodb").get_item(TableName="tokenservice-dev-tokens", Key=key)
    with pytest.raises(ClientError, match="AccessDenied"):
        bounded("dynamodb").get_item(TableName="tokenservice-prod-tokens", Key=key)
    with pytest.raises(ClientError, match="AccessDenied"):
        bounded("iam").get_role(RoleName="bounded")


def test_the_deploying_role_makes_no_role_without_a_boundary_and_takes_none_away(stack: Stack, deployer: Any) -> None:
    """MiniStack knows no condition on a boundary: it refuses what has one, even with the boundary."""
    [policy] = deployer["Deployer"]["Policies"]
    deploying = stack.aws.new_role("deployer", *policy["PolicyDocument"]["Statement"])
    iam, role = stack.aws.as_role(deploying)("iam"), stack.resources()[ROLES["api_handler"]]
    document = json.dumps({"Version": "2012-10-17", "Statement": [EVERYTHING]})
    iam.get_role(RoleName=role)
    for action, named in {
        "create_role": {"RoleName": "tokenservice-dev-admin", "AssumeRolePolicyDocument": document},
        "put_role_policy": {"RoleName": role, "PolicyName": "more", "PolicyDocument": document},
        "delete_role_permissions_boundary": {"RoleName": role},
    }.items():
        with pytest.raises(ClientError, match="AccessDenied"):
            getattr(iam, action)(**named)


def test_the_stages_have_the_same_rights_on_things_of_their_own() -> None:
    dev = json.dumps(DEV)
    assert set(DEV) == set(ROLES)
    assert all("dev" in grant.resource for grant in ALL if grant.resource != "*")
    for stage in ("test", "prod"):
        assert json.dumps(policies(stage)) == dev.replace("-dev", f"-{stage}").replace("/dev/", f"/{stage}/")
