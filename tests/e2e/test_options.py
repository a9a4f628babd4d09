"""Each option of the template, off and on and all together: one rule for each promise, over the expanded template."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest

from chalicelib import clients
from chalicelib.authorizer import parse_basic
from deploy.resources import FOLDER, filled, of_type, read_template
from tests.support.api import NODE
from tests.support.expansion import expansion
from tests.support.local_aws import FUNCTIONS, Package, Stack, Template

IN_VPC: Final = {"SubnetIds": "subnet-0a,subnet-0b", "SecurityGroupIds": "sg-0a"}
DOMAIN: Final = {"DomainName": "tokens.example.gov", "CertificateArn": "arn:aws:acm:eu-central-1:1:certificate/x"}
LAYER: Final = "arn:aws:lambda:eu-central-1:1:layer:tokenservice-splunk:1"
KEY: Final = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
SIGNING: Final = "arn:aws:lambda:eu-central-1:111122223333:code-signing-config:csc-0a"
VAULT: Final = "arn:aws:backup:eu-west-1:444455556666:backup-vault:tokens"
OPTIONS: Final[dict[str, dict[str, str]]] = {
    "none": {},
    "vpc": IN_VPC,
    "private": {"ApiEndpointIds": "vpce-0a,vpce-0b"},
    "ranges": {"AllowedRanges": "192.0.2.0/24,2001:db8::/32"},
    "domain": DOMAIN,
    "mutual TLS": {**DOMAIN, "TruststoreUri": "s3://bucket/authorities.pem"},
    "splunk files": {
        "SplunkHecUrl": "https://splunk.internal:8088",
        "SplunkLayerArn": LAYER,
        "SplunkCaBundle": "/opt/ca.pem",
        "SplunkClientCertificate": "/opt/client.pem",
    },
    "signed code": {"CodeSigningConfigArn": SIGNING},
    "concurrency": {"ApiConcurrency": "200", "AuthorizerConcurrency": "50"},
    "clients": {"ClientRate": "20", "ClientBurst": "40"},
    "firewall": {"WebFirewall": "on", "WebFirewallRate": "500"},
    "key": {"KeyArn": KEY},
    "retention": {"LogDays": "400"},
    "backup": {"BackupVaultArn": VAULT},
    "boundary": {"Boundary": "org/tokenservice-boundary-prod"},
}


def everything_but(*options: str) -> dict[str, str]:
    return {name: value for key, each in OPTIONS.items() if key not in options for name, value in each.items()}


# A domain is for a public API, so there are two ways to switch on everything.
CHOICES: Final = {
    **OPTIONS,
    "everything, public": everything_but("private"),
    "everything, private": everything_but("domain", "mutual TLS"),
}
PARAMETERS: Final = read_template(FOLDER / "options.yaml")["Parameters"]
with_each = pytest.mark.parametrize("name", CHOICES)
ROLES: Final = ("ApiHandlerRole", "BasicAuthRole", "ForwardLogsRole", "ForwardEventsRole", "RedriveRole")


@pytest.fixture(scope="module")
def made(packages: Path) -> Package:
    return Package.of("prod", packages)


@pytest.fixture(scope="module")
def each(made: Package) -> dict[str, Template]:
    """The expanded template of each option and of all."""
    return {name: expansion(made.template(), **parameters) for name, parameters in CHOICES.items()}


def is_on(option: str, choice: str) -> bool:
    return OPTIONS[option].items() <= CHOICES[choice].items()


def api(template: Template) -> dict[str, Any]:
    return dict(template["Resources"]["RestAPI"]["Properties"])


# --- Of all options


def test_every_parameter_is_described_tried_here_and_documented() -> None:
    documented = (FOLDER.parent / "docs" / "options.md").read_text("utf-8")
    assert everything_but().keys() | {"TlsPolicy", "EndpointAccessMode"} >= PARAMETERS.keys()
    for name, parameter in PARAMETERS.items():
        assert len(parameter["Description"]) > 20, name
        assert "Default" in parameter, name
        assert f"`{name}`" in documented, name


def test_without_values_a_stage_has_no_resource_of_the_options(each: dict[str, Template]) -> None:
    resources = read_template(FOLDER / "options.yaml")["Resources"].items()
    added = {name for name, resource in resources if "Type" in resource}
    assert added
    assert added & set(each["none"]["Resources"]) == set()


@with_each
def test_a_template_with_options_stays_below_the_limits(made: Package, each: dict[str, Template], name: str) -> None:
    assert (made.folder / "template.yaml").stat().st_size < 1_000_000
    assert len(each[name]["Resources"]) < 500
    assert len(each[name]["Parameters"]) < 200
    for role in of_type(each[name], "AWS::IAM::Role").values():
        documents = [policy["PolicyDocument"] for policy in role.get("Policies", ())]
        assert len(json.dumps(documents, separators=(",", ":"))) < 10_240


FORWARDERS: Final = ("ForwardLogs", "ForwardEvents", "Redrive")
SPLUNK: Final = "Environment.Variables.SPLUNK_"
BUCKET: Final = "BucketEncryption.ServerSideEncryptionConfiguration.0"
NO_WAY_AROUND: Final = "Body.x-amazon-apigateway-endpoint-configuration.disableExecuteApiEndpoint"
POLICY: Final = {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:policy/${Boundary}"}
PROPERTIES: Final = [
    ("none", ["RestAPI"], "SecurityPolicy", "SecurityPolicy_TLS13_1_2_2021_06", None),
    ("none", ["RestAPI"], "EndpointAccessMode", "STRICT", None),
    ("vpc", FUNCTIONS, "VpcConfig.SubnetIds", ["subnet-0a", "subnet-0b"], None),
    ("vpc", FUNCTIONS, "VpcConfig.SecurityGroupIds", ["sg-0a"], None),
    ("private", ["RestAPI"], "EndpointConfiguration.Types", ["PRIVATE"], ["REGIONAL"]),
    ("private", ["RestAPI"], "EndpointConfiguration.VpcEndpointIds", ["vpce-0a", "vpce-0b"], None),
    ("mutual TLS", ["RestAPI"], NO_WAY_AROUND, True, False),
    ("splunk files", FORWARDERS, "Layers", [LAYER], None),
    ("splunk files", FORWARDERS, f"{SPLUNK}CA_BUNDLE", "/opt/ca.pem", ""),
    ("splunk files", FORWARDERS, f"{SPLUNK}CLIENT_CERTIFICATE", "/opt/client.pem", ""),
    ("signed code", FUNCTIONS, "CodeSigningConfigArn", SIGNING, None),
    ("concurrency", ["APIHandler"], "ReservedConcurrentExecutions", "200", None),
    ("concurrency", ["BasicAuth"], "ReservedConcurrentExecutions", "50", None),
    ("clients", ["RestAPI"], "ApiKeySourceType", "AUTHORIZER", "HEADER"),
    ("key", "AWS::DynamoDB::Table", "SSESpecification.SSEType", "KMS", None),
    ("key", "AWS::DynamoDB::Table", "SSESpecification.KMSMasterKeyId", KEY, None),
    ("key", "AWS::Logs::LogGroup", "KmsKeyId", KEY, None),
    ("key", ["FailureBucket"], f"{BUCKET}.ServerSideEncryptionByDefault.SSEAlgorithm", "aws:kms", "AES256"),
    ("key", ["FailureBucket"], f"{BUCKET}.ServerSideEncryptionByDefault.KMSMasterKeyID", KEY, None),
    ("key", ["FailureBucket"], f"{BUCKET}.BucketKeyEnabled", True, None),
    ("retention", "AWS::Logs::LogGroup", "RetentionInDays", "400", 90),
    ("boundary", "AWS::IAM::Role", "PermissionsBoundary", POLICY, None),
]
"""Option, its resources by logical id or type, path of a property, its value with the option and without."""


@pytest.mark.parametrize("row", PROPERTIES, ids=lambda row: f"{row[0]}: {row[2]}")
def test_an_option_alone_sets_its_properties(each: dict[str, Template], row: tuple[str, Any, str, Any, Any]) -> None:
    option, whose, path, with_it, without = row
    for choice, template in each.items():
        resources = of_type(template, whose) if isinstance(whose, str) else whose
        assert resources
        for resource in resources:
            value = template["Resources"][resource]["Properties"]
            for part in path.split("."):
                value = value[int(part)] if part.isdigit() else (value or {}).get(part)
            assert value == (with_it if is_on(option, choice) else without), (choice, resource)


# --- Network


@with_each
def test_functions_may_join_the_vpc_but_their_code_may_not(each: dict[str, Template], name: str) -> None:
    for role in ROLES:
        [policy] = of_type(each[name], "AWS::IAM::Role")[role]["Policies"]
        ec2 = {
            statement["Effect"]: statement
            for statement in policy["PolicyDocument"]["Statement"]
            if "ec2:CreateNetworkInterface" in statement["Action"]
        }
        assert set(ec2) == ({"Allow", "Deny"} if is_on("vpc", name) else set())
        if ec2:
            assert ec2["Allow"]["Action"] == ec2["Deny"]["Action"]
            assert set(ec2["Deny"]["Condition"]["ArnLike"]) == {"lambda:SourceFunctionArn"}


def test_another_network_publishes_a_version(made: Package, each: dict[str, Template]) -> None:
    """CloudFormation replaces a version whose description differs; the digest of the package can't see parameters."""
    [description] = {
        version["Description"]["Fn::Sub"] for version in of_type(each["none"], "AWS::Lambda::Version").values()
    }
    assert all(f"${{{name}}}" in description for name in IN_VPC)
    # Lambda takes at most 256 characters.
    assert sum(PARAMETERS[name]["MaxLength"] for name in IN_VPC) + len("Network:  ") <= 256
    for name in ("APIHandler", "BasicAuth"):
        properties = made.template()["Resources"][name]["Properties"]
        # Of the function as a whole, not of a version.
        del properties["ReservedConcurrentExecutions"]
        given = {ref for ref in PARAMETERS if f'"{ref}"' in json.dumps(properties)}
        assert given <= set(IN_VPC), "each parameter of a function with an alias belongs in its VersionDescription"


