"""Secrets are fed through every route and searched for in everything that comes out, wherever it comes out."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from chalicelib.clients import Scope
from chalicelib.http.routes import METHODS
from chalicelib.http.schemas import IssueRequest, UseRequest
from tests.support.api import NODE, POSTS, Answer, Api, Credentials
from tests.support.output import Output, level

SOMEBODY = "somebody-else"


def bodies(request: type[Any], s: str) -> dict[str, Any]:
    """Bodies with the secret as each field, as a part of it and as its name."""
    fields = [field.encode_name for field in msgspec.structs.fields(request)]
    usual = {name: value for name, value in (("nodeId", NODE), ("token", "0" * 64)) if name in fields}
    shapes: dict[str, Any] = {
        "itself": s,
        "among other text": f"workspace://{s}/content?token={s}&",
        "in a list": [s],
        "twice in a list": [s, s],
        "as a key and a value": {s: 1, "x": s},
    }
    return {
        **{f"{shape} as {name}": {**usual, name: shapes[shape]} for name in (*fields, "x") for shape in shapes},
        "in capitals as token": {**usual, "token": s.upper()},
        "as a key": {**usual, "metadata": {s: "x"}},
        "as a value": {**usual, "metadata": {"x": s}},
        "as a field name": {**usual, s: "x"},
        "among other text as a field name": {**usual, f"ghi-{s}-jkl": "x"},
        "as a field name twice": f'{{"{s}":1,"{s}":2}}'.encode(),
        "as a key twice": f'{{"nodeId":"n","metadata":{{"{s}":"","{s}":""}}}}'.encode(),
    }


def calls(s: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is sent: arguments of `Api.call()` with the secret in every place that a request has."""
    for path, request in POSTS.items():
        for place, body in bodies(request, s).items():
            yield f"POST {path} {place}", {"body": body}
    for place, body in bodies(IssueRequest, s).items():
        if not isinstance(body, bytes):
            yield f"POST /tokens of one {place}", {"body": {"tokens": [body]}}
    for place, query in bodies(UseRequest, s).items():
        if not isinstance(query, bytes) and not any(isinstance(value, dict) for value in query.values()):
            yield f"GET /use {place}", {"query": query}
    yield from calls_around_the_fields(s)


