"""The README is true: its session, its routes, its settings, its error codes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from chalicelib.problems import TABLE
from chalicelib.routes import BASE_PATH, ROUTES
from chalicelib.settings import Settings
from local.engine import free_port
from tests.conftest import Api, Credentials
from tokenctl.__main__ import cli

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_route_is_listed_and_no_other() -> None:
    listed = set(re.findall(r"^\| `([A-Z]+ /\S+)` \|", section("API"), re.MULTILINE))
    routes = {f"{method} {path}".replace("token_id", "tokenId") for path, views in ROUTES.items() for method in views}
    assert listed == routes


def test_every_error_code_is_listed_beside_its_status() -> None:
    for row in re.findall(r"^\| ([\d ]+) \| (.*) \|$", section("API"), re.MULTILINE):
        statuses = {int(status) for status in row[0].split()}
        for code in re.findall(r"`([a-z_]+)`", row[1]):
            assert TABLE[code].status in statuses
    assert {code for code in TABLE if f"`{code}`" in section("API")} == set(TABLE)


def test_every_setting_is_listed_and_no_other() -> None:
    asked: set[str] = set()

    class Recorder(dict[str, str]):
        def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
            asked.add(name)
            return {"STAGE": "dev"}.get(name, default)

    Settings.from_environ(Recorder())
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", section("Settings"), re.MULTILINE)) == asked


def test_every_command_of_tokenctl_exists() -> None:
    for line in re.findall(
        r"^\.venv/bin/tokenctl ([a-z ]+?)(?: [a-z]+ --| tok|  |$)", section("Operate"), re.MULTILINE
    ):
        assert CliRunner().invoke(cli, [*line.split()[:2], "--help"]).exit_code == 0, line


@pytest.fixture
def served(api: Api, client: Credentials, tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """The service over HTTP on a free port, and a directory like a checkout after `make run`."""
    (tmp_path / ".local").mkdir()
    demo = f"TOKENSERVICE_USER={client.user}\nTOKENSERVICE_PASSWORD={client.password}\n"
    (tmp_path / ".local" / "demo.env").write_text(demo)
    port = free_port()
    command = [sys.executable, "-m", "local.gateway", "--stage", "local", "--no-autoreload", "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            base = f"http://127.0.0.1:{port}"
            while process.poll() is None:
                try:
                    requests.get(base + BASE_PATH, timeout=5)
                    break
                except requests.ConnectionError:
                    time.sleep(0.05)
            yield {"base": base, "directory": str(tmp_path)}
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's session needs curl")
def test_the_session_is_what_one_sees(served: Mapping[str, str]) -> None:
    """Types the commands of the session into one shell and compares what comes back, but for ids and instants."""
    shown = README.partition("<!-- session -->")[2].partition("<!-- /session -->")[0]
    text = shown.strip().removeprefix("```console").removesuffix("```").strip().replace("\\\n> ", "\\\n")
    text = text.replace("http://127.0.0.1:8000", served["base"])
    steps = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    commands: list[str] = []
    expected = ""
    for step in steps:
        lines = step.split("\n")
        last = next(place for place, line in enumerate(lines) if not line.endswith("\\"))
        commands += lines[: last + 1]
        expected += "".join(f"{line}\n" for line in lines[last + 1 :] if line)
    environ = {**os.environ, "HOME": served["directory"]}
    run = subprocess.run(
        ["bash", "-c", "\n".join(commands)],
        cwd=served["directory"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(steps) > 5
    assert masked(run.stdout) == masked(expected)


def masked(text: str) -> str:
    for pattern, mask in (
        (r"\b[0-9a-f]{64}\b", "TOKEN"),
        (r"\b(tok|use)_[0-9a-f]{32}\b", r"\1_ID"),
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "INSTANT"),
        (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b(?=\"})", "REQUEST"),
        (r"\n+", "\n"),
    ):
        text = re.sub(pattern, mask, text)
    return text.strip()
