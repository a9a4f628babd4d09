"""Basic credentials: how they are read, judged and answered to the gateway."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from chalice.app import AuthRequest, AuthResponse

from chalicelib import clients
from chalicelib.audit import Audit
from chalicelib.authorizer import Authorizer, MalformedCredentials, parse_basic
from chalicelib.clients import Client, Scope

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ARN = "arn:aws:execute-api:eu-central-1:123456789012:abc123/api/GET/tokenservice/services/api/version"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Clients:
    """Clients in memory; counts how often it is asked."""

    def __init__(self, *known: Client) -> None:
        self.known = {client.id: client for client in known}
        self.asked: list[str] = []

    def find(self, client_id: str) -> Client | None:
        self.asked.append(client_id)
        return self.known.get(client_id)


class Gateway:
    """Asks the authorizer like the gateway, and keeps what it wrote."""

    def __init__(self, *known: Client) -> None:
        self.store = Clients(*known)
        self.lines: list[str] = []
        self.authorizer = Authorizer(self.store, Audit("dev", "1", self.lines.append), lambda: NOW)

    def ask(self, header: str) -> AuthResponse | dict[str, object] | None:
        return self.authorizer(AuthRequest("TOKEN", header, ARN))

    def allows(self, header: str) -> bool:
        return isinstance(self.ask(header), AuthResponse)

    def events(self) -> list[dict[str, str]]:
        return [line for line in map(json.loads, self.lines) if "event" in line]


@pytest.fixture
def secret_and_client() -> tuple[str, Client]:
    secret, kept = clients.new_secret(NOW)
    return secret, Client("records", frozenset({Scope.ISSUE, Scope.USE}), (kept,), NOW)


def test_good_credentials_allow_every_route_and_tell_who_called(
    secret_and_client: tuple[str, Client],
) -> None:
    secret, client = secret_and_client
    answer = Gateway(client).ask(basic("records", secret))
    assert isinstance(answer, AuthResponse)
    told = answer.to_dict(AuthRequest("TOKEN", "", ARN))
    assert told["principalId"] == "records"
    assert told["context"] == {"clientId": "records", "scopes": "issue use"}
    assert told["policyDocument"]["Statement"] == [
        {
            "Action": "execute-api:Invoke",
            "Effect": "Allow",
            "Resource": ["arn:aws:execute-api:eu-central-1:123456789012:abc123/api/*/*"],
        }
    ]


def test_wrong_credentials_deny_every_route_of_this_stage_alone(
    secret_and_client: tuple[str, Client],
) -> None:
    _, client = secret_and_client
    gateway = Gateway(client)
    answer = gateway.ask(basic("records", "wrong"))
    assert answer == {
        "principalId": "records",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Action": "execute-api:Invoke",
                    "Effect": "Deny",
                    "Resource": ["arn:aws:execute-api:eu-central-1:123456789012:abc123/api/*"],
                }
            ],
        },
        "context": {"reason": "wrong_secret", "authRequestId": gateway.events()[0]["requestId"]},
    }


def test_a_name_that_no_client_has_does_not_reach_the_access_log(secret_and_client: tuple[str, Client]) -> None:
    _, client = secret_and_client
    answer = Gateway(client).ask(basic("perhaps-a-secret", "wrong"))
    assert isinstance(answer, dict)
    assert (answer["principalId"], answer["context"]["reason"]) == ("nobody", "unknown_client")
    assert "perhaps-a-secret" not in json.dumps(answer)


@pytest.mark.parametrize(
    "header",
    [
        *(
            "",
            " ",
            "Basic",
            "Basic ",
            "Bearer abc",
            "Basic !!!!",
            "Basic YQ",
            "Basic YTpi=",
            "Basic YTpi YTpi",
        ),
        *("Basic YTpi\n", "\tBasic YTpi", "Basic\tYTpi", "BasicYTpi", "Basic YTp\u0131", "Basic Y\x00Tpi"),
        "Basic " + base64.b64encode(b"no-colon").decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:secret").decode(),
        "Basic " + base64.b64encode(b"records:sec\x00ret").decode(),
        "Basic " + base64.b64encode(b"records\r\n:secret").decode(),
        "Basic " + "A" * 100_000,
    ],
)
def test_a_broken_header_is_refused_without_asking_the_store(header: str) -> None:
    gateway = Gateway()
    assert not gateway.allows(header)
    assert gateway.store.asked == []
    [event] = gateway.events()
    assert event["reason"] == "malformed_credentials"
    assert "clientId" not in event


def test_the_scheme_may_be_written_in_any_case_and_the_password_may_hold_colons() -> None:
    assert parse_basic("bAsIc  " + base64.b64encode("é:a:b:ü".encode()).decode()) == ("é", "a:b:ü")
    with pytest.raises(MalformedCredentials):
        parse_basic("Basic")


@pytest.mark.parametrize("user", ["", "nobody", "rec ords", "records ", "é", "-", "a" * 65, "../records", "Records"])
def test_an_unknown_client_costs_the_same_one_request_as_a_wrong_secret(
    user: str, secret_and_client: tuple[str, Client]
) -> None:
    secret, client = secret_and_client
    gateway = Gateway(client)
    assert not gateway.allows(basic(user, secret))
    assert not gateway.allows(basic("records", "wrong"))
    assert len(gateway.store.asked) == 2
    assert [event["reason"] for event in gateway.events()] == ["unknown_client", "wrong_secret"]


def test_a_name_that_no_client_bears_is_not_told(secret_and_client: tuple[str, Client]) -> None:
    """It may be a secret that somebody typed into the wrong box."""
    secret, client = secret_and_client
    gateway = Gateway(client)
    gateway.ask(basic("hunter2", "x"))
    gateway.ask(basic("records", "hunter3"))
    assert "hunter" not in "".join(gateway.lines)
    assert [event.get("clientId") for event in gateway.events()] == [None, "records"]
    metrics = [line for line in map(json.loads, gateway.lines) if "AuthRefused" in line]
    assert len(metrics) == 2
    assert secret not in "".join(gateway.lines)


def test_a_disabled_client_is_refused(secret_and_client: tuple[str, Client]) -> None:
    secret, client = secret_and_client
    gateway = Gateway(client._replace(disabled_at=NOW))
    assert not gateway.allows(basic("records", secret))
    assert gateway.events()[0]["reason"] == "client_disabled"


def test_during_a_rotation_both_secrets_are_good_until_the_old_one_ends(
    secret_and_client: tuple[str, Client],
) -> None:
    old, client = secret_and_client
    new, kept = clients.new_secret(NOW)
    during = clients.rotated(client, kept, NOW, timedelta(hours=1))
    assert Gateway(during).allows(basic("records", old))
    assert Gateway(during).allows(basic("records", new))
    after = during._replace(secrets=(during.secrets[0], during.secrets[1]._replace(expires_at=NOW)))
    assert not Gateway(after).allows(basic("records", old))
    assert Gateway(after).allows(basic("records", new))


def test_a_rotation_without_overlap_ends_the_old_secret_and_a_second_one_the_oldest(
    secret_and_client: tuple[str, Client],
) -> None:
    first, client = secret_and_client
    second, kept = clients.new_secret(NOW)
    assert not Gateway(clients.rotated(client, kept, NOW, timedelta())).allows(basic("records", first))
    twice = clients.rotated(client, kept, NOW, timedelta(hours=1))
    third, newest = clients.new_secret(NOW)
    twice = clients.rotated(twice, newest, NOW, timedelta(hours=1))
    assert len(twice.secrets) == clients.MAX_SECRETS
    assert not Gateway(twice).allows(basic("records", first))
    assert Gateway(twice).allows(basic("records", second))
    assert Gateway(twice).allows(basic("records", third))


def test_a_rotation_whose_answer_was_lost_may_be_repeated(secret_and_client: tuple[str, Client]) -> None:
    old, client = secret_and_client
    new, kept = clients.new_secret(NOW)
    once = clients.rotated(client, kept, NOW, timedelta(hours=1))
    twice = clients.rotated(once, kept, NOW, timedelta(hours=1))
    assert twice == once
    assert Gateway(twice).allows(basic("records", old))
    assert Gateway(twice).allows(basic("records", new))


def test_rotating_again_does_not_prolong_a_secret_that_is_ending(
    secret_and_client: tuple[str, Client],
) -> None:
    _, client = secret_and_client
    ending = client._replace(secrets=(client.secrets[0]._replace(expires_at=NOW + timedelta(minutes=1)),))
    _, kept = clients.new_secret(NOW)
    rotated = clients.rotated(ending, kept, NOW, timedelta(days=1))
    assert rotated.secrets[1].expires_at == NOW + timedelta(minutes=1)


def test_a_secret_has_256_random_bits_and_a_mark_that_scanners_find() -> None:
    made = {clients.new_secret(NOW)[0] for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"tss_[A-Za-z0-9_-]{43}", secret) for secret in made)


def test_the_digest_of_nothing_is_no_secret() -> None:
    """A client without any valid secret must not be opened by the value that stands in for a missing digest."""
    client = Client("records", frozenset(Scope), (), NOW)
    for guess in ("", "0" * 64):
        assert not Gateway(client).allows(basic("records", guess))


def test_where_the_store_is_away_the_gateway_gets_no_policy_to_keep(
    secret_and_client: tuple[str, Client],
) -> None:
    secret, client = secret_and_client
    gateway = Gateway(client)

    def away(_: str) -> Client:
        raise ConnectionError("away")

    gateway.store.find = away  # type: ignore[method-assign, assignment]
    assert gateway.ask(basic("records", secret)) is None
    assert "AuthFailed" in "".join(gateway.lines)
    assert secret not in "".join(gateway.lines)


def test_a_refusal_bears_the_trace_that_the_gateway_logs(
    secret_and_client: tuple[str, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway()
    gateway.ask("Basic YTpi")
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1")
    gateway.ask("Basic YTpi")
    first, second = (event["requestId"] for event in gateway.events())
    assert len(first) == 36
    assert second == "1-5759e988-bd862e3fe1be46a994272793"
