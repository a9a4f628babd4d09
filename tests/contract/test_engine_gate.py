"""The callers of the engine behind `make run`: its own clients, other programs, and pages in a developer's browser.

A browser sends a page's POST with `Origin`, a rebound name as `Host`, and lets a page read no answer without CORS
headers (Fetch standard, sections 3.2 and 3.3). tests/e2e/test_local_engine_browser.py sees it in one.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError

from chalicelib.aws.signing import Credentials, Signer
from dev.engine import REGION, Engine

LIST_TABLES = {"content-type": "application/x-amz-json-1.0", "x-amz-target": "DynamoDB_20120810.ListTables"}
READY = "/_ministack/ready"
KEY = "test%2F2%2Fu%2Fdynamodb%2Faws4_request"


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine as `make run` starts it."""
    with Engine(log=tmp_path_factory.mktemp("gated") / "log") as engine:
        yield engine


def client(engine: Engine, service: str = "dynamodb", **changed: str | None) -> Any:
    credentials = {
        "aws_access_key_id": engine.credentials["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": engine.credentials["AWS_SECRET_ACCESS_KEY"],
        **changed,
    }
    return boto3.session.Session().client(service, REGION, endpoint_url=engine.endpoint_url, **credentials)


def request(
    engine: Engine, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
) -> tuple[int, Mapping[str, str], bytes]:
    connection = http.client.HTTPConnection(urlsplit(engine.endpoint_url).netloc)
    connection.request(method, path, body, dict(headers))
    answer = connection.getresponse()
    result = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return result


def signed(engine: Engine, path: str = "/", service: str = "dynamodb", **headers: str) -> dict[str, str]:
    """The headers of a call that lists the tables, as the service signs it."""
    signer = Signer(Credentials.from_environ(engine.client_environ), REGION, service)
    return signer.sign("POST", path, {"host": urlsplit(engine.endpoint_url).netloc, **LIST_TABLES, **headers}, b"{}")


def test_whoever_has_its_credentials_is_served(gated: Engine) -> None:
    assert client(gated).list_tables()["TableNames"] == []
    assert request(gated, "POST", "/", signed(gated), b"{}")[0] == 200


def test_every_engine_has_credentials_of_its_own() -> None:
    first, second = (Engine(log=Path(os.devnull)).credentials for _ in range(2))
    assert not set(first.values()) & set(second.values())


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"aws_access_key_id": "test", "aws_secret_access_key": "test"}, "UnrecognizedClientException"),
        ({"aws_access_key_id": "000000000000"}, "UnrecognizedClientException"),
        ({"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE"}, "UnrecognizedClientException"),
        ({"aws_secret_access_key": "test"}, "SignatureDoesNotMatch"),
        ({"aws_session_token": "any"}, "InvalidToken"),
    ],
)
def test_other_credentials_are_refused(gated: Engine, changed: Mapping[str, str], code: str) -> None:
    with pytest.raises(ClientError, match=code) as refused:
        client(gated, **changed).list_tables()
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic dGVzdDp0ZXN0",
        "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA256 Credential=/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0",
        "AWS4-ECDSA-P256-SHA256 Credential=test/20260101/dynamodb/aws4_request, SignedHeaders=host, Signature=0",
    ],
)
def test_a_call_that_is_not_signed_is_refused(gated: Engine, authorization: str | None) -> None:
    headers = LIST_TABLES | ({} if authorization is None else {"authorization": authorization})
    assert request(gated, "POST", "/", headers, b"{}")[0] == 403


def test_a_signature_covers_the_body_and_none_is_taken_from_the_address(gated: Engine) -> None:
    key = gated.credentials["AWS_ACCESS_KEY_ID"]
    query = f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={key}%2F20260101%2Fus-east-1%2Fdynamodb%2Faws4_request"
    assert request(gated, "POST", f"/?{query}&X-Amz-Signature=0", LIST_TABLES, b"{}")[0] == 403
    status, _, body = request(gated, "POST", "/", signed(gated), b'{"Limit": 1}')
    assert (status, json.loads(body)["__type"]) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("service", ["lambda", "s3", "iam", "sts", "ssm", "logs", "cloudformation", "execute-api"])
def test_it_serves_no_other_service(gated: Engine, service: str) -> None:
    status, _, body = request(gated, "POST", "/", signed(gated, service=service), b"{}")
    assert (status, json.loads(body)["message"]) == (403, f"This local AWS does not serve {service!r}.")


@pytest.mark.parametrize("path", ["/2015-03-31/functions", "/bucket", "/restapis"])
def test_a_call_signed_for_the_tables_reaches_no_other_service(gated: Engine, path: str) -> None:
    headers = signed(gated, path, **{"x-amz-target": "AWSLambda.CreateFunction"})
    status, _, body = request(gated, "POST", path, headers, b"{}")
    assert (status, json.loads(body)["__type"]) == (400, "UnknownOperationException")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in ("/", "/health", "/_ministack/health", "/_localstack/health", "/_ministack/x")),
        *(("POST", path) for path in ("/_ministack/reset", "/_ministack/config", READY, "/_aws/execute-api/a/api/x")),
        ("GET", "/_ministack/iot/ca.pem"),
        ("PUT", "/_ministack/cfn-response/x"),
        ("GET", "/bucket/object"),
        ("OPTIONS", "/"),
        ("OPTIONS", READY),
        ("GET", "/_ministack/rds/iam-auth"),
    ],
)
def test_without_credentials_nothing_else_answers_than_the_probe(gated: Engine, method: str, path: str) -> None:
    assert request(gated, "GET", READY, {})[0] == 200
    assert request(gated, method, path, {})[0] == 403


def test_not_even_its_own_client_reaches_its_controls(gated: Engine) -> None:
    for path in ("/_ministack/reset", "/_ministack/config", "/_localstack/health"):
        assert request(gated, "POST", path, signed(gated), b"{}")[0] == 403


@pytest.mark.parametrize(
    "host", ["attacker.example", "attacker.example:{port}", "127.0.0.1.attacker.example:{port}", ""]
)
def test_another_name_for_this_machine_is_refused(gated: Engine, host: str) -> None:
    named = host.format(port=urlsplit(gated.endpoint_url).port)
    assert request(gated, "GET", READY, {"Host": named})[0] == 403
    assert request(gated, "POST", "/", signed(gated, host=named), b"{}")[0] == 403
    assert request(gated, "GET", READY, {"Host": f"localhost:{urlsplit(gated.endpoint_url).port}"})[0] == 200


def test_a_page_is_refused_even_with_credentials_and_no_answer_lets_one_read_it(gated: Engine) -> None:
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    answers = [
        request(gated, "GET", READY, {}),
        request(gated, "POST", "/", signed(gated), b"{}"),
        request(gated, "POST", "/", LIST_TABLES, b"{}"),
        request(gated, "OPTIONS", "/", preflight | {"Origin": "https://attacker.example"}),
        request(gated, "OPTIONS", "/", preflight),
        *(
            request(gated, "POST", path, signed(gated) | {"Origin": origin}, b"{}")
            for origin in ("https://attacker.example", "null", "")
            for path in ("/", "/_ministack/reset", f"/_ministack/reset?X-Amz-Credential={KEY}")
        ),
    ]
    assert [status for status, _, _ in answers] == [200, 200, *[403] * 12]
    assert [name for _, headers, _ in answers for name in headers if name.startswith("access-control-")] == []
