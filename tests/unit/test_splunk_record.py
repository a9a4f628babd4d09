"""The failure record: what an entry looks like and what happens when it can't be written."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from chalicelib.aws.errors import NoAnswer, Refused
from chalicelib.splunk.errors import RecordUnavailable
from chalicelib.splunk.record import Kind, S3Record, entry, name_of
from tests.support.memory_bucket import MemoryBucket
from tokenctl.errors import OwnErrors

BODY = b'{"awslogs": {"data":   "H4sI"}}'
AT = datetime(2026, 11, 21, 4, 5, 6, 789_000, tzinfo=UTC)


def test_an_entry_holds_the_body_byte_for_byte() -> None:
    made = entry(Kind.POISON, BODY, 'a "reason" - é', AT, {"a": [0]})
    assert BODY in made
    assert json.loads(made) == {
        "version": "1.0",
        "timestamp": "2026-11-21T04:05:06.789Z",
        "requestContext": {"condition": "SetAside"},
        "reason": 'a "reason" - é',
        "reasons": {"a": [0]},
        "requestPayload": json.loads(BODY),
    }
    assert json.loads(entry(Kind.FAILED, BODY, "r", AT))["requestContext"] == {"condition": "Undelivered"}


def test_the_name_follows_from_kind_and_content_alone() -> None:
    assert name_of(Kind.FAILED, BODY) == name_of(Kind.FAILED, BODY)
    assert name_of(Kind.FAILED, BODY).startswith("failed/")
    assert name_of(Kind.POISON, BODY).startswith("poison/")
    assert name_of(Kind.FAILED, BODY) != name_of(Kind.FAILED, BODY + b" ")


def test_an_entry_is_put_into_the_bucket() -> None:
    bucket = MemoryBucket()
    assert S3Record("kept", bucket, lambda: AT).put(Kind.POISON, BODY, "why") == name_of(Kind.POISON, BODY)
    assert bucket.objects == {name_of(Kind.POISON, BODY): entry(Kind.POISON, BODY, "why", AT)}


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (Refused({"Error": {"Code": "AccessDenied", "Message": "some text"}}, "PutObject"), "AccessDenied"),
        (NoAnswer("S3", "timed out"), "timed out"),
        # An operator's commands have a client of AWS's library.
        (ClientError({"Error": {"Code": "AccessDenied", "Message": "some text"}}, "PutObject"), "AccessDenied"),
        (EndpointConnectionError(endpoint_url="https://s3.example"), "EndpointConnectionError"),
    ],
)
def test_a_failed_write_names_the_bucket_and_the_reason(
    error: Exception, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise error

    bucket = MemoryBucket()
    monkeypatch.setattr(bucket, "put_object", fail)
    with pytest.raises(RecordUnavailable) as caught:
        S3Record("kept", OwnErrors(bucket)).put(Kind.FAILED, BODY, "r")
    assert str(caught.value) == f"the failure record s3://kept did not take an entry: {why}"


def test_without_credentials_the_error_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    with pytest.raises(RecordUnavailable, match="s3://kept did not take an entry: AWS_ACCESS_KEY_ID: missing"):
        S3Record("kept").put(Kind.FAILED, BODY, "r")
