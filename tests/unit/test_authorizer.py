"""Basic credentials: how they are read, judged, reported and answered to the gateway."""

from __future__ import annotations

import base64
import logging
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from chalice.app import AuthRequest, AuthResponse

from chalicelib import clients
from chalicelib.authorizer import Authorizer, parse_basic
from chalicelib.clients import Client, Scope
from tests.support.audits import RecordingAudit

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
API = "arn:aws:execute-api:eu-central-1:123456789012:abc123/api"
ARN = f"{API}/GET/tokenservice/services/api/version"
TRACE = "1-5759e988-bd862e3fe1be46a994272793"


def encoded(text: bytes) -> str:
    return "Basic " + base64.b64encode(text).decode()


def basic(user: str, password: str) -> str:
    return encoded(f"{user}:{password}".encode())


class Gateway:
    """Calls the authorizer as the gateway does.

    Attributes:
        audit: keeps what the authorizer reports.
        keys: the client ids that it read from the store.
    """

    def __init__(self, *known: Client) -> None:
        self._clients = {client.id: client for client in known}
        self.audit = RecordingAudit()
        self.keys: list[str] = []

    def find(self, client_id: str) -> Client | None:
        self.keys.append(client_id)
        if client_id == "away":
            raise ConnectionError("away")
        return self._clients.get(client_id)

    def authorize(self, header: str) -> Any:
        return Authorizer(self, self.audit, lambda: NOW, "dev")(AuthRequest("TOKEN", header, ARN))

    def allows(self, header: str) -> bool:
        return isinstance(self.authorize(header), AuthResponse)

    def events(self) -> list[dict[str, str]]:
        return [facts for _, _, _, facts in self.audit.events]


@pytest.fixture(autouse=True)
def _trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", f"Root={TRACE};Parent=53995c3f42cd8ad8;Sampled=1")


SECRET, STORED = clients.new_secret(NOW)
RECORDS = Client("records", frozenset({Scope.ISSUE, Scope.USE}), (STORED,), NOW)


