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
import threading
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
SERVING = f"Serving on http://{HOST}:{{port}}\n"
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


def environ(home: Path, **more: str) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**inherited, "HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true", "PYTHONUNBUFFERED": "1", **more}


def start(checkout: Path, home: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [CHALICE, "local", *arguments],
        cwd=checkout,
        env=environ(home, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_it_serves_what_make_engine_stores_and_restarts_for_a_changed_source_alone(
    engine: Run, checkout: Path, tmp_path: Path
) -> None:
    port = free_port()
    process = start(checkout, tmp_path, "--port", str(port), AWS_PROFILE="work", AWS_REGION="eu-central-1")
    assert process.stdout is not None
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")))
    reader.start()
    try:
        wait_until(lambda: SERVING.format(port=port) in lines)
        # The first start in a fresh checkout compiles app.py, which Chalice's reloader sees.
        assert set(lines) <= {RESTARTING, SERVING.format(port=port)}
        begun = len(lines)
        tables = checkout / ".local" / "engine" / "dynamodb.json"
        # The engine stores about a second after a change, and the reloader looks once a second.
        for _ in range(3):
            stored = tables.stat().st_mtime_ns if tables.exists() else 0
            issued = engine.post(f"http://{HOST}:{port}{BASE_PATH}/token", {"nodeId": NODE})
            assert len(issued["token"]) == 64
            wait_until(lambda stored=stored: tables.exists() and tables.stat().st_mtime_ns > stored)
        assert_two_keys_are_refused(engine, port, issued["token"])
        assert RESTARTING not in lines[begun:]
        os.utime(checkout / "chalicelib" / "tokens.py")
        wait_until(lambda: SERVING.format(port=port) in lines[begun:])
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # the reloader leaves its worker behind
        process.wait()
        reader.join()
        process.stdout.close()


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


def refusal(process: subprocess.Popen[str]) -> str:
    output = process.communicate(timeout=120)[0].replace(RESTARTING, "")
    assert len(output.splitlines()) == 1, output
    return output


def test_without_an_engine_one_line_names_what_to_start(tmp_path: Path) -> None:
    alone = copy_of_the_checkout(tmp_path / "alone")
    assert refusal(start(alone, tmp_path)) == (
        "tokenservice: nothing runs locally: start 'make run' or 'make engine', or name a stage with --stage\n"
    )


def test_missing_tables_and_a_taken_port_are_one_line(engine: Run, checkout: Path, tmp_path: Path) -> None:
    lines = (checkout / ".local" / "local.env").read_text().splitlines()
    known = dict(line.split("=", 1) for line in lines)
    output = refusal(start(checkout, tmp_path, "--no-autoreload", "--stage", "dev", **known))
    assert output.startswith("tokenservice: stage dev: ResourceNotFoundException: there is no such table")
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
        run = subprocess.run(command, cwd=checkout, env=environ(tmp_path), capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.startswith(f"tokenservice: port {port} is taken; choose another: make run PORT=")
    assert not [path for path in checkout.iterdir() if path.name.startswith(".")]
