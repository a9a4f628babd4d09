"""The HEC token: how long it is cached, and what happens if it can't be read."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib.aws.errors import NoAnswer, Refused
from chalicelib.splunk.errors import Misconfigured
from chalicelib.splunk.secret import HecToken, fixed, from_parameter


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

    def secret(self) -> HecToken:
        return HecToken(self.read, ttl_seconds=300, clock=lambda: self.seconds)


def test_a_secret_is_read_once_within_its_time() -> None:
    parameter = Parameter()
    secret = parameter.secret()
    assert secret.get(60) == "first"
    parameter.value, parameter.seconds = "second", 299.9
    assert secret.get(60) == "first"
    parameter.seconds = 300
    assert secret.get(60) == "second"
    assert parameter.reads == 2


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


def test_reading_takes_a_second_at_most_while_a_value_is_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[float] = []

    def give_up(seconds: float, call: Callable[[], object]) -> None:
        allowed.append(seconds)
        raise TimeoutError

    parameter = Parameter()
    secret = parameter.secret()
    secret.get(9)
    monkeypatch.setattr("chalicelib.splunk.secret.within", give_up)
    parameter.seconds = 300
    assert [secret.get(9) for _ in range(20)] == ["first"] * 20
    secret.renew(9)
    secret.renew(0.5)
    with pytest.raises(Misconfigured, match="in time"):
        parameter.secret().get(9)
    assert allowed == [1.0, 1.0, 0.5, 9]


def test_a_late_value_is_cached_for_the_next_delivery() -> None:
    release, late = threading.Event(), iter(["first", "second"])

    def read() -> str:
        value = next(late)
        if value == "second":
            release.wait()
        return value

    seconds = 0.0
    secret = HecToken(read, clock=lambda: seconds)
    secret.get(60)
    secret.renew(0.01)
    assert secret.get(60) == "first"
    release.set()
    for thread in threading.enumerate():
        if thread.name == "splunk":
            thread.join()
    assert secret.get(60) == "second"


@pytest.mark.parametrize("value", ["", " ", "a b", "a\r\nX-Header: b", "tokén", "a\x00"])
def test_a_value_that_no_token_has_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        HecToken(fixed(value)).get(1)
    assert not value.strip() or value not in str(caught.value)


def test_white_space_around_a_value_does_not_count() -> None:
    assert HecToken(fixed(" 0000-1111\n")).get(1) == "0000-1111"


def test_a_secret_does_not_show_itself() -> None:
    secret = HecToken(fixed("the-token"))
    secret.get(60)
    assert "the-token" not in repr(secret) + str(secret)


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
        (Refused({"Error": {"Code": "AccessDenied", "Message": "User arn:…"}}, "GetParameter"), "AccessDenied"),
        (NoAnswer("Systems Manager", "timed out"), "timed out"),
        ({}, "no value"),
    ],
)
def test_a_failed_read_names_the_parameter_and_the_reason(answer: Any, why: str) -> None:
    def get_parameter(**arguments: Any) -> Any:
        assert arguments == {"Name": "/splunk/token", "WithDecryption": True}
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(Misconfigured) as caught:
        from_parameter("/splunk/token", SimpleNamespace(get_parameter=get_parameter))()
    assert str(caught.value) == f"the HEC token can't be read from parameter '/splunk/token': {why}"
