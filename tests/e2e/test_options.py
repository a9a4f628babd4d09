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
PRIVATE: Final = {"ApiEndpointIds": "vpce-0a,vpce-0b"}
RANGES: Final = {"AllowedRanges": "192.0.2.0/24,2001:db8::/32"}
DOMAIN: Final = {"DomainName": "tokens.example.gov", "CertificateArn": "arn:aws:acm:eu-central-1:1:certificate/x"}
MUTUAL_TLS: Final = {**DOMAIN, "TruststoreUri": "s3://bucket/authorities.pem"}
SPLUNK: Final = {
    "SplunkHecUrl": "https://splunk.internal:8088",
    "SplunkLayerArn": "arn:aws:lambda:eu-central-1:1:layer:tokenservice-splunk:1",
    "SplunkCaBundle": "/opt/ca.pem",
    "SplunkClientCertificate": "/opt/client.pem",
}
LIMITS: Final = {"ApiConcurrency": "200", "AuthorizerConcurrency": "50"}
CLIENTS: Final = {"ClientRate": "20", "ClientBurst": "40"}
KEY: Final = {"KeyArn": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}
RETENTION: Final = {"LogDays": "400"}
BACKUP: Final = {"BackupVaultArn": "arn:aws:backup:eu-west-1:444455556666:backup-vault:tokens"}
BOUNDARY: Final = {"Boundary": "org/tokenservice-boundary-prod"}
FIREWALL: Final = {"WebFirewall": "on", "WebFirewallRate": "500"}
OPTIONS: Final[dict[str, dict[str, str]]] = {
    "none": {},
    "vpc": IN_VPC,
    "private": PRIVATE,
    "ranges": RANGES,
    "domain": DOMAIN,
    "mutual TLS": MUTUAL_TLS,
    "splunk files": SPLUNK,
    "concurrency": LIMITS,
    "clients": CLIENTS,
    "firewall": FIREWALL,
    "key": KEY,
    "retention": RETENTION,
    "backup": BACKUP,
    "boundary": BOUNDARY,
}
REST: Final = {**SPLUNK, **LIMITS, **CLIENTS, **FIREWALL, **KEY, **RETENTION, **BACKUP, **BOUNDARY}
# A domain is for a public API, so there are two ways to switch on everything.
ALL: Final = {
    "everything, public": {**IN_VPC, **RANGES, **MUTUAL_TLS, **REST},
    "everything, private": {**IN_VPC, **RANGES, **PRIVATE, **REST},
}
PARAMETERS: Final = read_template(FOLDER / "options.yaml")["Parameters"]
with_each = pytest.mark.parametrize("name", [*OPTIONS, *ALL])
ROLES: Final = ("ApiHandlerRole", "BasicAuthRole", "ForwardLogsRole", "ForwardEventsRole", "RedriveRole")


@pytest.fixture(scope="module")
def made(packages: Path) -> Package:
    return Package.of("prod", packages)


@pytest.fixture(scope="module")
def each(made: Package) -> dict[str, Template]:
    """The expanded template of each option and of all."""
    return {name: expansion(made.template(), **parameters) for name, parameters in {**OPTIONS, **ALL}.items()}


def api(template: Template) -> dict[str, Any]:
    return dict(template["Resources"]["RestAPI"]["Properties"])


# --- Of all options


def test_every_parameter_is_described_tried_here_and_documented() -> None:
    documented = (FOLDER.parent / "docs" / "options.md").read_text("utf-8")
    tried = {name for values in ALL.values() for name in values} | {"TlsPolicy", "EndpointAccessMode"}
    assert tried >= PARAMETERS.keys()
    for name, parameter in PARAMETERS.items():
        assert len(parameter["Description"]) > 20, name
        assert "Default" in parameter, name
        assert f"`{name}`" in documented, name


def test_without_values_a_stage_has_no_resource_of_the_options(each: dict[str, Template]) -> None:
    added = {
        name for name, resource in read_template(FOLDER / "options.yaml")["Resources"].items() if "Type" in resource
    }
    assert added
    assert added & set(each["none"]["Resources"]) == set()


