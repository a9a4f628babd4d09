"""`tokenctl audit` of what the service wrote, with the table and CloudWatch Logs of the local AWS."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chalicelib.audit import timestamp
from chalicelib.instants import now
from tests.support.api import Api, Credentials
from tests.support.operator import Tokenctl
from tokenctl.deployment import Deployment

GROUP = "/aws/lambda/tokenservice-test"


@pytest.fixture
def since() -> str:
    return timestamp(now())


@pytest.fixture
def written(since: str, api: Api, client: Credentials, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The log of races, replays, refusals, a lock and revocations."""
    capsys.readouterr()
    raced = api.issue(client, maxUses=5)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: api.use(client, raced["token"], key=f"k{number % 7}"), range(16)))
    bound = api.issue(client, user="alice", ipAddresses=["10.0.0.0/8"], audience=[client.user], maxUses=2)
    assert api.use(client, bound["token"], user="alice", ipAddress="10.0.0.1", action="download").status == 200
    for _ in range(5):
        api.use(client, bound["token"], user="bob", ipAddress="10.0.0.1")
    node = "a-node-to-audit"
    several = [api.issue(client, nodeId=node, maxUses=9) for _ in range(3)]
    with ThreadPoolExecutor(8) as pool:
        uses = [pool.submit(api.use, client, issued["token"]) for issued in several * 4]
        assert api.call("POST", "/revoke", client, {"nodeId": node}).status == 200
        assert all(use.result().status in (200, 410) for use in uses)
    return capsys.readouterr().out.splitlines()


def used(lines: list[str]) -> list[int]:
    """The places of the uses that were granted and not replayed."""
    return [place for place, line in enumerate(lines) if '"token.used"' in line and '"replayed"' not in line]


def test_the_log_and_the_table_of_a_stage_agree(tokenctl: Tokenctl, log: Path, written: list[str], since: str) -> None:
    log.write_text("\n".join(written))
    run = tokenctl("audit", "--json", "--since", since, "--tolerance", "0")
    assert run.json | {"events": 0} == {"events": 0, "tokens": 5, "breaches": [], "gaps": []}, run.out
    assert run.code == 0
    place = used(written)[-1]
    missing, token_id = (json.loads(written[place])[name] for name in ("useId", "tokenId"))
    log.write_text("\n".join(written[:place] + written[place + 1 :]))
    run = tokenctl("audit", "--json", "--since", since, "--tolerance", "0")
    assert run.code == 1
    named = [(breach["kind"], breach["tokenId"], breach["useId"]) for breach in run.json["breaches"]]
    assert ("claim_without_event", token_id, missing) in named
    assert {kind for kind, *_ in named} <= {"claim_without_event"}


def test_a_use_that_the_table_lacks_is_found_in_a_file(
    tokenctl: Tokenctl, tmp_path: Path, written: list[str], since: str
) -> None:
    line = json.loads(written[used(written)[-1]]) | {"useId": "use_planted", "uses": None, "previous": None}
    file = tmp_path / "app.log"
    file.write_text("\n".join([*written, json.dumps(line)]))
    run = tokenctl("audit", "--json", "--table", "--since", since, str(file))
    assert run.code == 1
    assert "event_without_claim" in {breach["kind"] for breach in run.json["breaches"]}


@pytest.fixture
def group(deployment: Deployment) -> Iterator[str]:
    logs = deployment.aws("logs")
    logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(logGroupName=GROUP, logStreamName="a")
    yield GROUP
    logs.delete_log_group(logGroupName=GROUP)


def test_a_deployed_stage_is_read_from_cloudwatch(
    deployment: Deployment, tokenctl: Tokenctl, group: str, written: list[str], since: str
) -> None:
    tokenctl("tables", "create", "--stage", "test")
    items = [{"timestamp": time.time_ns() // 1_000_000, "message": line} for line in written]
    deployment.aws("logs").put_log_events(logGroupName=group, logStreamName="a", logEvents=items)
    run = tokenctl("audit", "--json", "--stage", "test", "--since", since)
    assert run.code == 1
    assert {breach["kind"] for breach in run.json["breaches"]} == {"event_without_claim"}, "its table is empty"
    assert run.json["tokens"] == 5


def test_what_cannot_be_read_ends_with_2(tokenctl: Tokenctl, log: Path, tmp_path: Path) -> None:
    log.unlink(missing_ok=True)
    tokenctl("audit").assert_refused("service.log: missing", code=2)
    tokenctl("audit", str(tmp_path / "missing.log")).assert_refused("missing.log: No such file", code=2)
    tokenctl("audit", "--stage", "nowhere").assert_refused("nowhere", code=2)
