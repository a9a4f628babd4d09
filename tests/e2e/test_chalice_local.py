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
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from dev.engine import HOST, free_port
from tests.support.make_run import BASE, NODE, Run, copy_of_the_checkout
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


@pytest.mark.parametrize(
    ("reload", "account"),
    [([], {}), (["--no-autoreload"], {"AWS_PROFILE": "work", "AWS_REGION": "eu-central-1"})],
    ids=["with its reloader", "without, and with an account set"],
)
def test_it_serves_what_make_engine_stores(
    engine: Run, checkout: Path, tmp_path: Path, reload: list[str], account: dict[str, str]
) -> None:
    port = free_port()
    process = start(checkout, tmp_path, "--port", str(port), *reload, **account)
    try:
        wait_until_serving(process, port)
        status, issued = engine.post(f"http://{HOST}:{port}{BASE}/token", {"nodeId": NODE})
        assert (status, len(issued["token"])) == (201, 64)
        assert_two_keys_are_refused(engine, port, issued["token"])
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # the reloader leaves its worker behind
        process.communicate()


def assert_two_keys_are_refused(engine: Run, port: int, token: str) -> None:
    """As on AWS, though Chalice's own server hands over the first of two headers alone."""
    demo = engine.demo()
    credentials = f"{demo['TOKENSERVICE_USER']}:{demo['TOKENSERVICE_PASSWORD']}"
    body = json.dumps({"token": token}).encode()
    with closing(HTTPConnection(HOST, port, timeout=60)) as connection:
        connection.putrequest("POST", f"{BASE}/use")
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


def wait_until_serving(process: subprocess.Popen[str], port: int) -> None:
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    while "Serving on" not in lines[-1]:
        assert lines[-1], lines
        lines.append(process.stdout.readline())
    # The first start in a fresh checkout compiles app.py, which Chalice's reloader sees.
    assert set(lines) <= {RESTARTING, f"Serving on http://{HOST}:{port}\n"}


def test_it_restarts_for_a_changed_source_and_not_for_what_the_engine_stores(
    engine: Run, checkout: Path, tmp_path: Path
) -> None:
    port = free_port()
    process = start(checkout, tmp_path, "--port", str(port))
    assert process.stdout is not None
    try:
        wait_until_serving(process, port)
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")))
        reader.start()

        def restarted() -> bool:
            return any("Serving on" in line for line in lines)

        tables = checkout / ".local" / "engine" / "dynamodb.json"
        stored = tables.stat().st_mtime_ns if tables.exists() else 0
        assert engine.post(f"http://{HOST}:{port}{BASE}/token", {"nodeId": NODE})[0] == 201
        wait_until(lambda: tables.exists() and tables.stat().st_mtime_ns > stored)
        time.sleep(3)  # the reloader looks once a second
        assert engine.post(f"http://{HOST}:{port}{BASE}/token", {"nodeId": NODE})[0] == 201
        assert not restarted()
        os.utime(checkout / "chalicelib" / "tokens.py")
        wait_until(restarted)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        reader.join()
        process.stdout.close()


def refusal(process: subprocess.Popen[str]) -> str:
    output = process.communicate(timeout=120)[0].replace(RESTARTING, "")
    assert len(output.splitlines()) == 1, output
    return output


class TestWhatIsMissingIsOneLine:
    @pytest.fixture
    def alone(self, tmp_path: Path) -> Path:
        """A checkout in which nothing runs."""
        return copy_of_the_checkout(tmp_path / "alone")

    @pytest.mark.parametrize("reload", [[], ["--no-autoreload"]], ids=["with its reloader", "without"])
    def test_no_engine(self, alone: Path, tmp_path: Path, reload: list[str]) -> None:
        assert refusal(start(alone, tmp_path, *reload)) == (
            "tokenservice: nothing runs locally: start 'make run' or 'make engine', or name a stage with --stage\n"
        )

    def test_no_such_stage(self, alone: Path, tmp_path: Path) -> None:
        output = refusal(start(alone, tmp_path, "--stage=nope"))
        assert output == "tokenservice: .chalice/config.json has no stage 'nope'; it has: local, dev, test, prod\n"

    def test_no_region(self, alone: Path, tmp_path: Path) -> None:
        output = refusal(start(alone, tmp_path, "--stage", "dev"))
        assert output == "tokenservice: stage dev: NoRegionError: set AWS_DEFAULT_REGION to the stage's region\n"

    def test_no_credentials(self, alone: Path, tmp_path: Path) -> None:
        output = refusal(start(alone, tmp_path, "--stage", "dev", AWS_DEFAULT_REGION="eu-central-1"))
        assert output.startswith("tokenservice: stage dev: NoCredentialsError: log in to AWS")

    def test_no_tables(self, engine: Run, checkout: Path, tmp_path: Path) -> None:
        lines = (checkout / ".local" / "local.env").read_text().splitlines()
        known = dict(line.split("=", 1) for line in lines)
        output = refusal(start(checkout, tmp_path, "--stage", "dev", **known))
        assert output.startswith("tokenservice: stage dev: ResourceNotFoundException: there is no such table")
        assert "'tokenctl tables create --stage dev'" in output

    def test_a_setting_that_is_malformed(self, engine: Run, checkout: Path, tmp_path: Path) -> None:
        output = refusal(start(checkout, tmp_path, "--port", str(free_port()), LOG_LEVEL="LOUD"))
        assert "LOG_LEVEL: 'LOUD' is not one of" in output

    def test_a_port_that_is_taken(self, engine: Run, checkout: Path, tmp_path: Path) -> None:
        with socket.create_server((HOST, 0)) as taken:
            port = taken.getsockname()[1]
            output = refusal(start(checkout, tmp_path, "--port", str(port)))
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