def calls_around_the_fields(s: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The whole body, headers, paths, credentials."""
    yield "GET /use name twice", {"query": {s: ["x", "x"]}}
    for path in POSTS:
        yield f"POST {path} bare", {"body": s}
        yield f"POST {path} no JSON", {"body": s.encode()}
        yield f"POST {path} list", {"body": [s]}
        yield f"POST {path} media type", {"body": {}, "headers": {"Content-Type": s}}
        yield f"POST {path} header", {"body": {}, "headers": {f"X-{s}": s, "Cookie": s}}
    for place, key in (("key", s), ("bad key", f"a {s}"), ("long key", s * 5)):
        yield f"POST /use {place}", {"body": {"token": "0" * 64}, "headers": {"Idempotency-Key": key}}
    for method in METHODS:
        yield f"{method} /token/ the secret", {"path": f"/token/{s}"}
        yield f"{method} /token/ tok_ and the secret", {"path": f"/token/tok_{s}"}
        yield f"{method} /version with a query", {"query": {s: s}}
    for place, user, password in (("user id", s, "x"), ("both", s, s), ("password of nobody", "nobody", s)):
        yield f"GET /version {place}", {"client": Credentials(user, password)}
    for scheme in ("Bearer {}", "Basic {}", "{}", "Splunk {}", "Token token={}", "Basic {}:{}"):
        yield f"GET /version {scheme}", {"client": None, "headers": {"Authorization": scheme.format(s, s)}}


@pytest.fixture(scope="module")
def victim(api: Api) -> Credentials:
    """A client whose secret is given away in the wrong places."""
    return api.client()


@pytest.fixture(scope="module")
def token(api: Api, victim: Credentials) -> str:
    """A live token that is given away in the wrong places."""
    issued: str = api.issue(victim, audience=[SOMEBODY], maxUses=100, expiresIn=86_400)["token"]
    return issued


@pytest.fixture(scope="module")
def secrets(token: str, victim: Credentials) -> dict[str, str]:
    return {
        "token": token,
        "client secret": victim.password,
        "Authorization header": victim.header,
        "credentials in base64": victim.header.removeprefix("Basic "),
    }


def core(secret: str) -> str:
    """What nobody may read of a secret: of an Authorization header, what stands behind the scheme."""
    return secret.removeprefix("Basic ").lower()


def without_data(answer: Answer) -> str:
    """An answer's head and body, without what a caller put in as data of a token that may be used."""
    text = answer.text
    if answer.status == 200 and text:
        answered = answer.json
        text = json.dumps({name: answered[name] for name in answered if name not in ("nodeId", "user", "metadata")})
    return f"{answer.headers}{text}".lower()


@pytest.mark.parametrize("place", dict(calls("x")))
def test_a_secret_in_the_wrong_place_is_neither_answered_nor_written(
    api: Api, client: Credentials, output: Output, secrets: dict[str, str], place: str
) -> None:
    for name, secret in secrets.items():
        output.read()
        with level("DEBUG"):
            method, path, *_ = place.split()
            answer = api.call(method, **{"path": path, "client": client, **dict(calls(secret))[place]})
        written = output.read().lower()
        assert answer.status < 500
        assert core(secret) not in written, name
        assert core(secret) not in without_data(answer), name


def test_the_search_finds_what_is_written_in_each_way(output: Output, token: str) -> None:
    """The tests above are worth something only if they would find what they look for."""
    print(token)
    assert token in output.read()
    logging.getLogger("tokenservice.test").error("%s", token)
    assert token in output.read()
    os.write(2, token.encode())
    assert token in output.read()


def test_only_the_issue_answer_holds_the_token_and_nothing_the_clients_secret(api: Api, output: Output) -> None:
    output.read()
    client = api.client()
    answers = {"issue": api.call("POST", "/token", client, {"nodeId": NODE, "user": "alice", "maxUses": 3})}
    token, token_id = answers["issue"].json["token"], answers["issue"].json["tokenId"]
    good, wrong = {"token": token, "user": "alice"}, {"token": token, "user": "bob"}
    headers = {"Idempotency-Key": "k"}
    answers |= {
        "use": api.call("POST", "/use", client, good, headers=headers),
        "replay": api.call("POST", "/use", client, good, headers=headers),
        "key reused": api.call("POST", "/use", client, wrong, headers=headers),
        "use by query": api.call("GET", "/use", client, query=good),
        "mismatch": api.call("POST", "/use", client, wrong),
        "out of scope": api.call("POST", "/use", api.client(Scope.ISSUE), good),
        "introspect": api.call("POST", "/introspect", client, good),
        "introspect in vain": api.call("POST", "/introspect", client, wrong),
        "status": api.call("GET", f"/token/{token_id}", client),
        "revoke by user": api.call("POST", "/revoke", client, {"user": "alice"}),
        "revoke": api.call("DELETE", f"/token/{token_id}", client),
        "revoked": api.call("GET", "/use", client, query=good),
        "version": api.call("GET", "/version", client),
        "other method": api.call("PUT", "/use", client, query=good),
        "head": api.call("HEAD", "/use", client, query=good),
    }
    statuses = [answer.status for answer in answers.values()]
    assert statuses == [201, 200, 200, 422, 200, 403, 403, 200, 200, 200, 200, 204, 410, 200, 405, 405]
    holding = [name for name, answer in answers.items() if token in f"{answer.headers}{answer.text}"]
    assert holding == ["issue"]
    assert token not in str(answers["issue"].headers)
    written = output.read()
    assert token not in written
    assert token_id in written
    for text in (written, *(f"{answer.headers}{answer.text}" for answer in answers.values())):
        assert client.password not in text
        assert client.header not in text


def test_what_was_put_in_as_data_comes_back_with_a_use_and_nowhere_else(
    api: Api, client: Credentials, output: Output, secrets: dict[str, str]
) -> None:
    """A secret as node id, user and metadata is the caller's own data: a granted use returns it, a log does not."""
    for secret in secrets.values():
        output.read()
        issued = api.issue(client, nodeId=secret, user=secret, metadata={secret: secret}, maxUses=2)
        asked = {"token": issued["token"], "user": secret}
        used = api.call("POST", "/use", client, asked)
        answered = api.call("POST", "/introspect", client, asked)
        for answer in (used, answered):
            assert (answer.json["nodeId"], answer.json["user"]) == (secret, secret)
            assert answer.json["metadata"] == {secret: secret}
            assert core(secret) not in without_data(answer)
        status = api.call("GET", f"/token/{issued['tokenId']}", client).json
        shown = {name: value for name, value in status.items() if name not in ("user", "claims")}
        assert core(secret) not in json.dumps(shown).lower()
        assert core(secret) not in output.read().lower()
