"""A bad request costs no more work than a good one, whatever is in it."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.api import NODE, POSTS, Api, Credentials, gateway_event

KILO = 1024


def filled(unit: bytes) -> bytes:
    """Nearly 62 KB of something, with commas between; `%d` in it is the place."""
    count = 62 * KILO // (len(unit) + 1 + 4 * unit.count(b"%d"))
    return b",".join(unit % place if b"%d" in unit else unit for place in range(count))


CONTENTS = [
    *(b"[" + filled(unit) + b"]" for unit in (b"{}", b'{"nodeId":1}', b"[]", b"1", b'"x"', b"null")),
    *(b"{" + filled(unit) + b"}" for unit in (b'"x%d":1', b'"%d":""', b'"a":""', b'"%d' + b"a" * 1_000 + b'":1')),
    b"{" + b",".join(b'"%d":"","%d":""' % (name, name) for name in range(3_000)) + b"}",
    b"[" * 31_000 + b"]" * 31_000,
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    *(digits + b"9" * 60_000 for digits in (b"", b"1.", b"1e")),
    *(b'"' + text + b'"' for text in (b"x" * 60_000, (b"a" * 63 + b"x") * 900)),
    *(b'"' + escape * 10_000 + b'"' for escape in (rb"\u0000", rb"\ud800")),
]


def steps(api: Api, event: dict[str, Any]) -> tuple[int, int]:
    """The status of the answer, and the calls of functions that the REST handler made, Python's own included.

    Seconds would depend on the machine. The garbage collector is off meanwhile: it calls finalizers of other tests.
    """
    context = SimpleNamespace(aws_request_id="request-1", get_remaining_time_in_millis=lambda: 29_000)
    count = 0

    def profile(frame: object, kind: str, argument: object) -> None:
        nonlocal count
        count += kind in ("call", "c_call")

    gc.disable()
    sys.setprofile(profile)
    try:
        response = api.app(event, context)
    finally:
        sys.setprofile(None)
        gc.enable()
    return response["statusCode"], count


def bad_bodies(path: str) -> Iterator[bytes]:
    # Of the fields of one type, one is enough.
    names = [
        name for name in POSTS[path].__struct_encode_fields__ if name not in ("expiresIn", "notBefore", "audience")
    ]
    places = [(b"", b""), *((f'{{"{name}":'.encode(), b"}") for name in (*names, "surprise"))]
    if path == "/tokens":
        places += [(f'{{"tokens":[{{"{name}":'.encode(), b"}]}") for name in ("nodeId", "metadata", "surprise")]
        for audience in ([], [""] * 16):
            entry = {"nodeId": "", "ipAddresses": ["x"], "audience": audience, "x": 1}
            yield b'{"tokens":[' + filled(json.dumps(entry).encode()) + b"]}"
            yield json.dumps({"tokens": [entry] * 100}).encode()
    yield from (head + content + tail for content in CONTENTS for head, tail in places)


@pytest.mark.parametrize("path", [path for path in POSTS if path != "/introspect"])  # it reads as /use does
def test_a_bad_body_costs_no_more_than_a_good_one_of_its_size(api: Api, client: Credentials, path: str) -> None:
    user = "user-with-a-token"
    use = {"token": api.issue(client, user=user)["token"], "user": user}
    issue = {"nodeId": NODE}
    # A batch of 8 of the 100 tokens that are allowed: a bad one may name 50 errors.
    good = {"/token": issue, "/tokens": {"tokens": [issue] * 8}, "/revoke": {"user": user}}.get(path, use)

    def steps_for(body: bytes) -> tuple[int, int]:
        return steps(api, gateway_event(client, "POST", path, body.decode()))

    status, allowed = steps_for(json.dumps(good).encode().ljust(63 * KILO))
    assert status < 300
    for body in bad_bodies(path):
        assert len(body) <= 64 * KILO
        status, count = steps_for(body)
        if count > allowed:  # what is loaded once does not count
            status, count = steps_for(body)
        assert status == 400
        assert count <= allowed, body[:60]


@pytest.mark.parametrize(
    "query",
    [
        {f"x{number}": ["1"] for number in range(1_500)},
        {"user": ["alice"] * 1_500},
        {f"x{number}": ["1", "2"] for number in range(800)},
        {"token": ["a" * 8_000]},
        {"user": ["\ufffd" * 1_000]},
    ],
    ids=["many names", "one name many times", "many names twice", "long", "not UTF-8"],
)
def test_a_bad_query_costs_no_more_than_a_good_one(api: Api, client: Credentials, query: dict[str, list[str]]) -> None:
    def steps_for(parameters: dict[str, list[str]]) -> tuple[int, int]:
        return steps(api, gateway_event(client, "GET", "/use", multiValueQueryStringParameters=parameters))

    status, allowed = steps_for({"token": [api.issue(client)["token"]]})
    assert status == 200
    status, count = min(steps_for(query), steps_for(query))
    assert status == 400
    assert count <= allowed
