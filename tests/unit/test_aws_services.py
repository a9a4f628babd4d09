"""S3 and Systems Manager as the forwarders call them; that MiniStack agrees is shown with the deployed forwarders."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from chalicelib.aws.client import Patience
from chalicelib.aws.errors import NoAnswer, Refused
from chalicelib.aws.services import S3, Ssm
from chalicelib.aws.signing import Credentials
from tests.support.scripted_server import Move, Server, answer, drop, is_signed

ENVIRON = {"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s"}
CREDENTIALS = Credentials.from_environ(ENVIRON)
PATIENCE = Patience(attempts=3, attempt_seconds=30, total_seconds=100, pause_seconds=0)
DONE = answer(200)
SLOW_DOWN = answer(503, b"<Error><Code>SlowDown</Code></Error>")
BODY = b"{}"


def call(server: Server, operation: str, **arguments: Any) -> Any:
    s3 = S3.from_environ({**ENVIRON, "AWS_ENDPOINT_URL": server.url}, PATIENCE)
    try:
        return getattr(s3, operation)(Bucket="kept", **arguments)
    finally:
        s3._client.close()


def put(server: Server) -> None:
    call(server, "put_object", Key="failed/a b.json", Body=BODY, ContentType="application/json", Metadata={"a": "2"})


def test_an_object_is_put_under_its_coded_name_with_the_digest_of_its_body() -> None:
    with Server(DONE) as server:
        put(server)
    [sent] = server.received
    assert (sent.method, sent.path, sent.content) == ("PUT", "/kept/failed/a%20b.json", BODY)
    assert sent.headers["x-amz-content-sha256"] == hashlib.sha256(BODY).hexdigest()
    assert (sent.headers["content-type"], sent.headers["x-amz-meta-a"]) == ("application/json", "2")
    signed = "content-type;host;x-amz-content-sha256;x-amz-date;x-amz-meta-a"
    assert f"SignedHeaders={signed}," in sent.headers["authorization"]
    assert is_signed(sent, CREDENTIALS, "s3")


def test_an_object_comes_with_its_metadata_and_is_deleted() -> None:
    with Server(answer(200, b"content", X_Amz_Meta_Attempts="2"), answer(204)) as server:
        found = call(server, "get_object", Key="failed/a b.json")
        call(server, "delete_object", Key="failed/a b.json")
    assert (found["Body"].read(), found["Metadata"]) == (b"content", {"attempts": "2"})
    sent = [(request.method, request.path) for request in server.received]
    assert sent == [("GET", "/kept/failed/a%20b.json"), ("DELETE", "/kept/failed/a%20b.json")]


LIST = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>kept</Name>{}
<Contents><Key>failed/a%2Bb+c%26.json</Key><Size>17</Size><ETag>"x"</ETag></Contents>
<Contents><Key>failed/d.json</Key><Size>0</Size></Contents></ListBucketResult>"""
LISTED = [{"Key": "failed/a+b c&.json", "Size": 17}, {"Key": "failed/d.json", "Size": 0}]


@pytest.mark.parametrize(
    ("truncated", "text", "after", "start"),
    [
        (True, "<IsTruncated>true</IsTruncated>", {}, ""),
        (False, "", {"StartAfter": "failed/a&b"}, "&start-after=failed%2Fa%26b"),
    ],
)
def test_objects_are_listed_in_pages(truncated: bool, text: str, after: dict[str, str], start: str) -> None:
    with Server(answer(200, LIST.format(text).encode())) as server:
        found = call(server, "list_objects_v2", Prefix="failed/", **after)
    assert found == {"Contents": LISTED, "IsTruncated": truncated}
    [sent] = server.received
    assert sent.path == f"/kept?encoding-type=url&list-type=2&prefix=failed%2F{start}"
    assert is_signed(sent, CREDENTIALS, "s3")


@pytest.mark.parametrize(
    "garbled", [b"", b"{}", b"<a>", LIST.replace("17", "many").encode(), LIST.replace("Key", "K").encode()]
)
def test_an_unreadable_list_is_retried(garbled: bytes) -> None:
    with Server(answer(200, garbled), answer(200, LIST.format("").encode())) as server:
        assert call(server, "list_objects_v2", Prefix="failed/")["Contents"] == LISTED
    with (
        Server(answer(200, garbled)) as server,
        pytest.raises(NoAnswer, match=r"^s3 gave no answer: Garbled$") as raised,
    ):
        call(server, "list_objects_v2", Prefix="failed/")
    assert str(raised.value.__cause__) == "a list that can't be read"


def test_a_busy_bucket_is_retried() -> None:
    with Server(SLOW_DOWN, DONE) as server:
        put(server)
    assert len(server.received) == 2


@pytest.mark.parametrize(
    ("move", "code"),
    [
        (answer(403, b"<Error><Code>AccessDenied</Code><Message/></Error>"), "AccessDenied"),
        (answer(404, b"no"), "404"),
    ],
)
def test_an_error_is_raised_at_once_with_its_code_or_else_its_status(move: Move, code: str) -> None:
    with Server(move) as server, pytest.raises(Refused) as refused:
        put(server)
    assert refused.value.why == code
    assert str(refused.value) == f"An error occurred ({code}) when calling the PutObject operation: "
    assert len(server.received) == 1


@pytest.mark.parametrize(
    ("operation", "method", "arguments"),
    [
        ("GetObject", "get_object", {"Key": "k"}),
        ("DeleteObject", "delete_object", {"Key": "k"}),
        ("ListObjectsV2", "list_objects_v2", {"Prefix": "p"}),
    ],
)
def test_an_error_names_the_operation(operation: str, method: str, arguments: dict[str, str]) -> None:
    with Server(answer(403)) as server, pytest.raises(Refused) as refused:
        call(server, method, **arguments)
    assert refused.value.operation_name == operation


@pytest.mark.parametrize(("move", "error"), [(drop, NoAnswer), (SLOW_DOWN, Refused)], ids=["silence", "busy"])
def test_an_unavailable_service_is_raised_after_three_attempts(move: Move, error: type[Exception]) -> None:
    with Server(move) as server, pytest.raises(error):
        put(server)
    assert len(server.received) == 3


def test_a_parameter_is_requested_decrypted() -> None:
    with Server(answer(200, {"Parameter": {"Value": "the-token"}})) as server:
        ssm = Ssm.from_environ({**ENVIRON, "AWS_ENDPOINT_URL": server.url})
        assert ssm.get_parameter(Name="/hec", WithDecryption=True)["Parameter"]["Value"] == "the-token"
    [sent] = server.received
    assert sent.headers["x-amz-target"] == "AmazonSSM.GetParameter"
    assert sent.headers["content-type"] == "application/x-amz-json-1.1"
    assert sent.body == {"Name": "/hec", "WithDecryption": True}
    assert is_signed(sent, CREDENTIALS, "ssm")
