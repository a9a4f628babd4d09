"""The client that `make run` makes: its secret and the store agree, whichever of them lost it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from chalicelib import clients
from chalicelib.clients import AuthRefusal, Scope
from chalicelib.instants import now
from dev import serve
from tests.support.api import Credentials
from tokenctl.deployment import Deployment, open_stage, read_env_file


@pytest.fixture
def demo_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "demo.env"
    monkeypatch.setattr(serve, "DEMO_ENV", path)
    return path


@pytest.fixture
def stage(deployment: Deployment, demo_env: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """A stage that was prepared once."""
    return prepared(monkeypatch, "first")


def prepared(monkeypatch: pytest.MonkeyPatch, name: str) -> Deployment:
    monkeypatch.setenv("CLIENT_TABLE", f"demo-{name}-clients")
    stage = open_stage("local")
    serve.prepare_store(stage)
    return stage


def credentials(path: Path) -> Credentials:
    found = read_env_file(path)
    return Credentials(found["TOKENSERVICE_USER"], found["TOKENSERVICE_PASSWORD"])


def refusal(stage: Deployment, given: Credentials) -> AuthRefusal | None:
    """What the store has against credentials."""
    return clients.auth_refusal(stage.client_store().find(given.user), given.password, now())


def test_it_is_made_once_and_kept(stage: Deployment, demo_env: Path) -> None:
    made = credentials(demo_env)
    assert made.user == "demo"
    assert refusal(stage, made) is None
    demo_env.chmod(0o644)
    serve.prepare_store(stage)
    assert credentials(demo_env) == made
    assert stat.S_IMODE(demo_env.stat().st_mode) == 0o600


@pytest.mark.parametrize("left", [None, "", "\xff\xfe", "TOKENSERVICE_USER=demo\nTOKENSERVICE_PASSWORD=wrong\n"])
def test_a_lost_or_broken_secret_is_replaced(stage: Deployment, demo_env: Path, left: str | None) -> None:
    old = credentials(demo_env)
    demo_env.unlink()
    if left is not None:
        demo_env.write_text(left, encoding="latin-1")
    serve.prepare_store(stage)
    assert credentials(demo_env) != old
    assert refusal(stage, credentials(demo_env)) is None
    assert refusal(stage, old) is None, "someone may use it still"


def test_a_secret_that_the_store_lost_is_replaced(
    stage: Deployment, demo_env: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = credentials(demo_env)
    emptied = prepared(monkeypatch, "emptied")
    assert credentials(demo_env) != old
    assert refusal(emptied, credentials(demo_env)) is None
    assert refusal(emptied, old) is AuthRefusal.WRONG_SECRET


def test_the_client_of_an_earlier_version_gets_the_scopes_that_are_new(stage: Deployment, demo_env: Path) -> None:
    made = credentials(demo_env)
    stage.client_store().change("demo", lambda known: known._replace(scopes=frozenset({Scope.ISSUE, Scope.USE})))
    serve.prepare_store(stage)
    assert (credentials(demo_env), refusal(stage, made)) == (made, None)
    known = stage.client_store().find("demo")
    assert known is not None
    assert known.scopes == frozenset(Scope)


def test_a_client_that_was_disabled_by_hand_stays_so(demo_env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = prepared(monkeypatch, "disabled")
    made = credentials(demo_env)
    stage.client_store().change("demo", lambda known: known._replace(disabled_at=now()))
    serve.prepare_store(stage)
    assert credentials(demo_env) == made
    assert refusal(stage, made) is AuthRefusal.DISABLED