RANGES: Final = ["192.0.2.0/24", "2001:db8::/32"]
THROUGH_ENDPOINTS: Final = {"StringNotEquals": {"aws:SourceVpce": ["vpce-0a", "vpce-0b"]}}
DENIED: Final = {
    "private": [THROUGH_ENDPOINTS],
    "ranges": [{"NotIpAddress": {"aws:SourceIp": RANGES}}],
    "everything, public": [{"NotIpAddress": {"aws:SourceIp": RANGES}}],
    # Through an endpoint, aws:SourceIp is not there.
    "everything, private": [THROUGH_ENDPOINTS, {"NotIpAddress": {"aws:VpcSourceIp": RANGES}}],
}


@with_each
def test_only_the_named_endpoints_and_ranges_may_call(each: dict[str, Template], name: str) -> None:
    statements = api(each[name]).get("Policy", {}).get("Statement", [])
    assert [statement["Effect"] for statement in statements] == ["Allow", "Deny", "Deny"][: len(statements)]
    assert [statement["Condition"] for statement in statements[1:]] == DENIED.get(name, [])
    # A policy works only once the API is deployed again, and SAM does not see values of parameters.
    assert read_template(FOLDER / "options.yaml")["Resources"]["RestAPI"]["Properties"]["AlwaysDeploy"] is True


