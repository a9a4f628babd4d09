"""`make run` with a Splunk: the service's log lines go there through the forwarder's own code."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from chalicelib.settings import Settings
from dev.shipping import LOG_GROUP, Shipping
from tests.support.hec_faults import ForcedCode
from tests.support.hec_server import HecServer
from tests.support.waiting import wait_until


@pytest.fixture
def hec() -> Iterator[HecServer]:
    with HecServer() as server:
        yield server


def settings(url: str, token: str = "the-token") -> Settings:
    return Settings.from_environ({"STAGE": "local", "SPLUNK_HEC_URL": url, "SPLUNK_HEC_TOKEN": token})


def forward(hec: HecServer, *lines: bytes) -> None:
    """Forward lines, and wait until they are delivered or lost."""
    shipping = Shipping(settings(hec.url))
    for line in lines:
        shipping.put(line)
    shipping.finish()


def test_lines_are_delivered_in_their_order(hec: HecServer) -> None:
    lines = [json.dumps({"event": "token.used", "number": n}).encode() + b"\n" for n in range(2500)]
    lines += ["plain text, Größe\n".encode(), b"not UTF-8: \xff\n", b"no line break at the end"]
    forward(hec, *lines)
    indexed = hec.collector.indexed
    assert [event["event"]["number"] for event in indexed[:2500]] == list(range(2500))
    assert [event["event"] for event in indexed[2500:]] == [
        "plain text, Größe",
        "not UTF-8: \ufffd",
        "no line break at the end",
    ]
    assert len(set(hec.collector.ids())) == len(lines)
    assert {(event["source"], event["sourcetype"]) for event in indexed} == {(LOG_GROUP, "tokenservice")}
    assert all(abs(float(event["time"]) - time.time()) < 3600 for event in indexed)


def test_a_line_is_delivered_while_the_service_goes_on(hec: HecServer) -> None:
    shipping = Shipping(settings(hec.url))
    shipping.put(b'{"event":"token.issued"}\n')
    wait_until(lambda: hec.collector.indexed)
    shipping.finish()
    assert hec.collector.indexed[0]["event"] == {"event": "token.issued"}


def test_what_splunk_does_not_take_is_reported_without_the_lines_and_the_next_are_sent(
    hec: HecServer, capfd: pytest.CaptureFixture[str]
) -> None:
    hec.faults.extend([ForcedCode(4, 1)] * 2)
    shipping = Shipping(settings(hec.url))
    shipping.put(b"a line about alice\n")
    errors = wait_until(lambda: capfd.readouterr().err)
    assert "Splunk did not take 1 log lines" in errors
    assert "alice" not in errors
    assert "the-token" not in errors
    shipping.put(b"second\n")
    shipping.finish()
    assert [event["event"] for event in hec.collector.indexed] == ["second"]
