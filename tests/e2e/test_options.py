"""Each option of the template, off and on and all together: one rule for each promise, over the expanded template."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from chalicelib import clients
from chalicelib.authorizer import MalformedCredentials, parse_basic
from tests.support.api import NODE
from tests.support.expansion import expansion, of_type
from tests.support.local_aws import FUNCTIONS, LocalAws, Package, Stack, Template, local_aws
from tokenctl.resources import FOLDER, read_template

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
}
REST: Final = {**SPLUNK, **LIMITS, **CLIENTS, **FIREWALL, **KEY, **RETENTION, **BACKUP}
# A domain is for a public API, so there are two ways to switch on everything.
ALL: Final = {
    "everything, public": {**IN_VPC, **RANGES, **MUTUAL_TLS, **REST},
    "everything, private": {**IN_VPC, **RANGES, **PRIVATE, **REST},
}
ROLES: Final = ("ApiHandlerRole", "BasicAuthRole", "ForwardLogsRole", "ForwardEventsRole", "RedriveRole")


@pytest.fixture(scope="module")
def made(packages: Path) -> Package:
    return Package.of("prod", packages)


@pytest.fixture(scope="module")
def plain(made: Package) -> Template:
    return expansion(made)


@pytest.fixture(scope="module")
def each(made: Package) -> dict[str, Template]:
    """The expanded template of each option and of all."""
    return {name: expansion(made, **parameters) for name, parameters in {**OPTIONS, **ALL}.items()}


def api(template: Template) -> dict[str, Any]:
    return dict(template["Resources"]["RestAPI"]["Properties"])


# --- Of all options


def test_every_parameter_has_a_description_and_a_default() -> None:
    for name, parameter in read_template(FOLDER / "options.yaml")["Parameters"].items():
        assert len(parameter["Description"]) > 20, name
        assert "Default" in parameter, name


def test_every_parameter_is_tried_here_and_documented() -> None:
    parameters = set(read_template(FOLDER / "options.yaml")["Parameters"])
    tried = {name for values in ALL.values() for name in values}
    assert parameters - {"TlsPolicy", "EndpointAccessMode"} <= tried
    documented = (FOLDER.parent / "docs" / "options.md").read_text("utf-8")
    assert {name for name in parameters if f"`{name}`" not in documented} == set()


def test_without_values_a_stage_has_no_resource_of_the_options(plain: Template) -> None:
    added = {
        name for name, resource in read_template(FOLDER / "options.yaml")["Resources"].items() if "Type" in resource
    }
    assert added
    assert added & set(plain["Resources"]) == set()


@pytest.mark.parametrize("name", [*OPTIONS, *ALL])
def test_a_template_with_options_stays_below_the_limits(made: Package, each: dict[str, Template], name: str) -> None:
    template = each[name]
    assert (made.folder / "template.yaml").stat().st_size < 1_000_000
    assert len(template["Resources"]) < 500
    for role in of_type(template, "AWS::IAM::Role").values():
        policies = "".join(json.dumps(policy["PolicyDocument"]) for policy in role.get("Policies", ()))
        assert len("".join(policies.split())) < 10_240
    assert len(template["Parameters"]) < 200


# --- TLS


@pytest.mark.parametrize("name", [*OPTIONS, *ALL])
def test_no_endpoint_accepts_less_than_tls_1_2(each: dict[str, Template], name: str) -> None:
    assert api(each[name])["SecurityPolicy"] == "SecurityPolicy_TLS13_1_2_2021_06"
    assert api(each[name])["EndpointAccessMode"] == "STRICT"
    for domain in of_type(each[name], "AWS::ApiGateway::DomainName").values():
        assert domain["SecurityPolicy"] in ("SecurityPolicy_TLS13_1_2_2021_06", "TLS_1_2")


def test_no_policy_that_can_be_chosen_accepts_less_than_tls_1_2() -> None:
    chosen = read_template(FOLDER / "options.yaml")["Parameters"]["TlsPolicy"]["AllowedValues"]
    assert all(policy.startswith(("SecurityPolicy_TLS13_1_2_", "SecurityPolicy_TLS13_1_3_")) for policy in chosen)


# --- Network


@pytest.mark.parametrize("name", [*OPTIONS, *ALL])
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


def test_another_network_publishes_a_version(made: Package, plain: Template) -> None:
    """CloudFormation replaces a version whose description differs; the digest of the package can't see parameters."""

    [description] = {version["Description"]["Fn::Sub"] for version in of_type(plain, "AWS::Lambda::Version").values()}
    assert all(f"${{{name}}}" in description for name in IN_VPC)
    # Lambda takes at most 256 characters.
    parameters = read_template(FOLDER / "options.yaml")["Parameters"]
    assert sum(parameters[name]["MaxLength"] for name in IN_VPC) + len("Network:  ") <= 256
    for name in ("APIHandler", "BasicAuth"):
        properties = made.template()["Resources"][name]["Properties"]
        # Of the function as a whole, not of a version.
        del properties["ReservedConcurrentExecutions"]
        given = {ref for ref in parameters if f'"{ref}"' in json.dumps(properties)}
        assert given <= set(IN_VPC), "each parameter of a function with an alias belongs in its VersionDescription"


