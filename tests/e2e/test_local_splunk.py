"""`make run` with a Splunk: the service's log lines go there through the forwarder's own code."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chalicelib.settings import Settings
from dev.shipping import LOG_GROUP, ship
from tests.support.hec_faults import ForcedCode
from tests.support.hec_server import HecServer
from tests.support.waiting import wait_until


@pytest.fixture
def hec() -> Iterator[HecServer]:
    with HecServer() as server:
        yield server


def settings(url: str, token: str = "the-token") -> Settings:
    return Settings.from_environ({"STAGE": "local", "SPLUNK_HEC_URL": url, "SPLUNK_HEC_TOKEN": token})


def forward(hec: HecServer, folder: Path, *lines: bytes) -> None:
    """Forward lines, and wait until they are delivered or stored."""
    shipping = ship(settings(hec.url), folder)
    for line in lines:
        shipping.put(line)
    shipping.finish()


def test_lines_are_delivered_in_their_order(hec: HecServer, tmp_path: Path) -> None:
    lines = [json.dumps({"event": "token.used", "number": n}).encode() + b"\n" for n in range(2500)]
    lines += ["plain text, Größe\n".encode(), b"not UTF-8: \xff\n", b"no line break at the end"]
    forward(hec, tmp_path, *lines)
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
    assert list(tmp_path.iterdir()) == []


def test_a_line_is_delivered_while_the_service_goes_on(hec: HecServer, tmp_path: Path) -> None:
    shipping = ship(settings(hec.url), tmp_path)
    shipping.put(b'{"event":"token.issued"}\n')
    wait_until(lambda: hec.collector.indexed)
    shipping.finish()
    assert hec.collector.indexed[0]["event"] == {"event": "token.issued"}


def test_what_splunk_does_not_take_is_stored_and_reported_without_the_lines(
    hec: HecServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hec.faults.extend([ForcedCode(4, 1)] * 10)
    forward(hec, tmp_path, b"a line about alice\n")
    errors = capfd.readouterr().err
    assert "Splunk did not take 1 log lines" in errors
    assert "alice" not in errors
    assert "the-token" not in errors
    assert hec.collector.indexed == []
    [stored] = (tmp_path / "failed").iterdir()
    assert json.loads(stored.read_text())["requestPayload"]["awslogs"]["data"]


def test_a_failure_record_that_can_not_be_written_does_not_end_the_shipping(
    hec: HecServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "no-folder").write_text("")
    hec.faults.extend([ForcedCode(4, 1)] * 2)
    shipping = ship(settings(hec.url), tmp_path / "no-folder")
    shipping.put(b"first\n")
    wait_until(lambda: "lost to Splunk" in capfd.readouterr().err)
    shipping.put(b"second\n")
    shipping.finish()
    assert [event["event"] for event in hec.collector.indexed] == ["second"]
