"""Credentials under SnapStart: fetched from Lambda's own endpoint, and renewed before they expire."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from chalicelib.aws.client import AwsClient, Patience
from chalicelib.aws.container import ContainerCredentials
from chalicelib.aws.errors import NoCredentials
from chalicelib.aws.signing import Credentials, Signer
from tests.support.scripted_server import Move, Server, answer

EXPIRY = datetime(2026, 11, 27, 20, tzinfo=UTC).timestamp()
TOKEN = "an-authorization-token"
URL = "AWS_CONTAINER_CREDENTIALS_FULL_URI"


def giving(key: str) -> Move:
    expiry = "2026-11-27T20:00:00Z"
    return answer(200, {"AccessKeyId": key, "SecretAccessKey": "secret", "Token": "token", "Expiration": expiry})


@pytest.fixture
def endpoint() -> Iterator[Server]:
    with Server(giving("first"), giving("second")) as server:
        yield server


class Clock:
    def __init__(self) -> None:
        self.now = EXPIRY - 3600

    def __call__(self) -> float:
        return self.now


def credentials_of(endpoint: Server, clock: Clock) -> ContainerCredentials:
    environ = {URL: f"{endpoint.url}/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN": TOKEN}
    return ContainerCredentials(environ, clock)


def test_they_are_fetched_once_until_five_minutes_before_they_expire(endpoint: Server) -> None:
    clock = Clock()
    credentials = credentials_of(endpoint, clock)
    assert vars(credentials.current()) == vars(credentials.current()) == vars(Credentials("first", "secret", "token"))
    [request] = endpoint.received
    assert (request.method, request.path, request.headers["authorization"]) == ("GET", "/credentials", TOKEN)
    clock.now = EXPIRY - 301
    assert credentials.current().access_key_id == "first"
    clock.now = EXPIRY - 300
    assert credentials.current().access_key_id == "second"


@pytest.mark.parametrize(
    "trouble",
    [
        answer(500, {}),
        answer(200, b"no JSON"),
        *(answer(200, document) for document in ([], {}, {"AccessKeyId": "a", "Expiration": "soon"})),
    ],
)
def test_an_endpoint_in_trouble_is_no_loss_while_they_are_valid(endpoint: Server, trouble: Move) -> None:
    clock = Clock()
    credentials = credentials_of(endpoint, clock)
    first = credentials.current()
    endpoint.moves = [trouble]
    clock.now = EXPIRY - 1
    assert credentials.current() == first
    clock.now = EXPIRY
    with pytest.raises(OSError, match=r"^no credentials: "):
        credentials.current()


def test_a_renewed_key_signs_at_once(endpoint: Server) -> None:
    clock = Clock()
    signer = Signer(credentials_of(endpoint, clock), "eu-central-1", "dynamodb", clock)
    for key, now in (("first", EXPIRY - 301), ("second", EXPIRY - 300)):
        clock.now = now
        expected = Signer(Credentials(key, "secret", "token"), "eu-central-1", "dynamodb", clock)
        assert signer.sign("POST", "/", {"host": "x"}, b"") == expected.sign("POST", "/", {"host": "x"}, b"")


class TestFromTheEnvironment:
    ENVIRON = {"AWS_REGION": "eu-central-1", URL: "http://127.0.0.1:9/"}  # noqa: RUF012 - a constant

    def test_the_token_must_be_there(self) -> None:
        with pytest.raises(NoCredentials, match="AWS_CONTAINER_AUTHORIZATION_TOKEN: missing"):
            AwsClient.from_environ("dynamodb", self.ENVIRON, Patience(1, 1, 1, 0))

    def test_without_an_endpoint_the_keys_must_be_in_the_environment(self) -> None:
        with pytest.raises(NoCredentials, match="AWS_ACCESS_KEY_ID: missing"):
            AwsClient.from_environ("dynamodb", {"AWS_REGION": "eu-central-1"}, Patience(1, 1, 1, 0))

    def test_keys_in_the_environment_come_first_and_load_nothing_more(self) -> None:
        program = """
import sys
from chalicelib.aws.client import AwsClient, Patience
AwsClient.from_environ("dynamodb", dict(pair.split("=", 1) for pair in sys.argv[1:]), Patience(1, 1, 1, 0))
print("chalicelib.aws.container" in sys.modules)
"""
        container = {**self.ENVIRON, "AWS_CONTAINER_AUTHORIZATION_TOKEN": TOKEN}
        for environ, loaded in (
            ({**container, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s"}, "False"),
            (container, "True"),
        ):
            signer = AwsClient.from_environ("dynamodb", environ, Patience(1, 1, 1, 0))._signer
            assert str(isinstance(signer._credentials, ContainerCredentials)) == loaded
            command = [sys.executable, "-c", program, *(f"{name}={value}" for name, value in environ.items())]
            assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == loaded