@pytest.mark.parametrize("name", ["domain", "mutual TLS", "everything, public"])
def test_a_domain_has_the_path_of_the_contract_and_tls_as_the_endpoint(each: dict[str, Template], name: str) -> None:
    [mapping] = of_type(each[name], "AWS::ApiGateway::BasePathMapping").values()
    assert "BasePath" not in mapping
    assert mapping["Stage"] == {"Ref": "RestAPIapiStage"}
    assert each[name]["Outputs"]["EndpointURL"]["Value"] == {"Fn::Sub": "https://${DomainName}/"}
    assert each[name]["Outputs"]["DomainTarget"]["Value"] == {"Fn::GetAtt": ["Domain", "RegionalDomainName"]}
    [domain] = of_type(each[name], "AWS::ApiGateway::DomainName").values()
    # AWS has no mutual TLS with a newer policy, and no access mode with an older one.
    is_mutual = is_on("mutual TLS", name)
    assert domain["SecurityPolicy"] == ("TLS_1_2" if is_mutual else "SecurityPolicy_TLS13_1_2_2021_06")
    assert ("MutualTlsAuthentication" in domain, "EndpointAccessMode" in domain) == (is_mutual, not is_mutual)


def test_no_policy_that_can_be_chosen_accepts_less_than_tls_1_2() -> None:
    chosen = PARAMETERS["TlsPolicy"]["AllowedValues"]
    assert all(policy.startswith(("SecurityPolicy_TLS13_1_2_", "SecurityPolicy_TLS13_1_3_")) for policy in chosen)


