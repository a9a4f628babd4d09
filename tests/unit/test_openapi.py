"""The OpenAPI document describes exactly what the service does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from chalicelib.clients import Scope
from chalicelib.http.problems import TABLE
from chalicelib.http.routes import METHODS, ROUTES
from deploy import reference
from deploy.checks import openapi as openapi_checks
from dev.engine import ROOT
from tests.support.api import BASE_PATH, NODE, Answer, Api, Credentials
from tests.support.examples import document

TOKEN_ID = "tok_" + "0" * 32


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def conforms(value: Any, schema: dict[str, Any]) -> None:
    """Raises where a value is not what a schema of the document says."""
    whole = {**schema, "components": document()["components"]}
    Draft202012Validator(whole, format_checker=FormatChecker()).validate(value)


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
        assert openapi_checks.DOCUMENT.read_text("utf-8") == reference.text()

    def test_every_default_is_one_that_its_schema_allows(self) -> None:
        """Redocly (`make lint-openapi`) checks all else that OpenAPI 3.1 demands."""
        schemas = document()["components"]["schemas"].values()
        members = [member for schema in schemas for member in schema.get("properties", {}).values()]
        with_default = [member for member in members if "default" in member]
        assert with_default
        for member in with_default:
            conforms(member["default"], member)

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

    def test_every_enumeration_has_type_string(self) -> None:
        schemas = document()["components"]["schemas"].values()
        assert [schema["type"] for schema in schemas if "enum" in schema] == ["string", "string"]

    @pytest.mark.parametrize("name", ["IssueRequest", "BatchRequest", "UseRequest", "RevokeRequest"])
    def test_a_request_allows_no_fields_that_are_not_described(self, name: str) -> None:
        assert document()["components"]["schemas"][name]["additionalProperties"] is False

    def test_every_body_and_parameter_has_an_example_that_it_allows(self) -> None:
        """tests/e2e/test_examples.py sends them."""
        for _, path, operation in operations():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                conforms(content["example"], content["schema"])
            for parameter in operation.get("parameters", []):
                assert parameter["description"], path
                conforms(parameter["example"], parameter["schema"])

    def test_headers_that_problems_promise_are_described(self) -> None:
        promised = {"401": {"WWW-Authenticate"}, "429": {"Retry-After"}, "503": {"Retry-After"}}
        for _, path, operation in operations():
            for status, response in operation["responses"].items():
                if not status.startswith("2"):
                    assert set(response.get("headers", {})) == promised.get(status, set()), path
                    assert all(header["example"] for header in response.get("headers", {}).values())


class TestLinters:
    """`make check` runs them, `python -m deploy.checks.openapi`."""

    @pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
    def test_without_node_nothing_is_checked_and_that_is_reported(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ci: str, code: int
    ) -> None:
        monkeypatch.setenv("PATH", "")
        monkeypatch.setenv("CI", ci)
        assert openapi_checks.main() == code
        assert capsys.readouterr().err.startswith("!!! OPENAPI NOT LINTED: node and npm are not installed")

    def test_an_old_node_is_reported(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        for name in ("node", "npm"):
            (tmp_path / name).write_text("#!/bin/sh\necho v18.20.4\n")
            (tmp_path / name).chmod(0o700)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.setenv("CI", "true")
        assert openapi_checks.main() == 1
        assert "Node v18.20.4 is too old; 20.19 is needed" in capsys.readouterr().err


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
        answer = served_behind(api, before)
        assert json.loads(answer["body"])["servers"] == [{"url": server}]

    def test_a_call_that_no_authorizer_saw_is_refused(self, api: Api) -> None:
        answer = served_behind(api, "/api", client_id="")
        assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (401, "unauthorized")

    def test_it_is_read_on_request_and_not_at_the_start(self) -> None:
        """A start of the function must not pay for it."""
        code = """
