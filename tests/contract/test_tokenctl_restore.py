"""`tokenctl restore` as an operator types it; tests/contract/test_restore.py has what it copies."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.support.api import Api, Credentials
from tests.support.operator import Tokenctl, Typed
from tokenctl.deployment import Deployment


@pytest.fixture
def rescue(deployment: Deployment, dynamodb: Any, api: Api, request: pytest.FixtureRequest) -> str:
    """A table that a backup of the tokens was restored to."""
    name = f"rescue-{abs(hash(request.node.name))}"
    api.issue(api.client())
    arn = dynamodb.create_backup(TableName=deployment.settings.token_table, BackupName=name)
    dynamodb.restore_table_from_backup(TargetTableName=name, BackupArn=arn["BackupDetails"]["BackupArn"])
    return name


@pytest.fixture
def lost(deployment: Deployment, dynamodb: Any, api: Api, client: Credentials, rescue: str) -> dict[str, Any]:
    """A token that is in the backup, and no longer in the table."""
    issued = api.issue(client)
    key = {"id": {"S": issued["tokenId"]}}
    dynamodb.put_item(
        TableName=rescue, Item=dynamodb.get_item(TableName=deployment.settings.token_table, Key=key)["Item"]
    )
    dynamodb.delete_item(TableName=deployment.settings.token_table, Key=key)
    return issued


def test_a_lost_token_is_copied_back_and_the_setting_is_recalled(
    api: Api, client: Credentials, tokenctl: Tokenctl, rescue: str, lost: dict[str, Any]
) -> None:
    planned = tokenctl("restore", rescue, "--dry-run", "--json")
    assert (planned.json["copied"], planned.json["usable"], planned.json["dryRun"]) == (1, 1, True)
    assert api.use(client, lost["token"]).code == "token_not_found"
    done = tokenctl("restore", rescue, "--yes")
    assert f"{rescue} to tokenservice-local-tokens: 1 items copied." in done.out
    assert "1 copied tokens can be used again" in done.out
    assert "set TOKENS_ISSUED_AFTER to " in done.out
    assert "docs/restore.md" in done.out
    assert api.use(client, lost["token"]).status == 200
    again = tokenctl("restore", rescue, "--yes")
    assert "0 items copied" in again.out
    assert "TOKENS_ISSUED_AFTER" not in again.out


def test_if_the_setting_covers_all_copies_it_reports_that(
    tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch, rescue: str, lost: dict[str, Any]
) -> None:
    monkeypatch.setenv("TOKENS_ISSUED_AFTER", "2099-01-01T00:00:00Z")
    done = tokenctl("restore", rescue, "--yes")
    assert "No copied token can be used again, once the TOKENS_ISSUED_AFTER" in done.out


def test_a_table_of_clients_is_recognized_by_its_key_with_advice_to_rotate(
    deployment: Deployment, dynamodb: Any, api: Api, tokenctl: Tokenctl
) -> None:
    gone = api.client()
    arn = dynamodb.create_backup(TableName=deployment.settings.client_table, BackupName="clients")
    dynamodb.restore_table_from_backup(TargetTableName="rescue-clients", BackupArn=arn["BackupDetails"]["BackupArn"])
    tokenctl("client", "delete", gone.user, "--yes")
    done = tokenctl("restore", "rescue-clients", "--yes")
    assert "rescue-clients to tokenservice-local-clients: 1 items copied." in done.out
    assert "tokenctl client rotate NAME --overlap 0" in done.out
    assert api.call("GET", "/version", gone).status == 200


def test_it_asks_for_confirmation_before_it_writes(
    tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch, rescue: str
) -> None:
    monkeypatch.setattr(sys, "stdin", Typed("n\n"))
    run = tokenctl("restore", rescue)
    assert f"Copy what is missing in tokenservice-local-tokens from {rescue}?" in run.err
    assert run.code == 1
    tokenctl("restore", rescue, "--json").assert_refused("--yes", code=2)


def test_a_table_of_another_kind_is_rejected(
    deployment: Deployment, dynamodb: Any, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch, rescue: str
) -> None:
    tokenctl("restore", "nowhere", "--yes").assert_refused("there is no table nowhere")
    own = deployment.settings.token_table
    tokenctl("restore", own, "--yes").assert_refused(own, "the stage's own")
    dynamodb.create_table(
        TableName="something-else",
        KeySchema=[{"AttributeName": "name", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "name", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    tokenctl("restore", "something-else", "--yes").assert_refused("neither tokens nor clients", "'name'")
    monkeypatch.setenv("TOKEN_TABLE", "not-yet")
    tokenctl("restore", rescue, "--yes").assert_refused("no table not-yet", "tokenctl tables create --stage local")
