"""The OpenAPI document describes exactly what the service does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from chalicelib.http.problems import TABLE
from chalicelib.http.routes import ROUTES
from deploy import reference
from deploy.reference import ROOT
from tests.support.api import BASE_PATH, NODE, Api, Credentials, gateway_event
from tests.support.examples import document

TOKEN_ID = "tok_" + "0" * 32


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def is_accepted(value: Any, name: str) -> bool:
    schema = {"$ref": f"#/components/schemas/{name}", "components": document()["components"]}
    return bool(Draft202012Validator(schema, format_checker=FormatChecker()).is_valid(value))


def codes_of(operation: dict[str, Any]) -> dict[str, str]:
    """Problem code to the status under which an operation's description names it."""
    return {
        code: status
        for status, response in operation["responses"].items()
        if "application/problem+json" in response.get("content", {})
        for code in re.findall(r"`(\w+)`: ", response["description"])
    }


class TestDocument:
    def test_the_file_is_up_to_date(self) -> None:
        """`make reference` writes it."""
        assert reference.DOCUMENT.read_text("utf-8") == reference.text()

    def test_it_has_every_route_with_its_scope_and_no_other(self) -> None:
        documented = set()
        for method, path, operation in operations():
            scope = re.search(r"Needs the scope `(\w+)`", operation["description"])
            documented.add((method.upper(), path, scope and scope[1]))
            assert ("insufficient_scope" in codes_of(operation)) == (scope is not None)
        paths = {route: BASE_PATH + route.path.replace("{token_id}", "{tokenId}") for route in ROUTES}
        assert documented == {(route.method, path, route.scope) for route, path in paths.items()}

    def test_it_has_every_problem_under_its_status(self) -> None:
        documented: dict[str, set[str]] = {}
        for _, _, operation in operations():
            for code, status in codes_of(operation).items():
                documented.setdefault(code, set()).add(status)
        elsewhere = {"method_not_allowed", "route_not_found"}  # of no operation
        assert documented == {code: {str(row.status)} for code, row in TABLE.items() if code not in elsewhere}
        assert set(document()["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == set(TABLE)


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 2)])
def test_without_npm_redocly_checks_nothing_and_that_is_reported(ci: str, code: int) -> None:
    command = [str(shutil.which("make")), "lint-openapi"]
    run = subprocess.run(
        command, env={"CI": ci, "PATH": "/nonexistent"}, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == code
    assert "!!! OPENAPI NOT LINTED: npm is missing" in run.stderr


class TestServed:
    """`GET /openapi.json`."""

    def test_it_is_the_document_with_the_requested_server(self, api: Api, client: Credentials) -> None:
        answer = api.call("GET", "/openapi.json", client)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json == {**document(), "servers": [{"url": "/"}]}

    @pytest.mark.parametrize(
        ("before", "server"),
        [("", "/"), ("/api", "/api"), ("/documents/v1", "/documents/v1"), ('/a"b\u20ac', '/a"b\u20ac')],
        ids=["local", "a stage of the gateway", "a domain's path", "odd"],
    )
    def test_the_server_is_the_url_before_the_base_path(self, api: Api, before: str, server: str) -> None:
        event = gateway_event(Credentials("records", ""), "GET", "/openapi.json")
        event["requestContext"]["path"] = f"{before}{BASE_PATH}/openapi.json"
        answer = api.app(event, SimpleNamespace(aws_request_id="r"))
        assert json.loads(answer["body"])["servers"] == [{"url": server}]


def test_every_operation_is_shown_in_curl_java_and_if_the_client_has_it_python() -> None:
    for _, path, operation in operations():
        shown = {each["lang"] for each in operation["x-codeSamples"]}
        without_python = operation["operationId"] in ("useTokenByQuery", "getOpenApi")
        assert shown == {"Shell", "Java"} | (set() if without_python else {"Python"}), path


@pytest.mark.parametrize(
    ("schema", "field", "wrong"),
    [
        *(("IssueRequest", "nodeId", wrong) for wrong in ("", "x" * 1025, "a\x00", "a\n")),
        *(("IssueRequest", "actions", wrong) for wrong in ([], ["print"], ["edit", "edit"])),
        *(("IssueRequest", "maxUses", wrong) for wrong in (0, 101, "1", True)),
        *(("IssueRequest", "user", wrong) for wrong in (None, "u" * 257)),
        *(("IssueRequest", "audience", wrong) for wrong in (["a b"], ["a\n"])),
        *(("IssueRequest", name, wrong) for name, wrong in (("expiresIn", 2_592_001), ("expiresAt", "tomorrow"))),
        *(("IssueRequest", name, wrong) for name, wrong in (("ipAddresses", []), ("metadata", {"a": 1}), ("x", 1))),
        *(("UseRequest", "token", wrong) for wrong in ("0" * 63, "A" * 64, "0" * 63 + "\n")),
        *(("UseRequest", name, "") for name in ("action", "user", "ipAddress", "surprise")),
    ],
    ids=ascii,
)
def test_what_the_service_refuses_is_forbidden_by_the_document_too(
    api: Api, client: Credentials, schema: str, field: str, wrong: object
) -> None:
    """`DocumentedApi` checks the other way: what is forbidden is refused."""
    good, path = {"IssueRequest": ({"nodeId": "n"}, "/token"), "UseRequest": ({"token": "0" * 64}, "/use")}[schema]
    assert is_accepted(good, schema)
    for body in ({**good, field: wrong}, {}):
        assert not is_accepted(body, schema)
        assert api.call("POST", path, client, body).status == 400


def test_every_answer_with_all_its_members_is_as_documented(api: Api) -> None:
    """`DocumentedApi` checks each answer; here is one with each optional member."""
    client = api.client()
    limits = {
        "actions": ["edit", "download"],
        "maxUses": 3,
        "notBefore": "2020-01-01T00:00:00Z",
        "user": "alice",
        "ipAddresses": ["10.0.0.0/8"],
        "audience": [client.user],
        "metadata": {"title": "Größe"},
    }
    issued = api.issue(client, **limits)
    token, status = issued["token"], f"/token/{issued['tokenId']}"
    good = {"user": "alice", "ipAddress": "10.0.0.1", "action": "edit"}
    answers = [api.use(client, token, **good, key="k") for _ in range(2)]
    answers += [api.call("POST", "/introspect", client, {"token": token, **said}) for said in (good, {})]
    answers += [api.call("DELETE", status, client), api.call("GET", status, client)]
    answers += [api.call("POST", "/tokens", client, {"tokens": [limits]})]
    answers += [api.call("POST", "/tokens", client, {"tokens": [{"nodeId": NODE}]})]
    answers += [api.call("POST", "/revoke", client, {"user": "nobody"}), api.call("GET", "/version", client)]
    answers += [api.call("GET", "/openapi.json", client)]
    text = "".join(answer.text for answer in answers) + json.dumps(issued)
    for name, schema in document()["components"]["schemas"].items():
        if name.endswith("Answer") or name == "Problem":
            for member in schema["properties"]:
                assert f'"{member}":' in text, (name, member)
