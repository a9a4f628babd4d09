"""The HTTP side of `chalice local`: whatever comes in gets an answer, and the answer is a problem or the service's."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from chalice import Chalice, Response
from chalice.config import Config
from waitress import wasyncore

from dev import gateway
from dev.engine import HOST, ROOT
from tests.support.dynamodb_proxy import Proxy
from tests.support.raw_http import BASE, NODE, Reply, Service, post, receive, request, running


@pytest.fixture(scope="module")
def service(deployment: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("gateway") / "output", {}) as service:
        yield service


def assert_problem(reply: Reply, status: int, code: str) -> None:
    assert (reply.status, reply.json["code"], reply.json["status"]) == (status, code, status), reply
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["content-length"] == str(len(reply.body))
    assert reply.json["requestId"] == reply.headers["x-amzn-requestid"]
    assert b"Traceback" not in reply.body
    assert b"<html" not in reply.body.lower()


VERSION = f"GET {BASE}/version HTTP/1.1"
ISSUE = f"POST {BASE}/token HTTP/1.1"

BROKEN: dict[str, bytes] = {
    "TLS where HTTP is spoken": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "one word": b"GET\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "four words": b"GET / HTTP/1.1 now\r\n\r\n",
    "a version that is none": b"GET / HTTP/one\r\n\r\n",
    "a version of the future": b"GET / HTTP/9.9\r\n\r\n",
    "a path too long": request(f"GET /{'a' * 70_000} HTTP/1.1"),
    "a path in Latin-1": request("GET /t\xf6ken HTTP/1.1"),
    "a query in raw UTF-8": f"GET {BASE}/use?user=é HTTP/1.1\r\n\r\n".encode(),
    "a header too long": request(VERSION, f"X: {'a' * 70_000}"),
    "a header without a colon": request(VERSION, "Authorization Basic", "X: y"),
    "a space before the colon": request(ISSUE, "Content-Length : 5"),
    "a length that is a word": request(ISSUE, "Content-Length: abc"),
    "a negative length": request(ISSUE, "Content-Length: -5"),
    "a signed length": request(ISSUE, "Content-Length: +5"),
    "a length with an underscore": request(ISSUE, "Content-Length: 1_0"),
    "a length of five thousand digits": request(ISSUE, f"Content-Length: {'9' * 5000}"),
    "a host that is none": request("GET http://[ HTTP/1.1"),
    "chunks in HTTP/1.0": request(f"POST {BASE}/token HTTP/1.0", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "a broken request that expects to be continued": request("GET /", "Expect: 100-continue"),
    "an empty length": request(ISSUE, "Content-Length:"),
    "two lengths": request(ISSUE, "Content-Length: 1", "Content-Length: 2", body=b"12"),
    "a length and chunks": request(ISSUE, "Content-Length: 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "an unknown transfer encoding": request(ISSUE, "Transfer-Encoding: gzip"),
    "a chunk size that is none": request(ISSUE, "Transfer-Encoding: chunked", body=b"xyz\r\n"),
    "a chunk longer than its size": request(ISSUE, "Transfer-Encoding: chunked", body=b"1\r\nabc\r\n0\r\n\r\n"),
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


@pytest.mark.parametrize("method", ["BREW", "TRACE"])
def test_a_method_nobody_has_is_405(service: Service, method: str) -> None:
    assert_problem(service.send(request(f"{method} {BASE}/token HTTP/1.1")), 405, "method_not_allowed")


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


@pytest.mark.parametrize("path", ["/", "/tokenservice", f"{BASE}/nothing", "*", "//[", f"{BASE}/token/a/b"])
def test_an_unknown_route_is_404_and_echoes_no_header(service: Service, client: Any, path: str) -> None:
    reply = service.send(request(f"GET {path} HTTP/1.1", f"Authorization: {client.header}"))
    assert_problem(reply, 404, "route_not_found")
    assert client.header.encode() not in reply.body


def test_the_service_answers_as_it_does_behind_the_gateway(service: Service, client: Any) -> None:
    issued = service.send(post("/token", client, json.dumps({"nodeId": NODE}).encode()))
    assert (issued.status, issued.headers["cache-control"]) == (201, "no-store"), issued
    body = json.dumps({"token": issued.json["token"]}).encode()
    used = service.send(post("/use", client, body))
    assert (used.status, used.json["nodeId"]) == (200, NODE)
    assert_problem(service.send(post("/use", client, body)), 410, "token_exhausted")


def test_chunks_are_put_together(service: Service, client: Any) -> None:
    body = json.dumps({"nodeId": NODE}).encode()
    chunks = b"".join(b"%x;name=value\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:]))
    reply = service.send(
        request(
            ISSUE,
            f"Authorization: {client.header}",
            "Content-Type: application/json",
            "Transfer-Encoding: Chunked",
            body=chunks + b"0\r\nX-Trailer: 1\r\n\r\n",
        )
    )
    assert reply.status == 201, reply


def test_a_body_is_continued_before_it_is_read(service: Service, client: Any) -> None:
    body = json.dumps({"nodeId": NODE}).encode()
    raw = post("/token", client, body, "Expect: 100-continue")
    with socket.create_connection((HOST, service.port), timeout=30) as connection:
        connection.sendall(raw.removesuffix(body))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert receive(connection).status == 201


@pytest.mark.parametrize("size", [64 * 1024 + 1, 10 * 1024 * 1024])
def test_a_body_between_the_limits_is_refused_by_the_service_itself(service: Service, client: Any, size: int) -> None:
    reply = service.send(post("/token", client, b'"' + b"a" * (size - 2) + b'"'))
    assert_problem(reply, 413, "payload_too_large")
    assert str(64 * 1024) in reply.json["detail"]


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_over_the_gateways_limit_is_answered_although_it_is_still_coming(
    service: Service, client: Any, is_chunked: bool
) -> None:
    body = b"a" * (11 * 1024 * 1024)
    chunks = request(ISSUE, "Transfer-Encoding: chunked", body=b"B00000\r\n" + body)
    reply = service.send(chunks if is_chunked else post("/token", client, body))
    assert_problem(reply, 413, "payload_too_large")
    assert str(10 * 1024 * 1024) in reply.json["detail"]


@pytest.mark.parametrize(("path", "status"), [("/version", 200), ("/nothing", 404), ("/use?token=x", 405)])
def test_head_is_answered_without_a_body(service: Service, client: Any, path: str, status: int) -> None:
    raw = request(f"HEAD {BASE}{path} HTTP/1.1", f"Authorization: {client.header}", "Connection: close")
    with socket.create_connection((HOST, service.port), timeout=30) as connection:
        connection.sendall(raw)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert body == b""
    assert b"content-length: 0" not in head.lower()


def test_a_connection_serves_many_requests(service: Service, client: Any) -> None:
    connection = HTTPConnection(HOST, service.port, timeout=30)
    for method, path, status in (
        ("GET", "/version", 200),
        ("GET", "/nothing", 404),
        ("PUT", "/token", 405),
        ("GET", "/version", 200),
    ):
        connection.request(method, BASE + path, headers={"Authorization": client.header})
        first = connection.sock
        response = connection.getresponse()
        response.read()
        assert response.status == status
        assert connection.sock is first
    connection.close()


def test_sixty_four_connections_are_served_at_once(service: Service, client: Any) -> None:
    count = 64
    together = threading.Barrier(count)

    def status_of_one(_: int) -> int:
        with socket.create_connection((HOST, service.port), timeout=60) as connection:
            together.wait(60)
            connection.sendall(request(VERSION, f"Authorization: {client.header}"))
            return receive(connection).status

    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(status_of_one, range(count))) == [200] * count


def test_a_query_and_a_token_in_a_path_reach_no_log(service: Service, client: Any) -> None:
    token = os.urandom(32).hex()
    for target in (f"{BASE}/use?token={token}", f"{BASE}/token/{token}", f"/{token}?user=somebody-secret"):
        service.send(request(f"GET {target} HTTP/1.1", f"Authorization: {client.header}"))
    service.send(request(f"{token} {BASE}/use HTTP/1.1"))
    written = service.output()
    assert token not in written
    assert "somebody-secret" not in written
    assert client.password not in written
    assert client.header not in written


def access_line(service: Service, reply: Reply) -> dict[str, Any]:
    lines = [json.loads(line) for line in service.output().splitlines() if line.startswith("{")]
    return next(line for line in lines if line.get("requestId") == reply.headers["x-amzn-requestid"])


def test_every_request_is_logged_in_one_json_line(service: Service, client: Any) -> None:
    reply = service.send(request(f"GET {BASE}/version?a=b HTTP/1.1", f"Authorization: {client.header}"))
    reported = access_line(service, reply)
    assert reported.items() >= {"event": "access", "method": "GET", "path": f"{BASE}/version", "status": 200}.items()
    assert (reported["ip"], reported["clientId"], reported["reason"]) == ("127.0.0.1", client.user, "-")
    assert reported["milliseconds"] >= 0


def events(service: Service, name: str, **wanted: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in service.output().splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("event") == name and wanted.items() <= line.items()]


def test_answer_access_log_and_audit_event_of_a_call_have_the_same_ids(service: Service, client: Any) -> None:
    """On AWS the gateway's own log is the access log; the local AWS writes none."""
    reply = service.send(post("/use", client, json.dumps({"token": "0" * 64}).encode()))
    assert_problem(reply, 404, "token_not_found")
    [access] = events(service, "access", requestId=reply.json["requestId"])
    [audited] = events(service, "token.refused", requestId=reply.json["requestId"])
    assert access["extendedRequestId"] == audited["extendedRequestId"]
    assert access["extendedRequestId"] != access["requestId"]


