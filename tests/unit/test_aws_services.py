"""S3 and Systems Manager as the forwarders call them; that MiniStack agrees is shown with the deployed forwarders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.aws.client import AwsClient, Patience
from chalicelib.aws.connection import Endpoint
from chalicelib.aws.errors import NoAnswer, Refused
from chalicelib.aws.services import S3, Ssm
from chalicelib.aws.signing import Credentials, Signer
from tests.unit.test_aws_connection import Server, answering, serving

PATIENCE = Patience(attempts=3, attempt_seconds=30, total_seconds=100, pause_seconds=0)
DONE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_DENIED = b"<Error><Code>AccessDenied</Code><Message/></Error>"
DENIED = b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(_DENIED), _DENIED)
_BUSY = b"<Error><Code>SlowDown</Code></Error>"
SLOW_DOWN = b"HTTP/1.1 503 No\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(_BUSY), _BUSY)
BODY = b"{}"


def client(server: Server, service: str) -> AwsClient:
    signer = Signer(Credentials("AKID", "secret"), "eu-central-1", service)
    return AwsClient(service, Endpoint(server.url, ""), signer, PATIENCE, lambda _: None)


def put(server: Server) -> None:
    made = client(server, "s3")
    try:
        S3(made).put_object(Bucket="kept", Key="failed/a b.json", Body=BODY, ContentType="application/json")
    finally:
        made.close()


def test_an_object_is_put_under_its_coded_name_with_the_digest_of_its_body() -> None:
    with serving(answering(DONE)) as server:
        put(server)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "PUT /kept/failed/a%20b.json HTTP/1.1"
    assert f"x-amz-content-sha256: {hashlib.sha256(BODY).hexdigest()}" in lines
    assert "content-type: application/json" in lines
    assert any("SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date" in line for line in lines)
    assert body == BODY


def ok(body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (lines, len(body), body)


def call(server: Server, operation: str, **arguments: str) -> Any:
    made = client(server, "s3")
    try:
        return getattr(S3(made), operation)(Bucket="kept", **arguments)
    finally:
        made.close()


def test_an_object_comes_with_its_metadata() -> None:
    with serving(answering(ok(b"content", b"x-amz-meta-attempts: 2"))) as server:
        found = call(server, "get_object", Key="failed/a b.json")
    assert (found["Body"].read(), found["Metadata"]) == (b"content", {"attempts": "2"})
    assert server.requests[0].startswith(b"GET /kept/failed/a%20b.json HTTP/1.1\r\n")


def test_an_object_is_deleted_though_the_answer_states_no_length() -> None:
    with serving(answering(b"HTTP/1.1 204 No Content\r\n\r\n")) as server:
        call(server, "delete_object", Key="failed/a.json")
    assert server.requests[0].startswith(b"DELETE /kept/failed/a.json HTTP/1.1\r\n")


LIST = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>kept</Name>{}
<Contents><Key>failed/a%2Bb+c%26.json</Key><Size>17</Size><ETag>"x"</ETag></Contents>
<Contents><Key>failed/d.json</Key><Size>0</Size></Contents></ListBucketResult>"""
LISTED = [{"Key": "failed/a+b c&.json", "Size": 17}, {"Key": "failed/d.json", "Size": 0}]


@pytest.mark.parametrize(("truncated", "text"), [(True, "<IsTruncated>true</IsTruncated>"), (False, "")])
def test_objects_are_listed_in_pages(truncated: bool, text: str) -> None:
    with serving(answering(ok(LIST.format(text).encode()))) as server:
        found = call(server, "list_objects_v2", Prefix="failed/", StartAfter="failed/a&b")
    assert found == {"Contents": LISTED, "IsTruncated": truncated}
    query = b"encoding-type=url&list-type=2&prefix=failed%2F&start-after=failed%2Fa%26b"
    assert server.requests[0].startswith(b"GET /kept?" + query + b" HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "garbled", [b"", b"{}", b"<a>", LIST.replace("17", "many").encode(), LIST.replace("Key", "K").encode()]
)
def test_an_unreadable_list_is_retried(garbled: bytes) -> None:
    good = ok(LIST.format("").encode())
    with serving(answering(ok(garbled)), answering(good)) as server:
        assert call(server, "list_objects_v2", Prefix="failed/")["Contents"] == LISTED
    with serving(*[answering(ok(garbled))] * 3) as server, pytest.raises(NoAnswer, match="Garbled"):
        call(server, "list_objects_v2", Prefix="failed/")


def test_a_busy_bucket_is_retried() -> None:
    with serving(answering(SLOW_DOWN), answering(DONE)) as server:
        put(server)
    assert len(server.requests) == 2


def test_an_error_is_raised_with_its_code() -> None:
    with serving(answering(DENIED)) as server, pytest.raises(Refused) as refused:
        put(server)
    assert refused.value.response["Error"]["Code"] == "AccessDenied"
    assert len(server.requests) == 1


def test_an_error_without_a_code_is_raised_with_its_status() -> None:
    page = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"
    with serving(answering(page)) as server, pytest.raises(Refused) as refused:
        put(server)
    assert refused.value.response["Error"]["Code"] == "404"


@pytest.mark.parametrize("end", [lambda: answering(b""), lambda: answering(SLOW_DOWN)], ids=["silence", "busy"])
def test_an_unavailable_service_is_raised_after_three_attempts(end: Callable[[], object]) -> None:
    with serving(end()) as server, pytest.raises((NoAnswer, Refused)):
        put(server)
    assert len(server.requests) == 3


def test_a_parameter_is_requested_decrypted() -> None:
    body = json.dumps({"Parameter": {"Value": "the-token"}}).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def script(stream, _read):
        request = b""
        while not request.endswith(b"true}"):
            request += stream.recv(65_536)
        server.requests.append(request)
        stream.sendall(answer)

    with serving(script) as server:
        made = client(server, "ssm")
        assert Ssm(made).get_parameter(Name="/hec", WithDecryption=True)["Parameter"]["Value"] == "the-token"
        made.close()
    head, _, body = server.requests[0].decode().partition("\r\n\r\n")
    assert "x-amz-target: AmazonSSM.GetParameter" in head
    assert "content-type: application/x-amz-json-1.1" in head
    assert json.loads(body) == {"Name": "/hec", "WithDecryption": True}
