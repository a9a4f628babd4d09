"""The HEC token: how long it is cached, and what happens if it can't be read."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

import botocore.session
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.stub import Stubber

from chalicelib.splunk.delivery import Deliverer
from chalicelib.splunk.errors import Misconfigured
from chalicelib.splunk.forward import Forwarder
from chalicelib.splunk.secret import Secret, fixed, from_parameter
from chalicelib.splunk.transport import Transport
from tests.support.hec_server import HecServer
from tests.support.splunk_world import subscription
from tokenctl.errors import OwnErrors


class Parameter:
    """A parameter whose value changes, and a clock."""

    def __init__(self) -> None:
        self.value: str | Exception = "first"
        self.reads = 0
        self.seconds: float = 0

    def read(self) -> str:
        self.reads += 1
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    def secret(self) -> Secret:
        return Secret(self.read, ttl_seconds=300, clock=lambda: self.seconds)


def test_a_secret_is_read_once_within_its_time() -> None:
    parameter = Parameter()
    secret = parameter.secret()
    assert secret.get(60) == "first"
    parameter.value, parameter.seconds = "second", 299.9
    assert secret.get(60) == "first"
    parameter.seconds = 300
    assert secret.get(60) == "second"
    assert parameter.reads == 2


def test_renewing_reads_at_once() -> None:
    parameter = Parameter()
    secret = parameter.secret()
    secret.get(60)
    parameter.value = "second"
    secret.renew(1)
    assert secret.get(60) == "second"


def test_a_failed_renewal_is_not_repeated_for_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Counted in reads: each of them may cost its caller a second."""
    parameter = Parameter()
    secret = parameter.secret()
    secret.get(60)
    parameter.value = Misconfigured("no")
    for parameter.seconds in range(300, 480):
        assert secret.get(60) == "first"
    assert parameter.reads == 1 + 3
    message = "the HEC token can't be renewed; the cached one is used: no"
    assert [record.getMessage() for record in caplog.records] == [message] * 3


def test_a_refused_value_is_read_again_even_after_a_failed_renewal() -> None:
    parameter = Parameter()
    secret = parameter.secret()
    secret.get(60)
    parameter.value, parameter.seconds = Misconfigured("no"), 300
    secret.get(60)
    parameter.value = "second"
    secret.renew(1)
    assert secret.get(60) == "second"


def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each reading may take, in seconds; none of them ends in time."""
    allowed: list[float] = []

    def give_up(seconds: float, call: Callable[[], object]) -> None:
        allowed.append(seconds)
        raise TimeoutError

    monkeypatch.setattr("chalicelib.splunk.secret.within", give_up)
    return allowed


def test_with_a_cached_value_no_renewal_takes_more_than_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    parameter = Parameter()
    secret = parameter.secret()
    secret.get(9)
    allowed = waits(monkeypatch)
    parameter.seconds = 300
    assert [secret.get(9) for _ in range(20)] == ["first"] * 20
    secret.renew(9)
    secret.renew(0.5)
    assert allowed == [1.0, 1.0, 0.5]


def test_without_a_value_reading_may_use_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = Parameter().secret()
    allowed = waits(monkeypatch)
    with pytest.raises(Misconfigured, match="in time"):
        secret.get(9)
    assert allowed == [9]


def test_a_late_value_is_cached_for_the_next_delivery() -> None:
    release, late = threading.Event(), iter(["first", "second"])

    def read() -> str:
        value = next(late)
        if value == "second":
            release.wait()
        return value

    seconds = 0.0
    secret = Secret(read, clock=lambda: seconds)
    secret.get(60)
    secret.renew(0.01)
    assert secret.get(60) == "first"
    release.set()
    for thread in threading.enumerate():
        if thread.name == "splunk":
            thread.join()
    assert secret.get(60) == "second"


def test_a_silent_parameter_store_costs_a_warm_forwarder_one_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Systems Manager accepts the connection and never answers, over a real socket."""
    with socket.create_server(("127.0.0.1", 0)) as silent, HecServer() as hec:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", f"http://127.0.0.1:{silent.getsockname()[1]}")
        for name in ("AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "eu-central-1")
        parameter, reads = Parameter(), []
        read_parameter = from_parameter("/splunk/token")

        def read() -> str:
            reads.append(parameter.seconds)
            return "the-token" if len(reads) == 1 else read_parameter()

        secret = Secret(read, clock=lambda: parameter.seconds)
        warm = Forwarder(Deliverer(Transport(hec.url).post, secret), stage="test")
        for parameter.seconds in (0, 300, 301, 302, 330, 359):
            assert warm.forward(subscription(["a"]), lambda: 60_000).delivered == 1
        assert reads == [0, 300]


def test_a_failed_first_read_is_an_error() -> None:
    parameter = Parameter()
    parameter.value = Misconfigured("no")
    with pytest.raises(Misconfigured):
        parameter.secret().get(60)


def test_reading_that_takes_too_long_is_given_up() -> None:
    release = threading.Event()

    def read() -> str:
        release.wait()
        return "late"

    with pytest.raises(Misconfigured, match="in time"):
        Secret(read).get(0.01)
    release.set()


@pytest.mark.parametrize("value", ["", " ", "a b", "a\r\nX-Header: b", "tokén", "a\x00"])
def test_a_value_that_no_token_has_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        Secret(fixed(value)).get(1)
    assert not value.strip() or value not in str(caught.value)


def test_white_space_around_a_value_does_not_count() -> None:
    assert Secret(fixed(" 0000-1111\n")).get(1) == "0000-1111"


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret(fixed("the-token"))
    secret.get(60)
    assert "the-token" not in repr(secret) + str(secret)


@pytest.fixture
def ssm() -> Any:
    """A client of AWS's library, as an operator's commands hand it in."""
    session = botocore.session.get_session()
    client = session.create_client("ssm", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stub:
        stub.ours = OwnErrors(client)
        yield stub


def test_a_parameter_is_read_decrypted(ssm: Any) -> None:
    parameters = {"Name": "/splunk/token", "WithDecryption": True}
    ssm.add_response("get_parameter", {"Parameter": {"Value": "from-ssm"}}, parameters)
    assert Secret(from_parameter("/splunk/token", ssm.ours)).get(5) == "from-ssm"
    ssm.assert_no_pending_responses()


def test_without_a_client_ours_is_made_of_the_environment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """That it reads a real parameter is shown with the deployed forwarders."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    message = "the HEC token can't be read from parameter '/splunk/token': AWS_ACCESS_KEY_ID: missing"
    with pytest.raises(Misconfigured, match=re.escape(message)):
        from_parameter("/splunk/token")()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (ClientError({"Error": {"Code": "AccessDenied", "Message": "User arn:…"}}, "GetParameter"), "AccessDenied"),
        (EndpointConnectionError(endpoint_url="https://ssm.example"), "EndpointConnectionError"),
        ({}, "no value"),
    ],
)
def test_a_failed_read_names_the_parameter_and_the_reason(
    answer: Any, why: str, ssm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssm.client, "get_parameter", mock.Mock(side_effect=[answer]))
    with pytest.raises(Misconfigured) as caught:
        from_parameter("/splunk/token", ssm.ours)()
    assert str(caught.value) == f"the HEC token can't be read from parameter '/splunk/token': {why}"
