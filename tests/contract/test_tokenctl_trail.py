"""The log of a stage for an operator: what is read from it, and what `tokenctl token revoke` adds to it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chalicelib.audit import timestamp
from chalicelib.errors import StoreUnavailable
from chalicelib.instants import now
from chalicelib.storage.token_store import TokenStore
from dev.engine import HOST, free_port
from tests.support.api import Api, Credentials
from tests.support.operator import Tokenctl
from tokenctl.deployment import Deployment
from tokenctl.errors import DeploymentError
from tokenctl.trail import CloudWatchTrail, FileTrail, Record, audit_events


@pytest.fixture
def group(deployment: Deployment) -> Iterator[str]:
    """A log group that is there as long as the test."""
    name = "/aws/lambda/tokenservice-of-a-test"
    deployment.aws("logs").create_log_group(logGroupName=name)
    yield name
    deployment.aws("logs").delete_log_group(logGroupName=name)


class TestTrail:
    def test_both_parts_of_the_local_log_are_read_and_other_lines_are_skipped(self, log: Path) -> None:
        at = '"time":"2026-11-21T12:00:00.000Z"'
        log.with_name("service.log.1").write_text(f'{{"event":"one",{at},"tokenId":"tok_a"}}\n')
        lines = [
            f'{{"event":"two",{at},"tokenId":"tok_a"}}',
            '{"event":"old","time":"2026-11-21T11:59:59.999Z","tokenId":"tok_a"}',
            f'{{"event":"other",{at},"tokenId":"tok_b"}}',
            '"tok_a"',
            '{"tokenId":"tok_a"}',
            '{"tokenId":"tok_a","time":7}',
            '{"tokenId":"tok_a", cut off',
            '{"tokenId":"tok_a","deep":' + "[" * 100_000 + "]" * 100_000 + "}",
        ]
        log.write_bytes("\n".join(lines).encode() + b"\n\xff tok_a\n")
        found = audit_events(FileTrail(log), "tok_a", datetime(2026, 11, 21, 12, tzinfo=UTC))
        assert [event["event"] for event in found] == ["one", "two"]

    def test_cloudwatch_is_read_page_by_page_and_unrelated_events_are_filtered(
        self, deployment: Deployment, group: str
    ) -> None:
        logs, instant = deployment.aws("logs"), now()
        at_ms, at = int(instant.timestamp() * 1000), timestamp(instant)
        for stream in ("a", "b"):
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
            lines = [{"event": f"{stream}{number}", "time": at, "tokenId": f"tok_{number % 2}"} for number in range(4)]
            events = [{"timestamp": at_ms, "message": json.dumps(line)} for line in lines]
            logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
        trail = CloudWatchTrail(logs, group)
        found = audit_events(trail, "tok_1", instant - timedelta(seconds=1))
        assert sorted(event["event"] for event in found) == ["a1", "a3", "b1", "b3"]
        assert list(audit_events(trail, "tok_1", instant + timedelta(minutes=1))) == []

    def test_a_log_that_can_not_be_read_is_reported(
        self, deployment: Deployment, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log.mkdir()
        with pytest.raises(DeploymentError, match=r"service\.log: Is a directory"):
            list(audit_events(FileTrail(log), "tok_1", now()))
        trail = CloudWatchTrail(deployment.aws("logs"), "/nowhere")
        with pytest.raises(DeploymentError, match="log group /nowhere: ResourceNotFoundException"):
            list(audit_events(trail, "tok_1", now()))
        with pytest.raises(DeploymentError, match="log group /nowhere: ResourceNotFoundException"):
            trail.add(["{}"])
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{HOST}:{free_port()}")
        with pytest.raises(DeploymentError, match="/nowhere: Could not connect"):
            list(audit_events(CloudWatchTrail(deployment.aws("logs"), "/nowhere"), "tok_1", now()))

    def test_the_trail_of_a_deployed_stage_is_the_log_group_of_its_function(
        self, tokenctl: Tokenctl, api: Api, client: Credentials
    ) -> None:
        tokenctl("tables", "create", "--stage", "test")
        run = tokenctl("stats", "--stage", "test", "--json")
        assert run.json["log"].startswith("log group /aws/lambda/tokenservice-test: ResourceNotFoundException")


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
