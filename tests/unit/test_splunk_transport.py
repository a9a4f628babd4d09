"""One request over a real connection: TLS, time-outs, redirects and faults."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import requests
import trustme

from chalicelib.splunk.errors import Misconfigured, SplunkError
from chalicelib.splunk.transport import NoAnswer, Transport, endpoint, failure
from tests.support.hec_faults import Fault, ForcedCode
from tests.support.hec_rules import Reply
from tests.support.hec_server import HecServer, refusing_port, write_authority

PATIENCE_SECONDS = 60  # a busy machine may need some of it
BODY = gzip.compress(json.dumps({"event": "café", "fields": {"event_id": "1"}}, ensure_ascii=False).encode())


@pytest.mark.parametrize(
    ("url", "prefix"),
    [
        ("https://splunk.example", "https://splunk.example"),
        (" https://splunk.example:8088/ \n", "https://splunk.example:8088"),
        ("https://splunk.example//", "https://splunk.example"),
        *(
            (f"https://splunk.example/{path}", "https://splunk.example")
            for path in (
                *("services/collector", "Services/Collector", "services/collector/health"),
                *("services/collector/event/1.0", "services/collector/raw/1.0/"),
            )
        ),
        ("HTTPS://proxy.example/splunk/services/collector/event/", "https://proxy.example/splunk"),
        ("https://proxy.example/services/collector/x", "https://proxy.example/services/collector/x"),
        *((f"http://{host}:8088", f"http://{host}:8088") for host in ("127.0.0.1", "localhost", "[::1]")),
    ],
)
def test_the_collector_s_path_is_added_once(url: str, prefix: str) -> None:
    assert endpoint(url) == f"{prefix}/services/collector/event"


@pytest.mark.parametrize(
    "url",
    [
        *(f"http://{host}" for host in ("splunk.example", "10.0.0.1", "localhost.example", "127.0.0.1.example")),
        *("ftp://splunk.example", "splunk.example", "https://", "https://[::1", "https://user:password@splunk.example"),
        *(f"https://splunk.example{rest}" for rest in (":99999", ":0", "?token=x", "#x")),
    ],
)
def test_an_address_that_would_give_the_token_away_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured, match="SPLUNK_HEC_URL") as caught:
        Transport(url)
    assert "password" not in str(caught.value)


def test_a_request_carries_the_token_and_the_gzipped_body() -> None:
    with HecServer() as server:
        answer = Transport(server.url).post(BODY, "the-token", PATIENCE_SECONDS)
        assert (answer.status, json.loads(answer.body)["code"]) == (200, 0)
        sent = server.requests[0]
        assert sent.headers["authorization"] == "Splunk the-token"
        assert sent.headers["content-encoding"] == "gzip"
        assert server.collector.indexed[0]["event"] == "café"


def test_a_connection_to_a_working_collector_is_reused() -> None:
    with HecServer() as server:
        server.faults.extend([None, ForcedCode(13, 0), ForcedCode(24), Fault.TOO_LARGE_413, ForcedCode(5)])
        transport = Transport(server.url)
        for _ in range(6):
            transport.post(BODY, "the-token", PATIENCE_SECONDS)
        assert server.connections == 1


@pytest.mark.parametrize("fault", [Fault.SLOW, Fault.DRIP])
def test_an_answer_that_does_not_come_in_time_is_given_up(fault: Fault) -> None:
    with HecServer() as server:
        # DRIP sends a byte each 0.2 s: no wait for a single byte is ever too long, only the whole is.
        server.slow_seconds = 6.0
        server.faults.append(fault)
        transport = Transport(server.url)
        with pytest.raises(NoAnswer):
            transport.post(BODY, "the-token", 0.5)
        assert transport.post(BODY, "the-token", PATIENCE_SECONDS).status == 200
        assert server.connections == 2


NO_ANSWER = [Fault.REFUSED, Fault.RESET_BEFORE, Fault.RESET_MID, Fault.RESET_AFTER, Fault.TRUNCATED]
SICK = [
    *(ForcedCode(code) for code in (1, 2, 3, 4, 7, 8, 9, 10, 18, 20, 23, 26, 27)),
    *(Fault.HTML_502, Fault.EMPTY_503, Fault.NOT_JSON_200, Fault.REDIRECT, *NO_ANSWER),
]


@pytest.mark.parametrize("sickness", SICK, ids=str)
def test_after_an_answer_about_a_node_or_none_the_next_request_reaches_another(sickness: Fault | ForcedCode) -> None:
    with HecServer() as server:
        server.faults.extend([None, sickness])
        transport = Transport(server.url)
        transport.post(BODY, "the-token", PATIENCE_SECONDS)
        with pytest.raises(NoAnswer) if sickness in NO_ANSWER else nullcontext():
            transport.post(BODY, "the-token", PATIENCE_SECONDS)
        for _ in range(2):
            assert json.loads(transport.post(BODY, "the-token", PATIENCE_SECONDS).body)["code"] == 0
        assert server.connections == 2


def test_a_cookie_does_not_pin_the_next_connection_to_a_failing_node() -> None:
    with HecServer() as server:
        cookie = {"Set-Cookie": "node=1", "Content-Type": "text/html"}
        server.collector.answer = lambda request: Reply(503, b"", cookie)
        transport = Transport(server.url)
        for _ in range(2):
            transport.post(BODY, "the-token", PATIENCE_SECONDS)
        assert "cookie" not in server.requests[1].headers


def test_a_long_page_is_not_read_to_its_end() -> None:
    with HecServer() as server:
        server.collector.answer = lambda request: Reply(502, b"x" * 1_000_000)
        answer = Transport(server.url).post(BODY, "the-token", PATIENCE_SECONDS)
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
        ("²", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    with HecServer() as server:
        server.faults.append(ForcedCode(9, retry_after=header))
        transport = Transport(server.url, now=lambda: 1_763_683_200.0)
        assert transport.post(BODY, "the-token", PATIENCE_SECONDS).retry_after_seconds == seconds


def test_an_answer_that_trips_our_own_code_is_no_answer_and_never_the_end() -> None:
    def fail() -> float:
        raise LookupError("the clock")

    with HecServer() as server:
        server.faults.append(ForcedCode(9, retry_after="Fri, 21 Nov 2025 00:00:30 GMT"))
        with pytest.raises(NoAnswer, match="LookupError") as caught:
            Transport(server.url, now=fail).post(BODY, "the-token", PATIENCE_SECONDS)
        assert "the clock" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "is_trusted", "reason"),
    [
        ("127.0.0.1", True, None),
        ("127.0.0.1", False, "it comes from no authority that we trust"),
        ("127.0.0.2", True, "it is for another address"),
    ],
)
def test_the_token_is_sent_only_to_a_host_with_a_certificate_of_the_named_authority(
    name: str, is_trusted: bool, reason: str | None, tmp_path: Path
) -> None:
    authority = trustme.CA()
    with HecServer(authority=authority, names=(name,)) as server:
        transport = Transport(server.url, write_authority(authority, tmp_path) if is_trusted else None)
        with pytest.raises(Misconfigured, match=f"can't be verified: {reason}") if reason else nullcontext():
            transport.post(BODY, "the-token", PATIENCE_SECONDS)
        assert len(server.requests) == (0 if reason else 1)


def test_no_variable_of_the_environment_changes_whom_we_trust_or_what_we_send(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", write_authority(authority, tmp_path))
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with HecServer(authority=authority) as server, pytest.raises(Misconfigured):
        Transport(server.url).post(BODY, "the-token", PATIENCE_SECONDS)
    with HecServer() as server:
        Transport(server.url).post(BODY, "the-token", PATIENCE_SECONDS)
        assert server.requests[0].headers["authorization"] == "Splunk the-token"


def test_a_collector_that_demands_a_client_certificate_gets_ours(tmp_path: Path) -> None:
    authority, clients, strangers = trustme.CA(), trustme.CA(), trustme.CA()
    bundle, ours, another = write_authority(authority, tmp_path), tmp_path / "ours.pem", tmp_path / "another.pem"
    clients.issue_cert("tokenservice").private_key_and_cert_chain_pem.write_to_path(str(ours))
    strangers.issue_cert("tokenservice").private_key_and_cert_chain_pem.write_to_path(str(another))
    with HecServer(authority=authority, clients=clients) as server:
        assert Transport(server.url, bundle, str(ours)).post(BODY, "the-token", 5).status == 200
        for refused in (None, str(another)):
            with pytest.raises(SplunkError):
                Transport(server.url, bundle, refused).post(BODY, "the-token", 5)
        assert len(server.requests) == 1


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A port that answers anything with these bytes; host and port."""

    def serve() -> None:
        with listener.accept()[0] as connection:
            connection.recv(65_536)
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):  # to close with unread data would discard the answer
                while connection.recv(65_536):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


