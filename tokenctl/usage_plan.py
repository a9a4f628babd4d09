"""Clients' keys in the API's usage plan, which limits each client by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chalicelib.clients import usage_key
from tokenctl.deployment import Deployment
from tokenctl.errors import DeploymentError, unless


def enrol(deployment: Deployment, client_ids: Sequence[str]) -> list[str]:
    """Give clients a key in the stage's usage plan; returns those that had none.

    Raises:
        DeploymentError: the stage has no usage plan.
    """
    gateway = deployment.aws("apigateway")
    plan = _plan(gateway, deployment.stage)
    keys = _all(gateway, "get_usage_plan_keys", usagePlanId=plan)
    known = {key["name"] for key in keys}
    added = [name for name in client_ids if usage_key(deployment.stage, name) not in known]
    for name in added:
        key_id = _key(gateway, usage_key(deployment.stage, name))
        gateway.create_usage_plan_key(usagePlanId=plan, keyId=key_id, keyType="API_KEY")
    return added


def _plan(gateway: Any, stage: str) -> str:
    for plan in _all(gateway, "get_usage_plans"):
        if plan["name"] == f"tokenservice-{stage}":
            return str(plan["id"])
    raise DeploymentError(f"stage {stage} has no limits for each client; deploy it with the parameter ClientRate")


def _key(gateway: Any, name: str) -> str:
    """The id of the key of that name, made if it is missing. Its value is its name."""
    made = unless("ConflictException", gateway.create_api_key, name=name, value=name, enabled=True)
    if made is None:
        [made] = [key for key in _all(gateway, "get_api_keys", nameQuery=name) if key["name"] == name]
    return str(made["id"])


def _all(gateway: Any, operation: str, **named: str) -> list[dict[str, Any]]:
    pages = gateway.get_paginator(operation).paginate(**named)
    return [item for page in pages for item in page.get("items", ())]