# --- Limits


@with_each
def test_each_client_has_its_own_limit_on_every_method_or_none_has(each: dict[str, Template], name: str) -> None:
    is_limited = is_on("clients", name)
    schemes = {"basic_auth", "api_key"} if is_limited else {"basic_auth"}
    methods = [method for path in api(each[name])["Body"]["paths"].values() for method in path.values()]
    assert len(methods) > 10
    assert all(set(method["security"][0]) == schemes and len(method["security"]) == 1 for method in methods)
    plans = list(of_type(each[name], "AWS::ApiGateway::UsagePlan").values())
    assert [plan["Throttle"] for plan in plans] == [{"RateLimit": "20", "BurstLimit": "40"}] * is_limited


@pytest.mark.parametrize("name", ["firewall", "everything, public", "everything, private"])
def test_the_firewall_lets_what_the_contract_allows_pass_and_refuses_in_our_form(
    each: dict[str, Template], name: str
) -> None:
    [firewall] = of_type(each[name], "AWS::WAFv2::WebACL").values()
    [association] = of_type(each[name], "AWS::WAFv2::WebACLAssociation").values()
    assert association["ResourceArn"]["Fn::Sub"].endswith("::/restapis/${RestAPI}/stages/api")
    assert firewall["DefaultAction"] == {"Allow": {}}
    # Samples show URLs, and a GET has its token there.
    assert {rule["VisibilityConfig"]["SampledRequestsEnabled"] for rule in firewall["Rules"]} == {False}
    rate, *managed = firewall["Rules"]
    assert rate["Statement"]["RateBasedStatement"]["Limit"] == "500"
    groups = [rule["Statement"]["ManagedRuleGroupStatement"] for rule in managed]
    assert {group["VendorName"] for group in groups} == {"AWS"}
    assert groups[-1]["Name"] == "AWSManagedRulesCommonRuleSet"
    counted = {rule["Name"] for rule in groups[-1]["RuleActionOverrides"] if rule["ActionToUse"] == {"Count": {}}}
    assert {"SizeRestrictions_BODY", "NoUserAgent_HEADER"} <= counted
    assert all(rule.endswith(("_BODY", "NoUserAgent_HEADER")) for rule in counted)
    answer = rate["Action"]["Block"]["CustomResponse"]
    body = json.loads(firewall["CustomResponseBodies"][answer["CustomResponseBodyKey"]]["Content"])
    assert (answer["ResponseCode"], body["status"], body["code"]) == (429, 429, "too_many_requests")
    filtered = api(each[name])["Body"]["x-amazon-apigateway-gateway-responses"]["WAF_FILTERED"]
    assert json.loads(filtered["responseTemplates"]["application/json"])["code"] == "route_not_found"


@pytest.mark.parametrize(
    "header",
    [
        "Basic cmVjb3Jkczp0c3NfeA==",
        "bAsIc   eDp5 ",
        "Basic eDp5",
        "Bearer eDp5",
        "Basic",
        "Basic ",
        "Basic a:b",
        "Basic =a",
    ],
)
def test_the_gateway_refuses_headers_that_the_authorizer_can_not_read(each: dict[str, Template], header: str) -> None:
    definition = api(each["none"])["Body"]["securityDefinitions"]["basic_auth"]["x-amazon-apigateway-authorizer"]
    passes = re.search(definition["identityValidationExpression"], header) is not None
    # What only decoding shows is left to the authorizer.
    assert passes == (parse_basic(header) is not None)


# --- Keys and backups


@with_each
def test_each_function_may_use_the_key_for_its_own_services_alone(each: dict[str, Template], name: str) -> None:
    services: dict[str, list[str]] = {}
    for role in ROLES:
        [policy] = of_type(each[name], "AWS::IAM::Role")[role]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]:
            if "kms:Decrypt" in statement["Action"]:
                assert statement["Resource"] == KEY
                through = json.dumps(statement["Condition"]["StringEquals"]["kms:ViaService"])
                services[role] = sorted([*services.get(role, []), *re.findall(r"(\w+)\.\$", through)])
    failures = ["s3", "ssm"]
    wanted = dict(zip(ROLES, [["dynamodb", "ssm"], ["dynamodb"], failures, failures, failures], strict=True))
    assert services == (wanted if is_on("key", name) else {})


