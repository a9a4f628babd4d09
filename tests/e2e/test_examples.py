"""Every example of the README, the documents and the API reference works on the service that `make run` starts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from chalicelib import tokens
from chalicelib.http.routes import BASE_PATH, ROUTES
from chalicelib.instants import now
from chalicelib.tokens import Document, Terms, Token
from dev import install
from dev.engine import ROOT
from tests.support import examples
from tests.support.api import NODE, Api, Credentials
from tests.support.examples import Program, Session
from tests.support.serving import LocalService
from tokenctl.deployment import Deployment

WITHOUT_JAVA = "not run as Java: "
WITHOUT_CURL = "not run with curl: it is not installed"
# The operator's program, looking for the log where this service writes it.
TOKENCTL = """
from pathlib import Path
from tokenctl import __main__ as program, deployment
deployment.LOCAL_LOG = Path("service.log")
program.main()
"""


@dataclass(frozen=True)
class Served:
    """The service over HTTP on a free port, and a directory like a checkout after `make run`."""

    base: str
    directory: Path
    credentials: Credentials

    @property
    def environ(self) -> dict[str, str]:
        """What the programs read, with a fresh token."""
        client = (self.credentials.user, self.credentials.password)
        api = self.base + BASE_PATH
        body = {"nodeId": NODE, "maxUses": 100, "user": "alice"}
        issued = requests.post(f"{api}/token", auth=client, json=body, timeout=60).json()
        return {
            **os.environ,
            "HOME": str(self.directory),
            "PYTHONPATH": str(ROOT),
            "API": api,
            "TOKENSERVICE_USER": client[0],
            "TOKENSERVICE_PASSWORD": client[1],
            "TOKEN": issued["token"],
            "TOKEN_ID": issued["tokenId"],
        }

    def send(self, method: str, path: str, operation: Mapping[str, Any]) -> requests.Response:
        """Send an operation of the document with the examples of its body and parameters."""
        sent: dict[str, dict[str, str]] = {"path": {}, "query": {}, "header": {}}
        for parameter in operation.get("parameters", []):
            sent[parameter["in"]][parameter["name"]] = parameter["example"]
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
        return requests.request(
            method,
            self.base + path.format(**sent["path"]),
            params=sent["query"],
            headers=sent["header"],
            json=body,
            auth=(self.credentials.user, self.credentials.password),
            timeout=60,
        )

    def run(self, *command: str) -> str:
        """The output of a command; its failure is raised with the full output."""
        run = subprocess.run(command, cwd=self.directory, env=self.environ, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    def write(self, program: Program) -> str:
        """Write a program into a file of its own."""
        name = f"{program.class_name}.java" if program.language == "java" else "program"
        (self.directory / name).write_text(program.source.replace(examples.SHOWN_AT, self.base) + "\n")
        return name

    def prints_what_is_shown(self, program: Program, *command: str) -> None:
        """Run a program; it prints the documented output, or any output if none is documented."""
        printed = self.run(*command)
        assert program.shown is None or masked(printed) == masked(program.shown), program.where


@pytest.fixture(scope="module")
def served(api: Api, client: Credentials, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("checkout")
    (directory / ".local").mkdir()
    demo = f"TOKENSERVICE_USER={client.user}\nTOKENSERVICE_PASSWORD={client.password}\n"
    (directory / ".local" / "demo.env").write_text(demo)
    tokenctl = directory / ".venv" / "bin" / "tokenctl"
    tokenctl.parent.mkdir(parents=True)
    tokenctl.write_text(f"#!{sys.executable}\n{TOKENCTL}")
    tokenctl.chmod(0o755)
    with LocalService({}, directory / "service.log") as service:
        yield Served(service.endpoint_url, directory, client)


def in_language(language: str) -> list[Program]:
    return [each for each in (*examples.programs(), *examples.samples()) if each.language == language]


@pytest.mark.skipif(shutil.which("curl") is None, reason=WITHOUT_CURL)
@pytest.mark.parametrize("session", examples.sessions(), ids=lambda session: session.where)
def test_a_session_prints_the_documented_output(served: Served, session: Session) -> None:
    """Types its commands into one shell and compares what comes back, but for ids and instants."""
    typed = "\n".join(session.commands).replace(examples.SHOWN_AT, served.base)
    assert len(session.commands) > 5
    assert masked(served.run("bash", "-euc", typed)) == masked(session.shown)


@pytest.mark.skipif(shutil.which("curl") is None, reason=WITHOUT_CURL)
def test_every_example_for_the_shell_runs(served: Served) -> None:
    for program in in_language("shell"):
        served.prints_what_is_shown(program, "bash", "-eu", served.write(program))


def test_every_example_in_python_runs(served: Served) -> None:
    for program in in_language("python"):
        served.prints_what_is_shown(program, sys.executable, "-W", "error", served.write(program))


def test_every_example_in_java_compiles_and_runs(served: Served) -> None:
    if shutil.which("javac") is None:
        (pytest.fail if install.in_ci() else pytest.skip)(WITHOUT_JAVA + "javac (Debian: default-jdk-headless)")
    programs = in_language("java")
    files = [served.write(program) for program in programs]
    served.run("javac", "-Xlint:all", "-Werror", "--release", "17", "-d", "classes", *files)
    for program in programs:
        served.prints_what_is_shown(program, "java", "-XX:TieredStopAtLevel=1", "-cp", "classes", program.class_name)


class TestTheReference:
    """What its readers send first: its own examples, in its own order."""

    @pytest.fixture
    def shown(self, deployment: Deployment, client: Credentials, dynamodb: Any) -> None:
        """The token of the examples, as the first of them issues it."""
        issued = next(examples.operations())["responses"]["201"]["content"]["application/json"]["example"]
        digest = tokens.digest(issued["token"])
        terms = Terms(Document(NODE), now() + timedelta(minutes=10), max_uses=3, user="alice")
        key = {"id": {"S": issued["tokenId"]}}
        dynamodb.delete_item(TableName=deployment.settings.token_table, Key=key)
        deployment.token_store().add(
            [(issued["token"], Token(tokens.token_id(digest), digest, client.user, now(), terms))]
        )

    def test_every_example_gets_the_answer_that_is_shown(self, served: Served, shown: None) -> None:
        sent = 0
        for path, methods in examples.document()["paths"].items():
            for method, operation in methods.items():
                answer, name = served.send(method, path, operation), operation["operationId"]
                [(status, response)] = [each for each in operation["responses"].items() if each[0].startswith("2")]
                assert (answer.status_code, name) == (int(status), name), answer.text
                assert set(response.get("headers", {})) - {"Idempotent-Replayed"} <= set(answer.headers), name
                for content in response.get("content", {}).values():
                    if "example" in content:
                        assert alike(answer.json()) == alike(content["example"]), name
                sent += 1
        assert sent == len(ROUTES)


def alike(answer: Any) -> str:
    """An answer without what differs each time, or between deployments."""
    text = masked(json.dumps(answer, sort_keys=True, separators=(",", ":")))
    return re.sub(r'"(commit|stage|version|revoked)":("[^"]*"|\d+)', r'"\1":ANY', text)


def test_there_are_examples_in_every_language() -> None:
    assert {each.where for each in examples.sessions()} >= {"README.md", "docs/quick-start.md"}
    assert {each.where for each in examples.programs()} >= {"docs/integration.md"}
    found = [each.language for each in examples.samples()]
    assert min(found.count(language) for language in ("shell", "python", "java")) >= 8


def masked(text: str) -> str:
    for pattern, mask in (
        (r"\b[0-9a-f]{64}\b", "TOKEN"),
        (r"\b(tok|use)_[0-9a-f]{32}\b", r"\1_ID"),
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "INSTANT"),
        (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b(?=\"})", "REQUEST"),
        (r"\"(clientId|issuer)\":\"[^\"]+\"", r'"\1":"CLIENT"'),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", "INSTANT"),
        (r"\bclient-\d+\b", "demo"),
        (r" +", " "),
        (r" ?\n+", "\n"),
    ):
        text = re.sub(pattern, mask, text)
    return text.strip()
