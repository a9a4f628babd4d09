"""`tokenctl explain`, `stats` and `token revoke` of many, on a real store and on what the service really wrote."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from rich.console import Console

from chalicelib import tokens
from chalicelib.audit import timestamp
from chalicelib.clients import Scope
from chalicelib.entry import api as entry
from chalicelib.errors import StoreUnavailable
from chalicelib.instants import now
from chalicelib.service import Caller
from chalicelib.storage.token_store import TokenStore
from chalicelib.tokens import Terms
from dev.engine import HOST, ROOT, free_port
from tests.support.api import Api, Credentials
from tests.support.operator import ABSENT_ID, Run, Tokenctl, Typed
from tokenctl import stats, terminal
from tokenctl.deployment import Deployment
from tokenctl.trail import CloudWatchTrail, FileTrail, Record, TrailUnavailable, audit_events

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


@pytest.fixture
def group(deployment: Deployment) -> Iterator[str]:
    """A log group that is there as long as the test."""
    name = "/aws/lambda/tokenservice-of-a-test"
    deployment.aws("logs").create_log_group(logGroupName=name)
    yield name
    deployment.aws("logs").delete_log_group(logGroupName=name)


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

    def test_an_unknown_token_is_reported_in_one_line(self, tokenctl: Tokenctl, log: Path) -> None:
        tokenctl("explain", ABSENT_ID).assert_refused(ABSENT_ID, "no event of it in the log", "missing")
        log.write_text("")
        tokenctl("explain", ABSENT_ID).assert_refused(ABSENT_ID, "no event of it in the log")

    def test_callers_text_is_shown_unchanged_and_harmless(
        self, token_store: TokenStore, tokenctl: Tokenctl, keep: Keep
    ) -> None:
        """The API refuses control characters; the store and the log may hold some of before."""
        terms = Terms("node", now() + timedelta(hours=1), user="[/b][link=http://evil]alice\x1b]0;owned\x07")
        secret, token = tokens.new_token("somebody", terms, now())
        token_store.add([token])
        caller = Caller("somebody", frozenset(Scope), "request-1")
        entry.service().use(caller, tokens.new_use(secret, "somebody", user="\x1b[2J[red]bob"))
        keep()
        shown = tokenctl("explain", token.id)
        assert shown.code == 0
        assert "[/b][link=http://evil]alice\\x1b]0;owned\\x07" in shown.out
        assert "\\x1b[2J[red]bob" in shown.out
        assert "\x1b" not in shown.out

    def test_a_token_in_place_of_its_id_is_refused_and_not_echoed(
        self, api: Api, client: Credentials, tokenctl: Tokenctl
    ) -> None:
        token = api.issue(client)["token"]
        run = tokenctl("explain", token)
        run.assert_refused("token id", code=2)
        assert token not in run.out + run.err

    def test_a_life_does_not_break_in_a_pipe_and_folds_on_a_terminal(
        self, api: Api, client: Credentials, tokenctl: Tokenctl, keep: Keep, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        issued = api.issue(client, user="é" * 250)
        use = api.use(client, issued["token"], user="é" * 250).json
        keep()
        monkeypatch.setenv("COLUMNS", "80")
        piped = tokenctl("explain", issued["tokenId"]).out
        assert "é" * 250 in piped
        assert use["useId"] in piped
        monkeypatch.setattr(terminal, "Console", lambda **given: Console(**given, force_terminal=True, no_color=True))
        folded = click.unstyle(tokenctl("explain", issued["tokenId"]).out)
        assert max(map(len, folded.splitlines())) <= 80
        assert folded.count("é") == piped.count("é") == 750


class TestStats:
    @pytest.fixture
    def fresh(self, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
        """A stage whose tables are empty."""
        name = f"stats-{request.node.name[:40].strip('_').replace('[', '-').replace(']', '')}"
        monkeypatch.setenv("TOKEN_TABLE", f"{name}-tokens")
        monkeypatch.setenv("CLIENT_TABLE", f"{name}-clients")
        assert tokenctl("tables", "create").code == 0

    def test_an_empty_stage_is_no_error(self, fresh: None, tokenctl: Tokenctl, log: Path) -> None:
        log.write_text("")
        output = tokenctl("stats", "--json").json
        assert (output["stored"], output["states"], output["clients"]) == (0, {}, {})
        assert output["today"]["refused"] == 0
        assert "live" in tokenctl("stats").out

    def test_what_happened_is_counted(
        self, api: Api, tokenctl: Tokenctl, keep: Keep, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Others use these tables, too: what is asserted is what these calls changed."""
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
        assert {
            state: after["states"][state] - before["states"].get(state, 0) for state in ("live", "token_exhausted")
        } == {
            "live": 1,
            "token_exhausted": 1,
        }
        assert after["clients"][client.user] == {"live": 1, "issuedToday": 2, "usedToday": 2}
        assert after["today"]["refusals"] == {"token_exhausted": 1, "user_mismatch": 1}
        assert after["today"]["issued"] - before["today"]["issued"] == 2
        assert after["today"]["used"] - before["today"]["used"] == 2
        human = tokenctl("stats").out
        for shown in ("Stage local", "live", "issued", "user_mismatch", client.user):
            assert shown in human
        for hidden in (NODE, kept["token"], "alice"):
            assert hidden not in run.out + human

    def test_a_log_that_can_not_be_read_leaves_the_rest(self, tokenctl: Tokenctl, log: Path) -> None:
        run = tokenctl("stats", "--json")
        assert (run.code, run.json["today"]["refused"]) == (0, None)
        assert "missing" in run.json["log"]
        assert "Refusals are missing" in tokenctl("stats").out