def test_refused_credentials_are_found_from_the_access_log(service: Service, client: Any) -> None:
    """The authorizer learns no id of the gateway's; what it writes has an id that the access log names."""
    credentials = base64.b64encode(f"{client.user}:not the secret".encode()).decode()
    reply = service.send(request(VERSION, f"Authorization: Basic {credentials}"))
    [access] = events(service, "access", requestId=reply.json["requestId"])
    [audited] = events(service, "auth.refused", requestId=access["authRequestId"])
    assert (audited["clientId"], audited["reason"]) == (client.user, "wrong_secret")


def test_refused_credentials_are_logged_with_address_client_and_reason(service: Service, client: Any) -> None:
    def reported(*headers: str) -> tuple[str, ...]:
        line = access_line(service, service.send(request(f"GET {BASE}/version HTTP/1.1", *headers)))
        return tuple(str(line[name]) for name in ("status", "ip", "clientId", "reason"))

    def basic(name: str) -> str:
        return "Authorization: Basic " + base64.b64encode(f"{name}:wrong".encode()).decode()

    assert reported(basic(client.user)) == ("401", "127.0.0.1", client.user, "wrong_secret")
    assert reported(basic("stranger")) == ("401", "127.0.0.1", "nobody", "unknown_client")
    assert reported() == ("401", "127.0.0.1", "-", "-")


