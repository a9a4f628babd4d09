"""`tokenctl client`: what becomes of a client, and where its secret is printed."""

from __future__ import annotations

import io
import re
import sys
from datetime import UTC, datetime, timedelta

import click
import pytest

from chalicelib import clients
from chalicelib.clients import SECRET_PREFIX, Scope
from tests.support.api import Api, Credentials
from tests.support.operator import Tokenctl, Typed
from tokenctl.deployment import Deployment
from tokenctl.terminal import Terminal

SECRET = re.compile(rf"{SECRET_PREFIX}[A-Za-z0-9_-]{{43}}")


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


@pytest.mark.parametrize("extra", [(), ("--json",)], ids=["text", "json"])
def test_a_secret_is_printed_once_and_on_standard_output_alone(
    api: Api, tokenctl: Tokenctl, name: str, extra: tuple[str, ...]
) -> None:
    for command in (("client", "add", name, "--scope", "use"), ("client", "rotate", name)):
        run = tokenctl(*command, *extra)
        assert run.code == 0, run.err
        [secret] = SECRET.findall(run.out)
        assert not SECRET.search(run.err)
        assert opens(api, name, secret)
        if extra:
            assert (run.json["secret"], run.json["clientId"]) == (secret, name)


def test_a_name_that_is_taken_is_refused_and_its_client_stays_as_it_is(api: Api, tokenctl: Tokenctl, name: str) -> None:
    secret = add(tokenctl, name)
    tokenctl("client", "add", name, "--scope", "admin").assert_refused(name, "rotate")
    assert opens(api, name, secret)
    assert tokenctl("client", "show", name, "--json").json["scopes"] == ["use"]


def test_a_malformed_name_is_refused(tokenctl: Tokenctl) -> None:
    for wrong in ("", " ", "a b", "-a", ".a", "a/b", "é", "a:b", "a\n", "a" * 65):
        tokenctl("client", "add", "--scope", "use", "--", wrong).assert_refused("letters, digits", code=2)
    tokenctl("client", "show", "a b").assert_refused("letters, digits", code=2)


@pytest.mark.parametrize("command", ["add", "change"])
def test_scopes_must_be_named_and_known(tokenctl: Tokenctl, name: str, command: str) -> None:
    assert tokenctl("client", command, name).code == 2
    tokenctl("client", command, name, "--scope", "root").assert_refused("'root'", "manage", code=2)
    assert name not in tokenctl("client", "list").out


@pytest.mark.parametrize("command", ["show", "change", "rotate", "disable", "enable", "delete"])
def test_an_unknown_client_is_reported(tokenctl: Tokenctl, name: str, command: str) -> None:
    scope = ("--scope", "use") if command == "change" else ()
    tokenctl("client", command, name, *scope).assert_refused(name, "tokenctl client list")
    assert name not in tokenctl("client", "list").out


def test_clients_are_listed_with_scopes_state_and_the_end_of_the_old_secret(tokenctl: Tokenctl, name: str) -> None:
    tokenctl("client", "add", name, "--scope", "use", "--scope", "issue")
    assert re.fullmatch(rf"{name} +issue use +active *", line_of(tokenctl, name))
    ends = tokenctl("client", "rotate", name, "--overlap", "12", "--json").json["oldSecretEndsAt"]
    left = datetime.fromisoformat(ends) - datetime.now(UTC)
    assert timedelta(hours=11) < left <= timedelta(hours=12)
    assert re.fullmatch(rf"{name} +issue use +active +{ends[:16]}Z", line_of(tokenctl, name))
    assert f"The old secret is valid until {ends[:10]}" in tokenctl("client", "rotate", name, "--overlap", "12").err
    tokenctl("client", "rotate", name, "--overlap", "0")
    tokenctl("client", "disable", name)
    assert re.fullmatch(rf"{name} +issue use +disabled *", line_of(tokenctl, name))


def test_a_rotation_keeps_two_secrets_for_a_while_and_never_three(api: Api, tokenctl: Tokenctl, name: str) -> None:
    def opened_after(*extra: str) -> list[bool]:
        secrets.append(tokenctl("client", "rotate", name, "--json", *extra).json["secret"])
        return [opens(api, name, secret) for secret in secrets]

    secrets = [add(tokenctl, name)]
    assert opened_after() == [True, True]
    assert opened_after("--overlap", "1") == [False, True, True]
    assert opened_after("--overlap", "0") == [False, False, False, True]
    for hours in ("-1", "721", "soon"):
        tokenctl("client", "rotate", name, "--overlap", hours).assert_refused("--overlap", code=2)
    assert opens(api, name, secrets[-1])


