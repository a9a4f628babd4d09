"""Permissions in full: every set of scopes on every route, with the client's own and other tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, combinations
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib.clients import Scope
from chalicelib.http import routes
from tests.support.api import Answer, Credentials, MemoryApi, gateway_event

SETS = [frozenset(each) for each in chain.from_iterable(combinations(Scope, n) for n in range(1, len(Scope) + 1))]

# Any one of these opens the route; nothing else does.
OPENED_BY: Mapping[tuple[str, str], frozenset[Scope]] = {
    ("POST", "/token"): frozenset({Scope.ISSUE}),
    ("POST", "/tokens"): frozenset({Scope.ISSUE}),
    ("GET", "/use"): frozenset({Scope.USE}),
    ("POST", "/use"): frozenset({Scope.USE}),
    ("POST", "/introspect"): frozenset({Scope.INTROSPECT}),
    ("GET", "/token/{token_id}"): frozenset({Scope.MANAGE, Scope.ADMIN}),
    ("DELETE", "/token/{token_id}"): frozenset({Scope.MANAGE, Scope.ADMIN}),
    ("POST", "/revoke"): frozenset({Scope.MANAGE, Scope.ADMIN}),
}
GOOD = {("POST", "/token"): 201, ("POST", "/tokens"): 201, ("DELETE", "/token/{token_id}"): 204}
OF_ONE_TOKEN = "/token/{token_id}"
SECRET_NODE = "the-node-nobody-else-may-learn"
SECRET_USER = "the-user-nobody-else-may-learn"
SECRET_TITLE = "the-title-nobody-else-may-learn"


@dataclass(frozen=True)
class Subject:
    """A token that requests are about, and whose it is."""

    token: str
    token_id: str
    node: str


def ask(api: MemoryApi, method: str, path: str, client: Credentials | None, subject: Subject) -> Answer:
    bodies: dict[str, Any] = {
        "/token": {"nodeId": "n"},
        "/tokens": {"tokens": [{"nodeId": "n"}]},
        "/use": {"token": subject.token},
        "/introspect": {"token": subject.token},
        "/revoke": {"nodeId": subject.node},
    }
    query = {"token": subject.token} if (method, path) == ("GET", "/use") else None
    body = bodies.get(path) if method == "POST" else None
    return api.call(method, path.replace("{token_id}", subject.token_id), client, body, query=query)


def issue(api: MemoryApi, issuer: Credentials, name: str, **body: Any) -> Subject:
    issued = api.issue(issuer, nodeId=name, **body)
    return Subject(issued["token"], issued["tokenId"], name)


def named(scopes: frozenset[Scope]) -> str:
    return "+".join(sorted(scopes))


def test_the_table_holds_every_route() -> None:
    served = {(route.method, route.path) for route in routes.ROUTES}
    assert served == set(OPENED_BY) | {("GET", "/version"), ("GET", "/openapi.json")}


@pytest.mark.parametrize("scopes", SETS, ids=named)
def test_each_set_of_scopes_opens_its_routes_and_no_other(api: MemoryApi, scopes: frozenset[Scope]) -> None:
    holder, issuer = api.client(*scopes), api.client(Scope.ISSUE)
    assert api.call("GET", "/version", holder).status == 200
    assert api.call("GET", "/openapi.json", holder).status == 200
    for (method, path), opening in OPENED_BY.items():
        subject = issue(api, issuer, f"node-{named(scopes)}-{method}-{path}")
        before = api.store.tokens[subject.token_id]
        answer = ask(api, method, path, holder, subject)
        closed = not scopes & opening or (path == OF_ONE_TOKEN and Scope.ADMIN not in scopes)
        if closed:
            assert (answer.status, answer.code) == (403, "insufficient_scope"), (method, path, answer.text)
            assert subject.node not in answer.text
        else:
            assert answer.status == GOOD.get((method, path), 200), (method, path, answer.text)
        changes = not closed and (path == "/use" or method == "DELETE" or (path == "/revoke" and Scope.ADMIN in scopes))
        assert (api.store.tokens[subject.token_id] != before) == changes, (method, path)


@pytest.mark.parametrize(
    "reported", ["", " ", "ISSUE USE INTROSPECT MANAGE ADMIN", "issue,use,manage,admin", "issueuse", "*"]
)
@pytest.mark.parametrize(("method", "path"), OPENED_BY)
def test_scopes_that_are_none_open_no_route(api: MemoryApi, reported: str, method: str, path: str) -> None:
    """As the gateway passes on the authorizer's context; `tokenctl` creates no client without a scope."""
    subject = issue(api, api.client(Scope.ISSUE), SECRET_NODE)
    before = api.store.tokens[subject.token_id]
    body: dict[str, Any] = {"token": subject.token} if path in ("/use", "/introspect") else {"nodeId": SECRET_NODE}
    if path == "/tokens":
        body = {"tokens": [body]}
    event = gateway_event(Credentials("somebody", ""), method, path, json.dumps(body))
    event["requestContext"]["authorizer"]["scopes"] = reported
    event["pathParameters"] = {"token_id": subject.token_id}
    event["multiValueQueryStringParameters"] = {"token": [subject.token]}
    response = api.app(event, SimpleNamespace(aws_request_id="request-1"))
    assert response["statusCode"] == 403, response
    assert json.loads(response["body"])["code"] == "insufficient_scope"
    assert api.store.tokens[subject.token_id] == before