def statements(template: Template) -> list[dict[str, Any]]:
    return list(api(template).get("Policy", {}).get("Statement", []))


def test_a_public_api_without_ranges_has_no_policy(each: dict[str, Template]) -> None:
    for name in OPTIONS.keys() - {"private", "ranges"}:
        assert statements(each[name]) == []
        assert api(each[name])["EndpointConfiguration"] == {"Types": ["REGIONAL"]}


@pytest.mark.parametrize("name", ["private", "everything, private"])
def test_a_private_api_is_called_through_its_endpoints_alone(each: dict[str, Template], name: str) -> None:
    assert api(each[name])["EndpointConfiguration"] == {"Types": ["PRIVATE"], "VpcEndpointIds": ["vpce-0a", "vpce-0b"]}
    assert api(each[name])["Parameters"] == {"endpointConfigurationTypes": "PRIVATE"}
    denied = [each["Condition"] for each in statements(each[name]) if each["Effect"] == "Deny"]
    assert {"StringNotEquals": {"aws:SourceVpce": ["vpce-0a", "vpce-0b"]}} in denied


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("ranges", "aws:SourceIp"),
        ("everything, public", "aws:SourceIp"),
        # Through an endpoint, aws:SourceIp is not there.
        ("everything, private", "aws:VpcSourceIp"),
    ],
)
def test_callers_from_other_ranges_are_denied(each: dict[str, Template], name: str, key: str) -> None:
    denied = [each["Condition"] for each in statements(each[name]) if each["Effect"] == "Deny"]
    assert {"NotIpAddress": {key: ["192.0.2.0/24", "2001:db8::/32"]}} in denied
    assert statements(each[name])[0]["Effect"] == "Allow"


def test_a_changed_policy_is_deployed() -> None:
    """A resource policy works only once the API is deployed again, and SAM does not see values of parameters."""
    assert read_template(FOLDER / "options.yaml")["Resources"]["RestAPI"]["Properties"]["AlwaysDeploy"] is True


@pytest.mark.parametrize("name", ["domain", "mutual TLS", "everything, public"])
def test_the_path_of_the_contract_is_the_whole_path_of_a_domain(each: dict[str, Template], name: str) -> None:
    [mapping] = of_type(each[name], "AWS::ApiGateway::BasePathMapping").values()
    assert "BasePath" not in mapping
    assert mapping["Stage"] == {"Ref": "RestAPIapiStage"}
    assert each[name]["Outputs"]["EndpointURL"]["Value"] == {"Fn::Sub": "https://${DomainName}/"}
    assert each[name]["Outputs"]["DomainTarget"]["Value"] == {"Fn::GetAtt": ["Domain", "RegionalDomainName"]}


