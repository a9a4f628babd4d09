"""The HTTP side of `chalice local`: whatever comes in is answered one by one, with a problem or by the service."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import BASE_PATH, NODE
from tests.support.dynamodb_proxy import Proxy
from tests.support.raw_http import Reply, Service, answers, post, receive, request
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def service(deployment: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service({}, tmp_path_factory.mktemp("gateway") / "output") as service:
        yield service


def assert_problem(reply: Reply, status: int, code: str) -> None:
    assert (reply.status, reply.json["code"], reply.json["status"]) == (status, code, status), reply
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["content-length"] == str(len(reply.body))
    assert reply.json["requestId"] == reply.headers["x-amzn-requestid"]
    assert b"Traceback" not in reply.body
    assert b"<html" not in reply.body.lower()


VERSION = f"GET {BASE_PATH}/version HTTP/1.1"
ISSUE = f"POST {BASE_PATH}/token HTTP/1.1"
BODY = json.dumps({"nodeId": NODE}).encode()

BROKEN: dict[str, bytes] = {
    "TLS where HTTP is spoken": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a version of the future": b"GET / HTTP/9.9\r\n\r\n",
    "a path too long": request(f"GET /{'a' * 70_000} HTTP/1.1"),
    "a path in Latin-1": request("GET /t\xf6ken HTTP/1.1"),
    "a query in raw UTF-8": f"GET {BASE_PATH}/use?user=é HTTP/1.1\r\n\r\n".encode(),
    "a header too long": request(VERSION, f"X: {'a' * 70_000}"),
    "a negative length": request(ISSUE, "Content-Length: -5"),
    "a length of five thousand digits": request(ISSUE, f"Content-Length: {'9' * 5000}"),
    "a host that is none": request("GET http://[ HTTP/1.1"),
    "chunks in HTTP/1.0": request(f"POST {BASE_PATH}/token HTTP/1.0", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "a broken request that expects to be continued": request("GET /", "Expect: 100-continue"),
    "two lengths": request(ISSUE, "Content-Length: 1", "Content-Length: 2", body=b"12"),
    "a length and chunks": request(ISSUE, "Content-Length: 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "a chunk size that is none": request(ISSUE, "Transfer-Encoding: chunked", body=b"xyz\r\n"),
}
TOO_LARGE = {
    "a length of a thousand digits": request(ISSUE, f"Content-Length: {'9' * 1000}"),
    "a body over the limit": request(ISSUE, f"Content-Length: {10 * 1024 * 1024 + 1}"),
}


@pytest.mark.parametrize("name", [*BROKEN, *TOO_LARGE])
def test_broken_http_is_answered_with_a_problem_and_the_connection_ends(service: Service, name: str) -> None:
    reply = service.send({**BROKEN, **TOO_LARGE}[name])
    if name in BROKEN:
        assert_problem(reply, 400, "invalid_request")
    else:
        assert_problem(reply, 413, "payload_too_large")
    assert reply.closed


def chunked(*headers: str, chunks: bytes = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)) -> Callable[[Any], bytes]:
    return lambda client: request(ISSUE, f"Authorization: {client.header}", *headers, body=chunks)


def get(*headers: str, head: str = VERSION) -> Callable[[Any], bytes]:
    return lambda client: request(head, f"Authorization: {client.header}", *headers)


OK, ISSUED = (200, None), (201, None)
BAD = (400, "invalid_request")
NOWHERE = (404, "route_not_found")
LAST = NOWHERE
"""The answer to the last request: the connection was still open."""
CASES: dict[str, tuple[Callable[[Any], bytes], list[tuple[int, str | None]]]] = {
    "ten requests at once": (lambda c: get()(c) * 10, [OK] * 10 + [LAST]),
    "a problem between two good ones": (
        lambda c: get()(c) + get(head=f"PUT {BASE_PATH}/token HTTP/1.1")(c) + get()(c),
        [OK, (405, "method_not_allowed"), OK, LAST],
    ),
    "a request behind a broken one": (lambda c: request("GET /") + get()(c), [BAD]),
    "a request behind a body too long": (
        lambda c: post("/token", c, BODY, "Content-Length: 1") + get()(c),
        [BAD],
    ),
    "a request hidden in a body": (lambda c: post("/token", c, get()(c)), [BAD, LAST]),
    "a request hidden behind a disguised encoding": (
        lambda c: chunked("Transfer-Encoding: xchunked")(c) + get()(c),
        [BAD],
    ),
    "chunks, in two headers": (chunked("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), [BAD]),
    "chunks, with all that may stand beside them": (
        chunked(
            "Transfer-Encoding: Chunked",
            chunks=b"7;name=value\r\n%b\r\n%x\r\n%b\r\n0\r\nX-Trailer: 1\r\n\r\n" % (BODY[:7], len(BODY) - 7, BODY[7:]),
        ),
        [ISSUED, LAST],
    ),
    "two lengths that agree": (lambda c: post("/token", c, BODY, f"Content-Length: {len(BODY)}"), [BAD]),
    "HTTP/1.0": (get(head=f"GET {BASE_PATH}/version HTTP/1.0"), [OK]),
    "lines that end with LF alone": (lambda c: get()(c).replace(b"\r\n", b"\n"), [BAD]),
    "64 KB of headers": (get(*(f"X-{n}: {'a' * 1_000}" for n in range(64))), [OK, LAST]),
    "an absolute target": (get(head=f"GET http://localhost{BASE_PATH}/version HTTP/1.1"), [OK, LAST]),
    "an encoded path": (get(head=f"GET {BASE_PATH.replace('api', '%61pi')}/version HTTP/1.1"), [NOWHERE, LAST]),
    "no route and no ASCII": (lambda c: request("GET /nowhere HTTP/1.1", "Authorization: \xe9"), [NOWHERE, LAST]),
    "a request without a body that expects to be continued": (get("Expect: 100-continue"), [OK, LAST]),
    "nothing at all": (lambda c: b"", [LAST]),
    "half a request line": (lambda c: b"GET /tok", [BAD]),
    "two Authorizations, the first one good": (get("Authorization: Basic YTpi"), [BAD]),
    "two Authorizations, the first one bad": (
        lambda c: request(VERSION, "Authorization: Basic YTpi", f"Authorization: {c.header}"),
        [BAD],
    ),
    "two Content-Types": (lambda c: post("/token", c, BODY, "content-type: application/json"), [BAD]),
    "two Idempotency-Keys": (
        lambda c: post("/token", c, BODY, "Idempotency-Key: a", "idempotency-key: b") + get()(c),
        [BAD],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_raw_requests_are_answered_one_by_one_and_none_is_smuggled(service: Service, client: Any, name: str) -> None:
    raw, expected = CASES[name]
    assert answers(service, raw(client)) == expected


@pytest.mark.parametrize("method", ["BREW", "TRACE"])
def test_a_method_nobody_has_is_405(service: Service, method: str) -> None:
    assert_problem(service.send(request(f"{method} {BASE_PATH}/token HTTP/1.1")), 405, "method_not_allowed")


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Authorization:",),
        ("Authorization: Basic",),
        ("Authorization: Basic \xe9\xe8",),
        ("Authorization: Basic bm9ib2R5Om5vdGhpbmc=",),
        ("Authorization: Bearer bm9ib2R5Om5vdGhpbmc=",),
        (f"Authorization: Basic {'YWFh' * 2000}",),
    ],
    ids=["missing", "empty", "no credentials", "not ASCII", "unknown client", "other scheme", "long"],
)
def test_bad_credentials_get_401_and_a_challenge(service: Service, headers: tuple[str, ...]) -> None:
    reply = service.send(request(VERSION, *headers))
    assert_problem(reply, 401, "unauthorized")
    assert reply.headers["www-authenticate"] == 'Basic realm="tokenservice", charset="UTF-8"'
    assert not reply.closed


@pytest.mark.parametrize("path", ["/", "/tokenservice", f"{BASE_PATH}/nothing", "*", "//[", f"{BASE_PATH}/token/a/b"])
def test_an_unknown_route_is_404_and_echoes_no_header(service: Service, client: Any, path: str) -> None:
    reply = service.send(request(f"GET {path} HTTP/1.1", f"Authorization: {client.header}"))
    assert_problem(reply, 404, "route_not_found")
    assert client.header.encode() not in reply.body


def test_a_body_is_continued_before_it_is_read(service: Service, client: Any) -> None:
    raw = post("/token", client, BODY, "Expect: 100-continue")
    with socket.create_connection(service.address, timeout=30) as connection:
        connection.sendall(raw.removesuffix(BODY))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert receive(connection).status == 201


@pytest.mark.parametrize("size", [64 * 1024 + 1, 10 * 1024 * 1024])
def test_a_body_between_the_limits_is_refused_by_the_service_itself(service: Service, client: Any, size: int) -> None:
    reply = service.send(post("/token", client, b'"' + b"a" * (size - 2) + b'"'))
    assert_problem(reply, 413, "payload_too_large")
    assert "64 KB" in reply.json["detail"]


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_over_the_gateways_limit_is_answered_although_it_is_still_coming(
    service: Service, client: Any, is_chunked: bool
) -> None:
    body = b"a" * (11 * 1024 * 1024)
    chunks = request(ISSUE, "Transfer-Encoding: chunked", body=b"B00000\r\n" + body)
    reply = service.send(chunks if is_chunked else post("/token", client, body))
    assert_problem(reply, 413, "payload_too_large")
    assert "64 KB" in reply.json["detail"]


@pytest.mark.parametrize(("path", "status"), [("/version", 200), ("/nothing", 404), ("/use?token=x", 405)])
def test_head_is_answered_without_a_body(service: Service, client: Any, path: str, status: int) -> None:
    raw = request(f"HEAD {BASE_PATH}{path} HTTP/1.1", f"Authorization: {client.header}", "Connection: close")
    with socket.create_connection(service.address, timeout=30) as connection:
        connection.sendall(raw)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert body == b""
    assert b"content-length: 0" not in head.lower()


def test_sixty_four_connections_are_served_at_once(service: Service, client: Any) -> None:
    count = 64
    together = threading.Barrier(count)

    def status_of_one(_: int) -> int:
        with socket.create_connection(service.address, timeout=60) as connection:
            together.wait(60)
            connection.sendall(request(VERSION, f"Authorization: {client.header}"))
            return receive(connection).status

    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(status_of_one, range(count))) == [200] * count


def test_a_query_and_a_token_in_a_path_reach_no_log(service: Service, client: Any) -> None:
    token = os.urandom(32).hex()
    for target in (f"{BASE_PATH}/use?token={token}", f"{BASE_PATH}/token/{token}", f"/{token}?user=somebody-secret"):
        service.send(request(f"GET {target} HTTP/1.1", f"Authorization: {client.header}"))
    service.send(request(f"{token} {BASE_PATH}/use HTTP/1.1"))
    written = service.output
    assert token not in written
    assert "somebody-secret" not in written
    assert client.password not in written
    assert client.header not in written


def event(service: Service, name: str, **wanted: str) -> dict[str, Any]:
    """The one event of this name with these members, once the service has written its line."""

    def found() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in service.output.splitlines(keepends=True) if re.match(r"\{.*\n", line)]
        return [line for line in lines if line.get("event") == name and wanted.items() <= line.items()]

    [one] = wait_until(found)
    return one


def test_a_call_is_logged_in_one_line_with_the_ids_of_its_answer_and_audit_event(service: Service, client: Any) -> None:
    """On AWS the gateway's own log is the access log; the local AWS writes none."""
    reply = service.send(post("/use", client, json.dumps({"token": "0" * 64}).encode()))
    assert_problem(reply, 404, "token_not_found")
    access = event(service, "access", requestId=reply.json["requestId"])
    assert (access["method"], access["path"], access["status"]) == ("POST", f"{BASE_PATH}/use", 404)
    assert (access["ip"], access["clientId"], access["reason"]) == ("127.0.0.1", client.user, "-")
    assert access["milliseconds"] >= 0
    audited = event(service, "token.refused", requestId=reply.json["requestId"])
    assert access["extendedRequestId"] == audited["extendedRequestId"] != access["requestId"]