class TestTrail:
    def lines(self, path: Path, *lines: str) -> None:
        with path.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)

    def test_both_parts_of_the_local_log_are_read_and_other_lines_are_skipped(self, log: Path) -> None:
        at = '"time":"2026-11-21T12:00:00.000Z"'
        self.lines(log.with_name("service.log.1"), f'{{"event":"one",{at},"tokenId":"tok_a"}}')
        self.lines(
            log,
            f'{{"event":"two",{at},"tokenId":"tok_a"}}',
            f'{{"event":"other",{at},"tokenId":"tok_b"}}',
            '"tok_a"',
            '{"tokenId":"tok_a"}',
            '{"tokenId":"tok_a","time":7}',
            '{"tokenId":"tok_a", cut off',
            '{"tokenId":"tok_a","deep":' + "[" * 100_000 + "]" * 100_000 + "}",
            "\udcff tok_a".encode("utf-8", "surrogateescape").decode("latin-1"),
        )
        found = audit_events(FileTrail(log), "tok_a", now() - timedelta(days=20_000))
        assert [event["event"] for event in found] == ["one", "two"]

    def test_what_is_older_is_left_out(self, log: Path) -> None:
        self.lines(log, *(f'{{"event":"{n}","time":"2026-11-2{n}T00:00:00.000Z","t":"tok_a"}}' for n in range(4)))
        since = stats.midnight(now().replace(year=2026, month=11, day=22))
        assert [event["event"] for event in audit_events(FileTrail(log), "tok_a", since)] == ["2", "3"]

    def test_an_unreadable_file_is_reported(self, log: Path) -> None:
        log.mkdir()
        with pytest.raises(TrailUnavailable, match=r"service\.log: Is a directory"):
            list(audit_events(FileTrail(log), "tok_a", now()))

    def test_cloudwatch_is_read_page_by_page_and_unrelated_events_are_filtered(
        self, deployment: Deployment, group: str
    ) -> None:
        logs = deployment.aws("logs")
        instant = now()
        for stream in ("a", "b"):
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
            events = [
                {
                    "timestamp": int(instant.timestamp() * 1000) + number,
                    "message": json.dumps(
                        {"event": f"{stream}{number}", "time": timestamp(instant), "tokenId": f"tok_{number % 2}"}
                    ),
                }
                for number in range(4)
            ]
            logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
        trail = CloudWatchTrail(logs, group)
        found = audit_events(trail, "tok_1", instant - timedelta(seconds=1))
        assert sorted(event["event"] for event in found) == ["a1", "a3", "b1", "b3"]
        assert list(audit_events(trail, "tok_1", instant + timedelta(minutes=1))) == []

    def test_a_missing_or_unreachable_log_group_is_reported(
        self, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trail = CloudWatchTrail(deployment.aws("logs"), "/nowhere")
        with pytest.raises(TrailUnavailable, match="log group /nowhere: ResourceNotFoundException"):
            list(audit_events(trail, "tok_1", now()))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{HOST}:{free_port()}")
        with pytest.raises(TrailUnavailable, match="/nowhere: Could not connect"):
            list(audit_events(CloudWatchTrail(deployment.aws("logs"), "/nowhere"), "tok_1", now()))

    def test_the_trail_of_a_deployed_stage_is_the_log_group_of_its_function(
        self, tokenctl: Tokenctl, api: Api, client: Credentials
    ) -> None:
        tokenctl("tables", "create", "--stage", "test")
        run = tokenctl("stats", "--stage", "test", "--json")
        assert run.json["log"] == "log group /aws/lambda/tokenservice-test: ResourceNotFoundException"


class TestWhatAnOperatorDoes:
    """Is in the log of the stage, like what all others do, and nowhere else."""

    def revoked(self, lines: Iterable[str]) -> list[tuple[str, str]]:
        events = [json.loads(line) for line in lines]
        return [(event["clientId"], event["tokenId"]) for event in events if event["event"] == "token.revoked"]

    def test_a_revocation_is_in_the_local_log(
        self, api: Api, client: Credentials, tokenctl: Tokenctl, log: Path
    ) -> None:
        issued = [api.issue(client, user="who-left")["tokenId"] for _ in range(3)]
        one = tokenctl("token", "revoke", issued[0])
        rest = tokenctl("token", "revoke", "--user", "who-left", "--yes")
        assert (one.err, rest.err) == ("", "")
        assert sorted(self.revoked(log.read_text().splitlines())) == sorted(("tokenctl", each) for each in issued)
        assert log.stat().st_mode & 0o777 == 0o600
        [moment] = [
            each
            for each in tokenctl("explain", issued[0], "--json").json["moments"]
            if each["event"] == "token.revoked"
        ]
        assert moment["clientId"] == "tokenctl"

    def test_on_a_deployed_stage_it_is_in_the_log_group_of_the_function(
        self, deployment: Deployment, group: str
    ) -> None:
        logs = deployment.aws("logs")
        otherwise: list[str] = []
        record = Record(lambda: CloudWatchTrail(logs, group), otherwise.append)
        lines = [json.dumps({"event": "token.revoked", "tokenId": f"tok_{number}"}) for number in range(205)]
        for line in lines:
            record.write(line)
        record.flush()
        record.flush()
        found = [each["message"] for each in logs.filter_log_events(logGroupName=group)["events"]]
        assert sorted(found) == sorted(lines)
        assert otherwise == []

    def test_what_the_log_does_not_take_is_printed_so_that_it_is_not_lost(
        self, api: Api, client: Credentials, tokenctl: Tokenctl, log: Path
    ) -> None:
        log.mkdir()
        issued = api.issue(client)["tokenId"]
        run = tokenctl("token", "revoke", issued)
        assert run.code == 0
        head, *lines = run.err.splitlines()
        assert head == (
            "Store these audit events; they are not in the log of the stage (.local/service.log: Is a directory):"
        )
        assert self.revoked(lines) == [("tokenctl", issued)]

    def test_an_unavailable_log_group_is_reported_with_the_events(self, deployment: Deployment) -> None:
        otherwise: list[str] = []
        record = Record(lambda: CloudWatchTrail(deployment.aws("logs"), "/nowhere"), otherwise.append)
        record.write("{}")
        record.flush()
        assert "log group /nowhere: ResourceNotFoundException" in otherwise[0]
        assert otherwise[1:] == ["{}"]

    def test_what_was_done_before_an_error_is_in_the_log(
        self, api: Api, client: Credentials, tokenctl: Tokenctl, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        issued = {api.issue(client, user="cut-short")["tokenId"] for _ in range(3)}
        revoke, asked = TokenStore.revoke, iter([True, True])

        def until_it_is_away(*arguments: Any) -> Any:
            if not next(asked, False):
                raise StoreUnavailable
            return revoke(*arguments)

        monkeypatch.setattr(TokenStore, "revoke", until_it_is_away)
        tokenctl("token", "revoke", "--user", "cut-short", "--yes").assert_refused("no response from the store")
        done = self.revoked(log.read_text().splitlines())
        assert len(done) == 2
        assert {token_id for _, token_id in done} < issued


def at_a_terminal(arguments: tuple[str, ...], answers: list[tuple[str, str]]) -> tuple[int, str]:
    """Runs the program at a terminal of its own.

    Args:
        answers: what is asked, and what a person types then.

    Returns:
        The exit code, and all that the terminal shows.
    """
    person, terminal = pty.openpty()
    command = [sys.executable, "-m", "tokenctl", *arguments]
    shown = ""
    # A session of its own: click would prompt at the terminal of whoever runs the tests.
    streams = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    with subprocess.Popen(command, **streams, cwd=ROOT, start_new_session=True) as program:
        os.close(terminal)
        for question, answer in answers:
            while question not in shown:
                shown += os.read(person, 1024).decode()
            os.write(person, f"{answer}\n".encode())
        with contextlib.suppress(OSError):  # so Linux says that the program has closed the terminal
            while part := os.read(person, 1024):
                shown += part.decode()
    os.close(person)
    return program.returncode, shown


class TestRevokeMany:
    @pytest.fixture
    def answer(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        """What the operator types."""

        def answer(text: str) -> None:
            monkeypatch.setattr(sys, "stdin", Typed(text))

        return answer

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

    @pytest.mark.parametrize(("option", "field"), [("--user", "user"), ("--node", "nodeId")])
    def test_a_name_is_found_in_each_of_its_spellings(
        self, api: Api, client: Credentials, tokenctl: Tokenctl, option: str, field: str
    ) -> None:
        name = f"Jürgen-{option}"
        for issued, revoked in (("NFC", "NFD"), ("NFD", "NFC")):
            token = api.issue(client, **{field: unicodedata.normalize(issued, name)})
            run = tokenctl("token", "revoke", option, unicodedata.normalize(revoked, name), "--yes", "--json")
            assert (run.code, run.json) == (0, {"revoked": 1, "live": 1})
            assert self.live(tokenctl, token) == [False]

    @pytest.mark.parametrize(
        ("option", "name", "field"),
        [
            ("--user", "", "user"),
            ("--user", "u" * 257, "user"),
            ("--user", "J\udcfcrgen", "user"),  # what Python makes of Latin-1 on a command line
            ("--node", "n\x1b", "nodeId"),
        ],
    )
    def test_a_name_that_no_token_can_bear_is_refused(
        self, tokenctl: Tokenctl, option: str, name: str, field: str
    ) -> None:
        tokenctl("token", "revoke", option, name, "--yes").assert_refused(f"{field}: must be a string", code=2)

    @pytest.mark.parametrize(("typed", "live"), [("y\n", False), ("n\n", True), ("\n", True), ("", True)])
    def test_it_asks_for_confirmation_before_it_revokes_many(  # noqa: PLR0917 - fixtures
        self, api: Api, client: Credentials, tokenctl: Tokenctl, answer: Callable[[str], None], typed: str, live: bool
    ) -> None:
        issued = api.issue(client, user=f"asked-{typed!r}")
        answer(typed)
        run = tokenctl("token", "revoke", "--user", f"asked-{typed!r}")
        assert "Tokens to revoke, used up ones included: 1. Revoke them?" in run.err
        assert run.code == int(live)
        assert self.live(tokenctl, issued) == [live]

    def test_all_tokens_of_the_document_of_a_token_are_revoked_and_its_id_is_shown_nowhere(
        self, api: Api, client: Credentials, tokenctl: Tokenctl, answer: Callable[[str], None], log: Path
    ) -> None:
        issued = [api.issue(api.client(), nodeId=f"{NODE}-of-many") for _ in range(3)]
        stranger = api.issue(client, nodeId=f"{NODE}-of-others")
        answer("n\n")
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

    def test_a_missing_token_has_no_document(self, tokenctl: Tokenctl) -> None:
        tokenctl("token", "revoke", "--same-node-as", ABSENT_ID, "--yes").assert_refused("no token", ABSENT_ID)
        tokenctl("token", "revoke", "--same-node-as", "0" * 64, "--yes").assert_refused("token id", code=2)

    def test_without_a_terminal_nothing_is_revoked_without_yes(
        self, api: Api, client: Credentials, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        issued = api.issue(client, user="asked-by-a-program", nodeId="asked-by-a-program")
        monkeypatch.setattr(sys, "stdin", Typed("y\n"))
        tokenctl("token", "revoke", "--user", "asked-by-a-program", "--json").assert_refused("--yes", code=2)
        monkeypatch.setattr(sys, "stdin", io.StringIO("asked-by-a-program\ny\n"))
        tokenctl("token", "revoke", "--node", "-").assert_refused("--yes", code=2)
        monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
        tokenctl("token", "revoke", "--user", "asked-by-a-program").assert_refused("--yes", code=2)
        assert self.live(tokenctl, issued) == [True]

    def test_the_id_of_a_document_can_be_read_from_input(
        self, api: Api, client: Credentials, tokenctl: Tokenctl, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        issued = api.issue(client, nodeId="node from input")
        monkeypatch.setattr(sys, "stdin", io.StringIO("node from input\r\n"))
        assert tokenctl("token", "revoke", "--node", "-", "--yes", "--json").json == {"revoked": 1, "live": 1}
        assert self.live(tokenctl, issued) == [False]

    @pytest.mark.parametrize("typed", ["y", "n"])
    def test_a_prompt_reads_the_document_id_without_showing_it(self, api: Api, tokenctl: Tokenctl, typed: str) -> None:
        node = f"node at a terminal {typed}"
        issued = api.issue(api.client(), nodeId=node)
        answers = [("Document id: ", node), ("Revoke them?", typed)]
        code, shown = at_a_terminal(("token", "revoke", "--node", "-"), answers)
        assert code == int(typed == "n"), shown
        assert self.live(tokenctl, issued) == [typed == "n"]
        assert node not in shown

    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            (ABSENT_ID, "--user", "a"),
            (ABSENT_ID, "--same-node-as", ABSENT_ID),
            ("--user", "a", "--node", "b"),
            ("--user", ""),
            ("--node", ""),
        ],
        ids=" ".join,
    )
    def test_what_names_no_tokens_or_too_many_is_refused(self, tokenctl: Tokenctl, arguments: tuple[str, ...]) -> None:
        run: Run = tokenctl("token", "revoke", *arguments)
        run.assert_refused(code=2)


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
    assert "3/3" in shown.err
    assert shown.out == "Tokens revoked: 3. Of these, 3 were live until now.\n"