def test_mutual_tls_has_no_way_around_it(each: dict[str, Template]) -> None:
    for name, template in each.items():
        body = api(template)["Body"]
        endpoint = body.get("x-amazon-apigateway-endpoint-configuration", {})
        demands = name in ("mutual TLS", "everything, public")
        assert endpoint.get("disableExecuteApiEndpoint") is demands, name
        for domain in of_type(template, "AWS::ApiGateway::DomainName").values():
            assert ("MutualTlsAuthentication" in domain) is demands
            # AWS has no mutual TLS with a newer policy, and no access mode with an older one.
            assert ("EndpointAccessMode" in domain) is not demands


def test_files_for_splunk_reach_each_forwarder_from_a_layer(each: dict[str, Template]) -> None:
    for name, template in each.items():
        for function, properties in of_type(template, "AWS::Lambda::Function").items():
            has_layer = function in ("ForwardLogs", "ForwardEvents", "Redrive") and name in ("splunk files", *ALL)
            assert properties.get("Layers") == ([SPLUNK["SplunkLayerArn"]] if has_layer else None), function
            if has_layer:
                variables = properties["Environment"]["Variables"]
                assert variables["SPLUNK_CA_BUNDLE"] == "/opt/ca.pem"
                assert variables["SPLUNK_CLIENT_CERTIFICATE"] == "/opt/client.pem"


# --- Limits


def test_concurrency_is_reserved_for_the_functions_behind_the_gateway(each: dict[str, Template]) -> None:
    for name, template in each.items():
        functions = of_type(template, "AWS::Lambda::Function")
        reserved = [functions[key].get("ReservedConcurrentExecutions") for key in ("APIHandler", "BasicAuth")]
        assert reserved == (["200", "50"] if name in ("concurrency", *ALL) else [None, None])


@pytest.mark.parametrize("name", [*OPTIONS, *ALL])
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
def test_the_firewall_guards_the_stage(each: dict[str, Template], name: str) -> None:
    [firewall] = of_type(each[name], "AWS::WAFv2::WebACL").values()
    [association] = of_type(each[name], "AWS::WAFv2::WebACLAssociation").values()
    assert association["ResourceArn"]["Fn::Sub"].endswith("::/restapis/${RestAPI}/stages/api")
    assert firewall["DefaultAction"] == {"Allow": {}}
    rate, *managed = firewall["Rules"]
    assert rate["Statement"]["RateBasedStatement"]["Limit"] == "500"
    assert {rule["Statement"]["ManagedRuleGroupStatement"]["VendorName"] for rule in managed} == {"AWS"}
    # Samples show URLs, and a GET has its token there.
    assert {rule["VisibilityConfig"]["SampledRequestsEnabled"] for rule in firewall["Rules"]} == {False}


def test_refusals_of_the_firewall_have_our_body(each: dict[str, Template]) -> None:
    [firewall] = of_type(each["firewall"], "AWS::WAFv2::WebACL").values()
    answer = firewall["Rules"][0]["Action"]["Block"]["CustomResponse"]
    body = json.loads(firewall["CustomResponseBodies"][answer["CustomResponseBodyKey"]]["Content"])
    assert (answer["ResponseCode"], body["status"], body["code"]) == (429, 429, "too_many_requests")
    filtered = api(each["firewall"])["Body"]["x-amazon-apigateway-gateway-responses"]["WAF_FILTERED"]
    assert json.loads(filtered["responseTemplates"]["application/json"])["code"] == "route_not_found"


