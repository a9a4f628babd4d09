"""`tokenctl restore` as an operator types it; tests/contract/test_restore.py has what it copies."""

from __future__ import annotations

import sys
import uuid
from typing import Any

import pytest

from tests.support.api import Api, Credentials
from tests.support.operator import Tokenctl, Typed
from tokenctl.deployment import Deployment


def restored(dynamodb: Any, table: str) -> str:
    """Back a table up, and restore it to another one."""
    name = f"rescue-{uuid.uuid4()}"
    backup = dynamodb.create_backup(TableName=table, BackupName=name)["BackupDetails"]
    dynamodb.restore_table_from_backup(TargetTableName=name, BackupArn=backup["BackupArn"])
    return name


@pytest.fixture
def lost(deployment: Deployment, dynamodb: Any, api: Api, client: Credentials) -> tuple[str, dict[str, Any]]:
    """A table that a backup was restored to, and a token that it has and the stage's table no longer."""
    issued, table = api.issue(client), deployment.settings.token_table
    rescue = restored(dynamodb, table)
    dynamodb.delete_item(TableName=table, Key={"id": {"S": issued["tokenId"]}})
    return rescue, issued


def test_a_lost_token_is_copied_back_and_the_setting_is_recalled(
    api: Api, client: Credentials, tokenctl: Tokenctl, lost: tuple[str, dict[str, Any]]
) -> None:
    rescue, issued = lost
    planned = tokenctl("restore", rescue, "--dry-run", "--json")
    assert (planned.json["copied"], planned.json["usable"], planned.json["dryRun"]) == (1, 1, True)
    assert api.use(client, issued["token"]).code == "token_not_found"
    done = tokenctl("restore", rescue, "--yes")
    for words in (
        f"{rescue} to tokenservice-local-tokens: 1 items copied.",
        "1 copied tokens can be used again",
        "set TOKENS_ISSUED_AFTER to ",
        "docs/restore.md",
    ):
        assert words in done.out
    assert api.use(client, issued["token"]).status == 200
    again = tokenctl("restore", rescue, "--yes")
    assert "0 items copied" in again.out
    assert "TOKENS_ISSUED_AFTER" not in again.out


def test_if_the_setting_covers_all_copies_it_reports_that(
    tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch, lost: tuple[str, dict[str, Any]]
) -> None:
    monkeypatch.setenv("TOKENS_ISSUED_AFTER", "2099-01-01T00:00:00Z")
    done = tokenctl("restore", lost[0], "--yes")
    assert "No copied token can be used again, once the TOKENS_ISSUED_AFTER" in done.out


def test_a_table_of_clients_is_recognized_by_its_key_with_advice_to_rotate(
    deployment: Deployment, dynamodb: Any, api: Api, tokenctl: Tokenctl
) -> None:
    gone = api.client()
    rescue = restored(dynamodb, deployment.settings.client_table)
    tokenctl("client", "delete", gone.user, "--yes")
    done = tokenctl("restore", rescue, "--yes")
    assert f"{rescue} to tokenservice-local-clients: 1 items copied." in done.out
    assert "tokenctl client rotate NAME --overlap 0" in done.out
    assert api.call("GET", "/version", gone).status == 200


def test_a_table_of_another_kind_is_rejected_and_what_is_written_confirmed(
    deployment: Deployment, dynamodb: Any, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = deployment.settings.token_table
    tokenctl("restore", "nowhere", "--yes").assert_refused("there is no table nowhere")
    tokenctl("restore", own, "--yes").assert_refused(own, "the stage's own")
    dynamodb.create_table(
        TableName="something-else",
        KeySchema=[{"AttributeName": "name", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "name", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    tokenctl("restore", "something-else", "--yes").assert_refused("neither tokens nor clients", "'name'")
    rescue = restored(dynamodb, own)
    tokenctl("restore", rescue, "--json").assert_refused("--yes", code=2)
    monkeypatch.setattr(sys, "stdin", Typed("n\n"))
    asked = tokenctl("restore", rescue)
    assert f"Copy what is missing in {own} from {rescue}?" in asked.err
    assert asked.code == 1
    monkeypatch.setenv("TOKEN_TABLE", "not-yet")
    tokenctl("restore", rescue, "--yes").assert_refused("no table not-yet", "tokenctl tables create --stage local")