@pytest.mark.parametrize("name", ["backup", "everything, public", "everything, private"])
def test_the_clients_table_is_copied_to_the_other_vault_each_day(each: dict[str, Template], name: str) -> None:
    [plan] = of_type(each[name], "AWS::Backup::BackupPlan").values()
    [rule] = plan["BackupPlan"]["BackupPlanRule"]
    assert [copy["DestinationBackupVaultArn"] for copy in rule["CopyActions"]] == [VAULT]
    [selection] = of_type(each[name], "AWS::Backup::BackupSelection").values()
    # Never that of the tokens: a restored copy brings used tokens back.
    assert selection["BackupSelection"]["Resources"] == [{"Fn::GetAtt": ["ClientTable", "Arn"]}]


# --- Roles


NAMES: Final = {
    "Stage": "prod",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::AccountId": "111122223333",
    "ClientTable.Arn": "arn:aws:dynamodb:eu-central-1:111122223333:table/tokenservice-prod-clients",
    "ClientBackupVault.BackupVaultArn": "arn:aws:backup:eu-central-1:111122223333:backup-vault:tokenservice-prod",
}


def granted(document: dict[str, Any]) -> set[tuple[str, str]]:
    """Each action with each resource that a policy allows."""
    allowed = [each for each in filled(document, NAMES)["Statement"] if each["Effect"] == "Allow"]
    return {pair for each in allowed for pair in product(as_list(each["Action"]), as_list(each["Resource"]))}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@with_each
def test_a_role_is_granted_no_more_than_its_boundary_allows_and_iam_takes(each: dict[str, Template], name: str) -> None:
    options = {} if name == "none" else {"Options": "yes", "KeyArn": KEY}
    deployer = expansion(read_template(FOLDER / "deployer.yaml"), Stage="prod", **options)
    boundary = granted(of_type(deployer, "AWS::IAM::ManagedPolicy")["Boundary"]["PolicyDocument"])
    for role in of_type(each[name], "AWS::IAM::Role").values():
        policies = role.get("Policies", ())
        # The limit of IAM, which does not count white space.
        assert len("".join(json.dumps(policies).split())) < 10_240
        for policy in policies:
            for action, resource in granted(policy["PolicyDocument"]):
                within = [pattern for known, pattern in boundary if known == action]
                assert any(fnmatchcase(resource, pattern) for pattern in within), (action, resource)


# --- On the local AWS


def test_a_deployed_stage_takes_options_and_serves(dev: Stack) -> None:
    """MiniStack passes over VPC, TLS and reserved concurrency, and takes a client's key from the header only.

    It has no selection of a backup and no firewall in front of an API.
    """

    def live() -> str:
        found = dev.aws.client("lambda").get_alias(FunctionName="tokenservice-dev", Name="live")
        return str(found["FunctionVersion"])

    before = live()
    taken = ("vpc", "mutual TLS", "concurrency", "clients", "key", "retention")
    dev.change_parameters(everything_but(*OPTIONS.keys() - taken))
    assert live() != before
    groups = dev.aws.client("logs").describe_log_groups(logGroupNamePrefix="/aws/lambda/tokenservice-dev")["logGroups"]
    assert {group["retentionInDays"] for group in groups} == {400}
    [domain] = dev.aws.client("apigateway").get_domain_names()["items"]
    assert domain["domainName"] == DOMAIN["DomainName"]

    client = dev.add_client("records")
    refused = dev.call("GET", "/version", client)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
    assert dev.aws.tokenctl("dev", "client", "limit") == [{"clientId": "records", "added": True}]
    assert dev.aws.tokenctl("dev", "client", "limit", "records") == [{"clientId": "records", "added": False}]
    key = {"x-api-key": clients.usage_key("dev", "records")}
    token = dev.call("POST", "/token", client, {"nodeId": NODE}, headers=key).json()["token"]
    uses = [dev.call("POST", "/use", client, {"token": token}, headers=key).status_code for _ in range(2)]
    assert uses == [200, 410]
