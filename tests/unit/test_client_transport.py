"""The client against a server that drops, cuts and delays answers: a real one, on a socket of this machine."""

from __future__ import annotations

import base64
import re
import ssl
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
import trustme
from tokenservice_client import (
    NoAnswer,
    Refused,
    ServiceUnavailable,
    Terms,
    TokenServiceClient,
    TokenServiceError,
    UnexpectedAnswer,
    UntrustedServer,
)

from tests.support.scripted_server import HOST, Move, Server, answer, drop, silent
from tests.unit.test_client_values import NODE, PASSWORD, SAMPLES, TOKEN

USED = SAMPLES["UseAnswer"]
TOKEN_ID = "tok_" + "0" * 32


def problem(status: int, code: str, **headers: str) -> Move:
    return answer(status, {"code": code, "detail": "A fault.", "requestId": "r-1", "status": status}, **headers)


cut = answer(200, b'{"tokenId": "tok', announced=300)
NOT_NOW = (problem(503, "store_unavailable"), problem(429, "too_many_requests"), answer(502, b"<html>"), answer(504))


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(answer(200, USED)) as server:
        yield server


@pytest.fixture
def waits() -> list[float]:
    """How long the client would wait, in seconds; it does not wait."""
    return []


@pytest.fixture
def make(server: Server, waits: list[float]) -> Iterator[Callable[..., TokenServiceClient]]:
    made: list[TokenServiceClient] = []

    def make(**changed: Any) -> TokenServiceClient:
        client = TokenServiceClient(**{"url": server.url, "user": "demo", "password": PASSWORD, **changed})
        client._transport._sleep = waits.append
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