@with_each
def test_a_template_with_options_stays_below_the_limits(made: Package, each: dict[str, Template], name: str) -> None:
    template = each[name]
    assert (made.folder / "template.yaml").stat().st_size < 1_000_000
    assert len(template["Resources"]) < 500
    for role in of_type(template, "AWS::IAM::Role").values():
        policies = "".join(json.dumps(policy["PolicyDocument"]) for policy in role.get("Policies", ()))
        assert len("".join(policies.split())) < 10_240
    assert len(template["Parameters"]) < 200


# --- TLS


@with_each
def test_no_endpoint_accepts_less_than_tls_1_2(each: dict[str, Template], name: str) -> None:
    chosen = PARAMETERS["TlsPolicy"]["AllowedValues"]
    assert all(policy.startswith(("SecurityPolicy_TLS13_1_2_", "SecurityPolicy_TLS13_1_3_")) for policy in chosen)
    assert api(each[name])["SecurityPolicy"] == "SecurityPolicy_TLS13_1_2_2021_06"
    assert api(each[name])["EndpointAccessMode"] == "STRICT"
    for domain in of_type(each[name], "AWS::ApiGateway::DomainName").values():
        assert domain["SecurityPolicy"] in ("SecurityPolicy_TLS13_1_2_2021_06", "TLS_1_2")


# --- Network


@with_each
def test_functions_are_in_the_vpc_with_the_right_for_it_or_not_at_all(each: dict[str, Template], name: str) -> None:
    is_in = name in ("vpc", *ALL)
    functions = of_type(each[name], "AWS::Lambda::Function")
    assert set(functions) == set(FUNCTIONS)
    network = {"SubnetIds": ["subnet-0a", "subnet-0b"], "SecurityGroupIds": ["sg-0a"]}
    assert [function.get("VpcConfig") for function in functions.values()] == [network if is_in else None] * 5
    for role in ROLES:
        [policy] = of_type(each[name], "AWS::IAM::Role")[role]["Policies"]
        ec2 = {
            statement["Effect"]: statement
            for statement in policy["PolicyDocument"]["Statement"]
            if "ec2:CreateNetworkInterface" in statement["Action"]
        }
        assert set(ec2) == ({"Allow", "Deny"} if is_in else set())
        if is_in:
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


THROUGH_ENDPOINTS: Final = {"StringNotEquals": {"aws:SourceVpce": ["vpce-0a", "vpce-0b"]}}
FROM_RANGES: Final = {"NotIpAddress": {"aws:SourceIp": ["192.0.2.0/24", "2001:db8::/32"]}}
# Through an endpoint, aws:SourceIp is not there.
FROM_RANGES_IN_VPC: Final = {"NotIpAddress": {"aws:VpcSourceIp": ["192.0.2.0/24", "2001:db8::/32"]}}
DENIED: Final = {
    "private": [THROUGH_ENDPOINTS],
    "ranges": [FROM_RANGES],
    "everything, public": [FROM_RANGES],
    "everything, private": [THROUGH_ENDPOINTS, FROM_RANGES_IN_VPC],
}


@with_each
def test_only_the_named_endpoints_and_ranges_may_call(each: dict[str, Template], name: str) -> None:
    statements = api(each[name]).get("Policy", {}).get("Statement", [])
    assert [statement["Effect"] for statement in statements] == ["Allow", "Deny", "Deny"][: len(statements)]
    assert [statement["Condition"] for statement in statements[1:]] == DENIED.get(name, [])
    private = {"Types": ["PRIVATE"], "VpcEndpointIds": ["vpce-0a", "vpce-0b"]}
    assert api(each[name])["EndpointConfiguration"] == (private if "private" in name else {"Types": ["REGIONAL"]})
    # A policy works only once the API is deployed again, and SAM does not see values of parameters.
    assert read_template(FOLDER / "options.yaml")["Resources"]["RestAPI"]["Properties"]["AlwaysDeploy"] is True


