"""`tokenctl token`, `explain` and `stats`, on a real store and on what the service really wrote."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from rich.console import Console

from chalicelib import tokens
from chalicelib.clients import Scope
from chalicelib.entry import api as entry
from chalicelib.instants import now
from chalicelib.service import Caller
from chalicelib.storage.token_store import TokenStore
from chalicelib.tokens import Document, Terms
from tests.support.api import Api, Credentials
from tests.support.operator import ABSENT_ID, Tokenctl, Typed
from tokenctl import terminal
from tokenctl.deployment import Deployment

NODE = "a-hidden-node"
Keep = Callable[[], None]


@pytest.fixture
def keep(log: Path, capsys: pytest.CaptureFixture[str]) -> Keep:
    """Puts into the log what the service has written since, as `make run` does."""
    capsys.readouterr()

    def keep() -> None:
        with log.open("a") as lines:
            lines.write(capsys.readouterr().out)

    return keep


class TestOneToken:
    def test_it_is_shown_without_itself_and_without_its_node(
        self, api: Api, client: Credentials, tokenctl: Tokenctl
    ) -> None:
        issued = api.issue(client, nodeId=NODE, maxUses=3, ipAddresses=["10.0.0.0/8"])
        for extra in ((), ("--json",)):
            shown = tokenctl("token", "show", issued["tokenId"], *extra)
            assert shown.code == 0, shown.err
            assert "10.0.0.0/8" in shown.out
            assert client.user in shown.out
            assert issued["token"] not in shown.out + shown.err
            assert NODE not in shown.out + shown.err
        assert shown.json["maxUses"] == 3

    def test_revoking_again_is_no_error(self, api: Api, client: Credentials, tokenctl: Tokenctl) -> None:
        issued = api.issue(client)
        for _ in range(2):
            run = tokenctl("token", "revoke", issued["tokenId"], "--json")
            assert (run.code, run.json) == (0, {"tokenId": issued["tokenId"], "revoked": True})
        assert api.use(client, issued["token"]).code == "token_revoked"
        assert tokenctl("token", "show", issued["tokenId"], "--json").json["revoked"] is True

    def test_an_unknown_one_is_neither_shown_nor_reported_as_revoked(self, tokenctl: Tokenctl) -> None:
        tokenctl("token", "show", ABSENT_ID).assert_refused("token does not exist")
        tokenctl("token", "revoke", ABSENT_ID).assert_refused("no token", ABSENT_ID)
        tokenctl("token", "revoke", "--same-node-as", ABSENT_ID, "--yes").assert_refused("no token", ABSENT_ID)

    def test_in_place_of_its_id_it_is_refused_and_not_echoed(
        self, api: Api, client: Credentials, tokenctl: Tokenctl
    ) -> None:
        token = api.issue(client)["token"]
        for command in (("token", "show"), ("token", "revoke"), ("token", "revoke", "--same-node-as"), ("explain",)):
            for wrong in (token, f"tok_{token}", token.upper(), f" {token}", "", "tok_", f"{ABSENT_ID}\n"):
                run = tokenctl(*command, wrong)
                run.assert_refused("token id", code=2)
                assert token not in (run.out + run.err).lower()
        assert api.use(client, token).status == 200


class TestExplain:
    def test_a_life_has_every_use_and_every_refusal(
        self, api: Api, client: Credentials, tokenctl: Tokenctl, keep: Keep
    ) -> None:
        issued = api.issue(client, nodeId=NODE, user="alice", maxUses=2)
        api.use(client, issued["token"], user="bob")
        assert api.use(client, issued["token"], user="alice", key="click").status == 200
        assert api.use(client, issued["token"], user="alice", key="click").status == 200
        assert api.use(client, issued["token"], user="alice", ipAddress="10.1.2.3", action="download").status == 200
        api.use(client, issued["token"], user="alice")
        api.call("DELETE", f"/token/{issued['tokenId']}", client)
        keep()
        run = tokenctl("explain", issued["tokenId"], "--json")
        assert run.code == 0, run.err
        output = run.json
        assert (output["state"], output["stored"], output["log"]) == ("token_revoked", True, "read")
        assert output["refusals"] == {"user_mismatch": 1, "token_exhausted": 1}
        moments = [(each["event"], each.get("user"), each.get("reason")) for each in output["moments"]]
        assert moments == [
            ("token.issued", "alice", None),
            ("token.refused", "bob", "user_mismatch"),
            ("token.used", "alice", None),
            ("token.used", "alice", "replayed"),
            ("token.used", "alice", None),
            ("token.refused", "alice", "token_exhausted"),
            ("token.revoked", None, None),
        ]
        assert all(each["clientId"] == client.user for each in output["moments"])
        human = tokenctl("explain", issued["tokenId"])
        for shown in ("revoked", "bob", "10.1.2.3", "user_mismatch", "Issue a new one", "2 of 2"):
            assert shown in human.out
        for kept in (issued["token"], NODE):
            assert kept not in run.out + run.err + human.out + human.err

    def test_without_a_log_the_uses_are_shown_and_the_missing_part_is_reported(
        self, api: Api, client: Credentials, tokenctl: Tokenctl, log: Path
    ) -> None:
        issued = api.issue(client)
        api.use(client, issued["token"])
        output = tokenctl("explain", issued["tokenId"], "--json").json
        assert [each["event"] for each in output["moments"]] == ["token.issued", "token.used"]
        assert output["log"] == ".local/service.log: missing; 'make run' writes it"
        human = tokenctl("explain", issued["tokenId"])
        assert human.code == 0
        assert "Refusals are missing. .local/service.log: missing" in human.out
        tokenctl("explain", ABSENT_ID).assert_refused(ABSENT_ID, "no event of it in the log", "missing")

    def test_a_deleted_token_is_shown_from_the_log(  # noqa: PLR0917 - fixtures
        self, api: Api, client: Credentials, tokenctl: Tokenctl, keep: Keep, deployment: Deployment, dynamodb: Any
    ) -> None:
        issued = api.issue(client)
        keep()
        dynamodb.delete_item(TableName=deployment.settings.token_table, Key={"id": {"S": issued["tokenId"]}})
        run = tokenctl("explain", issued["tokenId"], "--json")
        assert (run.code, run.json["stored"], run.json["state"]) == (0, False, "token_not_found")
        assert [each["event"] for each in run.json["moments"]] == ["token.issued"]
        assert "7 days or more after its expiry" in tokenctl("explain", issued["tokenId"]).out

    def test_callers_text_is_harmless_whole_in_a_pipe_and_folded_at_a_terminal(
        self, token_store: TokenStore, tokenctl: Tokenctl, keep: Keep, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The API refuses control characters; the store and the log may hold some of before."""
        user = "[/b][link=http://evil]alice\x1b]0;owned\x07" + "é" * 250
        secret, token = tokens.new_token(
            "somebody", Terms(Document("node"), now() + timedelta(hours=1), user=user), now()
        )
        token_store.add([(secret, token)])
        caller = Caller("somebody", frozenset(Scope), "request-1")
        entry.service().use(caller, tokens.new_use(secret, "somebody", user="\x1b[2J[red]bob"))
        keep()
        monkeypatch.setenv("COLUMNS", "80")
        piped = tokenctl("explain", token.id).out
        assert "[/b][link=http://evil]alice\\x1b]0;owned\\x07" + "é" * 250 in piped
        assert "\\x1b[2J[red]bob" in piped
        assert "\x1b" not in piped
        monkeypatch.setattr(terminal, "Console", lambda **given: Console(**given, force_terminal=True, no_color=True))
        folded = click.unstyle(tokenctl("explain", token.id).out)
        assert max(map(len, folded.splitlines())) <= 80
        assert folded.count("é") == piped.count("é")


