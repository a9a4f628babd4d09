"""`make run` from its start to its stop, in a copy of the checkout, so that no real store is touched."""

from __future__ import annotations

import fcntl
import json
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest

from dev import engine, preflight
from dev.engine import HOST, ROOT, Engine, EngineError, free_port
from tests.support.api import BASE_PATH, NODE
from tests.support.make_run import CONFIG, Run, copy_of_the_checkout, kill, processes_of
from tests.support.waiting import wait_until


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_of_the_checkout(tmp_path / "checkout")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One that is ready, for tests that do not stop it; its environment names an AWS account where nothing answers."""
    account = {"AWS_PROFILE": "nonesuch", "AWS_ACCESS_KEY_ID": "real", "AWS_REGION": "x"}
    checkout = copy_of_the_checkout(tmp_path_factory.mktemp("running") / "checkout")
    run = Run(checkout, {"PORT": str(free_port()), "AWS_ENDPOINT_URL": f"http://{HOST}:1", **account})
    try:
        run.wait_until_ready()
        yield run
    finally:
        run.stop()


def test_the_ready_line_has_the_address_and_the_command_below_it_works(running: Run) -> None:
    assert running.wait_until_ready() == f"http://{HOST}:{running.port}{BASE_PATH}"
    command = "".join(running.output).split("directory:\n")[1].split("\n\n")[0]
    pasted = subprocess.run(["bash", "-euc", command], cwd=running.checkout, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"[0-9a-f]{64}", json.loads(pasted.stdout)["token"])


def test_files_with_secrets_or_documents_are_readable_by_the_owner_alone(running: Run) -> None:
    state = running.checkout / ".local"
    for path in (state, *state.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert running.demo()["TOKENSERVICE_PASSWORD"] not in "".join(running.output + running.errors)


def test_what_the_service_writes_is_shown_and_stored(running: Run) -> None:
    issued = running.post(f"{running.wait_until_ready()}/token", {"nodeId": NODE})
    wait_until(lambda: f" token.issued clientId=demo tokenId={issued['tokenId']}" in "".join(running.output))
    assert "_aws" not in "".join(running.output)
    log = running.checkout / ".local" / "service.log"
    for line in (f'"tokenId":"{issued["tokenId"]}"', '"_aws"'):
        wait_until(lambda line=line: line in log.read_text("utf-8"))


def test_tokenctl_reads_the_store_of_the_running_service_whatever_account_is_set(running: Run, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[default]\nregion = eu-central-1\nendpoint_url = http://127.0.0.1:1\n")
    account = {
        "AWS_PROFILE": "nonesuch",
        "AWS_ACCESS_KEY_ID": "real",
        "AWS_SECRET_ACCESS_KEY": "real",
        "AWS_SESSION_TOKEN": "real",
        "AWS_REGION": "eu-central-1",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_ENDPOINT_URL_DYNAMODB": f"http://{HOST}:1",
    }
    doctor = Run(running.checkout, account, "doctor", "--json", program=(sys.executable, "-m", "tokenctl"))
    assert doctor.wait() == 0, doctor.errors


def test_a_second_run_names_the_first(running: Run) -> None:
    second = Run(running.checkout, {"PORT": str(free_port())})
    assert second.wait() == 1
    assert second.errors == [
        f"tokenservice: runs already from this directory (process {running.process.pid}, port {running.port})\n"
    ]
    assert running.process.poll() is None


def by(number: int) -> Callable[[Run], tuple[int, str]]:
    return lambda run: (run.stop(number), "".join(run.errors))


def by_two_interrupts(run: Run) -> tuple[int, str]:
    """The second does not cut the stop short."""
    run.process.send_signal(signal.SIGINT)
    wait_until(lambda: "Stopping ...\n" in run.output)
    return by(signal.SIGINT)(run)


def by_the_death_of(name: str) -> Callable[[Run], tuple[int, str]]:
    def end(run: Run) -> tuple[int, str]:
        kill(run.checkout, name)
        return run.wait(), "".join(run.errors)

    return end


ENDS: list[tuple[Callable[[Run], tuple[int, str]], int, str]] = [
    (by(signal.SIGTERM), 0, ""),
    (by_two_interrupts, 0, ""),
    (by_the_death_of("dev.gateway"), 1, "tokenservice: the service ended by itself with code -9\n"),
    (by_the_death_of("engine_process"), 1, "tokenservice: the local store ended by itself; see .local/engine.log\n"),
    (by(signal.SIGKILL), -9, ""),
]


def test_however_it_ends_nothing_is_left_running_and_nothing_is_lost(checkout: Path) -> None:
    environ = {"PORT": str(free_port())}
    token = ""
    demo: dict[str, str] = {}
    for end, code, error in ENDS:
        run = Run(checkout, environ)
        url = run.wait_until_ready()
        token = token or run.post(f"{url}/token", {"nodeId": NODE, "maxUses": 100})["token"]
        demo = demo or run.demo()
        assert run.post(f"{url}/use", {"token": token})["nodeId"] == NODE
        assert run.demo() == demo
        assert len(processes_of(checkout)) == 3
        assert end(run) == (code, error)
        wait_until(lambda: not processes_of(checkout))
        assert (checkout / ".local/local.env").exists() == (code == -signal.SIGKILL)
    (checkout / ".local/engine").chmod(0o755)
    script = f"{sys.executable} -m dev & wait"
    make = Run(checkout, {**environ, "MAKELEVEL": "1"}, program=("bash", "-c", script))
    make.wait_until_ready()
    assert stat.S_IMODE((checkout / ".local/engine").stat().st_mode) == 0o700
    make.stop(signal.SIGKILL)
    assert processes_of(checkout) == {}


@pytest.mark.parametrize(
    ("begun", "number"), [(".local/engine.log", signal.SIGTERM), (".local/demo.env", signal.SIGHUP)]
)
def test_a_stop_during_the_start_leaves_nothing_running(checkout: Path, begun: str, number: int) -> None:
    run = Run(checkout, {"PORT": str(free_port())})
    run.wait_until((checkout / begun).exists)
    assert (run.stop(number), run.errors) == (0, [])
    assert processes_of(checkout) == {}


def refusal(checkout: Path, **environ: str) -> tuple[int, str]:
    """Exit code and the one line of its errors."""
    run = Run(checkout, {"PORT": str(free_port()), **environ})
    code = run.wait()
    assert len(run.errors) == 1, run.errors
    assert not any("Ready" in line for line in run.output)
    # Found before anything slow was begun, and certainly nothing is left of it.
    assert not (checkout / ".local/engine.log").exists()
    assert processes_of(checkout) == {}
    return code, run.errors[0]


def test_what_is_wrong_is_named_in_one_line(checkout: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        assert refusal(checkout, PORT=str(port)) == (
            1,
            f"tokenservice: port {port} is taken; choose another: make run PORT={port % 60_000 + 1}\n",
        )
    code, line = refusal(checkout, LOG_LEVEL="CHATTY", AUTHORIZER_TTL_SECONDS="soon")
    assert code == 1
    assert "LOG_LEVEL: " in line
    assert "AUTHORIZER_TTL_SECONDS: " in line
    (checkout / CONFIG).unlink()
    code, line = refusal(checkout)
    assert code == 1
    assert ".chalice/config.json" in line


@pytest.mark.parametrize("port", ["eight", "0", "-1", "65536", "80 80", "٨٠", "9" * 5000])
def test_a_port_that_is_none_is_a_usage_error(port: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("PORT", port)
    assert preflight.main() == 2
    assert capsys.readouterr().err.startswith("tokenservice: PORT must be a whole number from 1 to 65535, not ")


def test_make_clean_leaves_a_running_service_alone(tmp_path: Path) -> None:
    (tmp_path / ".local").mkdir()
    clean = ["make", "-f", str(ROOT / "Makefile"), "clean"]
    with (tmp_path / ".local" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = subprocess.run(clean, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert refused.returncode != 0
        assert "make run still runs from this directory" in refused.stderr
        assert (tmp_path / ".local" / "lock").exists()
    subprocess.run(clean, cwd=tmp_path, capture_output=True, check=False)
    assert not (tmp_path / ".local").exists()


class TestEngine:
    def test_a_kill_loses_no_write_older_than_a_second_and_leaves_no_temporary_files(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state, scratch = tmp_path / "state", tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(scratch))
        engine = Engine(state_dir=state, log=tmp_path / "engine.log").start()
        with pytest.raises(EngineError, match="running already"):
            engine.start()
        assert list(scratch.rglob("ministack-*.pid"))
        for name, value in engine.client_environ.items():
            monkeypatch.setenv(name, value)
        dynamodb = boto3.session.Session().client("dynamodb")
        dynamodb.create_table(
            TableName="stored",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        )
        tables = state / "dynamodb.json"
        wait_until(lambda: tables.exists() and "stored" in tables.read_text())
        engine.kill()
        assert list(scratch.iterdir()) == []
        port = urlsplit(engine.endpoint_url).port
        with socket.create_server((HOST, port)), pytest.raises(EngineError, match=f"port {port} is taken"):
            engine.start()
        engine.start()
        assert dynamodb.list_tables()["TableNames"] == ["stored"]
        engine.stop()
        engine.stop()
        assert not engine.is_running
        assert list(scratch.iterdir()) == []

    def test_a_store_that_cannot_be_read_is_named_and_not_written_over(self, tmp_path: Path) -> None:
        tables = tmp_path / "dynamodb.json"
        tables.write_text('{"half of it')
        with pytest.raises(EngineError, match=r"dynamodb\.json can't be read"):
            Engine(state_dir=tmp_path, log=tmp_path / "log").start()
        assert tables.read_text() == '{"half of it'

    def test_a_missing_engine_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engine, "PYTHON", tmp_path / ".venv-engine" / "bin" / "python")
        with pytest.raises(EngineError, match=r"^\.venv-engine is missing; 'make setup' makes it$"):
            Engine(log=tmp_path / "log").start()

    def test_one_that_does_not_start_names_its_log(self, tmp_path: Path) -> None:
        with pytest.raises(EngineError, match=f"ended at its start with code 1; see {tmp_path}/log"):
            Engine(log=tmp_path / "log", environ={"PYTHONHOME": "/nonexistent"}).start()


def test_a_store_that_fails_at_the_start_is_one_line_and_leaves_no_process(checkout: Path) -> None:
    code = (
        "import sys; from dev import serve; from pynamodb.exceptions import TableError\n"
        "def fail(_): raise TableError('no answer')\n"
        "serve.prepare_store = fail\n"
        "sys.exit(serve.main())"
    )
    run = Run(checkout, {"PORT": str(free_port())}, program=(sys.executable, "-c", code))
    line = "tokenservice: the local store failed: TableError; see .local/engine.log\n"
    assert (run.wait(), run.errors) == (1, [line])
    assert processes_of(checkout) == {}