@pytest.mark.parametrize("name", ["domain", "mutual TLS", "everything, public"])
def test_the_path_of_the_contract_is_the_whole_path_of_a_domain(each: dict[str, Template], name: str) -> None:
    [mapping] = of_type(each[name], "AWS::ApiGateway::BasePathMapping").values()
    assert "BasePath" not in mapping
    assert mapping["Stage"] == {"Ref": "RestAPIapiStage"}
    assert each[name]["Outputs"]["EndpointURL"]["Value"] == {"Fn::Sub": "https://${DomainName}/"}
    assert each[name]["Outputs"]["DomainTarget"]["Value"] == {"Fn::GetAtt": ["Domain", "RegionalDomainName"]}


@with_each
def test_mutual_tls_has_no_way_around_it(each: dict[str, Template], name: str) -> None:
    demands = name in ("mutual TLS", "everything, public")
    endpoint = api(each[name])["Body"].get("x-amazon-apigateway-endpoint-configuration", {})
    assert endpoint.get("disableExecuteApiEndpoint") is demands
    for domain in of_type(each[name], "AWS::ApiGateway::DomainName").values():
        assert ("MutualTlsAuthentication" in domain) is demands
        # AWS has no mutual TLS with a newer policy, and no access mode with an older one.
        assert ("EndpointAccessMode" in domain) is not demands


@with_each
def test_files_for_splunk_reach_each_forwarder_from_a_layer(each: dict[str, Template], name: str) -> None:
    functions = of_type(each[name], "AWS::Lambda::Function")
    with_layer = {key for key, properties in functions.items() if "Layers" in properties}
    assert with_layer == ({"ForwardLogs", "ForwardEvents", "Redrive"} if name in ("splunk files", *ALL) else set())
    for key in with_layer:
        assert functions[key]["Layers"] == [SPLUNK["SplunkLayerArn"]]
        variables = functions[key]["Environment"]["Variables"]
        files = (variables["SPLUNK_CA_BUNDLE"], variables["SPLUNK_CLIENT_CERTIFICATE"])
        assert files == ("/opt/ca.pem", "/opt/client.pem")


# --- Limits


@with_each
def test_concurrency_is_reserved_for_the_functions_behind_the_gateway(each: dict[str, Template], name: str) -> None:
    functions = of_type(each[name], "AWS::Lambda::Function")
    reserved = [functions[key].get("ReservedConcurrentExecutions") for key in ("APIHandler", "BasicAuth")]
    assert reserved == (["200", "50"] if name in ("concurrency", *ALL) else [None, None])


@with_each
def test_each_client_has_its_own_limit_on_every_method_or_none_has(each: dict[str, Template], name: str) -> None:
    is_limited = name in ("clients", *ALL)
    schemes = {"basic_auth", "api_key"} if is_limited else {"basic_auth"}
    methods = [method for path in api(each[name])["Body"]["paths"].values() for method in path.values()]
    assert len(methods) > 10
    assert all(set(method["security"][0]) == schemes and len(method["security"]) == 1 for method in methods)
    assert api(each[name])["ApiKeySourceType"] == ("AUTHORIZER" if is_limited else "HEADER")
    plans = list(of_type(each[name], "AWS::ApiGateway::UsagePlan").values())
    assert [plan["Throttle"] for plan in plans] == [{"RateLimit": "20", "BurstLimit": "40"}] * is_limited