def test_without_its_store_the_service_answers_503(tmp_path: Path, deployment: Any, client: Any) -> None:
    with ExitStack() as started:
        # It starts only where it finds its store, which then goes away.
        with Proxy(os.environ["AWS_ENDPOINT_URL"]) as store:
            service = started.enter_context(running(tmp_path / "output", {"AWS_ENDPOINT_URL": store.url}))
        reply = service.send(request(VERSION, f"Authorization: {client.header}"))
        assert_problem(reply, 503, "store_unavailable")
        assert reply.headers["retry-after"] == "1"
        assert client.password not in service.output()


@pytest.fixture
def failing() -> Chalice:
    """An application in which everything goes wrong."""
    app = Chalice(app_name="failing", configure_logs=False)

    @app.authorizer()
    def broken(_: Any) -> Any:
        raise RuntimeError("authorizer's secret")

    @app.authorizer()
    def silent(_: Any) -> Any:
        return None

    @app.route("/broken", authorizer=broken)
    def behind_broken() -> str:
        return "never"

    @app.route("/silent", authorizer=silent)
    def behind_silent() -> str:
        return "never"

    @app.route("/unwritable")
    def unwritable() -> Response:
        return Response(object(), headers={"Content-Type": "text/plain"})

    return app


def config(app: Chalice) -> Config:
    return Config.create(chalice_app=app, project_dir=str(ROOT))


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/broken", 503, "store_unavailable"),
        ("/silent", 503, "store_unavailable"),
        ("/unwritable", 500, "internal_error"),
    ],
)
def test_a_failure_is_answered_without_its_words(failing: Chalice, path: str, status: int, code: str) -> None:
    answer = gateway.Gateway(failing, config(failing), HOST).answer("GET", path, {"authorization": "x"}, None)
    assert (int(answer.status[:3]), json.loads(answer.body)["code"]) == (status, code)
    assert b"secret" not in answer.body
    assert b"object" not in answer.body


def test_a_body_that_never_comes_is_not_waited_for(failing: Chalice) -> None:
    connections: dict[int, Any] = {}
    server = gateway.Server(failing, config(failing), HOST, 0, map=connections, channel_timeout=0, cleanup_interval=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    with socket.create_connection((HOST, int(server.effective_port)), timeout=30) as connection:
        connection.sendall(request("POST /unwritable HTTP/1.1", "Content-Length: 5"))
        assert connection.recv(1) == b""
    server.trigger.pull_trigger(lambda: wasyncore.close_all(connections))
    thread.join()
    server.task_dispatcher.shutdown()


def test_requests_at_work_are_answered_before_the_server_ends(tmp_path: Path, deployment: Any, client: Any) -> None:
    at_work, go_on = threading.Event(), threading.Event()

    def wait(_: str) -> None:
        at_work.set()
        go_on.wait(60)

    with ExitStack() as stack:
        store = stack.enter_context(Proxy(os.environ["AWS_ENDPOINT_URL"]))
        pool = stack.enter_context(ThreadPoolExecutor(2))
        stopping = ExitStack()
        service = stopping.enter_context(running(tmp_path / "output", {"AWS_ENDPOINT_URL": store.url}))
        store.when_done = wait
        answer = pool.submit(service.send, request(VERSION, f"Authorization: {client.header}"))
        assert at_work.wait(60)
        stopped = pool.submit(stopping.close)
        time.sleep(0.5)
        assert not stopped.done()
        go_on.set()
        assert answer.result().status == 200
        stopped.result()
