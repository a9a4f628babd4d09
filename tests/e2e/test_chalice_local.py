"""`chalice local` as a Chalice developer types it: with nothing else set."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from dev.engine import HOST, free_port
from tests.support.api import BASE_PATH, NODE
from tests.support.make_run import Run, copy_of_the_checkout
from tests.support.waiting import wait_until

RESTARTING = "Restarting local dev server.\n"
CHALICE = str(Path(sys.executable).with_name("chalice"))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_checkout(tmp_path_factory.mktemp("bare") / "checkout")


@pytest.fixture(scope="module")
def engine(checkout: Path) -> Iterator[Run]:
    """What `make engine` starts."""
    run = Run(checkout, {"PORT": str(free_port())}, "engine")
    try:
        run.wait_until(lambda: any("Ctrl-C" in line for line in run.output))
        yield run
    finally:
        assert run.stop() == 0


def start(checkout: Path, home: Path, *arguments: str, **more: str) -> Run:
    environ = {"HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true", "PYTHONUNBUFFERED": "1", **more}
    return Run(checkout, environ, "local", *arguments, program=[CHALICE])


def test_it_serves_what_make_engine_stores_and_restarts_for_a_changed_source_alone(
    engine: Run, checkout: Path, tmp_path: Path
) -> None:
    port = free_port()
    run = start(checkout, tmp_path, "--port", str(port), AWS_PROFILE="work", AWS_REGION="eu-central-1")
    serving = f"Serving on http://{HOST}:{port}\n"
    try:
        run.wait_until(lambda: serving in run.output)
        # The first start in a fresh checkout compiles app.py, which Chalice's reloader sees.
        assert set(run.output + run.errors) <= {RESTARTING, serving}
        begun = run.output.count(serving)
        tables = checkout / ".local" / "engine" / "dynamodb.json"
        # The engine stores about a second after a change, and the reloader looks once a second.
        for _ in range(3):
            stored = tables.stat().st_mtime_ns if tables.exists() else 0
            issued = engine.post(f"http://{HOST}:{port}{BASE_PATH}/token", {"nodeId": NODE})
            assert len(issued["token"]) == 64
            wait_until(lambda stored=stored: tables.exists() and tables.stat().st_mtime_ns > stored)
        assert_two_keys_are_refused(engine, port, issued["token"])
        assert run.output.count(serving) == begun, "it restarted"
        os.utime(checkout / "chalicelib" / "tokens.py")
        run.wait_until(lambda: run.output.count(serving) > begun)
    finally:
        os.killpg(run.process.pid, signal.SIGTERM)  # the reloader leaves its worker behind
        run.wait()


def assert_two_keys_are_refused(engine: Run, port: int, token: str) -> None:
    """As on AWS, though Chalice's own server hands over the first of two headers alone."""
    credentials = ":".join(engine.demo().values())
    body = json.dumps({"token": token}).encode()
    with closing(HTTPConnection(HOST, port, timeout=60)) as connection:
        connection.putrequest("POST", f"{BASE_PATH}/use")
        connection.putheader("Authorization", "Basic " + base64.b64encode(credentials.encode()).decode())
        connection.putheader("Content-Length", str(len(body)))
        connection.putheader("Idempotency-Key", "first")
        connection.putheader("idempotency-key", "second")
        connection.endheaders(body)
        answer = connection.getresponse()
        assert (answer.status, json.load(answer)["errors"]) == (
            400,
            [{"field": "Idempotency-Key", "message": "given more than once"}],
        )


def refusal(run: Run) -> str:
    run.wait()
    [line] = [line for line in run.output + run.errors if line != RESTARTING]
    return line


def test_without_an_engine_one_line_names_what_to_start(tmp_path: Path) -> None:
    alone = copy_of_the_checkout(tmp_path / "alone")
    assert refusal(start(alone, tmp_path)) == (
        "tokenservice: nothing runs locally: start 'make run' or 'make engine', or name a stage with --stage\n"
    )


def test_missing_tables_and_a_taken_port_are_one_line(engine: Run, checkout: Path, tmp_path: Path) -> None:
    lines = (checkout / ".local" / "local.env").read_text().splitlines()
    known = dict(line.split("=", 1) for line in lines)
    output = refusal(start(checkout, tmp_path, "--no-autoreload", "--stage", "dev", **known))
    assert output.startswith("tokenservice: stage dev: ResourceNotFoundException: ")
    assert "no such table" in output
    assert "'tokenctl tables create --stage dev'" in output
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        output = refusal(start(checkout, tmp_path, "--no-autoreload", "--port", str(port)))
    assert re.fullmatch(rf"tokenservice: port {port} is taken; choose another: chalice local --port \d+\n", output)


def test_make_run_names_a_taken_port_before_it_sets_anything_up(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for name in ("dev/preflight.py", "dev/environments.py", "Makefile", "deploy/runtimes.toml"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(__file__).resolve().parents[2] / name, checkout / name)
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        command = ["make", "--no-print-directory", "run", f"PORT={port}"]
        environ = {"PATH": os.environ["PATH"]}
        run = subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.startswith(f"tokenservice: port {port} is taken; choose another: make run PORT=")
    assert not [path for path in checkout.iterdir() if path.name.startswith(".")]