class TestPolicy:
    def test_good_credentials_allow_every_route_and_name_the_client(self) -> None:
        policy = Gateway(RECORDS).authorize(basic("records", SECRET)).to_dict(AuthRequest("TOKEN", "", ARN))
        assert policy["principalId"] == "records"
        assert policy["context"] == {"clientId": "records", "scopes": "issue use"}
        assert policy["usageIdentifierKey"] == "tokenservice-dev-client-records"
        assert policy["policyDocument"]["Statement"] == [
            {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": [f"{API}/*/*"]}
        ]

    def test_wrong_credentials_deny_every_route_of_this_stage_alone(self) -> None:
        assert Gateway(RECORDS).authorize(basic("records", "wrong")) == {
            "principalId": "records",
            "policyDocument": {
                "Version": "2012-10-17",
                "Statement": [{"Action": "execute-api:Invoke", "Effect": "Deny", "Resource": [f"{API}/*"]}],
            },
            "context": {"reason": "wrong_secret", "authRequestId": TRACE},
        }

    def test_while_the_store_is_away_the_gateway_gets_no_policy_to_keep(self, caplog: pytest.LogCaptureFixture) -> None:
        gateway = Gateway()
        with caplog.at_level(logging.ERROR):
            assert gateway.authorize(basic("away", SECRET)) is None
        [record] = caplog.records
        assert record.getMessage() == "credentials could not be checked"
        assert record.__dict__["requestId"] == TRACE
        assert record.exc_info is not None
        assert (gateway.audit.events, gateway.audit.counts) == ([], [("AuthFailed", {})])
        assert SECRET not in caplog.text

    @pytest.mark.parametrize(("stage", "name"), [("dev", "a"), ("s" * 32, "n" * 64)])
    def test_a_usage_key_is_as_long_as_the_gateway_demands(self, stage: str, name: str) -> None:
        assert 20 <= len(clients.usage_key(stage, name)) <= 128


class TestRefusals:
    @pytest.mark.parametrize(
        ("user", "facts"),
        [("records", {"clientId": "records", "reason": "wrong_secret"}), ("hunter2", {"reason": "unknown_client"})],
    )
    def test_a_refusal_is_reported_with_the_client_only_if_there_is_one(self, user: str, facts: dict[str, str]) -> None:
        """The name of no client may be a secret that somebody typed into the wrong box."""
        gateway = Gateway(RECORDS)
        policy = gateway.authorize(basic(user, "hunter3"))
        assert policy["principalId"] == facts.get("clientId", "nobody")
        assert policy["context"] == {"reason": facts["reason"], "authRequestId": TRACE}
        assert gateway.audit.events == [("auth.refused", NOW, "WARNING", {"requestId": TRACE, **facts})]
        assert gateway.audit.counts == [("AuthRefused", {})]

    def test_without_a_trace_a_refusal_has_an_id_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("_X_AMZN_TRACE_ID")
        gateway = Gateway()
        gateway.authorize("Basic YTpi")
        assert len(gateway.events()[0]["requestId"]) == 36

    @pytest.mark.parametrize(
        "header",
        [
            *("", " ", "Basic", "Basic ", "Bearer abc", "Basic !!!!", "Basic YQ", "Basic YTpi=", "Basic YTpi YTpi"),
            *("Basic YTpi\n", "\tBasic YTpi", "Basic\tYTpi", "BasicYTpi", "Basic YTp\u0131", "Basic Y\x00Tpi"),
            *map(encoded, (b"no-colon", b"\xff\xfe:secret", b"records:sec\x00ret", b"records\r\n:secret", b"a:\x7f")),
            *('Digest username="a"', "Basic YTpi, Basic YTpi", "Basic YTpi x", "Basic YTr_", "YTpi", "Basic YTpi\xe4"),
            *("Bearer YTpi", "Basic YTpiYh==", "Basic \ud800"),
            "Basic " + "A" * 100_000,
        ],
    )
    def test_a_broken_header_is_refused_without_a_call_of_the_store(self, header: str) -> None:
        gateway = Gateway()
        assert not gateway.allows(header)
        assert gateway.keys == []
        assert gateway.events() == [{"requestId": TRACE, "reason": "malformed_credentials"}]

    @pytest.mark.parametrize(
        "user", ["", "nobody", "rec ords", "records ", "é", "-", "a" * 65, "../records", "Records"]
    )
    def test_an_unknown_client_costs_the_same_one_request_as_a_wrong_secret(self, user: str) -> None:
        gateway = Gateway(RECORDS)
        assert not gateway.allows(basic(user, SECRET))
        assert not gateway.allows(basic("records", "wrong"))
        # What can't be a client's name may be a secret, and a key in the store's own log is no place for one.
        assert gateway.keys == [user if user in ("nobody", "Records") else "-", "records"]
        assert [event["reason"] for event in gateway.events()] == ["unknown_client", "wrong_secret"]

    def test_a_disabled_client_is_refused(self) -> None:
        gateway = Gateway(RECORDS._replace(disabled_at=NOW))
        assert not gateway.allows(basic("records", SECRET))
        assert gateway.events()[0]["reason"] == "client_disabled"

    @pytest.mark.parametrize("guess", ["", "0" * 64])
    def test_the_digest_of_nothing_is_no_secret(self, guess: str) -> None:
        """The value in place of a missing digest must not open a client without any valid secret."""
        assert not Gateway(RECORDS._replace(secrets=())).allows(basic("records", guess))


class TestHeader:
    def test_the_scheme_may_be_written_in_any_case_and_the_password_may_hold_colons(self) -> None:
        header = encoded("é:a:b:ü".encode()).replace("Basic ", "bAsIc  ")
        assert parse_basic(header) == ("é", "a:b:ü")
        assert parse_basic("Basic Xzpf") == ("_", "_")


class TestRotation:
    def opened(self, client: Client, *secrets: str) -> list[bool]:
        """Which of these secrets the client has."""
        return [Gateway(client).allows(basic("records", secret)) for secret in secrets]

    def test_both_secrets_are_good_until_the_old_one_ends(self) -> None:
        new, stored = clients.new_secret(NOW)
        during = clients.rotated(RECORDS, stored, NOW, HOUR)
        assert self.opened(during, SECRET, new) == [True, True]
        assert clients.rotated(during, stored, NOW, HOUR) == during, "a repetition after a lost answer"
        after = during._replace(secrets=(during.secrets[0], during.secrets[1]._replace(expires_at=NOW)))
        assert self.opened(after, SECRET, new) == [False, True]

    def test_without_overlap_the_old_secret_ends_and_a_second_rotation_ends_the_oldest(self) -> None:
        second, stored = clients.new_secret(NOW)
        third, newest = clients.new_secret(NOW)
        assert self.opened(clients.rotated(RECORDS, stored, NOW, timedelta()), SECRET) == [False]
        twice = clients.rotated(clients.rotated(RECORDS, stored, NOW, HOUR), newest, NOW, HOUR)
        assert len(twice.secrets) == clients.MAX_SECRETS
        assert self.opened(twice, SECRET, second, third) == [False, True, True]

    def test_rotating_again_does_not_prolong_a_secret_that_is_ending(self) -> None:
        soon = NOW + timedelta(minutes=1)
        ending = RECORDS._replace(secrets=(STORED._replace(expires_at=soon),))
        rotated = clients.rotated(ending, clients.new_secret(NOW)[1], NOW, timedelta(days=1))
        assert rotated.secrets[1].expires_at == soon


def test_a_secret_has_256_random_bits_and_a_mark_that_scanners_find() -> None:
    secrets = {clients.new_secret(NOW)[0] for _ in range(100)}
    assert len(secrets) == 100
    assert all(re.fullmatch(r"tss_[A-Za-z0-9_-]{43}", secret) for secret in secrets)
