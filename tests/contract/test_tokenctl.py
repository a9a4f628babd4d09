"""The operator's command line: what it prints, where, and how it ends."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import click
import pytest
from botocore.exceptions import ClientError
from pynamodb.exceptions import PynamoDBException
from rich.console import Console

from chalicelib import clients, tokens
from chalicelib.clients import SECRET_PREFIX, Scope
from chalicelib.errors import StoreUnavailable
from chalicelib.instants import now
from chalicelib.splunk.record import FolderRecord, Kind
from chalicelib.storage.token_store import TokenStore
from chalicelib.tokens import Terms
from dev.engine import HOST, ROOT, Engine, free_port
from tests.support.api import Api, Credentials
from tests.support.operator import ABSENT_ID, Run, Tokenctl, Typed, switch_ttl
from tokenctl import deployment as deployment_
from tokenctl import doctor, errors, restore, splunk, terminal
from tokenctl.deployment import Deployment, open_stage

SECRET = re.compile(rf"{SECRET_PREFIX}[A-Za-z0-9_-]{{43}}")


def in_a_process(*arguments: str, **environ: str) -> Run:
    """Runs the program as an operator does."""
    ended = subprocess.run(
        [sys.executable, "-m", "tokenctl", *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    return Run(ended.returncode, ended.stdout, ended.stderr)


_names = (f"application-{number}" for number in range(1_000))


@pytest.fixture
def name() -> str:
    """A client's name that is still free."""
    return next(_names)


def line_of(tokenctl: Tokenctl, name: str) -> str:
    """A client's line of `client list`."""
    listed = click.unstyle(tokenctl("client", "list").out)
    [line] = [line for line in listed.splitlines() if name in line.split()]
    return line


def add(tokenctl: Tokenctl, name: str) -> str:
    """Make a client that may use tokens; its secret."""
    secret: str = tokenctl("client", "add", name, "--scope", "use", "--json").json["secret"]
    return secret


def opens(api: Api, name: str, secret: str) -> bool:
    return api.call("GET", "/version", Credentials(name, secret)).status == 200


class TestAsAProcess:
    def test_a_secret_is_on_standard_output_alone(self, api: Api, name: str) -> None:
        added = in_a_process("client", "add", name, "--scope", "use")
        assert added.code == 0, added.err
        [secret] = SECRET.findall(added.out)
        assert not SECRET.search(added.err)
        assert opens(api, name, secret)


