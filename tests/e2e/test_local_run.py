"""`make run` from its start to its stop, in a copy of the checkout, so that no real store is touched."""

from __future__ import annotations

import fcntl
import json
import os
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

from dev import preflight
from dev.engine import HOST, ROOT, Engine, EngineError, free_port
from tests.support.make_run import BASE, CONFIG, NODE, Run, copy_of_the_checkout, processes_of
from tests.support.waiting import wait_until


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_of_the_checkout(tmp_path / "checkout")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One that is ready, for tests that do not stop it; its environment names an AWS account."""
    account = {"AWS_PROFILE": "nonesuch", "AWS_ACCESS_KEY_ID": "real", "AWS_REGION": "x"}
    checkout = copy_of_the_checkout(tmp_path_factory.mktemp("running") / "checkout")
    run = Run(checkout, {"PORT": str(free_port()), "AWS_ENDPOINT_URL": f"http://{HOST}:1", **account})
    try:
        run.wait_until_ready()
        yield run
    finally:
        run.stop()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def start(checkout: Path, port: int) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(**environ: str) -> Run:
        runs.append(Run(checkout, {"PORT": str(port), **environ}))
        return runs[-1]

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.stop()
        else:
            run.wait()


def refusal(run: Run) -> tuple[int, str]:
    """Exit code and the one line of its errors."""
    code = run.wait()
    assert len(run.errors) == 1, run.errors
    assert not any("Ready" in line for line in run.output)
    # Found before anything slow was begun, and certainly nothing is left of it.
    assert not (run.checkout / ".local/engine.log").exists()
    assert processes_of(run.checkout) == []
    return code, run.errors[0].strip()


def test_the_ready_line_has_the_address_and_the_command_below_it_works(running: Run) -> None:
    assert running.wait_until_ready() == f"http://{HOST}:{running.port}{BASE}"
    command = "".join(running.output).split("directory:\n")[1].split("\n\n")[0]
    pasted = subprocess.run(["bash", "-euc", command], cwd=running.checkout, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"[0-9a-f]{64}", json.loads(pasted.stdout)["token"])


def test_files_with_secrets_or_documents_are_readable_by_the_owner_alone(running: Run) -> None:
    state = running.checkout / ".local"
    for path in (state, *state.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert running.demo()["TOKENSERVICE_PASSWORD"] not in "".join(running.output + running.errors)


def test_what_the_service_writes_is_shown_and_stored(running: Run) -> None:
    status, issued = running.post(f"{running.wait_until_ready()}/token", {"nodeId": NODE})
    assert status == 201

    wait_until(lambda: f" token.issued clientId=demo tokenId={issued['tokenId']}" in "".join(running.output))
    assert "_aws" not in "".join(running.output)
    log = running.checkout / ".local" / "service.log"
    for line in (f'"tokenId":"{issued["tokenId"]}"', '"_aws"'):
        wait_until(lambda line=line: line in log.read_text("utf-8"))


def test_an_aws_account_in_the_environment_is_left_alone(running: Run) -> None:
    """The service was started with one, at an address where nothing answers."""
    assert running.post(f"{running.wait_until_ready()}/token", {"nodeId": NODE})[0] == 201


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
    status, issued = running.post(f"{running.wait_until_ready()}/token", {"nodeId": NODE})
    assert status == 201
    for command in (["client", "list"], ["token", "show", issued["tokenId"]], ["doctor"]):
        shown = subprocess.run(
            [sys.executable, "-m", "tokenctl", *command, "--json"],
            cwd=running.checkout,
            env={"PATH": os.environ["PATH"], **account},
            capture_output=True,
            text=True,
            check=False,
        )
        assert shown.returncode == 0, shown.stderr


def test_a_second_run_names_the_first(running: Run) -> None:
    second = Run(running.checkout, {"PORT": str(free_port())})
    assert second.wait() == 1
    assert second.errors == [
        f"tokenservice: runs already from this directory (process {running.process.pid}, port {running.port})\n"
    ]
    assert running.process.poll() is None


def stop(run: Run, number: int) -> None:
    """Stop it in order: that is no failure, and leaves nothing running."""
    assert len(processes_of(run.checkout)) == 3
    assert run.stop(number) == 0
    assert run.errors == []
    assert processes_of(run.checkout) == []
    assert not (run.checkout / ".local/local.env").exists()


def test_a_second_signal_does_not_cut_a_stop_short(start: Any) -> None:
    run = start()
    run.wait_until_ready()
    run.process.send_signal(signal.SIGINT)
    wait_until(lambda: "Stopping ...\n" in run.output)
    run.process.send_signal(signal.SIGINT)
    assert run.stop() == 0
    assert run.errors == []
    assert processes_of(run.checkout) == []


def test_tokens_and_clients_outlive_a_stop(start: Any) -> None:
    first = start()
    url = first.wait_until_ready()
    demo = first.demo()
    tokens = [first.post(f"{url}/token", {"nodeId": NODE})[1]["token"] for _ in range(2)]
    assert first.post(f"{url}/use", {"token": tokens[0]})[0] == 200
    stop(first, signal.SIGTERM)

    second = start()
    url = second.wait_until_ready()
    assert second.demo() == demo
    assert second.post(f"{url}/use", {"token": tokens[0]})[1]["code"] == "token_exhausted"
    assert second.post(f"{url}/use", {"token": tokens[1]})[1]["nodeId"] == NODE
    stop(second, signal.SIGHUP)


def test_nothing_is_left_running_and_nothing_lost_when_it_is_killed(start: Any, checkout: Path) -> None:
    first = start()
    url = first.wait_until_ready()
    token = first.post(f"{url}/token", {"nodeId": NODE})[1]["token"]
    first.stop(signal.SIGKILL)
    wait_until(lambda: not processes_of(checkout))
    # What somebody broke meanwhile is mended; tests/contract/test_demo_client.py has more ways to lose the secret.
    (checkout / ".local/demo.env").write_text("TOKENSERVICE_USER=demo\nTOKENSERVICE_PASSWORD=wrong\n")
    (checkout / ".local/engine").chmod(0o755)

    second = start()
    assert second.post(f"{second.wait_until_ready()}/use", {"token": token})[1]["nodeId"] == NODE
    assert stat.S_IMODE((checkout / ".local/engine").stat().st_mode) == 0o700


@pytest.mark.parametrize("begun", [".local/lock", ".local/engine.log", ".local/local.env", ".local/demo.env"])
def test_a_stop_during_the_start_leaves_nothing_running(start: Any, checkout: Path, begun: str) -> None:
    run = start()
    run.wait_until((checkout / begun).exists)
    assert run.stop() == 0
    assert run.errors == []
    assert processes_of(checkout) == []


@pytest.mark.parametrize(("victim", "named"), [("dev.gateway", "the service"), ("engine_process", "local store")])
def test_a_child_that_dies_ends_everything_and_is_named(start: Any, checkout: Path, victim: str, named: str) -> None:
    run = start()
    run.wait_until_ready()
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if (directory / "cwd").readlink() == checkout and victim in (directory / "cmdline").read_text():
                os.kill(int(directory.name), signal.SIGKILL)
        except OSError:
            continue
    assert run.wait() == 1
    assert len(run.errors) == 1
    assert named in run.errors[0]
    assert processes_of(checkout) == []


def test_it_ends_with_the_make_that_started_it(checkout: Path, port: int) -> None:
    script = f"{sys.executable} -m dev & echo started; wait"
    environ = {**os.environ, "MAKELEVEL": "1", "PORT": str(port)}
    parent = subprocess.Popen(["bash", "-c", script], cwd=checkout, env=environ, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    while "Ready" not in parent.stdout.readline():
        assert parent.poll() is None
    parent.kill()
    parent.wait()
    parent.stdout.read()  # ends when the last of them does
    parent.stdout.close()
    assert processes_of(checkout) == []


def test_a_taken_port_is_named_in_one_line(start: Any, port: int) -> None:
    with socket.create_server((HOST, port)):
        code, line = refusal(start())
    assert code == 1
    assert f"port {port} is taken" in line


def test_a_port_that_is_none_is_a_usage_error(start: Any) -> None:
    code, line = refusal(start(PORT="eight"))
    assert code == 2
    assert "PORT must be a whole number from 1 to 65535" in line
    for port in ("0", "-1", "65536", "80 80", "٨٠", "9" * 5000):
        with pytest.raises(preflight.UsageError):
            preflight.port_of(port)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"stages": {"local": {},}}', f"line 1 column {24 if sys.version_info >= (3, 13) else 25}"),
        ('{"stages": {"dev": {}}}', "'local'"),
        (None, "config.json"),
    ],
)
def test_a_broken_config_file_is_named_in_one_line(start: Any, checkout: Path, text: str | None, message: str) -> None:
    if text is None:
        (checkout / CONFIG).unlink()
    else:
        (checkout / CONFIG).write_text(text, encoding="latin-1")
    code, line = refusal(start())
    assert code == 1
    assert ".chalice/config.json" in line
    assert message in line


def test_a_wrong_setting_is_named_in_one_line(start: Any) -> None:
    code, line = refusal(start(LOG_LEVEL="CHATTY", AUTHORIZER_TTL_SECONDS="soon"))
    assert code == 1
    assert "LOG_LEVEL" in line
    assert "AUTHORIZER_TTL_SECONDS" in line


def test_a_store_that_cannot_be_read_is_named_and_not_written_over(start: Any, checkout: Path) -> None:
    tables = checkout / ".local/engine/dynamodb.json"
    tables.parent.mkdir(parents=True)
    tables.write_text('{"half of it')
    code, line = refusal(start())
    assert code == 1
    assert "dynamodb.json can't be read" in line
    assert tables.read_text() == '{"half of it'


def test_a_missing_engine_is_named_in_one_line(start: Any, checkout: Path) -> None:
    (checkout / ".venv-engine").unlink()
    code, line = refusal(start())
    assert code == 1
    assert "make setup" in line


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


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where engines of a test put their temporary files."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    return scratch


def test_the_engine_names_a_taken_port_stops_twice_and_leaves_no_temporary_files(tmp_path: Path, scratch: Path) -> None:
    engine = Engine(log=tmp_path / "log").start()
    with pytest.raises(EngineError, match="running already"):
        engine.start()
    assert list(scratch.rglob("ministack-*.pid"))
    engine.stop()
    engine.stop()
    assert not engine.is_running
    assert list(scratch.iterdir()) == []
    port = urlsplit(engine.endpoint_url).port
    with socket.create_server((HOST, port)), pytest.raises(EngineError, match=f"port {port} is taken"):
        engine.start()


def test_an_engine_that_does_not_start_names_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dev.engine._READY_WITHIN_SECONDS", 3.0)
    with pytest.raises(EngineError, match=f"see {tmp_path}/engine.log"):
        Engine(log=tmp_path / "engine.log", environ={"MINISTACK_WORKER_THREADS": "none"}).start()


def test_a_killed_engine_has_stored_the_writes_that_are_older_than_a_second(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    engine = Engine(state_dir=state, log=tmp_path / "engine.log").start()
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
    engine.start()
    assert dynamodb.list_tables()["TableNames"] == ["stored"]
    engine.stop()


def test_a_store_that_fails_at_the_start_is_one_line_and_leaves_no_process(checkout: Path, port: int) -> None:
    code = (
        "import sys; from dev import serve; from pynamodb.exceptions import TableError\n"
        "def fail(_): raise TableError('no answer')\n"
        "serve.prepare_store = fail\n"
        "sys.exit(serve.main())"
    )
    environ = {**os.environ, "PORT": str(port)}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, env=environ, capture_output=True, text=True, check=False
    )
    line = "tokenservice: the local store failed: TableError; see .local/engine.log\n"
    assert (run.returncode, run.stderr) == (1, line)
    assert processes_of(checkout) == []
