"""Secrets are fed through every route and searched for in everything that comes out, wherever it comes out."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib.clients import Scope
from tests.support.api import NODE, Answer, Api, Credentials
from tests.support.output import Output, level

SOMEBODY = "somebody-else"

Send = Callable[[Api, Credentials, str], Answer]


def post(path: str, body: Callable[[str], Any], headers: Callable[[str], dict[str, str]] | None = None) -> Send:
    def send(api: Api, client: Credentials, secret: str) -> Answer:
        return api.call("POST", path, client, body(secret), headers=headers(secret) if headers else None)

    return send


def get(path: Callable[[str], str], query: Callable[[str], dict[str, Any]] | None = None, method: str = "GET") -> Send:
    def send(api: Api, client: Credentials, secret: str) -> Answer:
        return api.call(method, path(secret), client, query=query(secret) if query else None)

    return send


def credentials(user: Callable[[str], str], password: Callable[[str], str]) -> Send:
    def send(api: Api, _: Credentials, secret: str) -> Answer:
        return api.call("GET", "/version", Credentials(user(secret), password(secret)))

    return send


def authorization(header: Callable[[str], str]) -> Send:
    def send(api: Api, _: Credentials, secret: str) -> Answer:
        return api.call("GET", "/version", None, headers={"Authorization": header(secret)})

    return send


def issue_bodies() -> Iterator[tuple[str, Callable[[str], Any]]]:
    """An issue body with the secret in each place that it can have."""
    yield "node id", lambda s: {"nodeId": s}
    yield "node id among other text", lambda s: {"nodeId": f"workspace://{s}/content"}
    for name in ("user", "maxUses", "expiresIn", "expiresAt", "notBefore", "actions", "metadata", "ipAddresses"):
        yield name, lambda s, name=name: {"nodeId": NODE, name: s}
    for name in ("actions", "ipAddresses", "audience"):
        yield f"entry of {name}", lambda s, name=name: {"nodeId": NODE, name: [s]}
        yield f"entry twice in {name}", lambda s, name=name: {"nodeId": NODE, name: [s, s]}
    yield "key of metadata", lambda s: {"nodeId": NODE, "metadata": {s: "x"}}
    yield "value of metadata", lambda s: {"nodeId": NODE, "metadata": {"x": s}}
    yield "wrong key of metadata", lambda s: {"nodeId": NODE, "metadata": {s: 1}}
    yield "key twice in metadata", lambda s: f'{{"nodeId":"n","metadata":{{"{s}":"","{s}":""}}}}'.encode()
    yield "field name", lambda s: {"nodeId": NODE, s: "x"}
    yield "field name among other text", lambda s: {"nodeId": NODE, f"ghi-{s}-jkl": "x"}
    yield "field name twice", lambda s: f'{{"{s}":1,"{s}":2}}'.encode()
    yield "value of an unknown field", lambda s: {"nodeId": NODE, "x": {"y": [s]}}


def use_bodies() -> Iterator[tuple[str, Callable[[str], Any]]]:
    for name in ("token", "action", "user", "ipAddress", "x"):
        yield name, lambda s, name=name: {"token": "0" * 64, name: s}
        yield f"list as {name}", lambda s, name=name: {"token": "0" * 64, name: [s]}
    yield "token among other text", lambda s: {"token": f"?token={s}&"}
    yield "token in upper case", lambda s: {"token": s.upper()}
    yield "field name", lambda s: {"token": "0" * 64, s: "x"}
    yield "field name twice", lambda s: f'{{"{s}":1,"{s}":2}}'.encode()
    yield "all", lambda s: {"token": s, "user": s, "action": s, "ipAddress": s, s: s}


def places() -> Iterator[tuple[str, Send]]:
    """Every field of every route."""
    for place, body in issue_bodies():
        yield f"POST /token {place}", post("/token", body)
        if not isinstance(body("x"), bytes):
            yield f"POST /tokens {place}", post("/tokens", lambda s, body=body: {"tokens": [body(s)]})
    for place, body in use_bodies():
        for path in ("/use", "/introspect"):
            yield f"POST {path} {place}", post(path, body)
        if not isinstance(body("x"), bytes):
            yield f"GET /use {place}", get(lambda _: "/use", body)
    yield "GET /use twice", get(lambda _: "/use", lambda s: {"token": [s, s]})
    yield "GET /use name twice", get(lambda _: "/use", lambda s: {s: ["x", "x"]})
    for place in ("nodeId", "user", "x"):
        yield f"POST /revoke {place}", post("/revoke", lambda s, place=place: {place: s})
    yield "POST /revoke field name", post("/revoke", lambda s: {s: "x"})


def other_places() -> Iterator[tuple[str, Send]]:
    """Around the fields: the whole body, headers, paths, credentials."""
    for path in ("/token", "/tokens", "/use", "/introspect", "/revoke"):
        yield f"POST {path} bare", post(path, lambda s: s)
        yield f"POST {path} no JSON", post(path, lambda s: s.encode())
        yield f"POST {path} list", post(path, lambda s: [s])
        yield f"POST {path} media type", post(path, lambda _: {}, lambda s: {"Content-Type": s})
        yield f"POST {path} header", post(path, lambda _: {}, lambda s: {f"X-{s}": s, "Cookie": s})
    for place, key in (("key", lambda s: s), ("bad key", lambda s: f"a {s}"), ("long key", lambda s: s * 5)):
        headers = lambda s, key=key: {"Idempotency-Key": key(s)}  # noqa: E731 - one line of a table
        yield f"POST /use {place}", post("/use", lambda _: {"token": "0" * 64}, headers)
    for method in ("GET", "DELETE", "POST", "PUT", "PATCH", "HEAD", "OPTIONS"):
        yield f"{method} /token/…", get(lambda s: f"/token/{s}", method=method)
        yield f"{method} /token/tok_…", get(lambda s: f"/token/tok_{s}", method=method)
        yield f"{method} /version?…", get(lambda _: "/version", lambda s: {s: s}, method)
    yield "user id", credentials(lambda s: s, lambda _: "x")
    yield "user id and password", credentials(lambda s: s, lambda s: s)
    yield "password of nobody", credentials(lambda _: "nobody", lambda s: s)
    for scheme in ("Bearer {}", "Basic {}", "{}", "Splunk {}", "Token token={}", "Basic {}:{}"):
        yield f"Authorization: {scheme}", authorization(lambda s, scheme=scheme: scheme.format(s, s))


PLACES = {**dict(places()), **dict(other_places())}


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


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_in_the_wrong_place_is_neither_answered_nor_written(
    api: Api, client: Credentials, output: Output, secrets: dict[str, str], place: str
) -> None:
    for name, secret in secrets.items():
        output.read()
        with level("DEBUG"):
            answer = PLACES[place](api, client, secret)
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
    import os

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


def test_a_token_that_is_written_is_replaced_by_its_id(api: Api, client: Credentials, output: Output) -> None:
    """An auditor still learns which token lay in the wrong place."""
    issued = api.issue(client)
    output.read()
    api.use(client, api.issue(client)["token"], user=issued["token"])
    written = output.read()
    assert f'"user":"[{issued["tokenId"]}]"' in written