def test_a_disabled_client_is_rejected_until_it_is_enabled_and_gets_no_secret(
    api: Api, tokenctl: Tokenctl, name: str
) -> None:
    added = tokenctl("client", "add", name, "--scope", "use", "--scope", "issue", "--json").json
    secret = added.pop("secret")
    first = tokenctl("client", "disable", name, "--json")
    assert first.json["state"] == "disabled"
    assert tokenctl("client", "disable", name, "--json").json == first.json
    tokenctl("client", "rotate", name).assert_refused("disabled", f"tokenctl client enable {name}")
    assert tokenctl("client", "change", name, "--scope", "admin", "--json").json["state"] == "disabled"
    assert not opens(api, name, secret)
    enabled = tokenctl("client", "enable", name, "--json").json
    assert enabled == {**added, "scopes": ["admin"]}
    assert opens(api, name, secret)
    again = tokenctl("client", "enable", name)
    assert (again.code, again.out) == (0, f"{name} is enabled, from now on.\n")


def test_the_scopes_of_a_client_are_replaced_and_its_secret_stays(api: Api, tokenctl: Tokenctl, name: str) -> None:
    who = Credentials(name, add(tokenctl, name))
    assert api.call("POST", "/token", who, {"nodeId": "n"}).code == "insufficient_scope"
    changed = tokenctl("client", "change", name, "--scope", "issue", "--scope", "manage")
    assert (changed.code, changed.out) == (0, f"{name} has the scopes issue manage, from now on.\n")
    assert api.call("POST", "/token", who, {"nodeId": "n"}).status == 201
    assert api.call("POST", "/use", who, {"token": "0" * 64}).code == "insufficient_scope"


def test_a_client_is_shown_without_its_secret(tokenctl: Tokenctl, name: str) -> None:
    added = tokenctl("client", "add", name, "--scope", "use", "--json").json
    tokenctl("client", "rotate", name)
    tokenctl("client", "disable", name)
    facts = tokenctl("client", "show", name, "--json")
    assert facts.json.keys() - added.keys() == {"oldSecretEndsAt", "disabledAt"}
    assert added.keys() - facts.json.keys() == {"secret"}
    assert (facts.json["createdAt"], facts.json["validSecrets"]) == (added["createdAt"], 2)
    shown = tokenctl("client", "show", name)
    for fact in (name, "disabled", facts.json["oldSecretEndsAt"], facts.json["disabledAt"]):
        assert fact in shown.out
    for secret in (added["secret"], clients.digest(added["secret"])):
        assert secret not in shown.out + facts.out


def test_a_deleted_client_is_gone_and_its_name_is_free(api: Api, tokenctl: Tokenctl, name: str) -> None:
    secret = add(tokenctl, name)
    deleted = tokenctl("client", "delete", name, "--yes", "--json")
    assert (deleted.code, deleted.json) == (0, {"clientId": name, "deleted": True})
    assert not opens(api, name, secret)
    assert name not in tokenctl("client", "list").out
    assert opens(api, name, add(tokenctl, name))
    assert not opens(api, name, secret)


def test_tokens_of_a_deleted_client_stay_good_and_only_an_admin_manages_them(
    api: Api, client: Credentials, tokenctl: Tokenctl
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


@pytest.mark.parametrize(("typed", "gone"), [("y\n", True), ("\n", False), ("", False)])
def test_it_asks_for_confirmation_before_it_deletes(
    tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch, name: str, typed: str, gone: bool
) -> None:
    add(tokenctl, name)
    monkeypatch.setattr(sys, "stdin", Typed(typed))
    deleted = tokenctl("client", "delete", name)
    assert f"Client {name}: active, scopes use." in deleted.err
    assert deleted.code == int(not gone)
    assert (name not in tokenctl("client", "list").out) == gone


def test_without_a_terminal_nothing_is_deleted(tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    add(tokenctl, name)
    tokenctl("client", "delete", name, "--json").assert_refused("--yes", code=2)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    tokenctl("client", "delete", name).assert_refused("--yes", code=2)
    assert name in tokenctl("client", "list").out


def test_a_client_that_somebody_changes_while_it_is_looked_at_is_not_deleted(
    deployment: Deployment, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def somebody_is_faster(*_: object) -> None:
        deployment.client_store().change(name, lambda known: known._replace(scopes=frozenset({Scope.ISSUE})))

    add(tokenctl, name)
    monkeypatch.setattr(Terminal, "confirm", somebody_is_faster)
    tokenctl("client", "delete", name).assert_refused("changed in the meantime")
    assert tokenctl("client", "show", name, "--json").json["scopes"] == ["issue"]


def test_a_change_shows_how_long_a_gateway_may_accept_the_client(tokenctl: Tokenctl, name: str) -> None:
    tokenctl("tables", "create", "--stage", "test")
    tokenctl("client", "add", name, "--scope", "use", "--stage", "test")
    for command in (("disable",), ("enable",), ("change", "--scope", "issue"), ("delete", "--yes")):
        run = tokenctl("client", command[0], name, *command[1:], "--stage", "test")
        assert "at the latest in 60 seconds" in run.out, run.err