class TestClient:
    @pytest.mark.parametrize("scope", Scope)
    def test_each_scope_is_given_by_its_name(self, tokenctl: Tokenctl, name: str, scope: Scope) -> None:
        added = tokenctl("client", "add", name, "--scope", str(scope), "--json")
        assert added.code == 0, added.err
        assert added.json["scopes"] == [str(scope)]

    @pytest.mark.parametrize("extra", [(), ("--json",)])
    def test_a_secret_is_printed_once_and_on_standard_output_alone(
        self, api: Api, tokenctl: Tokenctl, name: str, extra: tuple[str, ...]
    ) -> None:
        for command in (("client", "add", name, "--scope", "use"), ("client", "rotate", name)):
            run = tokenctl(*command, *extra)
            assert run.code == 0, run.err
            [secret] = SECRET.findall(run.out)
            assert not SECRET.search(run.err)
            assert opens(api, name, secret)
            if extra:
                assert run.json["secret"] == secret
                assert run.json["clientId"] == name

    def test_a_name_that_is_taken_is_refused_and_its_client_stays_as_it_is(
        self, api: Api, tokenctl: Tokenctl, name: str
    ) -> None:
        first = tokenctl("client", "add", name, "--scope", "use", "--json").json
        tokenctl("client", "add", name, "--scope", "admin").assert_refused(name, "rotate")
        assert opens(api, name, first["secret"])
        [facts] = [each for each in tokenctl("client", "list", "--json").json if each["clientId"] == name]
        assert facts["scopes"] == ["use"]

    def test_a_malformed_name_is_refused(self, tokenctl: Tokenctl) -> None:
        for wrong in ("", " ", "a b", "-a", ".a", "a/b", "é", "a:b", "a\n", "a" * 65):
            tokenctl("client", "add", "--scope", "use", "--", wrong).assert_refused("letters, digits", code=2)
        for command in ("show", "rotate", "disable", "enable", "delete"):
            tokenctl("client", command, "a b").assert_refused("letters, digits", code=2)
        tokenctl("client", "change", "--scope", "use", "a b").assert_refused("letters, digits", code=2)

    def test_scopes_must_be_named_and_known(self, tokenctl: Tokenctl, name: str) -> None:
        assert tokenctl("client", "add", name).code == 2
        tokenctl("client", "add", name, "--scope", "root").assert_refused("'root'", "manage", code=2)
        assert name not in tokenctl("client", "list").out

    @pytest.mark.parametrize("command", ["show", "change", "rotate", "disable", "enable", "delete"])
    def test_an_unknown_client_is_reported(self, tokenctl: Tokenctl, name: str, command: str) -> None:
        scope = ("--scope", "use") if command == "change" else ()
        tokenctl("client", command, name, *scope).assert_refused(name, "tokenctl client list")
        assert name not in tokenctl("client", "list").out

    def test_clients_are_listed_with_scopes_state_and_expiry(self, tokenctl: Tokenctl, name: str) -> None:
        tokenctl("client", "add", name, "--scope", "use", "--scope", "issue")
        assert re.fullmatch(rf"{name} +issue use +active *", line_of(tokenctl, name))
        tokenctl("client", "rotate", name)
        assert re.fullmatch(rf"{name} +issue use +active +\d{{4}}-\d\d-\d\dT\d\d:\d\dZ", line_of(tokenctl, name))
        tokenctl("client", "rotate", name, "--overlap", "0")
        tokenctl("client", "disable", name)
        assert re.fullmatch(rf"{name} +issue use +disabled *", line_of(tokenctl, name))

    def test_the_list_shows_when_the_old_secret_expires(self, tokenctl: Tokenctl, name: str) -> None:
        tokenctl("client", "add", name, "--scope", "use")
        rotated = tokenctl("client", "rotate", name, "--overlap", "12", "--json")
        ends = rotated.json["oldSecretEndsAt"]
        left = datetime.fromisoformat(ends) - datetime.now(UTC)
        assert timedelta(hours=11, minutes=50) < left <= timedelta(hours=12)
        assert line_of(tokenctl, name).split()[-1] == f"{ends[:16]}Z"
        assert f"The old secret is valid until {ends[:10]}" in tokenctl("client", "rotate", name, "--overlap", "12").err

    def test_a_client_with_every_scope_fits_a_terminal_of_80_columns(
        self, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        scopes = [word for scope in Scope for word in ("--scope", str(scope))]
        tokenctl("client", "add", name, *scopes)
        tokenctl("client", "rotate", name)
        tokenctl("client", "disable", name)
        assert len(line_of(tokenctl, name)) <= 80
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(terminal, "Console", lambda **given: Console(**given, force_terminal=True, no_color=True))
        line = line_of(tokenctl, name)
        assert len(line) <= 80
        assert line.split()[-2] == "disabled"

    def test_a_rotation_without_overlap_ends_the_old_secret_now(self, api: Api, tokenctl: Tokenctl, name: str) -> None:
        old = add(tokenctl, name)
        rotated = tokenctl("client", "rotate", name, "--overlap", "0", "--json").json
        assert rotated["validSecrets"] == 1
        assert opens(api, name, rotated["secret"])
        assert not opens(api, name, old)

    def test_a_rotation_keeps_two_secrets_for_a_day_and_never_three(
        self, api: Api, tokenctl: Tokenctl, name: str
    ) -> None:
        first = add(tokenctl, name)
        second = tokenctl("client", "rotate", name, "--json").json
        assert second["validSecrets"] == 2
        third = tokenctl("client", "rotate", name, "--overlap", "0.5", "--json").json
        assert third["validSecrets"] == 2
        assert [opens(api, name, secret) for secret in (first, second["secret"], third["secret"])] == [
            False,
            True,
            True,
        ]

    @pytest.mark.parametrize("hours", ["-1", "721", "soon", "nan", "inf", ""])
    def test_an_invalid_overlap_is_rejected(self, api: Api, tokenctl: Tokenctl, name: str, hours: str) -> None:
        secret = add(tokenctl, name)
        tokenctl("client", "rotate", name, "--overlap", hours).assert_refused("--overlap", code=2)
        assert opens(api, name, secret)

    def test_a_disabled_client_gets_no_secret_that_would_be_refused(
        self, api: Api, tokenctl: Tokenctl, name: str
    ) -> None:
        secret = add(tokenctl, name)
        tokenctl("client", "disable", name)
        for extra in ((), ("--json",), ("--overlap", "0")):
            tokenctl("client", "rotate", name, *extra).assert_refused("disabled", f"tokenctl client enable {name}")
        tokenctl("client", "enable", name)
        assert opens(api, name, secret), "the secret that it had is the one that it has"
        assert opens(api, name, tokenctl("client", "rotate", name, "--json").json["secret"])

    def test_an_enabled_client_has_its_former_scopes_and_secrets(self, api: Api, tokenctl: Tokenctl, name: str) -> None:
        added = tokenctl("client", "add", name, "--scope", "use", "--scope", "issue", "--json").json
        tokenctl("client", "disable", name)
        assert not opens(api, name, added["secret"])
        enabled = tokenctl("client", "enable", name, "--json")
        assert enabled.json == {member: added[member] for member in added if member != "secret"}
        assert opens(api, name, added["secret"])
        again = tokenctl("client", "enable", name)
        assert (again.code, again.out) == (0, f"{name} is enabled, from now on.\n")

    def test_the_scopes_of_a_client_are_replaced_and_its_secret_stays(
        self, api: Api, tokenctl: Tokenctl, name: str
    ) -> None:
        secret = add(tokenctl, name)
        who = Credentials(name, secret)
        assert api.call("POST", "/token", who, {"nodeId": "n"}).code == "insufficient_scope"
        changed = tokenctl("client", "change", name, "--scope", "issue", "--scope", "manage")
        assert (changed.code, changed.out) == (0, f"{name} has the scopes issue manage, from now on.\n")
        assert api.call("POST", "/token", who, {"nodeId": "n"}).status == 201
        assert api.call("POST", "/use", who, {"token": "0" * 64}).code == "insufficient_scope"
        assert tokenctl("client", "show", name, "--json").json["scopes"] == ["issue", "manage"]
        assert tokenctl("client", "change", name).code == 2
        tokenctl("client", "change", name, "--scope", "root").assert_refused("'root'", code=2)

    def test_changing_the_scopes_of_a_disabled_client_does_not_let_it_in(
        self, api: Api, tokenctl: Tokenctl, name: str
    ) -> None:
        secret = add(tokenctl, name)
        tokenctl("client", "disable", name)
        assert tokenctl("client", "change", name, "--scope", "admin", "--json").json["state"] == "disabled"
        assert not opens(api, name, secret)

    def test_a_client_is_shown_without_its_secret(self, tokenctl: Tokenctl, name: str) -> None:
        added = tokenctl("client", "add", name, "--scope", "use", "--json").json
        tokenctl("client", "rotate", name)
        tokenctl("client", "disable", name)
        facts = tokenctl("client", "show", name, "--json")
        assert set(facts.json) == {
            *("clientId", "scopes", "state", "validSecrets", "createdAt", "secretCreatedAt"),
            *("oldSecretEndsAt", "disabledAt"),
        }
        assert (facts.json["createdAt"], facts.json["validSecrets"]) == (added["createdAt"], 2)
        shown = tokenctl("client", "show", name)
        for fact in (name, "disabled", facts.json["oldSecretEndsAt"], facts.json["disabledAt"]):
            assert fact in shown.out
        for secret in (added["secret"], clients.digest(added["secret"])):
            assert secret not in shown.out + facts.out

    @pytest.mark.parametrize("disabled", [True, False])
    def test_a_deleted_client_is_gone_and_its_name_is_free(
        self, api: Api, tokenctl: Tokenctl, name: str, disabled: bool
    ) -> None:
        secret = add(tokenctl, name)
        if disabled:
            tokenctl("client", "disable", name)
        deleted = tokenctl("client", "delete", name, "--yes", "--json")
        assert (deleted.code, deleted.json) == (0, {"clientId": name, "deleted": True})
        assert not opens(api, name, secret)
        assert name not in tokenctl("client", "list").out
        for command in ("show", "enable", "disable", "rotate"):
            tokenctl("client", command, name).assert_refused(name, "tokenctl client list")
        newer = add(tokenctl, name)
        assert opens(api, name, newer)
        assert not opens(api, name, secret)

    def test_tokens_of_a_deleted_client_stay_good_and_only_an_admin_manages_them(
        self, api: Api, client: Credentials, tokenctl: Tokenctl
    ) -> None:
        gone = api.client()
        kept, revoked = api.issue(gone), api.issue(gone)
        tokenctl("client", "delete", gone.user, "--yes")
        assert api.use(client, kept["token"]).status == 200
        path = f"/token/{revoked['tokenId']}"
        assert api.call("DELETE", path, api.client(Scope.MANAGE)).code == "insufficient_scope"
        assert api.call("DELETE", path, api.client(Scope.ADMIN)).status == 204
        newer = tokenctl("client", "add", gone.user, "--scope", "manage", "--json").json["secret"]
        assert api.call("GET", path, Credentials(gone.user, newer)).status == 200

    @pytest.mark.parametrize(("typed", "gone"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)])
    def test_it_asks_for_confirmation_before_it_deletes(
        self, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch, name: str, typed: str, gone: bool
    ) -> None:
        tokenctl("client", "add", name, "--scope", "use")
        monkeypatch.setattr(sys, "stdin", Typed(typed))
        deleted = tokenctl("client", "delete", name)
        assert f"Client {name}: active, scopes use." in deleted.err
        assert deleted.code == int(not gone)
        assert (name not in tokenctl("client", "list").out) == gone

    def test_without_a_terminal_nothing_is_deleted(
        self, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        tokenctl("client", "add", name, "--scope", "use")
        tokenctl("client", "delete", name, "--json").assert_refused("--yes", code=2)
        monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
        tokenctl("client", "delete", name).assert_refused("--yes", code=2)
        assert name in tokenctl("client", "list").out

    def test_a_client_that_somebody_changes_while_it_is_looked_at_is_not_deleted(
        self, deployment: Deployment, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        tokenctl("client", "add", name, "--scope", "use")

        class Slow(Typed):
            """Before the answer comes, somebody else gives the client another scope."""

            def readline(self, *_: Any) -> str:
                deployment.client_store().change(name, lambda known: known._replace(scopes=frozenset({Scope.ISSUE})))
                return super().readline()

        monkeypatch.setattr(sys, "stdin", Slow("y\n"))
        deleted = tokenctl("client", "delete", name)
        assert deleted.code == 1
        assert "changed in the meantime" in deleted.err
        assert tokenctl("client", "show", name, "--json").json["scopes"] == ["issue"]

    def test_disabling_twice_changes_nothing_more(self, api: Api, tokenctl: Tokenctl, name: str) -> None:
        secret = add(tokenctl, name)
        first = tokenctl("client", "disable", name, "--json")
        assert first.json["state"] == "disabled"
        assert tokenctl("client", "disable", name, "--json").json == first.json
        assert tokenctl("client", "disable", name).out == f"{name} is disabled, from now on.\n"
        assert not opens(api, name, secret)

    def test_disabling_shows_how_long_a_gateway_may_accept_the_client(self, tokenctl: Tokenctl, name: str) -> None:
        tokenctl("tables", "create", "--stage", "test")
        tokenctl("client", "add", name, "--scope", "use", "--stage", "test")
        for command in (("disable",), ("enable",), ("change", "--scope", "issue"), ("delete", "--yes")):
            run = tokenctl("client", command[0], name, *command[1:], "--stage", "test")
            assert "at the latest in 60 seconds" in run.out, run.err


class TestToken:
    def test_a_token_is_shown_without_itself_and_without_its_node(
        self, api: Api, client: Credentials, tokenctl: Tokenctl
    ) -> None:
        issued = api.issue(client, nodeId="hidden-node", maxUses=3, ipAddresses=["10.0.0.0/8"])
        for extra in ((), ("--json",)):
            shown = tokenctl("token", "show", issued["tokenId"], *extra)
            assert shown.code == 0, shown.err
            assert "10.0.0.0/8" in shown.out
            assert client.user in shown.out
            assert issued["token"] not in shown.out + shown.err
            assert "hidden-node" not in shown.out + shown.err
        assert shown.json["maxUses"] == 3

    def test_revoking_again_is_no_error(self, api: Api, client: Credentials, tokenctl: Tokenctl) -> None:
        issued = api.issue(client)
        for _ in range(2):
            run = tokenctl("token", "revoke", issued["tokenId"], "--json")
            assert (run.code, run.json) == (0, {"tokenId": issued["tokenId"], "revoked": True})
        assert api.use(client, issued["token"]).code == "token_revoked"
        assert tokenctl("token", "show", issued["tokenId"], "--json").json["revoked"] is True

    def test_an_unknown_token_is_neither_shown_nor_reported_as_revoked(self, tokenctl: Tokenctl) -> None:
        tokenctl("token", "show", ABSENT_ID).assert_refused("token does not exist")
        tokenctl("token", "revoke", ABSENT_ID).assert_refused("no token", ABSENT_ID)

    def test_user_names_are_shown_unchanged_and_harmless(self, token_store: TokenStore, tokenctl: Tokenctl) -> None:
        """The API refuses control characters; the store may hold some of before."""
        terms = Terms("node", now() + timedelta(hours=1), user="[/b][link=http://evil]alice\x1b]0;owned\x07")
        _, token = tokens.new_token("somebody", terms, now())
        token_store.add([token])
        shown = tokenctl("token", "show", token.id)
        assert shown.code == 0
        assert "[/b][link=http://evil]alice\\x1b]0;owned\\x07" in shown.out
        assert "\x1b" not in shown.out

    @pytest.mark.parametrize("command", ["show", "revoke"])
    def test_a_token_in_place_of_its_id_is_refused_and_not_echoed(
        self, api: Api, client: Credentials, tokenctl: Tokenctl, command: str
    ) -> None:
        token = api.issue(client)["token"]
        for wrong in (token, f"tok_{token}", token.upper(), f" {token}"):
            run = tokenctl("token", command, wrong)
            run.assert_refused("token id", code=2)
            assert token not in (run.out + run.err).lower()
        assert api.use(client, token).status == 200

    @pytest.mark.parametrize("wrong", ["", "tok_", ABSENT_ID + "\n", ABSENT_ID.upper(), "tok_" + "g" * 32])
    def test_a_malformed_id_is_refused(self, tokenctl: Tokenctl, wrong: str) -> None:
        tokenctl("token", "show", wrong).assert_refused("token id", code=2)


class TestTables:
    def test_tables_are_made_once_with_all_they_are_to_have(
        self, tokenctl: Tokenctl, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = ("fresh-tokens", "fresh-clients")
        monkeypatch.setenv("TOKEN_TABLE", names[0])
        monkeypatch.setenv("CLIENT_TABLE", names[1])
        created = tokenctl("tables", "create", "--stage", "test", "--json")
        assert created.json == dict.fromkeys(names, "created")
        for name in names:
            table = dynamodb.describe_table(TableName=name)["Table"]
            assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
            assert not table["DeletionProtectionEnabled"]
            backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
            assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
        assert tokenctl("tables", "create", "--stage", "test", "--json").json == dict.fromkeys(names, "exists")
        ttl = dynamodb.describe_time_to_live(TableName=names[0])["TimeToLiveDescription"]
        assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "purge_at")

    def test_creating_them_again_keeps_their_content(self, api: Api, client: Credentials, tokenctl: Tokenctl) -> None:
        token = api.issue(client)["token"]
        again = tokenctl("tables", "create")
        assert again.code == 0
        assert [line.split()[-1] for line in again.out.splitlines()] == ["exists", "exists"]
        assert api.use(client, token).status == 200

    def test_what_was_switched_off_is_switched_on_again(self, tokenctl: Tokenctl, dynamodb: Any) -> None:
        tokenctl("tables", "create", "--stage", "test")
        name = "tokenservice-test-tokens"
        switch_ttl(dynamodb, name, on=False)
        assert tokenctl("tables", "create", "--stage", "test").code == 0
        ttl = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        assert ttl["TimeToLiveStatus"] == "ENABLED"

    def test_the_tables_of_prod_are_protected_from_deletion(self, tokenctl: Tokenctl, dynamodb: Any) -> None:
        assert tokenctl("tables", "create", "--stage", "prod").code == 0
        for name in ("tokenservice-prod-tokens", "tokenservice-prod-clients"):
            assert dynamodb.describe_table(TableName=name)["Table"]["DeletionProtectionEnabled"]


COMMANDS = (
    ("client", "list"),
    ("client", "add", "{name}", "--scope", "use"),
    ("client", "show", "{client}"),
    ("client", "change", "{client}", "--scope", "use"),
    ("client", "rotate", "{client}"),
    ("client", "disable", "{client}"),
    ("client", "enable", "{client}"),
    ("client", "delete", "{client}", "--yes"),
    ("token", "show", "{token_id}"),
    ("token", "revoke", "{token_id}"),
    ("explain", "{token_id}"),
    ("stats",),
    ("tables", "create"),
)


class TestOptions:
    @pytest.mark.parametrize("command", [*COMMANDS, ("doctor",)], ids=" ".join)
    def test_json_and_stage_stand_before_or_after_the_command(  # noqa: PLR0917 - fixtures
        self,
        api: Api,
        client: Credentials,
        tokenctl: Tokenctl,
        command: tuple[str, ...],
        name: str,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        monkeypatch.setattr(doctor, "LOCAL_ENV", tmp_path / "local.env")  # the doctor finds no service
        facts = {"token_id": api.issue(client)["tokenId"], "client": api.client().user}
        options = ("--json", "--stage", "local")
        for place in (0, len(command)):
            if "delete" in command:
                facts["client"] = api.client().user
            filled = [word.format(name=f"{name}-{place}", **facts) for word in command]
            filled[place:place] = options
            run = tokenctl(*filled)
            assert run.code == (1 if "doctor" in command else 0), run.err
            assert run.json is not None
        for place in (0, len(command)):
            filled = [word.format(name=f"{name}-x", **facts) for word in command]
            filled[place:place] = ["--stage", "nowhere"]
            tokenctl(*filled).assert_refused("'nowhere'", "local, dev, test, prod")

    def test_the_stage_comes_from_the_environment_unless_it_is_given(
        self, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STAGE", "nowhere")
        tokenctl("client", "list").assert_refused("'nowhere'")
        assert tokenctl("client", "list", "--stage", "local").code == 0

    def test_an_unknown_command_is_refused(self, tokenctl: Tokenctl) -> None:
        tokenctl("frobnicate").assert_refused("frobnicate", code=2)

    def test_the_stage_option_nearest_to_the_command_counts(self, tokenctl: Tokenctl) -> None:
        assert tokenctl("--stage", "nowhere", "client", "list", "--stage", "local").code == 0
        tokenctl("--stage", "local", "client", "list", "--stage", "nowhere").assert_refused("'nowhere'")


class TestBrokenSurroundings:
    @pytest.fixture
    def config(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        path = tmp_path / "config.json"
        monkeypatch.setattr(deployment_, "CONFIG", path)
        return path

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            (None, "No such file"),
            ("", "not JSON"),
            ("{", "not JSON"),
            ("[" * 100, "not JSON"),
            ("[]", "no stage"),
            ("{}", "no stage"),
            ('{"stages": []}', "no stage"),
            ('{"stages": {"dev": {}}}', "it has: dev"),
            ('{"stages": {"local": null}}', "no stage"),
            ('{"stages": {"local": {}}, "environment_variables": {"LOG_LEVEL": "LOUD"}}', "LOG_LEVEL"),
            ('{"stages": {"local": {"environment_variables": []}}}', "environment_variables"),
            ('{"stages": {"local": {"environment_variables": {"STAGE": 1}}}}', "environment_variables"),
            ('{"stages": {"local": {"environment_variables": {"STAGE": "Not A Stage"}}}}', "STAGE"),
        ],
    )
    def test_a_broken_configuration_is_reported_in_one_line(
        self, tokenctl: Tokenctl, config: Path, text: str | None, word: str
    ) -> None:
        if text is not None:
            config.write_text(text)
        tokenctl("client", "list").assert_refused(word)

    def test_a_configuration_that_is_no_text_is_reported_in_one_line(self, tokenctl: Tokenctl, config: Path) -> None:
        config.write_bytes(b"\xff\xfe")
        tokenctl("client", "list").assert_refused("config.json")
        config.unlink()
        config.mkdir()
        tokenctl("client", "list").assert_refused("config.json")

    def test_a_stages_own_variables_win_over_those_of_all_stages(self, config: Path, deployment: Deployment) -> None:
        stages = {"local": {"environment_variables": {"STAGE": "local", "TOKEN_TABLE": "mine"}}}
        config.write_text(json.dumps({"environment_variables": {"TOKEN_TABLE": "all"}, "stages": stages}))
        assert open_stage("local").settings.token_table == "mine"

    def test_without_a_running_engine_the_local_stage_prints_how_to_start_it(
        self, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("AWS_ENDPOINT_URL")
        monkeypatch.setattr(deployment_, "LOCAL_ENV", tmp_path / "local.env")
        tokenctl("client", "list").assert_refused("make run")

    def test_the_engine_of_make_run_is_found(
        self, tokenctl: Tokenctl, engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(deployment_, "LOCAL_ENV", tmp_path / "local.env")
        (tmp_path / "local.env").write_text(
            "".join(f"{name}={value}\n" for name, value in engine.client_environ.items())
        )
        monkeypatch.delenv("AWS_ENDPOINT_URL")
        assert tokenctl("client", "list").code == 0

    @pytest.mark.parametrize(
        "command",
        [
            *COMMANDS,
            ("token", "revoke", "--user", "somebody"),
            ("token", "revoke", "--same-node-as", ABSENT_ID),
            ("restore", "rescue", "--yes"),
        ],
        ids=" ".join,
    )
    def test_an_unavailable_store_is_reported_in_one_line(
        self, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{HOST}:{free_port()}")
        monkeypatch.setattr(restore, "_RETRIES", 0)
        filled = [word.format(name="somebody", client="somebody", token_id=ABSENT_ID) for word in command]
        tokenctl(*filled).assert_refused("no response from the store", "EndpointConnectionError", "tokenctl doctor")

    def test_a_missing_table_is_reported_with_the_command_that_creates_it(
        self, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CLIENT_TABLE", "missing-clients")
        tokenctl("client", "list", "--stage", "test").assert_refused(
            "ResourceNotFoundException", "tokenctl tables create --stage test", "tokenctl doctor --stage test"
        )

    @pytest.mark.parametrize(
        ("environ", "words"),
        [
            ({"AWS_DEFAULT_REGION": None}, ["NoRegionError", "set AWS_DEFAULT_REGION"]),
            ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, ["NoCredentialsError", "log in to AWS"]),
            ({"AWS_SECRET_ACCESS_KEY": None}, ["PartialCredentialsError", "log in to AWS"]),
            ({"AWS_PROFILE": "no-such"}, ["ProfileNotFound", "aws configure list-profiles"]),
        ],
    )
    @pytest.mark.parametrize("command", [("client", "list"), ("stats",), ("splunk", "failed")], ids=" ".join)
    def test_missing_aws_settings_are_reported_with_advice(  # noqa: PLR0917 - fixtures
        self,
        deployment: Deployment,
        tokenctl: Tokenctl,
        monkeypatch: pytest.MonkeyPatch,
        command: tuple[str, ...],
        environ: dict[str, str | None],
        words: list[str],
    ) -> None:
        for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(variable, os.devnull)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for variable, value in environ.items():
            if value is None:
                monkeypatch.delenv(variable)
            else:
                monkeypatch.setenv(variable, value)
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers what the environment was
        tokenctl(*command, "--stage", "test").assert_refused(*words[1:])

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            ("ExpiredTokenException", "have expired"),
            ("UnrecognizedClientException", "does not know these credentials"),
            ("AccessDeniedException", "right account and role"),
            ("ThrottlingException", "try again in a moment"),
            ("SomethingNew", "tokenctl doctor --stage dev"),
        ],
    )
    def test_every_error_code_of_aws_has_advice(self, code: str, words: str) -> None:
        """Emulators say no such thing: the error is made as boto3 makes it, at the bottom of a chain of causes."""
        unavailable = StoreUnavailable()
        unavailable.__cause__ = PynamoDBException("", ClientError({"Error": {"Code": code}}, "Scan"))
        assert errors.cause(unavailable) == code
        assert words in errors.advice(unavailable, "dev")

    @pytest.mark.parametrize("command", [("client", "list"), ("tables", "create"), ("token", "show", ABSENT_ID)])
    def test_an_invalid_endpoint_is_reported_in_one_line(
        self, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
        tokenctl(*command).assert_refused("nonsense")


class TestSplunk:
    def test_the_local_stage_has_a_failure_record_of_its_own(
        self, tokenctl: Tokenctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(splunk, "LOCAL_SPLUNK", tmp_path / "splunk")
        assert tokenctl("splunk", "failed").out == "The failure record is empty.\n"
        name = FolderRecord(tmp_path / "splunk").put(Kind.FAILED, b"{}", "away")
        [kept] = tokenctl("splunk", "failed", "--json").json
        assert (kept["kind"], kept["name"]) == ("failed", name)

    def test_a_folder_that_is_not_there_is_refused(self, tokenctl: Tokenctl, tmp_path: Path) -> None:
        tokenctl("splunk", "failed", "--folder", str(tmp_path / "nowhere")).assert_refused("nowhere", code=2)


class TestCompletion:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_each_shell_gets_a_script_of_its_own(self, tokenctl: Tokenctl, shell: str) -> None:
        run = tokenctl("completion", shell)
        assert run.code == 0
        assert f"_TOKENCTL_COMPLETE={shell}_complete" in run.out

    def test_an_unknown_shell_is_refused(self, tokenctl: Tokenctl) -> None:
        tokenctl("completion", "powershell").assert_refused("powershell", code=2)

    @pytest.mark.parametrize(
        ("typed", "offered"),
        [
            ("", {"client", "explain", "stats", "token"}),
            ("token re", {"revoke"}),
            ("--stage ", {"local", "dev", "test", "prod"}),
            ("client list --stage pr", {"prod"}),
            ("client add somebody --scope ma", {"manage"}),
            ("client ", {"add", "change", "delete", "disable", "enable", "list", "rotate", "show"}),
            ("client rotate {name}", {"{name}"}),
            ("client delete {name}", {"{name}"}),
        ],
    )
    def test_bash_completes_commands_options_stages_scopes_and_clients(
        self, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch, name: str, typed: str, offered: set[str]
    ) -> None:
        assert tokenctl("client", "add", name, "--scope", "use").code == 0
        self.ask(monkeypatch, typed.format(name=name))
        run = tokenctl()
        found = {line.removeprefix("plain,") for line in run.out.splitlines()}
        assert {each.format(name=name) for each in offered} <= found
        assert run.err == ""

    def test_without_a_store_completion_offers_no_client_and_prints_nothing(
        self, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{HOST}:{free_port()}")
        self.ask(monkeypatch, "client rotate ")
        run = tokenctl()
        assert (run.out.strip(), run.err) == ("", "")

    def ask(self, monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
        """As bash asks: with the words typed so far, the last of which is to be completed."""
        words = ["tokenctl", *typed.split(" ")]
        monkeypatch.setenv("_TOKENCTL_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", " ".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