def test_the_firewall_lets_what_the_contract_allows_pass(each: dict[str, Template]) -> None:
    [firewall] = of_type(each["firewall"], "AWS::WAFv2::WebACL").values()
    common = firewall["Rules"][-1]["Statement"]["ManagedRuleGroupStatement"]
    assert common["Name"] == "AWSManagedRulesCommonRuleSet"
    counted = {rule["Name"] for rule in common["RuleActionOverrides"] if rule["ActionToUse"] == {"Count": {}}}
    assert {"SizeRestrictions_BODY", "NoUserAgent_HEADER"} <= counted
    assert {name for name in counted if not name.endswith(("_BODY", "NoUserAgent_HEADER"))} == set()


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
def test_the_gateway_refuses_headers_that_the_authorizer_can_not_read(plain: Template, header: str) -> None:
    definition = api(plain)["Body"]["securityDefinitions"]["basic_auth"]["x-amazon-apigateway-authorizer"]
    passes = re.search(definition["identityValidationExpression"], header) is not None
    try:
        parse_basic(header)
        assert passes
    except MalformedCredentials:
        # What only decoding shows is left to the authorizer.
        assert not passes


# --- Keys and retention


@pytest.mark.parametrize("name", [*OPTIONS, *ALL])
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


@pytest.mark.parametrize("name", [*OPTIONS, *ALL])
def test_each_function_may_use_the_key_for_its_own_services_alone(each: dict[str, Template], name: str) -> None:
    services = {}
    for role in ROLES:
        [policy] = of_type(each[name], "AWS::IAM::Role")[role]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]:
            if "kms:Decrypt" in statement["Action"]:
                assert statement["Resource"] == KEY["KeyArn"]
                through = json.dumps(statement["Condition"]["StringEquals"]["kms:ViaService"])
                services[role] = sorted(re.findall(r"(\w+)\.\$", through))
    tables, failures = ["dynamodb"], ["s3", "ssm"]
    wanted = dict(zip(ROLES, [tables, tables, failures, failures, failures], strict=True))
    assert services == (wanted if name in ("key", *ALL) else {})


@pytest.mark.parametrize("name", [*OPTIONS, *ALL])
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


# --- On the local AWS


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    with local_aws(tmp_path_factory.mktemp("options") / "engine.log") as aws:
        yield aws


def test_a_stage_with_options_is_deployed_and_serves(aws: LocalAws, packages: Path) -> None:
    """MiniStack passes over VPC and TLS, so the calls need neither a network nor a certificate.

    It passes over reserved concurrency, too, and has no selection of a backup and no firewall in front of an API.
    """
    made = Package.of("dev", packages)
    stack = Stack(aws, made)
    before = aws.client("lambda").get_alias(FunctionName="tokenservice-dev", Name="live")["FunctionVersion"]
    stack.change_parameters({**IN_VPC, **MUTUAL_TLS, **LIMITS, **KEY, **RETENTION})
    functions = aws.client("lambda")
    after = functions.get_alias(FunctionName="tokenservice-dev", Name="live")["FunctionVersion"]
    assert after != before
    groups = aws.client("logs").describe_log_groups(logGroupNamePrefix="/aws/lambda/tokenservice-dev")["logGroups"]
    assert {group["retentionInDays"] for group in groups} == {400}
    [domain] = aws.client("apigateway").get_domain_names()["items"]
    assert domain["domainName"] == DOMAIN["DomainName"]
    client = stack.add_client("records")
    token = stack.call("POST", "/token", client, {"nodeId": NODE}).json()["token"]
    assert [stack.call("POST", "/use", client, {"token": token}).status_code for _ in range(2)] == [200, 410]


def test_a_client_is_under_its_limit_once_it_has_a_key(aws: LocalAws, packages: Path) -> None:
    """MiniStack takes the key from the header only, where on AWS the authorizer names it."""
    stack = Stack(aws, Package.of("test", packages), CLIENTS)
    client = stack.add_client("records")
    refused = stack.call("GET", "/version", client)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
    assert aws.tokenctl("test", "client", "limit") == [{"clientId": "records", "added": True}]
    assert aws.tokenctl("test", "client", "limit", "records") == [{"clientId": "records", "added": False}]
    key = clients.usage_key("test", "records")
    assert stack.call("GET", "/version", client, headers={"x-api-key": key}).status_code == 200
