"""AWS Signature Version 4, against what AWS published and against AWS's own implementation."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.aws.errors import NoCredentials
from chalicelib.aws.signing import Credentials, Signer, region_from_environ

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def signature(headers: dict[str, str]) -> str:
    return headers["authorization"].partition("Signature=")[2]


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "body", "expected"),
    [
        (
            "PUT",
            "/test%24file.text",
            "",
            {
                "date": "Fri, 24 May 2013 00:00:00 GMT",
                "x-amz-storage-class": "REDUCED_REDUNDANCY",
                "x-amz-content-sha256": "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
            },
            b"Welcome to Amazon S3.",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET",
            "/",
            "max-keys=2&prefix=J",
            {"x-amz-content-sha256": EMPTY},
            b"",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["a coded path", "a query"],
)
def test_the_examples_of_s3s_guide_are_signed_as_published(  # noqa: PLR0917 - a table
    method: str, path: str, query: str, headers: dict[str, str], body: bytes, expected: str
) -> None:
    """Amazon S3 API reference, "Examples: Signature Calculations": PUT object, GET bucket (list objects)."""
    credentials = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    signer = Signer(credentials, "us-east-1", "s3", datetime(2013, 5, 24, tzinfo=UTC).timestamp)
    headers = {"host": "examplebucket.s3.amazonaws.com", **headers}
    assert signature(signer.sign(method, path, headers, body, query)) == expected


@given(
    body=st.binary(max_size=200),
    target=st.from_regex(r"[A-Za-z0-9_.]{1,40}", fullmatch=True),
    token=st.none() | st.from_regex(r"[A-Za-z0-9/+=]{1,60}", fullmatch=True),
    instant=st.integers(0, 4_000_000_000),
)
def test_our_signature_equals_botocores(body: bytes, target: str, token: str | None, instant: int) -> None:
    """botocore reads the clock, so its signature is computed again for the given instant."""
    headers = {
        "content-type": "application/x-amz-json-1.0",
        "host": "dynamodb.eu-central-1.amazonaws.com",
        "x-amz-target": target,
    }
    signed = Signer(Credentials("AKID", SECRET, token), "eu-central-1", "dynamodb", lambda: instant).sign(
        "POST", "/", headers, body
    )
    theirs = AWSRequest("POST", "https://dynamodb.eu-central-1.amazonaws.com/", headers=headers, data=body)
    auth = SigV4Auth(BotocoreCredentials("AKID", SECRET, token), "dynamodb", "eu-central-1")
    theirs.context["timestamp"] = signed["x-amz-date"]
    theirs.headers["X-Amz-Date"] = signed["x-amz-date"]
    if token is not None:
        theirs.headers["X-Amz-Security-Token"] = token
    expected = auth.signature(auth.string_to_sign(theirs, auth.canonical_request(theirs)), theirs)
    assert signature(signed) == expected
    assert signed.get("x-amz-security-token") == token


def test_a_new_day_has_a_new_signing_key() -> None:
    instants = [1_440_938_160, 1_440_938_160 + 86_400, 1_440_938_160]
    clock = iter(instants)
    kept = Signer(Credentials("AKID", SECRET), "us-east-1", "service", lambda: next(clock))
    for instant in instants:
        fresh = Signer(Credentials("AKID", SECRET), "us-east-1", "service", lambda instant=instant: instant)
        assert kept.sign("GET", "/", {"host": "x"}, b"") == fresh.sign("GET", "/", {"host": "x"}, b"")


def test_secrets_are_in_no_representation() -> None:
    assert SECRET not in repr(Credentials("AKID", SECRET, "session-token"))
    assert "session-token" not in repr(Credentials("AKID", SECRET, "session-token"))


@pytest.mark.parametrize("missing", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_a_missing_credential_is_named(missing: str) -> None:
    environ = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": ""}
    assert vars(Credentials.from_environ(environ)) == vars(Credentials("a", "s", None))
    assert vars(Credentials.from_environ({**environ, "AWS_SESSION_TOKEN": "t"})) == vars(Credentials("a", "s", "t"))
    with pytest.raises(NoCredentials, match=re.escape(f"{missing}: missing")):
        Credentials.from_environ({**environ, missing: ""})


def test_the_region_is_lambdas_or_else_the_default_one() -> None:
    assert region_from_environ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-1"}) == "eu-west-1"
    assert region_from_environ({"AWS_DEFAULT_REGION": "us-east-1"}) == "us-east-1"
    with pytest.raises(NoCredentials, match="AWS_DEFAULT_REGION: missing"):
        region_from_environ({})
