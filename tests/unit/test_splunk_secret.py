"""The HEC token: how long it is kept and what is said when it can't be had."""

from __future__ import annotations

import re
import threading
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber

from chalicelib.splunk.errors import Misconfigured
from chalicelib.splunk.secret import Secret, fixed, from_parameter


class Parameter:
    """A parameter whose value changes, and a clock."""

    def __init__(self) -> None:
        self.value: str | Exception = "first"
        self.reads = 0
        self.seconds = 0.0

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
    assert secret.get(1) == "first"
    parameter.value, parameter.seconds = "second", 299.9
    assert secret.get(1) == "first"
    parameter.seconds = 300
    assert secret.get(1) == "second"
    assert parameter.reads == 2


def test_renewing_reads_at_once() -> None:
    parameter = Parameter()
    secret = parameter.secret()
    secret.get(1)
    parameter.value = "second"
    assert secret.renew(1) == "second"
    assert secret.get(1) == "second"


def test_an_old_value_serves_while_no_newer_one_can_be_read() -> None:
    parameter = Parameter()
    secret = parameter.secret()
    secret.get(1)
    parameter.value, parameter.seconds = Misconfigured("no"), 1000
    assert secret.get(1) == "first"
    with pytest.raises(Misconfigured):
        secret.renew(1)


def test_what_was_never_read_can_t_be_had() -> None:
    parameter = Parameter()
    parameter.value = Misconfigured("no")
    with pytest.raises(Misconfigured):
        parameter.secret().get(1)


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
    secret.get(1)
    assert "the-token" not in repr(secret) + str(secret)


@pytest.fixture
def ssm() -> Any:
    """A client of AWS's library, as an operator's commands hand it in."""
    session = botocore.session.get_session()
    client = session.create_client("ssm", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stub:
        stub.client = client
        yield stub


def test_a_parameter_is_read_decrypted(ssm: Any) -> None:
    asked = {"Name": "/splunk/token", "WithDecryption": True}
    ssm.add_response("get_parameter", {"Parameter": {"Value": "from-ssm"}}, asked)
    assert Secret(from_parameter("/splunk/token", ssm.client)).get(5) == "from-ssm"
    ssm.assert_no_pending_responses()


def test_without_a_client_ours_is_made_of_the_environment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """That it reads a real parameter is shown with the deployed forwarders."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    told = "the HEC token can't be read from parameter '/splunk/token': AWS_ACCESS_KEY_ID: missing"
    with pytest.raises(Misconfigured, match=re.escape(told)):
        from_parameter("/splunk/token")()


def test_a_refusal_is_told_with_the_parameter_s_name_and_aws_s_code(ssm: Any) -> None:
    ssm.add_client_error("get_parameter", "AccessDeniedException", "User arn:… is not authorized")
    with pytest.raises(Misconfigured) as caught:
        from_parameter("/splunk/token", ssm.client)()
    told = "the HEC token can't be read from parameter '/splunk/token': AccessDeniedException"
    assert str(caught.value) == told


def test_no_connection_is_told_by_its_name(ssm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise EndpointConnectionError(endpoint_url="https://ssm.example")

    monkeypatch.setattr(ssm.client, "get_parameter", fail)
    with pytest.raises(Misconfigured, match="EndpointConnectionError"):
        from_parameter("/splunk/token", ssm.client)()
