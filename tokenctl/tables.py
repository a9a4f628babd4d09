"""`tokenctl tables`: the two tables of a stage, for stages that CloudFormation did not make."""

from __future__ import annotations

from typing import Any, Final

import click
from pynamodb.models import Model

from chalicelib.storage.client_item import ClientItem
from chalicelib.storage.model import bind
from chalicelib.storage.token_item import TokenItem
from tokenctl.deployment import Deployment
from tokenctl.errors import unless
from tokenctl.terminal import Terminal, common

TTL_ATTRIBUTE: Final = TokenItem.purge_at.attr_name
_PROTECTED_STAGE: Final = "prod"


@click.group("tables")
def tables() -> None:
    """Tables of a stage."""


@tables.command("create")
@common
def tables_create(terminal: Terminal) -> None:
    """Create missing tables, with TTL, on-demand billing and point-in-time recovery."""
    terminal.show(create(terminal.deployment()))


def create(deployment: Deployment) -> dict[str, str]:
    """Create missing tables, and switch on their features. Existing tables keep their items.

    On-demand billing, encryption at rest (DynamoDB's default), TTL on the tokens, point-in-time recovery if the
    engine has it, deletion protection in prod.

    Returns:
        Table name to what was done.
    """
    settings = deployment.settings
    dynamodb = deployment.aws("dynamodb")
    done = {}
    for model, name in ((TokenItem, settings.token_table), (ClientItem, settings.client_table)):
        done[name] = _create_one(bind(model, name), name, dynamodb)
        # DynamoDB Local knows no backups.
        unless("UnknownOperationException", _switch_on_recovery, dynamodb=dynamodb, table=name)
        if deployment.stage == _PROTECTED_STAGE:
            dynamodb.update_table(TableName=name, DeletionProtectionEnabled=True)
    _switch_on_ttl(dynamodb, settings.token_table)
    return done


def ttl_is_on(dynamodb: Any, table: str) -> bool:
    """Whether DynamoDB deletes the table's items by `purge_at`."""
    ttl = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    return ttl.get("TimeToLiveStatus") in ("ENABLED", "ENABLING") and ttl.get("AttributeName") == TTL_ATTRIBUTE


def recovery_is_on(dynamodb: Any, table: str) -> bool:
    """Whether the table can be restored to any second of the last 35 days."""
    backups = dynamodb.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
    recovery = backups.get("PointInTimeRecoveryDescription", {})
    return bool(recovery.get("PointInTimeRecoveryStatus") == "ENABLED")


def _create_one(model: type[Model], name: str, dynamodb: Any) -> str:
    if unless("ResourceNotFoundException", dynamodb.describe_table, TableName=name):
        return "exists"
    model.create_table(wait=True, billing_mode="PAY_PER_REQUEST")
    return "created"


def _switch_on_ttl(dynamodb: Any, table: str) -> None:
    if not ttl_is_on(dynamodb, table):
        specification = {"Enabled": True, "AttributeName": TTL_ATTRIBUTE}
        dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=specification)


def _switch_on_recovery(dynamodb: Any, table: str) -> None:
    if not recovery_is_on(dynamodb, table):
        specification = {"PointInTimeRecoveryEnabled": True}
        dynamodb.update_continuous_backups(TableName=table, PointInTimeRecoverySpecification=specification)