class TestStats:
    def test_what_happened_is_counted(
        self, api: Api, tokenctl: Tokenctl, keep: Keep, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Others use these tables, too: what is asserted is what these calls changed."""
        run = tokenctl("stats", "--json")
        assert (run.json["today"]["refused"], "missing" in run.json["log"]) == (None, True)
        assert "Refusals are missing" in tokenctl("stats").out
        keep()
        before = tokenctl("stats", "--json").json
        client = api.client()
        kept = api.issue(client, nodeId=NODE, user="alice", maxUses=3)
        spent = api.issue(client, nodeId=NODE)
        for token in (kept, spent, spent):
            api.use(client, token["token"], user="alice")
        api.use(client, kept["token"], user="bob")
        keep()
        run = tokenctl("stats", "--json")
        after = run.json
        assert after["stored"] - before["stored"] == 2
        for state in ("live", "token_exhausted"):
            assert after["states"][state] - before["states"].get(state, 0) == 1
        assert after["today"]["refusals"] == {"token_exhausted": 1, "user_mismatch": 1}
        assert after["today"]["issued"] - before["today"]["issued"] == 2
        assert after["today"]["used"] - before["today"]["used"] == 2
        human = tokenctl("stats").out
        for shown in ("Stage local", "live", "issued", "user_mismatch"):
            assert shown in human
        for hidden in (NODE, kept["token"], "alice"):
            assert hidden not in run.out + human


class TestRevokeMany:
    def live(self, tokenctl: Tokenctl, *issued: dict[str, Any]) -> list[bool]:
        return [not tokenctl("token", "show", each["tokenId"], "--json").json["revoked"] for each in issued]

    @pytest.mark.parametrize(("option", "field"), [("--user", "user"), ("--node", "nodeId")])
    def test_all_live_tokens_of_a_user_or_a_document_are_revoked_and_no_others(
        self, api: Api, tokenctl: Tokenctl, option: str, field: str
    ) -> None:
        mine = f"somebody-{option}"
        one, other = api.issue(api.client(), **{field: mine}), api.issue(api.client(), **{field: mine})
        stranger = api.issue(api.client(), **{field: mine + "-else"})
        spent, client = {field: mine, "user": mine}, api.client()
        api.use(client, api.issue(client, **spent)["token"], user=mine)
        run = tokenctl("token", "revoke", option, mine, "--yes", "--json")
        assert (run.code, run.json) == (0, {"revoked": 3, "live": 2})
        assert self.live(tokenctl, one, other, stranger) == [False, False, True]
        again = tokenctl("token", "revoke", option, mine)
        assert (again.code, again.out) == (0, "Tokens revoked: 0. Of these, 0 were live until now.\n")

    @pytest.mark.parametrize(
        ("option", "name", "field"),
        [
            ("--user", "", "user"),
            ("--node", "", "nodeId"),
            ("--user", "u" * 257, "user"),
            ("--user", "J\udcfcrgen", "user"),  # what Python makes of Latin-1 on a command line
            ("--node", "n\x1b", "nodeId"),
        ],
    )
    def test_a_name_that_no_token_can_bear_is_refused(
        self, tokenctl: Tokenctl, option: str, name: str, field: str
    ) -> None:
        tokenctl("token", "revoke", option, name, "--yes").assert_refused(f"{field}: must be a string", code=2)

    def test_all_tokens_of_the_document_of_a_token_are_revoked_and_its_id_is_shown_nowhere(
        self, api: Api, client: Credentials, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch, log: Path
    ) -> None:
        issued = [api.issue(api.client(), nodeId=f"{NODE}-of-many") for _ in range(3)]
        stranger = api.issue(client, nodeId=f"{NODE}-of-others")
        monkeypatch.setattr(sys, "stdin", Typed("n\n"))
        refused = tokenctl("token", "revoke", "--same-node-as", issued[0]["tokenId"])
        assert "Tokens to revoke, used up ones included: 3." in refused.err
        assert self.live(tokenctl, *issued, stranger) == [True, True, True, True]
        done = tokenctl("token", "revoke", "--same-node-as", issued[0]["tokenId"], "--yes", "--json")
        assert (done.code, done.json) == (0, {"revoked": 3, "live": 3})
        assert self.live(tokenctl, *issued, stranger) == [False, False, False, True]
        again = tokenctl("token", "revoke", "--same-node-as", issued[0]["tokenId"])
        log.unlink()
        log.mkdir()  # so that the events are printed
        api.issue(client, nodeId=f"{NODE}-of-many")
        printed = tokenctl("token", "revoke", "--same-node-as", issued[0]["tokenId"], "--yes")
        assert '"token.revoked"' in printed.err
        for run in (refused, done, again, printed):
            assert NODE not in run.out + run.err

    def test_the_id_of_a_document_can_be_read_from_a_pipe_and_then_yes_can_not(
        self, api: Api, client: Credentials, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        issued = api.issue(client, nodeId="node from input")
        monkeypatch.setattr(sys, "stdin", io.StringIO("node from input\r\ny\n"))
        tokenctl("token", "revoke", "--node", "-").assert_refused("--yes", code=2)
        assert self.live(tokenctl, issued) == [True]
        monkeypatch.setattr(sys, "stdin", io.StringIO("node from input\r\n"))
        assert tokenctl("token", "revoke", "--node", "-", "--yes", "--json").json == {"revoked": 1, "live": 1}
        assert self.live(tokenctl, issued) == [False]

    def test_a_prompt_reads_the_document_id_without_showing_it(
        self, api: Api, client: Credentials, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        issued = api.issue(client, nodeId="node at a terminal")
        monkeypatch.setattr("click.termui.hidden_prompt_func", lambda _: "node at a terminal")  # in place of getpass
        monkeypatch.setattr(sys, "stdin", Typed("y\n"))
        run = tokenctl("token", "revoke", "--node", "-")
        assert "node at a terminal" not in run.out + run.err
        assert self.live(tokenctl, issued) == [False]

    def test_what_names_no_tokens_or_too_many_is_refused(self, tokenctl: Tokenctl) -> None:
        user, node, sibling = ("--user", "a"), ("--node", "b"), ("--same-node-as", ABSENT_ID)
        for arguments in ((), (ABSENT_ID, *user), (ABSENT_ID, *sibling), (*user, *node)):
            tokenctl("token", "revoke", *arguments).assert_refused("give one of", code=2)


def test_a_person_sees_how_far_a_long_work_is_and_a_program_does_not(
    api: Api, client: Credentials, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        api.issue(client, user="long-work")
    monkeypatch.setattr(terminal, "Console", lambda **given: Console(**given, force_terminal=True))
    quiet = tokenctl("token", "revoke", "--user", "nobody", "--yes", "--json")
    assert quiet.err == ""
    shown = tokenctl("token", "revoke", "--user", "long-work", "--yes")
    assert "Revoking" in shown.err
    assert "100%" in shown.err
    assert shown.out == "Tokens revoked: 3. Of these, 3 were live until now.\n"
