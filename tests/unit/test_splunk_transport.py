"""One request over a real connection: TLS, time-outs, redirects and faults."""

from __future__ import annotations

import gzip
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import trustme

from chalicelib.splunk.errors import Misconfigured
from chalicelib.splunk.transport import NoAnswer, Transport, endpoint, within
from tests.hec_faults import Fault, ForcedCode
from tests.hec_rules import Reply
from tests.hec_server import HecServer, refusing_port, write_authority

BODY = gzip.compress(json.dumps({"event": "café", "fields": {"event_id": "1"}}, ensure_ascii=False).encode())


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://splunk.example", "https://splunk.example/services/collector/event"),
        ("https://splunk.example:8088/", "https://splunk.example:8088/services/collector/event"),
        ("https://splunk.example/services/collector", "https://splunk.example/services/collector/event"),
        ("https://splunk.example/services/collector/event", "https://splunk.example/services/collector/event"),
        ("https://proxy.example/splunk", "https://proxy.example/splunk/services/collector/event"),
        ("http://127.0.0.1:8088", "http://127.0.0.1:8088/services/collector/event"),
        ("http://localhost:8088", "http://localhost:8088/services/collector/event"),
        ("http://[::1]:8088", "http://[::1]:8088/services/collector/event"),
    ],
)  # fmt: skip
def test_the_collector_s_path_is_added_once(url: str, address: str) -> None:
    assert endpoint(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "http://splunk.example",
        "http://10.0.0.1:8088",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "ftp://splunk.example",
        "splunk.example",
        "https://",
        "https://user:password@splunk.example",
        "https://splunk.example?token=x",
        "https://splunk.example#x",
    ],
)
def test_an_address_that_would_give_the_token_away_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured, match="SPLUNK_HEC_URL") as caught:
        Transport(url)
    assert "password" not in str(caught.value)


def test_a_request_carries_the_token_and_the_gzipped_body() -> None:
    with HecServer() as server:
        answer = Transport(server.url).post(BODY, "the-token", 5)
        assert (answer.status, json.loads(answer.body)["code"]) == (200, 0)
        sent = server.requests[0]
        assert sent.headers["authorization"] == "Splunk the-token"
        assert sent.headers["content-encoding"] == "gzip"
        assert server.collector.indexed[0]["event"] == "café"


def test_connections_are_used_again() -> None:
    with HecServer() as server:
        transport = Transport(server.url)
        for _ in range(3):
            transport.post(BODY, "the-token", 5)
        assert len(transport._session.adapters["http://"].poolmanager.pools) == 1  # type: ignore[attr-defined]
        assert len(server.collector.indexed) == 3


FAULTS_WITHOUT_ANSWER = [Fault.REFUSED, Fault.RESET_BEFORE, Fault.RESET_MID, Fault.RESET_AFTER, Fault.TRUNCATED]


@pytest.mark.parametrize("fault", FAULTS_WITHOUT_ANSWER)
def test_a_broken_connection_is_no_answer_and_the_next_request_works(fault: Fault) -> None:
    with HecServer() as server:
        server.faults.append(fault)
        transport = Transport(server.url)
        with pytest.raises(NoAnswer):
            transport.post(BODY, "the-token", 5)
        assert transport.post(BODY, "the-token", 5).status == 200


def test_a_refused_connection_is_no_answer() -> None:
    with refusing_port() as url, pytest.raises(NoAnswer):
        Transport(url).post(BODY, "the-token", 5)


@pytest.mark.parametrize("fault", [Fault.SLOW, Fault.DRIP])
def test_an_answer_that_does_not_come_in_time_is_given_up(fault: Fault) -> None:
    with HecServer() as server:
        # DRIP sends a byte each 0.2 s: no wait for a single byte is ever too long, only the whole is.
        server.slow_seconds = 6.0
        server.faults.append(fault)
        transport = Transport(server.url)
        session = transport._session
        with pytest.raises(NoAnswer):
            transport.post(BODY, "the-token", 0.5)
        assert transport._session is not session or fault is Fault.SLOW, "its thread still uses the old one"
        assert transport.post(BODY, "the-token", 5).status == 200


