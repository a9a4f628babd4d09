"""The test that the pipeline runs against dev, run here against a stage in the local AWS."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from chalice.package import YAMLTemplateSerializer

from dev.engine import HOST, ROOT, free_port
from tests.support import smoke
from tests.support.local_aws import LocalAws, Stack

STEPS = [
    "version",
    "document",
    "issue",
    "use",
    "use again",
    "issue another",
    "revoke",
    "use of the revoked",
    "wrong secret",
]
ACCOUNT, REGION = "000000000000", "us-east-1"


def start(directory: Path, environ: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, "-m", "tests.support.smoke", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=directory, env={**kept, **environ}, text=True, **pipes)


def run(directory: Path, environ: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    with start(directory, environ, *arguments) as process:
        output, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def steps(said: subprocess.CompletedProcess[str]) -> list[str]:
    assert said.returncode == 0, said.stdout + said.stderr
    return re.findall(r"^ok  ([a-z ]+):", said.stdout, re.MULTILINE)


def granted_to_smoke() -> list[dict[str, Any]]:
    """What pipeline.yaml grants the role of the smoke test, but for its log, its sources and a key of one's own."""
    text = (ROOT / "deploy" / "pipeline.yaml").read_text("utf-8")
    role = YAMLTemplateSerializer().load_template(text)["Resources"]["SmokeRole"]["Properties"]
    statements = role["Policies"][0]["PolicyDocument"]["Statement"]
    without_key = [each for each in statements if "Fn::If" not in each]
    filled = json.dumps([each for each in without_key if not str(each["Action"]).startswith(("['logs:", "['s3:"))])
    for name, value in {"Partition": "aws", "Region": REGION, "AccountId": ACCOUNT}.items():
        filled = filled.replace(f"${{AWS::{name}}}", value)
    return [{**each, "Resource": each["Resource"]["Fn::Sub"]} for each in json.loads(filled)]


@pytest.fixture(scope="module")
def role(aws: LocalAws) -> dict[str, str]:
    """Credentials with which CodeBuild runs it."""
    iam = aws.client("iam")
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
    document = {"Version": "2012-10-17", "Statement": [trust]}
    arn = iam.create_role(RoleName="smoke", AssumeRolePolicyDocument=json.dumps(document))["Role"]["Arn"]
    policy = {"Version": "2012-10-17", "Statement": granted_to_smoke()}
    iam.put_role_policy(RoleName="smoke", PolicyName="smoke", PolicyDocument=json.dumps(policy))
    credentials = aws.client("sts").assume_role(RoleArn=arn, RoleSessionName="smoke")["Credentials"]
    return {
        **aws.environ,
        "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": credentials["SessionToken"],
    }


def test_it_passes_on_a_deployed_stage_with_the_permissions_of_its_role(dev: Stack, role: dict[str, str]) -> None:
    said = run(ROOT, role, "--stage", "dev", "--url", dev.url)
    assert steps(said) == STEPS
    assert re.search(r"client smoke-\S+ deleted", said.stdout)
    assert dev.aws.tokenctl("dev", "client", "list") == []
    assert not re.search(r"tss_|[0-9a-f]{64}", said.stdout + said.stderr)


def test_it_finds_the_stage_by_its_stack(dev: Stack, aws: LocalAws) -> None:
    found = smoke.endpoint("dev", aws.client("cloudformation"))
    assert found == dev.outputs["EndpointURL"]
    assert found.startswith(f"https://{dev.outputs['RestAPIId']}.execute-api.")


def test_a_stage_that_is_not_deployed_is_named_in_one_line(role: dict[str, str], dev: Stack) -> None:
    said = run(ROOT, role, "--stage", "prod")
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.startswith("FAILED  stack tokenservice-prod: ")
    assert len(said.stderr.splitlines()) == 1


def test_a_wrong_answer_fails_it_and_its_client_is_deleted(dev: Stack, role: dict[str, str]) -> None:
    said = run(ROOT, role, "--stage", "dev", "--url", dev.url.removesuffix("/api") + "/other")
    assert said.returncode == 1
    assert said.stderr.startswith("FAILED  version: ")
    assert dev.aws.tokenctl("dev", "client", "list") == []


def test_a_run_that_is_stopped_deletes_its_client(dev: Stack, role: dict[str, str]) -> None:
    with socket.create_server((HOST, 0)) as silent:
        url = f"http://{HOST}:{silent.getsockname()[1]}"
        with start(ROOT, role, "--stage", "dev", "--url", url) as process:
            connection, _ = silent.accept()
            assert len(dev.aws.tokenctl("dev", "client", "list")) == 1
            process.terminate()
            process.communicate()
        connection.close()
    assert process.returncode == 1
    assert dev.aws.tokenctl("dev", "client", "list") == []


def test_a_failed_deletion_of_the_client_does_not_hide_the_first_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tokenctl(_: str, *arguments: str) -> Any:
        if "delete" in arguments:
            raise smoke.SmokeError("tokenctl client delete: away")
        return {"secret": "s"}

    monkeypatch.setattr(smoke, "tokenctl", tokenctl)
    monkeypatch.setattr(sys, "argv", ["smoke", "--stage", "dev", "--url", f"http://127.0.0.1:{free_port()}"])
    assert smoke.main() == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("FAILED  version: no answer")
    assert second == "FAILED  tokenctl client delete: away"


def test_the_pipeline_runs_this_very_command() -> None:
    text = (ROOT / "deploy" / "pipeline.yaml").read_text("utf-8")
    project = YAMLTemplateSerializer().load_template(text)["Resources"]["Smoke"]["Properties"]
    commands = yaml.safe_load(project["Source"]["BuildSpec"])["phases"]["build"]["commands"]
    assert commands[-1] == f".venv/bin/python -m {smoke.__name__} --stage dev"
