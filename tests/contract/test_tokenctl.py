"""The operator's command line: options, broken surroundings, completion, and the tables that it makes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import boto3
import pytest

from dev.engine import HOST, Engine, free_port
from tests.support.api import Api, Credentials
from tests.support.operator import ABSENT_ID, Tokenctl, switch_ttl
from tokenctl import deployment as deployment_
from tokenctl import restore
from tokenctl.deployment import Deployment, open_stage

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


class TestTables:
    def test_they_are_made_once_with_all_they_are_to_have(
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
        switch_ttl(dynamodb, names[0], on=False)
        assert tokenctl("tables", "create", "--stage", "test", "--json").json == dict.fromkeys(names, "exists")
        ttl = dynamodb.describe_time_to_live(TableName=names[0])["TimeToLiveDescription"]
        assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "purge_at")

    def test_creating_them_again_keeps_their_content(self, api: Api, client: Credentials, tokenctl: Tokenctl) -> None:
        token = api.issue(client)["token"]
        again = tokenctl("tables", "create")
        assert [line.split()[-1] for line in again.out.splitlines()] == ["exists", "exists"]
        assert api.use(client, token).status == 200

    def test_those_of_prod_are_protected_from_deletion(self, tokenctl: Tokenctl, dynamodb: Any) -> None:
        assert tokenctl("tables", "create", "--stage", "prod").code == 0
        for name in ("tokenservice-prod-tokens", "tokenservice-prod-clients"):
            assert dynamodb.describe_table(TableName=name)["Table"]["DeletionProtectionEnabled"]


class TestOptions:
    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_json_and_stage_stand_before_or_after_the_command(
        self, api: Api, client: Credentials, tokenctl: Tokenctl, command: tuple[str, ...], name: str
    ) -> None:
        token_id = api.issue(client)["tokenId"]
        for place in (0, len(command)):
            facts = {"name": f"{name}-{place}", "client": api.client().user, "token_id": token_id}
            filled = [word.format(**facts) for word in command]
            run = tokenctl(*filled[:place], "--json", "--stage", "local", *filled[place:])
            assert run.code == 0, run.err
            assert run.json is not None
            run = tokenctl(*filled[:place], "--stage", "nowhere", *filled[place:])
            run.assert_refused("'nowhere'", "local, dev, test, prod")

    def test_the_stage_comes_from_the_option_nearest_to_the_command_or_else_from_the_environment(
        self, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STAGE", "nowhere")
        tokenctl("client", "list").assert_refused("'nowhere'")
        assert tokenctl("client", "list", "--stage", "local").code == 0
        assert tokenctl("--stage", "nowhere", "client", "list", "--stage", "local").code == 0
        tokenctl("--stage", "local", "client", "list", "--stage", "nowhere").assert_refused("'nowhere'")


class TestBrokenSurroundings:
    @pytest.fixture
    def config(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        path = tmp_path / "config.json"
        monkeypatch.setattr(deployment_, "CONFIG", path)
        return path

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (None, "config.json: No such file"),
            (b"{", "config.json: Input data was truncated"),
            (b'{"a": ' + b"[" * 100_000, "config.json: maximum recursion"),
            (b'{"stages": {"\xff": {}}}', "config.json: 'utf-8' codec can't decode"),
            (b"[]", "config.json: Expected `object`, got `array`"),
            (b'{"stages": {"dev": {}}}', "has no stage 'local'; it has: dev"),
            (b'{"stages": {"local": {"environment_variables": {"STAGE": 1}}}}', "Expected `str`, got `int`"),
            (b'{"stages": {"local": {"environment_variables": {"STAGE": "Not A Stage"}}}}', "STAGE"),
        ],
    )
    def test_a_broken_configuration_is_reported_in_one_line(
        self, tokenctl: Tokenctl, config: Path, content: bytes | None, words: str
    ) -> None:
        if content is not None:
            config.write_bytes(content)
        tokenctl("client", "list").assert_refused(words)

    def test_a_stages_own_variables_win_over_those_of_all_stages(self, config: Path, deployment: Deployment) -> None:
        stages = {"local": {"environment_variables": {"STAGE": "local", "TOKEN_TABLE": "mine"}}}
        config.write_text(json.dumps({"environment_variables": {"TOKEN_TABLE": "all"}, "stages": stages}))
        assert open_stage("local").settings.token_table == "mine"

    def test_the_engine_of_make_run_is_found_or_how_to_start_it(
        self, tokenctl: Tokenctl, engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        local = tmp_path / "local.env"
        monkeypatch.setattr(deployment_, "LOCAL_ENV", local)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
        tokenctl("client", "list").assert_refused("nonsense")
        monkeypatch.delenv("AWS_ENDPOINT_URL")
        tokenctl("client", "list").assert_refused("make run")
        local.write_text("".join(f"{name}={value}\n" for name, value in engine.client_environ.items()))
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
        tokenctl(*filled).assert_refused("no response from the store", "Could not connect", "tokenctl doctor")

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
            ({"AWS_DEFAULT_REGION": None}, "You must specify a region"),
            ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "Unable to locate credentials"),
            ({"AWS_SECRET_ACCESS_KEY": None}, "missing: AWS_SECRET_ACCESS_KEY"),
            ({"AWS_PROFILE": "no-such"}, "profile (no-such) could not be found"),
        ],
        ids=["no region", "no credentials", "half of the credentials", "unknown profile"],
    )
    @pytest.mark.parametrize("command", [("client", "list"), ("stats",), ("splunk", "failed")], ids=" ".join)
    @pytest.mark.usefixtures("deployment")
    def test_missing_aws_settings_are_reported_in_one_line(
        self,
        tokenctl: Tokenctl,
        monkeypatch: pytest.MonkeyPatch,
        command: tuple[str, ...],
        environ: dict[str, str | None],
        words: str,
    ) -> None:
        files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
        for variable, value in {**files, "AWS_EC2_METADATA_DISABLED": "true", **environ}.items():
            monkeypatch.delenv(variable, raising=False)
            if value is not None:
                monkeypatch.setenv(variable, value)
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers what the environment was
        tokenctl(*command, "--stage", "test").assert_refused(words)


def test_the_local_stage_has_no_failure_record(tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenctl("splunk", "failed").assert_refused("no SPLUNK_FAILURE_BUCKET", code=2)
    monkeypatch.setenv("SPLUNK_HEC_URL", "http://splunk.example")
    monkeypatch.setenv("SPLUNK_HEC_TOKEN", "the-token")
    tokenctl("splunk", "redrive", "--bucket", "b").assert_refused("would send the HEC token in the clear")


class TestCompletion:
    def test_each_shell_gets_a_script_of_its_own(self, tokenctl: Tokenctl) -> None:
        for shell in ("bash", "zsh", "fish"):
            assert f"_TOKENCTL_COMPLETE={shell}_complete" in tokenctl("completion", shell).out

    @pytest.mark.parametrize(
        ("typed", "offered"),
        [
            ("", {"client", "explain", "stats", "token"}),
            ("--stage ", {"local", "dev", "test", "prod"}),
            ("client list --stage pr", {"prod"}),
            ("client add somebody --scope ma", {"manage"}),
            ("client rotate {name}", {"{name}"}),
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