CALLS: dict[str, tuple[Callable[[TokenServiceClient], object], Any]] = {
    "issue": (lambda client: client.issue(NODE), answer(201, SAMPLES["IssueAnswer"])),
    "issue_many": (lambda client: client.issue_many([]), answer(201, {"tokens": []})),
    "use": (lambda client: client.use(TOKEN), answer(200, USED)),
    "introspect": (lambda client: client.introspect(TOKEN), answer(200, SAMPLES["IntrospectAnswer"])),
    "status": (lambda client: client.status(TOKEN_ID), answer(200, SAMPLES["StatusAnswer"])),
    "revoke": (lambda client: client.revoke(TOKEN_ID), answer(204)),
    "revoke_all": (lambda client: client.revoke_all(user="alice"), answer(200, {"revoked": 2, "more": False})),
    "version": (lambda client: client.version(), answer(200, SAMPLES["VersionAnswer"])),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_call_is_repeated_until_an_answer_comes(make: Any, server: Server, waits: list[float], name: str) -> None:
    call, last = CALLS[name]
    server.moves = [drop, cut, *NOT_NOW, last]
    call(make())
    assert len(server.received) == 7
    assert len({(each.method, each.path, str(each.body)) for each in server.received}) == 1
    assert len(waits) == 6


def test_a_use_keeps_its_key_over_its_repetitions_and_takes_a_new_one_for_the_next(make: Any, server: Server) -> None:
    client = make()
    server.moves = [drop, drop, answer(200, USED, Idempotent_Replayed="true"), answer(200, USED)]
    assert client.use(TOKEN, user="alice", ip_address="192.0.2.7", action="download").replayed is True
    assert client.use(TOKEN).replayed is False
    client.use(TOKEN, idempotency_key="mine")
    keys = [each.headers["idempotency-key"] for each in server.received]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert keys[4] == "mine"
    assert server.received[0].body == {"token": TOKEN, "user": "alice", "ipAddress": "192.0.2.7", "action": "download"}
    assert server.received[3].body == {"token": TOKEN}


def test_retry_after_is_respected_and_other_waits_grow_with_jitter(
    make: Any, server: Server, waits: list[float]
) -> None:
    server.moves = [problem(429, "too_many_requests", Retry_After="7"), *[drop] * 3, answer(200, USED)]
    make(patience_seconds=60).use(TOKEN)
    assert 7.0 <= waits[0] <= 7.2
    for number, seconds in enumerate(waits[1:], 2):
        assert 0.0 <= seconds <= 0.2 * 2 ** (number - 1)


@pytest.mark.parametrize("asked", ["31", "Fri, 21 Nov 2036 10:00:00 GMT"])
def test_a_wait_beyond_patience_is_not_begun(make: Any, server: Server, waits: list[float], asked: str) -> None:
    server.moves = [problem(503, "store_unavailable", Retry_After=asked)]
    with pytest.raises(ServiceUnavailable) as refused:
        make(patience_seconds=30).use(TOKEN)
    assert refused.value.retry_after is not None
    assert refused.value.retry_after >= 31
    assert waits == []
    assert len(server.received) == 1


def test_a_silent_server_times_out_and_is_called_again(make: Any, server: Server) -> None:
    server.moves = [silent]
    with pytest.raises(NoAnswer) as refused:
        make(timeout_seconds=0.05, patience_seconds=0).use(TOKEN)
    assert (refused.value.code, refused.value.status) == ("no_answer", None)
    assert re.search(r"no complete response from 127\.0\.0\.1:\d+ \(", refused.value.detail)
    server.moves = [silent, silent, answer(200, USED)]
    assert make(timeout_seconds=0.5, patience_seconds=300).use(TOKEN).node_id == NODE
    server.closing.set()


@pytest.mark.parametrize(
    ("move", "expected"),
    [
        (problem(410, "token_exhausted"), Refused),
        (problem(500, "internal_error"), TokenServiceError),
        (answer(302, b"", Location="http://127.0.0.1:1/"), UnexpectedAnswer),
        (answer(307, b"", Location="http://[broken"), UnexpectedAnswer),
        (answer(200, b"<html>"), UnexpectedAnswer),
        (answer(200, b"[" * 100_000), UnexpectedAnswer),
        (answer(200, b"\xff"), UnexpectedAnswer),
        (answer(200), UnexpectedAnswer),
    ],
)
def test_a_lasting_error_is_raised_at_once(make: Any, server: Server, move: Move, expected: Any) -> None:
    server.moves = [move]
    with pytest.raises(expected):
        make().use(TOKEN)
    assert len(server.received) == 1


def test_a_request_has_credentials_and_a_content_type(make: Any, server: Server) -> None:
    client = make(user="größe", password="p" * 20 + "ß")
    client.use(TOKEN)
    server.moves = [answer(204)]
    client.revoke(TOKEN_ID)
    used, revoked = server.received
    assert base64.b64decode(used.headers["authorization"].removeprefix("Basic ")).decode() == f"größe:{'p' * 20}ß"
    assert used.headers["content-type"] == "application/json"
    assert used.headers["user-agent"] == "tokenservice-client"
    assert (revoked.method, revoked.path) == ("DELETE", f"/tokenservice/services/api/token/{TOKEN_ID}")
    assert "content-type" not in revoked.headers


def test_neither_netrc_nor_a_proxy_of_the_environment_gets_between(
    make: Any, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {HOST} login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{HOST}:1")
    monkeypatch.setenv("no_proxy", "")
    make().use(TOKEN)
    assert base64.b64decode(server.received[0].headers["authorization"][6:]).startswith(b"demo:")


def test_a_proxy_of_the_environment_is_used_for_https_and_gets_only_the_host(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(answer(502)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        with pytest.raises(NoAnswer):
            make(url="https://tokens.example", patience_seconds=0).use(TOKEN)
        [sent] = proxy.received
    assert (sent.method, sent.path, sent.content) == ("CONNECT", "tokens.example:443", b"")
    assert "authorization" not in sent.headers


def test_a_certificate_must_be_of_an_authority_that_was_named(make: Any, tmp_path: Any) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with Server(answer(200, USED), tls=context) as server:
        assert make(url=server.url, ca_bundle=str(tmp_path / "ca.pem")).use(TOKEN).node_id == NODE
        with pytest.raises(UntrustedServer):
            make(url=server.url).use(TOKEN)
        assert len(server.received) == 1


ECHO = {
    "code": "invalid_request",
    "detail": f"You sent {TOKEN} as {PASSWORD}, Basic {base64.b64encode(f'demo:{PASSWORD}'.encode()).decode()}.",
    "requestId": TOKEN,
    "errors": [{"field": TOKEN, "message": PASSWORD}],
    "title": quote(base64.b64encode(f"demo:{PASSWORD}".encode())),
}


@pytest.mark.parametrize(
    "move", [drop, cut, answer(400, ECHO), answer(200, {"token": TOKEN}), answer(302, ECHO), answer(503, ECHO)]
)
def test_no_error_holds_a_secret_even_when_the_other_side_repeats_it(make: Any, server: Server, move: Move) -> None:
    server.moves = [move]
    with pytest.raises(TokenServiceError) as refused:
        make(patience_seconds=0).use(TOKEN)
    error: BaseException | None = refused.value
    reported = "".join(traceback.format_exception(refused.value)) + repr(error) + repr(vars(refused.value))
    while error is not None:
        reported += repr(error.args)
        # requests' errors hold the request, and with it its body and headers.
        assert not hasattr(error, "request")
        error = error.__cause__ or error.__context__
    # The traceback shows lines of this very file, but no values.
    assert TOKEN not in reported
    assert PASSWORD not in reported
    assert base64.b64encode(f"demo:{PASSWORD}".encode()).decode().rstrip("=") not in reported


def test_threads_share_a_client_and_its_connections(make: Any, server: Server) -> None:
    client = make(connections=4)
    with ThreadPoolExecutor(4) as threads:
        uses = list(threads.map(lambda _: client.use(TOKEN), range(40)))
    assert {use.node_id for use in uses} == {NODE}
    assert len(server.received) == 40
    assert len({each.connection for each in server.received}) <= 4


def test_all_tokens_are_revoked_however_many_calls_it_takes(make: Any, server: Server) -> None:
    more = [answer(200, {"revoked": number, "more": number != 3}) for number in (2, 0, 0, 0, 3)]
    server.moves = more
    assert make().revoke_all(node_id=NODE) == 5
    assert len(server.received) == 5


def test_paging_without_an_end_is_limited(make: Any, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenservice_client.client._MAX_REVOKE_CALLS", 3)
    server.moves = [answer(200, {"revoked": 0, "more": True})]
    with pytest.raises(UnexpectedAnswer, match="after 3 calls"):
        make().revoke_all(user="alice")


def test_a_batch_that_comes_back_smaller_is_no_batch(make: Any, server: Server) -> None:
    server.moves = [answer(201, {"tokens": []})]
    with pytest.raises(UnexpectedAnswer, match="0 tokens"):
        make().issue_many([Terms(node_id=NODE)])


def test_cookies_are_not_kept(make: Any, server: Server) -> None:
    server.moves = [answer(200, USED, Set_Cookie="a=b; Path=/")]
    client = make()
    client.use(TOKEN)
    client.use(TOKEN)
    assert "cookie" not in server.received[1].headers