def test_a_redirect_is_not_followed() -> None:
    with HecServer() as elsewhere, HecServer() as server:
        server.faults.append(Fault.REDIRECT)
        assert Transport(server.url).post(BODY, "the-token", 5).status == 307
        assert elsewhere.requests == []


def test_a_long_page_is_not_read_to_its_end() -> None:
    with HecServer() as server:
        server.collector.answer = lambda request: Reply(502, b"x" * 1_000_000)  # type: ignore[method-assign]
        answer = Transport(server.url).post(BODY, "the-token", 5)
        assert answer.status == 502
        assert len(answer.body) == 65_536


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Fri, 21 Nov 2025 00:00:30 GMT", 30.0),
        ("Thu, 20 Nov 2025 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("٣", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date(header: str, seconds: float | None) -> None:
    transport = Transport("https://splunk.example", now=lambda: 1_763_683_200.0)
    assert transport._retry_after(header) == seconds


def test_retry_after_arrives_with_the_answer() -> None:
    with HecServer() as server:
        server.faults.append(ForcedCode(9, retry_after="12"))
        assert Transport(server.url).post(BODY, "the-token", 5).retry_after_seconds == 12.0


def test_an_answer_that_trips_our_own_code_is_no_answer_and_never_the_end() -> None:
    def fail() -> float:
        raise LookupError("the clock")

    with HecServer() as server:
        server.faults.append(ForcedCode(9, retry_after="Fri, 21 Nov 2025 00:00:30 GMT"))
        with pytest.raises(NoAnswer, match="LookupError") as caught:
            Transport(server.url, now=fail).post(BODY, "the-token", 5)
        assert "the clock" not in str(caught.value)


def test_tls_is_verified_with_the_authority_that_is_named(tmp_path: Path) -> None:
    authority = trustme.CA()
    with HecServer(authority=authority) as server:
        trusting = Transport(server.url, write_authority(authority, tmp_path))
        assert trusting.post(BODY, "the-token", 5).status == 200


def test_an_unknown_authority_is_a_matter_of_configuration_and_the_token_is_not_sent() -> None:
    with HecServer(authority=trustme.CA()) as server:
        with pytest.raises(Misconfigured, match="certificate"):
            Transport(server.url).post(BODY, "the-token", 5)
        assert server.requests == []


def test_a_certificate_for_another_host_is_refused(tmp_path: Path) -> None:
    authority = trustme.CA()
    with HecServer(authority=authority) as server:
        url = server.url.replace("127.0.0.1", "127.0.0.2")
        server_elsewhere = Transport(url, write_authority(authority, tmp_path))
        with pytest.raises((Misconfigured, NoAnswer)):
            server_elsewhere.post(BODY, "the-token", 5)
        assert server.requests == []


def test_no_variable_of_the_environment_changes_whom_we_trust_or_what_we_send(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", write_authority(authority, tmp_path))
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with HecServer(authority=authority) as server, pytest.raises(Misconfigured):
        Transport(server.url).post(BODY, "the-token", 5)
    with HecServer() as server:
        Transport(server.url).post(BODY, "the-token", 5)
        assert server.requests[0].headers["authorization"] == "Splunk the-token"


def test_a_missing_bundle_is_said_at_the_start() -> None:
    with pytest.raises(Misconfigured, match="SPLUNK_CA_BUNDLE"):
        Transport("https://splunk.example", "/nowhere/authority.pem")


def test_a_call_s_own_error_reaches_the_caller() -> None:
    def fail() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        within(5, fail)


def test_a_call_that_takes_too_long_is_left_alone() -> None:
    release = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.01, release.wait)
    release.set()


def test_no_error_says_where_or_what_was_sent() -> None:
    with refusing_port() as url, pytest.raises(NoAnswer) as caught:
        Transport(url).post(BODY, "the-token", 5)
    told: Any = caught.value
    assert str(told) == "no answer: ConnectionError"
    assert told.__cause__ is None
    assert told.__suppress_context__
