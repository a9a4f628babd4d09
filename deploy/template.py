"""Completes the template that Chalice wrote and merged with `resources.yaml`.

Adds the options (`options.yaml`), what only a stage has (`<stage>.yaml`), the gateway's responses from the table of
problems, and the dashboard from `dashboard.json`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

import yaml

from chalicelib.errors import InternalError, ServiceError, StoreUnavailable
from chalicelib.http import problems
from chalicelib.http.problems import FieldError, InvalidRequest, Problem
from deploy.resources import FOLDER, Template, of_type, overlaid

RESOURCES: Final = FOLDER / "resources.yaml"

# API Gateway's name of what it refuses by itself -> what we call it. No route of ours wants a signature of AWS's: one
# is missed only where there is no such route, since the gateway then takes Basic credentials for a signature.
# Source: API Gateway developer guide, "Gateway response types for API Gateway".
GATEWAY_RESPONSES: Final[dict[str, ServiceError]] = {
    "ACCESS_DENIED": Problem("unauthorized"),
    "UNAUTHORIZED": Problem("unauthorized"),
    "AUTHORIZER_FAILURE": StoreUnavailable(),
    "AUTHORIZER_CONFIGURATION_ERROR": StoreUnavailable(),
    "INTEGRATION_FAILURE": StoreUnavailable(),
    "INTEGRATION_TIMEOUT": StoreUnavailable(),
    "MISSING_AUTHENTICATION_TOKEN": Problem("route_not_found"),
    "INVALID_SIGNATURE": Problem("route_not_found"),
    "RESOURCE_NOT_FOUND": Problem("route_not_found"),
    "BAD_REQUEST_BODY": InvalidRequest([FieldError("body", "malformed")]),
    "BAD_REQUEST_PARAMETERS": InvalidRequest([FieldError("request line", "malformed")]),
    "REQUEST_TOO_LARGE": Problem("payload_too_large"),
    "UNSUPPORTED_MEDIA_TYPE": Problem("unsupported_media_type"),
    "THROTTLED": Problem("too_many_requests"),
    # A client without a key in the usage plan has no calls to spend.
    "INVALID_API_KEY": Problem("too_many_requests"),
    # Whoever probes learns nothing of the rule.
    "WAF_FILTERED": Problem("route_not_found"),
    "QUOTA_EXCEEDED": Problem("too_many_requests"),
    "DEFAULT_4XX": Problem("route_not_found"),
    "DEFAULT_5XX": InternalError(),
}

# Where the archive is and what a function costs whom; the last is the digest itself.
_UNPUBLISHED: Final = {"CodeUri", "Tags", "AutoPublishCodeSha256"}


def finish(merged: Template, stage: str, commit: str, archive: bytes, *, snap_start: bool = False) -> Template:
    """Complete the template that Chalice made and merged.

    Args:
        merged: what `chalice package --merge-template deploy/resources.yaml` wrote.
        stage: the stage it was written for.
        commit: the commit that `GET /version` returns.
        archive: the deployment archive.
        snap_start: whether functions start from a snapshot.
    """
    template = overlaid(overlaid(merged, "options"), stage)
    # A parameter with one allowed value: templates can use `${Stage}`, and nobody deploys a package as another stage.
    template["Parameters"]["Stage"] |= {"Default": stage, "AllowedValues": [stage]}
    resources = template["Resources"]
    resources["APIHandler"]["Properties"]["Environment"]["Variables"]["COMMIT"] = commit
    resources["RestAPI"]["Properties"]["DefinitionBody"]["x-amazon-apigateway-gateway-responses"] = gateway_responses()
    keep_logs(template)
    bound_roles(template)
    require_keys(resources["RestAPI"]["Properties"]["DefinitionBody"])
    _, _, body = problems.answer(Problem("too_many_requests"), "unknown")
    content = {"ContentType": "APPLICATION_JSON", "Content": json.dumps(body)}
    resources["Firewall"]["Properties"]["CustomResponseBodies"] = {"too-many-requests": content}
    dashboard = json.loads((FOLDER / "dashboard.json").read_text("utf-8"))
    resources["Dashboard"]["Properties"]["DashboardBody"] = {"Fn::Sub": json.dumps(dashboard)}
    # Chalice writes AWS's own name of the API.
    url = template["Outputs"]["EndpointURL"]
    url["Value"] = {"Fn::If": ["HasDomain", {"Fn::Sub": "https://${DomainName}/"}, url["Value"]]}
    template = through_alias(template)
    return versioned(snapshotted(template) if snap_start else template, archive)


def keep_logs(template: Template) -> None:
    """Let the parameters choose the days and the key of every log group."""
    for group in of_type(template, "AWS::Logs::LogGroup").values():
        group["RetentionInDays"] = {"Fn::If": ["SetsLogDays", {"Ref": "LogDays"}, group["RetentionInDays"]]}
        group["KmsKeyId"] = {"Fn::If": ["HasKey", {"Ref": "KeyArn"}, {"Ref": "AWS::NoValue"}]}


def bound_roles(template: Template) -> None:
    """Let a parameter choose the permissions boundary of every role."""
    boundary = {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:policy/${Boundary}"}
    for role in of_type(template, "AWS::IAM::Role").values():
        role["PermissionsBoundary"] = {"Fn::If": ["IsBounded", boundary, {"Ref": "AWS::NoValue"}]}


def require_keys(definition: dict[str, Any]) -> None:
    """Let every method demand the authorizer's API key if clients have limits of their own."""
    definition["securityDefinitions"]["api_key"] = {"type": "apiKey", "name": "x-api-key", "in": "header"}
    for methods in definition["paths"].values():
        for method in methods.values():
            if security := method.get("security"):
                method["security"] = {"Fn::If": ["LimitsClients", [{**security[0], "api_key": []}], security]}


