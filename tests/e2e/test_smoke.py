"""The test that the pipeline runs against dev, run here against a stage in the local AWS."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from deploy.resources import FOLDER, filled, read_template
from dev.engine import HOST, ROOT
from tests.support import smoke
from tests.support.local_aws import LocalAws, Stack

STEPS = ["version", "use", "use again", "use of the revoked", "wrong secret"]
PIPELINE = read_template(FOLDER / "pipeline.yaml")["Resources"]


def start(environ: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, "-m", "tests.support.smoke", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env={**kept, **environ}, text=True, **pipes)


def run(environ: Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
    with start(environ, *arguments) as process:
        output, errors = process.communicate()
    return process.returncode, output, errors


def granted_to_smoke() -> Any:
    """What pipeline.yaml grants the role of the smoke test, but for its log, its sources and a key of one's own."""
    statements = PIPELINE["SmokeRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    own = [each for each in statements if "Fn::If" not in each and not each["Action"][0].startswith(("logs:", "s3:"))]
    return filled(own, {"AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "000000000000"})


@pytest.fixture(scope="module")
def role(aws: LocalAws) -> dict[str, str]:
    """Credentials with which CodeBuild runs it."""
    granted = aws.credentials(aws.new_role("smoke", *granted_to_smoke()))
    names = {"AccessKeyId": "AWS_ACCESS_KEY_ID", "SecretAccessKey": "AWS_SECRET_ACCESS_KEY"}
    return {**aws.environ, **{names.get(name, "AWS_SESSION_TOKEN"): value for name, value in granted.items()}}


def test_it_passes_on_a_deployed_stage_with_the_permissions_of_its_role(dev: Stack, role: dict[str, str]) -> None:
    code, output, errors = run(role, "--stage", "dev", "--url", dev.url)
    assert code == 0, output + errors
    assert re.findall(r"^ok  ([a-z ]+)$", output, re.MULTILINE) == STEPS
    assert re.search(r"client smoke-\S+ deleted", output)
    assert dev.aws.tokenctl("dev", "client", "list") == []
    assert not re.search(r"tss_|[0-9a-f]{64}", output + errors)


def test_it_finds_the_stage_by_its_stack(dev: Stack, aws: LocalAws) -> None:
    found = smoke.endpoint("dev", aws.client("cloudformation"))
    assert found == dev.outputs["EndpointURL"]
    assert found.startswith(f"https://{dev.outputs['RestAPIId']}.execute-api.")


@pytest.mark.parametrize(
    ("arguments", "failure"),
    [
        (("--stage", "prod"), "stack tokenservice-prod: "),
        (("--stage", "dev", "--url", "{url}/other"), "unexpected_answer: "),
    ],
    ids=["no such stack", "another answer"],
)
def test_a_failure_is_one_line_and_leaves_no_client(
    dev: Stack, role: dict[str, str], arguments: tuple[str, ...], failure: str
) -> None:
    url = dev.url.removesuffix("/api")
    code, _, errors = run(role, *(each.format(url=url) for each in arguments))
    assert (code, len(errors.splitlines())) == (1, 1)
    assert errors.startswith(f"FAILED  {failure}")
    assert dev.aws.tokenctl("dev", "client", "list") == []


def test_a_run_that_is_stopped_deletes_its_client(dev: Stack, role: dict[str, str]) -> None:
    with socket.create_server((HOST, 0)) as silent:
        url = f"http://{HOST}:{silent.getsockname()[1]}"
        with start(role, "--stage", "dev", "--url", url) as process:
            connection, _ = silent.accept()
            assert len(dev.aws.tokenctl("dev", "client", "list")) == 1
            process.terminate()
            process.communicate()
        connection.close()
    assert process.returncode == 1
    assert dev.aws.tokenctl("dev", "client", "list") == []


def test_the_pipeline_runs_this_very_command() -> None:
    source = PIPELINE["Smoke"]["Properties"]["Source"]
    commands = yaml.safe_load(source["BuildSpec"])["phases"]["build"]["commands"]
    assert commands[-1] == f".venv/bin/python -m {smoke.__name__} --stage dev"