import sys
read = []
sys.addaudithook(lambda event, facts: read.append(str(facts[0]).split("/")[-1]) if event == "open" else None)
import app
from chalicelib.entry import api
from chalicelib.http import routes
api.service()
assert "openapi.json" not in read, read
routes._openapi(), routes._openapi()
assert read.count("openapi.json") == 1, read
"""
        environ = {"_HANDLER": "app.app", "STAGE": "dev", "AWS_DEFAULT_REGION": "eu-central-1"}
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environ, check=True)


def served_behind(api: Api, before: str, client_id: str = "records") -> dict[str, Any]:
    """What is answered where the gateway has a path of its own before the base path."""
    resource = f"{BASE_PATH}/openapi.json"
    context = {"httpMethod": "GET", "resourcePath": resource, "path": before + resource}
    event = {
        "requestContext": {**context, "authorizer": {"clientId": client_id, "scopes": "use"}},
        "headers": {},
        "pathParameters": {},
        "stageVariables": {},
        "multiValueQueryStringParameters": None,
        "body": None,
    }
    answer: dict[str, Any] = api.app(event, type("Context", (), {"aws_request_id": "r"})())
    return answer


class TestSamples:
    def test_every_operation_is_shown_in_curl_java_and_if_the_client_has_it_python(self) -> None:
        for _, path, operation in operations():
            shown = {each["lang"] for each in operation["x-codeSamples"]}
            without_python = operation["operationId"] in ("useTokenByQuery", "getOpenApi")
            assert shown == {"Shell", "Java"} | (set() if without_python else {"Python"}), path

    def test_the_answers_shown_are_of_the_shape_that_is_described(self) -> None:
        shown = 0
        for _, _, operation in operations():
            for response in operation["responses"].values():
                for content in response.get("content", {}).values():
                    if "example" in content:
                        shown += 1
                        conforms(content["example"], content["schema"])
        assert shown == 8


class TestRequestsAgainstTheApi:
    """What the document allows and forbids is what the service takes and refuses."""

    @pytest.mark.parametrize(
        ("body", "well"),
        [
            ({"nodeId": NODE}, True),
            ({"nodeId": "x" * 1024, "actions": ["edit", "preview"], "maxUses": 100, "expiresIn": 2_592_000}, True),
            ({"nodeId": "n", "user": "u", "audience": ["a"], "ipAddresses": ["::/0"], "metadata": {"a": ""}}, True),
            ({"nodeId": "n", "notBefore": "2020-01-01T00:00:00Z"}, True),
            ({}, False),
            ({"nodeId": ""}, False),
            ({"nodeId": "x" * 1025}, False),
            ({"nodeId": "a\x00"}, False),
            ({"nodeId": "a\n"}, False),
            ({"nodeId": "n", "actions": []}, False),
            ({"nodeId": "n", "actions": ["print"]}, False),
            ({"nodeId": "n", "actions": ["edit", "edit"]}, False),
            ({"nodeId": "n", "maxUses": 0}, False),
            ({"nodeId": "n", "maxUses": 101}, False),
            ({"nodeId": "n", "maxUses": "1"}, False),
            ({"nodeId": "n", "maxUses": True}, False),
            ({"nodeId": "n", "expiresIn": 2_592_001}, False),
            ({"nodeId": "n", "expiresAt": "tomorrow"}, False),
            ({"nodeId": "n", "user": None}, False),
            ({"nodeId": "n", "user": "u" * 257}, False),
            ({"nodeId": "n", "ipAddresses": []}, False),
            ({"nodeId": "n", "audience": ["a b"]}, False),
            ({"nodeId": "n", "audience": ["a\n"]}, False),
            ({"nodeId": "n", "metadata": {"a": 1}}, False),
            ({"nodeId": "n", "surprise": 1}, False),
        ],
        ids=lambda value: ascii(value)[:50],
    )
    def test_an_issue_body(self, api: Api, client: Credentials, body: dict[str, Any], well: bool) -> None:
        assert is_accepted(body, "IssueRequest") == well
        assert is_accepted({"tokens": [body]}, "BatchRequest") == well
        assert api.call("POST", "/token", client, body).status == (201 if well else 400)
        assert api.call("POST", "/tokens", client, {"tokens": [body]}).status == (201 if well else 400)

    @pytest.mark.parametrize(
        ("body", "well"),
        [
            ({"token": "0" * 64}, True),
            ({"token": "0" * 64, "action": "edit", "user": "u", "ipAddress": "10.0.0.1"}, True),
            ({}, False),
            ({"token": "0" * 63}, False),
            ({"token": "A" * 64}, False),
            ({"token": "0" * 63 + "\n"}, False),
            ({"token": "0" * 64, "action": "print"}, False),
            ({"token": "0" * 64, "user": ""}, False),
            ({"token": "0" * 64, "ipAddress": ""}, False),
            ({"token": "0" * 64, "surprise": 1}, False),
        ],
        ids=lambda value: ascii(value)[-50:],
    )
    def test_a_use_body(self, api: Api, client: Credentials, body: dict[str, Any], well: bool) -> None:
        assert is_accepted(body, "UseRequest") == well
        assert api.call("POST", "/use", client, body).status == (404 if well else 400)
        assert api.call("POST", "/introspect", client, body).status == (200 if well else 400)

    def test_the_query_takes_the_same_as_the_body(self) -> None:
        body = document()["components"]["schemas"]["UseRequest"]
        parameters = document()["paths"][f"{BASE_PATH}/use"]["get"]["parameters"]
        query = {each["name"]: each for each in parameters if each["in"] == "query"}
        assert {name: each["schema"] for name, each in query.items()} == body["properties"]
        assert [name for name, each in query.items() if each["required"]] == body["required"]


@pytest.fixture(scope="module")
def answers(api: Api) -> list[tuple[str, str, Answer]]:
    """Every operation, granted and refused in each way that is at hand."""
    client, weak = api.client(), api.client(Scope.ISSUE)
    full = {
        "nodeId": NODE,
        "actions": ["edit", "download"],
        "maxUses": 3,
        "expiresIn": 600,
        "notBefore": "2020-01-01T00:00:00Z",
        "user": "alice",
        "ipAddresses": ["10.0.0.0/8", "2001:db8::/32"],
        "audience": [client.user],
        "metadata": {"title": "Größe"},
    }
    issued, plain = api.issue(client, **full), api.issue(client)
    revoked, locked = api.issue(client), api.issue(client, user="alice")
    api.call("DELETE", f"/token/{revoked['tokenId']}", client)
    for _ in range(5):
        api.use(client, locked["token"], user="bob")
    good = {"token": issued["token"], "user": "alice", "ipAddress": "10.0.0.1", "action": "edit"}
    spent = {"token": plain["token"]}
    key = {"Idempotency-Key": "k"}
    asked: list[tuple[str, str, Any, Credentials, dict[str, str]]] = [
        ("POST", "/token", {"nodeId": NODE}, client, {}),
        ("POST", "/token", {}, client, {}),
        ("POST", "/token", b"[" * 65_537, client, {}),
        ("POST", "/token", b"x", client, {"Content-Type": "text/plain"}),
        ("POST", "/tokens", {"tokens": [full, {"nodeId": NODE}]}, client, {}),
        ("POST", "/tokens", {"tokens": []}, client, {}),
        ("POST", "/introspect", good, client, {}),
        ("POST", "/introspect", {"token": "0" * 64}, client, {}),
        ("POST", "/introspect", good, weak, {}),
        ("POST", "/use", good, client, key),
        ("POST", "/use", good, client, key),
        ("POST", "/use", {**good, "action": "download"}, client, key),
        ("POST", "/use", {**good, "user": "bob"}, client, {}),
        ("POST", "/use", {**good, "ipAddress": "11.0.0.1"}, client, {}),
        ("POST", "/use", {**good, "action": "preview"}, client, {}),
        ("POST", "/use", good, api.client(Scope.USE), {}),
        ("POST", "/use", {"token": "0" * 64}, client, {}),
        ("POST", "/use", {"token": revoked["token"]}, client, {}),
        ("POST", "/use", {"token": locked["token"]}, client, {}),
        ("GET", "/use", spent, client, key),
        ("GET", "/use", spent, client, key),
        ("GET", "/use", spent, client, {}),
        ("GET", "/use", {}, client, {}),
        ("GET", f"/token/{issued['tokenId']}", None, client, {}),
        ("GET", f"/token/{plain['tokenId']}", None, client, {}),
        ("GET", f"/token/{revoked['tokenId']}", None, client, {}),
        ("GET", f"/token/{TOKEN_ID}", None, client, {}),
        ("GET", f"/token/{issued['tokenId']}", None, weak, {}),
        ("POST", "/revoke", {"user": "nobody-at-all"}, client, {}),
        ("POST", "/revoke", {}, client, {}),
        ("DELETE", f"/token/{issued['tokenId']}", None, client, {}),
        ("DELETE", "/token/nonsense", None, client, {}),
        ("GET", "/version", None, weak, {}),
        ("GET", "/openapi.json", None, weak, {}),
    ]
    given = []
    for method, path, said, who, headers in asked:
        sent = {"query": said} if method == "GET" else {"body": said}
        answer = api.call(method, path, who, headers=headers, **sent)
        given.append((method, re.sub(r"/token/.+", "/token/{tokenId}", path), answer))
    return given


class TestAnswersOfTheApi:
    """Answers that were really given, held against the document."""

    def test_each_has_a_status_media_type_and_shape_of_the_document(
        self, answers: list[tuple[str, str, Answer]]
    ) -> None:
        for method, path, answer in answers:
            responses = document()["paths"][BASE_PATH + path][method.lower()]["responses"]
            assert str(answer.status) in responses, (method, path, answer.text)
            described = responses[str(answer.status)]
            if "content" not in described:
                assert answer.text == ""
                continue
            [(media_type, content)] = described["content"].items()
            assert answer.headers["content-type"] == media_type
            conforms(answer.json, content["schema"])
            if answer.code:
                assert f"`{answer.code}`" in described["description"], (method, path, answer.code)
            for name in set(answer.headers) - {"content-type", "cache-control"}:
                assert name in {each.lower() for each in described.get("headers", {})}

    def test_together_they_are_every_operation_and_every_answer_that_is_no_problem(
        self, answers: list[tuple[str, str, Answer]]
    ) -> None:
        seen = {(method, BASE_PATH + path, str(answer.status)) for method, path, answer in answers}
        described = {
            (method.upper(), path, status)
            for method, path, operation in operations()
            for status in operation["responses"]
            if status.startswith("2")
        }
        assert described <= seen

    def test_a_successful_answer_holds_no_member_that_is_not_described(
        self, answers: list[tuple[str, str, Answer]]
    ) -> None:
        schemas = document()["components"]["schemas"]
        for method, path, answer in answers:
            if answer.status in (200, 201):
                described = document()["paths"][BASE_PATH + path][method.lower()]["responses"][str(answer.status)]
                name = described["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                assert set(answer.json) <= set(schemas[name]["properties"])

    def test_every_optional_member_of_an_answer_was_seen(self, answers: list[tuple[str, str, Answer]]) -> None:
        """So that none of them went unchecked above."""
        text = json.dumps([answer.json for _, _, answer in answers if answer.text])
        for name, schema in document()["components"]["schemas"].items():
            if name.endswith("Answer") or name == "Problem":
                for member in schema["properties"]:
                    assert f'"{member}": ' in text, (name, member)

    def test_undescribed_methods_get_a_problem_that_fits_the_schema(self, api: Api, client: Credentials) -> None:
        for path in {route.path for route in ROUTES}:
            for method in set(METHODS) - {route.method for route in ROUTES if route.path == path} - {"HEAD", "OPTIONS"}:
                answer = api.call(method, path.replace("{token_id}", TOKEN_ID), client)
                conforms(answer.json, {"$ref": "#/components/schemas/Problem"})
