"""Raw HTTP to the local server, one table of what came of it; and that nothing of that server is deployed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPResponse
from typing import Any

import pytest

from dev.engine import HOST, ROOT
from tests.support.raw_http import BASE, NODE, Service, post, request, running

BODY = json.dumps({"nodeId": NODE}).encode()
ISSUE = f"POST {BASE}/token HTTP/1.1"
VERSION = f"GET {BASE}/version HTTP/1.1"


@pytest.fixture(scope="module")
def service(deployment: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("raw") / "output", {}) as service:
        yield service


def answers(service: Service, raw: bytes) -> list[tuple[int, str | None]]:
    """Status and problem code of every answer up to that to a last request, which closes the connection."""
    received: list[tuple[int, str | None]] = []
    with socket.create_connection((HOST, service.port), timeout=30) as connection:
        connection.sendall(raw + request("GET /last HTTP/1.1", "Connection: close"))
        stream = connection.makefile("rb")
        while stream.peek(1):
            with closing(HTTPResponse(_Stream(stream))) as response:
                response.begin()
                text = response.read()
                body = json.loads(text) if text else {}
                received.append((response.status, body.get("code")))
        stream.close()
    return received


class _Stream:
    """Lets several answers be read from one connection: `HTTPResponse` would close what it reads from."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def makefile(self, mode: str) -> _Stream:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None: ...


def chunked(*headers: str) -> Callable[[Any], bytes]:
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    return lambda client: request(ISSUE, f"Authorization: {client.header}", *headers, body=chunks)


def get(*headers: str, head: str = VERSION) -> Callable[[Any], bytes]:
    return lambda client: request(head, f"Authorization: {client.header}", *headers)


OK, ISSUED = (200, None), (201, None)
BAD = (400, "invalid_request")
NOWHERE = (404, "route_not_found")
LAST = NOWHERE
"""The answer to the last request: the connection was still open."""
CASES: dict[str, tuple[Callable[[Any], bytes], list[tuple[int, str | None]]]] = {
    "two requests at once": (lambda c: get()(c) + get()(c), [OK, OK, LAST]),
    "ten requests at once": (lambda c: get()(c) * 10, [OK] * 10 + [LAST]),
    "an issue and a look, at once": (lambda c: post("/token", c, BODY) + get()(c), [ISSUED, OK, LAST]),
    "a request behind a broken one": (lambda c: request("GET /") + get()(c), [BAD]),
    "a request behind a body too long": (
        lambda c: post("/token", c, BODY, "Content-Length: 1") + get()(c),
        [BAD],
    ),
    "a request hidden in a body": (lambda c: post("/token", c, get()(c)), [BAD, LAST]),
    "a request hidden behind chunks and a length": (
        lambda c: chunked("Content-Length: 4", "Transfer-Encoding: chunked")(c) + get()(c),
        [BAD],
    ),
    "a request hidden behind a disguised encoding": (
        lambda c: chunked("Transfer-Encoding: xchunked")(c) + get()(c),
        [BAD],
    ),
    "chunks, twice": (chunked("Transfer-Encoding: chunked, chunked"), [ISSUED, LAST]),
    "chunks, in two headers": (chunked("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), [BAD]),
    "chunks": (chunked("Content-Type: application/json", "Transfer-Encoding: chunked"), [ISSUED, LAST]),
    "chunks with a negative size": (
        lambda c: request(ISSUE, f"Authorization: {c.header}", "Transfer-Encoding: chunked", body=b"-1\r\n"),
        [BAD],
    ),
    "a length in hex": (lambda c: request(ISSUE, f"Authorization: {c.header}", "Content-Length: 0x10"), [BAD]),
    "two lengths that agree": (lambda c: post("/token", c, BODY, f"Content-Length: {len(BODY)}"), [BAD]),
    "a body to GET": (
        lambda c: request(VERSION, f"Authorization: {c.header}", "Content-Length: 2", body=b"{}"),
        [OK, LAST],
    ),
    "no Host": (lambda c: f"{VERSION}\r\nAuthorization: {c.header}\r\n\r\n".encode(), [OK, LAST]),
    "two Hosts": (get("Host: elsewhere"), [OK, LAST]),
    "HTTP/1.0": (get(head=f"GET {BASE}/version HTTP/1.0"), [OK]),
    "lines that end with LF alone": (lambda c: get()(c).replace(b"\r\n", b"\n"), [BAD]),
    "a folded header": (get("X: a", " b"), [OK, LAST]),
    "a NUL in a header": (get("X: a\x00b"), [BAD]),
    "a name of a header in Latin-1": (get("\xe9: b"), [BAD]),
    "64 KB of headers": (get(*(f"X-{n}: {'a' * 1_000}" for n in range(64))), [OK, LAST]),
    "an absolute target": (get(head=f"GET http://localhost{BASE}/version HTTP/1.1"), [OK, LAST]),
    "a target with a fragment": (get(head=f"GET {BASE}/version#x HTTP/1.1"), [OK, LAST]),
    "an encoded path": (get(head=f"GET {BASE.replace('api', '%61pi')}/version HTTP/1.1"), [NOWHERE, LAST]),
    "dots in the path": (get(head=f"GET {BASE}/x/../version HTTP/1.1"), [NOWHERE, LAST]),
    "two slashes": (get(head=f"GET {BASE}//version HTTP/1.1"), [NOWHERE, LAST]),
    "no route and no ASCII": (lambda c: request("GET /nowhere HTTP/1.1", "Authorization: \xe9"), [NOWHERE, LAST]),
    "an unknown expectation": (get("Expect: 200-ok"), [OK, LAST]),
    "a request without a body that expects to be continued": (get("Expect: 100-continue"), [OK, LAST]),
    "an upgrade": (get("Connection: Upgrade", "Upgrade: websocket"), [OK, LAST]),
    "nothing at all": (lambda c: b"", [LAST]),
    "half a request line": (lambda c: b"GET /tok", [BAD]),
    "two Authorizations, the first one good": (get("Authorization: Basic YTpi"), [BAD]),
    "two Authorizations, the first one bad": (
        lambda c: request(VERSION, "Authorization: Basic YTpi", f"Authorization: {c.header}"),
        [BAD],
    ),
    "two Authorizations that agree": (lambda c: get(f"authorization: {c.header}")(c), [BAD]),
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


def test_the_local_server_and_its_parsers_are_no_part_of_the_deployed_function() -> None:
    """Where `chalice local` fails by itself, `dev.gateway` mends it; API Gateway replaces the two of them on AWS."""
    code = """
import json, sys, types, app
event = {"requestContext": {"httpMethod": "GET", "resourcePath": "/tokenservice/services/api/version", "path": "/",
         "authorizer": {"clientId": "c", "scopes": ""}}, "headers": {}, "pathParameters": {}, "stageVariables": {},
         "multiValueQueryStringParameters": None, "body": None}
assert app.app(event, types.SimpleNamespace(aws_request_id="r"))["statusCode"] == 200
print(*sys.modules)
"""
    environ = {"_HANDLER": "app.app", "STAGE": "dev", "AWS_DEFAULT_REGION": "eu-central-1"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.splitlines()[-1].split())
    assert {"chalice.app", "chalicelib.http.routes"} <= loaded
    assert not {name for name in loaded if name.partition(".")[0] in ("dev", "werkzeug", "tests", "tokenctl")}
    assert not loaded & {"http.server", "socketserver", "chalice.local", "chalice.cli", "chalice.config"}