TLS_ALERT = bytes.fromhex("15030100020246")  # version 1.0, fatal, protocol_version


def test_each_problem_of_an_address_has_its_own_message() -> None:
    """Each message names the cause, and none has the address or the data."""
    reported = {}
    with contextlib.ExitStack() as ports:
        refusing = ports.enter_context(refusing_port())
        http_port = ports.enter_context(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        tls_port = ports.enter_context(answering(TLS_ALERT))
        closing, cutting = ports.enter_context(answering(b"")), ports.enter_context(answering(b""))
        for what, url in {
            "closed": refusing,
            "no name": "https://nowhere.invalid",
            "https to http": f"https://{http_port}",
            "http to https": f"http://{tls_port}",
            "cut off in the handshake": f"https://{cutting}",
            "cut off": f"http://{closing}",
        }.items():
            with pytest.raises((NoAnswer, Misconfigured)) as caught:
                Transport(url).post(BODY, "the-token", PATIENCE_SECONDS)
            reported[what] = f"{type(caught.value).__name__}: {caught.value}"
            assert caught.value.__cause__ is None
            assert caught.value.__suppress_context__
    assert reported.pop("cut off in the handshake").startswith("NoAnswer: no answer: the TLS handshake failed (")
    assert reported == {
        "closed": "NoAnswer: no answer: the port is closed (connection refused)",
        "no name": "NoAnswer: no answer: the name of the host can't be resolved (DNS)",
        "https to http": "Misconfigured: SPLUNK_HEC_URL: the port does not speak TLS",
        "http to https": "Misconfigured: SPLUNK_HEC_URL: the port speaks TLS; use https://",
        "cut off": "NoAnswer: no answer: the connection was closed; does the port speak TLS?",
    }


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (requests.ConnectTimeout(), "no connection in time; is a firewall in the way?"),
        (requests.ConnectionError(OSError(errno.EHOSTUNREACH, "x")), "there is no route to the host"),
        (requests.ConnectionError(ConnectionResetError()), "the connection was closed"),
        (requests.ReadTimeout("https://splunk.example"), "ReadTimeout"),
        (OSError(errno.EMFILE, "x"), "OSError"),
    ],
)
def test_the_cause_of_a_failed_connection_is_named(error: Exception, why: str) -> None:
    assert str(failure(error, "https")) == f"no answer: {why}"