def test_a_client_with_manage_manages_the_tokens_that_it_issued(api: MemoryApi) -> None:
    holder = api.client(Scope.ISSUE, Scope.MANAGE)
    for method, path in (("GET", OF_ONE_TOKEN), ("POST", "/revoke"), ("DELETE", OF_ONE_TOKEN)):
        answer = ask(api, method, path, holder, issue(api, holder, f"own-{method}"))
        assert answer.status == GOOD.get((method, path), 200)
        assert path != "/revoke" or answer.json["revoked"] == 1


@pytest.mark.parametrize(("method", "path"), OPENED_BY)
def test_no_client_uses_sees_or_revokes_tokens_of_another(api: MemoryApi, method: str, path: str) -> None:
    """The stranger may do everything but administer, on tokens of its own."""
    owner, stranger = (api.client(*(set(Scope) - {Scope.ADMIN})) for _ in range(2))
    facts = {"user": SECRET_USER, "metadata": {"title": SECRET_TITLE}, "audience": [owner.user]}
    subject = issue(api, owner, SECRET_NODE, **facts)
    before = api.store.tokens[subject.token_id]
    answer = ask(api, method, path, stranger, subject)
    for secret in (SECRET_NODE, SECRET_USER, SECRET_TITLE, owner.user):
        assert secret not in answer.text
    assert api.store.tokens[subject.token_id] == before
    refused = {
        "/use": {"code": "audience_mismatch", "status": 403},
        "/introspect": {"active": False, "reason": "audience_mismatch"},
        OF_ONE_TOKEN: {"code": "insufficient_scope", "status": 403},
        "/revoke": {"revoked": 0, "more": False},
    }
    assert answer.json.items() >= refused.get(path, {}).items()
    assert api.use(owner, subject.token, user=SECRET_USER).status == 200


def test_only_clients_that_may_manage_can_distinguish_existing_from_missing_tokens(api: MemoryApi) -> None:
    owner, outsider = api.client(Scope.ISSUE), api.client(Scope.ISSUE, Scope.USE)
    subject = issue(api, owner, SECRET_NODE)
    unknown = Subject("0" * 64, "tok_" + "0" * 32, "n")
    for method in ("GET", "DELETE"):
        there, not_there = (ask(api, method, OF_ONE_TOKEN, outsider, each) for each in (subject, unknown))
        assert (there.status, there.json | {"requestId": ""}) == (not_there.status, not_there.json | {"requestId": ""})


@pytest.mark.parametrize(("method", "path"), OPENED_BY)
def test_without_the_scope_a_request_is_refused_before_it_is_read(api: MemoryApi, method: str, path: str) -> None:
    holder = api.client(*(set(Scope) - OPENED_BY[method, path]))
    target = path.replace("{token_id}", "no-token-id") + ("" if method == "POST" else "?surprise=1&surprise=2")
    json_type = "application/json"
    for body, media_type in ((b"{", json_type), (b"{}", json_type), (b"{}", "text/plain"), (b" " * 70_000, json_type)):
        answer = api.call(method, target, holder, body, headers={"Content-Type": media_type})
        assert (answer.status, answer.code) == (403, "insufficient_scope")


@pytest.mark.parametrize(("method", "path"), [*OPENED_BY, ("GET", "/version"), ("GET", "/openapi.json")])
def test_no_route_opens_without_good_credentials_nor_to_a_call_that_no_authorizer_saw(
    api: MemoryApi, client: Credentials, method: str, path: str
) -> None:
    """The second is defence in depth: a route without its authorizer must not be an open door."""
    subject = issue(api, client, SECRET_NODE)
    api.store.calls.clear()
    for nobody in (None, Credentials(client.user, "wrong"), Credentials("nobody", client.password)):
        assert ask(api, method, path, nobody, subject).status in (401, 403)
    event = gateway_event(client, method, path, pathParameters={"token_id": subject.token_id})
    del event["requestContext"]["authorizer"]
    response = api.app(event, SimpleNamespace(aws_request_id="request-1"))
    assert response["statusCode"] == 401
    assert response["headers"]["WWW-Authenticate"] == 'Basic realm="tokenservice", charset="UTF-8"'
    assert api.store.calls == []
