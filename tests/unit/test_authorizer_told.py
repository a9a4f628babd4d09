"""What the authorizer asks of its store, and what it tells the log: every member."""

from __future__ import annotations

import base64
import logging
from datetime import UTC, datetime

import pytest
from chalice.app import AuthRequest

from chalicelib import clients
from chalicelib.authorizer import Authorizer, MalformedCredentials, parse_basic
from chalicelib.clients import Client, Scope

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ARN = "arn:aws:execute-api:eu-central-1:123456789012:abc123/api/GET/tokenservice/services/api/version"
TRACE = "1-67891233-abcdef012345678912345678"


def basic(text: bytes) -> str:
    return "Basic " + base64.b64encode(text).decode()


class World:
    """A store and an audit that keep what they are asked and told."""

    def __init__(self, known: Client | None = None) -> None:
        self.known = known
        self.asked: list[str] = []
        self.told: list[object] = []

    def find(self, client_id: str) -> Client | None:
        self.asked.append(client_id)
        if client_id == "away":
            raise ConnectionError("away")
        return self.known if self.known and self.known.id == client_id else None

    def event(self, name: str, now: datetime, level: str = "INFO", **facts: str | None) -> None:
        self.told.append((name, now, level, facts))

    def count(self, name: str, **dimensions: str) -> None:
        self.told.append((name, dimensions))

    def ask(self, header: str) -> object:
        return Authorizer(self, self, lambda: NOW)(AuthRequest("TOKEN", header, ARN))


@pytest.fixture(autouse=True)
def _trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", f"Root={TRACE};Parent=53995c3f42cd8ad8;Sampled=1")


def test_a_refusal_is_logged_with_the_trace_the_client_and_the_reason() -> None:
    _, kept = clients.new_secret(NOW)
    world = World(Client("records", frozenset({Scope.USE}), (kept,), NOW))
    world.ask(basic(b"records:wrong"))
    facts = {"requestId": TRACE, "clientId": "records", "reason": "wrong_secret"}
    assert world.told == [("auth.refused", NOW, "WARNING", facts), ("AuthRefused", {})]


def test_a_store_that_is_away_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    with caplog.at_level(logging.ERROR):
        assert world.ask(basic(b"away:x")) is None
    [record] = caplog.records
    assert record.getMessage() == "credentials could not be checked"
    assert record.__dict__["requestId"] == TRACE
    assert record.exc_info is not None
    assert world.told == [("AuthFailed", {})]


@pytest.mark.parametrize("user", ["", "../records", "records ", "a" * 65, "é"])
def test_an_impossible_client_name_is_never_looked_up(user: str) -> None:
    """It may be a secret in the wrong place, and a key in the store's own log is no place for one."""
    world = World()
    world.ask(basic(f"{user}:x".encode()))
    assert world.asked == ["-"]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("Bearer x", "not Basic credentials in base64"),
        ("Basic YQ", "not base64 of UTF-8"),
        (basic(b"\xff:x"), "not base64 of UTF-8"),
        ("Basic YTpi" + "Yh==", "not base64 as it is written"),
        (basic(b"no-colon"), "no colon, or a control character"),
        (basic(b"a:\x00"), "no colon, or a control character"),
    ],
)
def test_malformed_credentials_are_described_without_their_value(header: str, words: str) -> None:
    with pytest.raises(MalformedCredentials, match=f"^{words}$"):
        parse_basic(header)