def test_refused_credentials_are_logged_with_address_client_and_reason(service: Service, client: Any) -> None:
    def reported(*headers: str) -> tuple[str, ...]:
        reply = service.send(request(VERSION, *headers))
        line = event(service, "access", requestId=reply.json["requestId"])
        return tuple(str(line[name]) for name in ("status", "ip", "clientId", "reason"))

    def basic(name: str) -> str:
        return "Authorization: Basic " + base64.b64encode(f"{name}:wrong".encode()).decode()

    assert reported() == ("401", "127.0.0.1", "-", "-")
    assert reported(basic("stranger")) == ("401", "127.0.0.1", "nobody", "unknown_client")
    assert reported(basic(client.user)) == ("401", "127.0.0.1", client.user, "wrong_secret")
    # The authorizer learns no id of the gateway's; what it writes has an id that the access log names.
    access = event(service, "access", clientId=client.user, reason="wrong_secret")
    audited = event(service, "auth.refused", requestId=access["authRequestId"])
    assert (audited["clientId"], audited["reason"]) == (client.user, "wrong_secret")


def test_requests_at_work_are_answered_before_the_server_ends(tmp_path: Path, deployment: Any, client: Any) -> None:
    at_work, go_on = threading.Event(), threading.Event()

    def wait(_: str) -> None:
        at_work.set()
        go_on.wait(60)

    with ExitStack() as stack:
        store = stack.enter_context(Proxy(os.environ["AWS_ENDPOINT_URL"]))
        pool = stack.enter_context(ThreadPoolExecutor(2))
        stopping = ExitStack()
        service = stopping.enter_context(Service({"AWS_ENDPOINT_URL": store.url}, tmp_path / "output"))
        store.when_done = wait
        answer = pool.submit(service.send, request(VERSION, f"Authorization: {client.header}"))
        assert at_work.wait(60)
        stopped = pool.submit(stopping.close)
        time.sleep(0.5)
        assert not stopped.done()
        go_on.set()
        assert answer.result().status == 200
        stopped.result()
