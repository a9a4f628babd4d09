"""Credentials under SnapStart: fetched from Lambda's own endpoint, and renewed before they expire."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chalicelib.aws.client import AwsClient, Patience
from chalicelib.aws.container import ContainerCredentials
from chalicelib.aws.errors import NoCredentials
from chalicelib.aws.signing import Credentials, Signer

EXPIRY = datetime(2026, 11, 27, 20, tzinfo=UTC).timestamp()
PATIENCE = Patience(attempts=1, attempt_seconds=30, total_seconds=30, pause_seconds=0)
TOKEN = "an-authorization-token"


class Endpoint(ThreadingHTTPServer):
    """Gives credentials with the number of the request in them, or what `answer` holds: a status and a body."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.answer: tuple[int, str] | None = None
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/credentials"


class Handler(BaseHTTPRequestHandler):
    server: Endpoint
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["authorization"]))
        number = len(self.server.asked)
        fresh = {"AccessKeyId": f"AKID{number}", "SecretAccessKey": "secret", "Token": "token"}
        status, text = self.server.answer or (200, json.dumps({**fresh, "Expiration": "2026-11-27T20:00:00Z"}))
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Clock:
    def __init__(self) -> None:
        self.now = EXPIRY - 3600

    def __call__(self) -> float:
        return self.now


def test_they_are_fetched_once_until_five_minutes_before_they_expire(endpoint: Endpoint) -> None:
    clock = Clock()
    credentials = ContainerCredentials(endpoint.url, TOKEN, clock)
    assert credentials.current() == credentials.current() == Credentials("AKID1", "secret", "token")
    assert endpoint.asked == [("/credentials", TOKEN)]
    clock.now = EXPIRY - 301
    assert credentials.current().access_key_id == "AKID1"
    clock.now = EXPIRY - 300
    assert credentials.current().access_key_id == "AKID2"


@pytest.mark.parametrize(
    "answer",
    [(500, "{}"), (200, "no JSON"), (200, "[]"), (200, "{}"), (200, '{"AccessKeyId": "a", "Expiration": "soon"}')],
)
def test_an_endpoint_in_trouble_is_no_loss_while_they_are_valid(endpoint: Endpoint, answer: tuple[int, str]) -> None:
    clock = Clock()
    credentials = ContainerCredentials(endpoint.url, TOKEN, clock)
    credentials.current()
    endpoint.answer = answer
    clock.now = EXPIRY - 1
    assert credentials.current().access_key_id == "AKID1"
    clock.now = EXPIRY
    with pytest.raises(OSError, match="no credentials"):
        credentials.current()


def test_a_renewed_key_signs_at_once(endpoint: Endpoint) -> None:
    clock = Clock()
    signer = Signer(ContainerCredentials(endpoint.url, TOKEN, clock), "eu-central-1", "dynamodb", clock)
    first = signer.sign("POST", "/", {"host": "x"}, b"")
    endpoint.answer = (
        200,
        json.dumps({"AccessKeyId": "B", "SecretAccessKey": "b", "Token": "t", "Expiration": "2027-01-01T00:00:00Z"}),
    )
    clock.now = EXPIRY - 300
    renewed = signer.sign("POST", "/", {"host": "x"}, b"")
    assert first["x-amz-security-token"] == "token"
    assert renewed == Signer(Credentials("B", "b", "t"), "eu-central-1", "dynamodb", clock).sign(
        "POST", "/", {"host": "x"}, b""
    )


class TestFromTheEnvironment:
    ENVIRON = {"AWS_REGION": "eu-central-1", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/"}  # noqa: RUF012 - a constant

    def test_the_token_must_be_there(self) -> None:
        with pytest.raises(NoCredentials, match="AWS_CONTAINER_AUTHORIZATION_TOKEN: missing"):
            AwsClient.from_environ("dynamodb", self.ENVIRON, PATIENCE)

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
            command = [sys.executable, "-c", program, *(f"{name}={value}" for name, value in environ.items())]
            assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == loaded