@pytest.mark.parametrize("name", ["firewall", *ALL])
def test_the_firewall_guards_the_stage_and_lets_what_the_contract_allows_pass(
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


def test_refusals_of_the_firewall_have_our_body(each: dict[str, Template]) -> None:
    [firewall] = of_type(each["firewall"], "AWS::WAFv2::WebACL").values()
    answer = firewall["Rules"][0]["Action"]["Block"]["CustomResponse"]
    body = json.loads(firewall["CustomResponseBodies"][answer["CustomResponseBodyKey"]]["Content"])
    assert (answer["ResponseCode"], body["status"], body["code"]) == (429, 429, "too_many_requests")
    filtered = api(each["firewall"])["Body"]["x-amazon-apigateway-gateway-responses"]["WAF_FILTERED"]
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


# --- Keys and retention


@with_each
def test_everything_that_is_stored_has_the_key_or_one_of_aws(each: dict[str, Template], name: str) -> None:
    key = KEY["KeyArn"] if name in ("key", *ALL) else None
    for table in of_type(each[name], "AWS::DynamoDB::Table").values():
        wanted = {"SSEEnabled": True, **({"SSEType": "KMS", "KMSMasterKeyId": key} if key else {})}
        assert table["SSESpecification"] == wanted
    assert {group.get("KmsKeyId") for group in of_type(each[name], "AWS::Logs::LogGroup").values()} == {key}
    [bucket] = of_type(each[name], "AWS::S3::Bucket").values()
    [rule] = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    if key:
        assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
        assert rule["BucketKeyEnabled"] is True
    else:
        assert rule == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}


@with_each
def test_each_function_may_use_the_key_for_its_own_services_alone(each: dict[str, Template], name: str) -> None:
    services: dict[str, list[str]] = {}
    for role in ROLES:
        [policy] = of_type(each[name], "AWS::IAM::Role")[role]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]:
            if "kms:Decrypt" in statement["Action"]:
                assert statement["Resource"] == KEY["KeyArn"]
                through = json.dumps(statement["Condition"]["StringEquals"]["kms:ViaService"])
                services[role] = sorted([*services.get(role, []), *re.findall(r"(\w+)\.\$", through)])
    failures = ["s3", "ssm"]
    wanted = dict(zip(ROLES, [["dynamodb", "ssm"], ["dynamodb"], failures, failures, failures], strict=True))
    assert services == (wanted if name in ("key", *ALL) else {})


@with_each
def test_logs_are_kept_for_the_days_that_are_given_or_those_of_the_stage(each: dict[str, Template], name: str) -> None:
    days = {str(group["RetentionInDays"]) for group in of_type(each[name], "AWS::Logs::LogGroup").values()}
    assert days == {"400" if name in ("retention", *ALL) else "90"}


@pytest.mark.parametrize("name", ["backup", *ALL])
def test_the_clients_table_is_copied_to_the_other_vault_each_day(each: dict[str, Template], name: str) -> None:
    [plan] = of_type(each[name], "AWS::Backup::BackupPlan").values()
    [rule] = plan["BackupPlan"]["BackupPlanRule"]
    assert [copy["DestinationBackupVaultArn"] for copy in rule["CopyActions"]] == [BACKUP["BackupVaultArn"]]
    [selection] = of_type(each[name], "AWS::Backup::BackupSelection").values()
    # Never that of the tokens: a restored copy brings used tokens back.
    assert selection["BackupSelection"]["Resources"] == [{"Fn::GetAtt": ["ClientTable", "Arn"]}]


# --- Roles


@with_each
def test_every_role_has_the_boundary_or_none_has(each: dict[str, Template], name: str) -> None:
    roles = of_type(each[name], "AWS::IAM::Role")
    assert {*ROLES, "CodeDeployServiceRole"} <= roles.keys()
    arn = "arn:${AWS::Partition}:iam::${AWS::AccountId}:policy/${Boundary}"
    wanted = {"Fn::Sub": arn} if name in ("boundary", *ALL) else None
    assert [role.get("PermissionsBoundary") for role in roles.values()] == [wanted] * len(roles)


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
def test_the_boundary_allows_all_that_a_role_of_the_stage_is_granted(each: dict[str, Template], name: str) -> None:
    options = {} if name == "none" else {"Options": "yes", **KEY}
    deployer = expansion(read_template(FOLDER / "deployer.yaml"), Stage="prod", **options)
    boundary = granted(of_type(deployer, "AWS::IAM::ManagedPolicy")["Boundary"]["PolicyDocument"])
    for role in of_type(each[name], "AWS::IAM::Role").values():
        for policy in role.get("Policies", ()):
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
    dev.change_parameters({**IN_VPC, **MUTUAL_TLS, **LIMITS, **CLIENTS, **KEY, **RETENTION})
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