def gateway_responses() -> dict[str, Any]:
    """Return the gateway's own responses, with the service's bodies."""
    return {kind: _gateway_response(error) for kind, error in GATEWAY_RESPONSES.items()}


def _gateway_response(error: ServiceError) -> dict[str, Any]:
    status, headers, body = problems.answer(error, "$context.requestId")
    return {
        "statusCode": status,
        "responseParameters": {f"gatewayresponse.header.{name}": f"'{value}'" for name, value in headers.items()},
        "responseTemplates": {"application/json": json.dumps(body)},
    }


def through_alias(template: Template) -> Template:
    """Make the gateway call functions by their alias; in Chalice's template it calls `$LATEST`."""
    text = json.dumps(template)
    for name, resource in template["Resources"].items():
        if alias := resource.get("Properties", {}).get("AutoPublishAlias"):
            text = text.replace(f"${{{name}.Arn}}/invocations", f"${{{name}.Arn}}:{alias}/invocations")
    changed: Template = json.loads(text)
    for name in ("APIHandler", "BasicAuth"):
        # Also makes CloudFormation create the alias first: a permission needs one that exists.
        changed["Resources"][f"{name}InvokePermission"]["Properties"]["FunctionName"] = {"Ref": f"{name}.Alias"}
    return changed


def snapshotted(template: Template) -> Template:
    """Make Lambda start the functions with an alias from a snapshot of each published version.

    Not by a parameter: SAM would publish no version when it changes.
    """
    for resource in template["Resources"].values():
        if "AutoPublishAlias" in (properties := resource.get("Properties", {})):
            properties["SnapStart"] = {"ApplyOn": "PublishedVersions"}
    return template


def versioned(template: Template, archive: bytes) -> Template:
    """Give each function with an alias the digest by which SAM decides whether to publish a version.

    The digest covers the archive and the function's properties, so either publishes a version. It leaves out the
    archive's address and the tags: they alone change nothing that Lambda would publish, and CloudFormation would fail.
    """
    for resource in template["Resources"].values():
        if "AutoPublishAlias" in (properties := resource.get("Properties", {})):
            text = json.dumps({name: properties[name] for name in properties.keys() - _UNPUBLISHED}, sort_keys=True)
            digest = hashlib.sha256(hashlib.sha256(archive).digest() + text.encode()).hexdigest()
            properties["AutoPublishCodeSha256"] = digest
    return template


def to_yaml(template: Template) -> str:
    """Return the template without anchors, which CloudFormation does not read."""
    return yaml.dump(template, Dumper=_Plain, sort_keys=True, width=120, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True
