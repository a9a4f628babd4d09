"""Our own DynamoDB client against a scripted server: retries, errors and requests."""

from __future__ import annotations

import random
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
import certifi
import pytest
import trustme
from botocore.config import Config

from chalicelib.aws.client import AMAZON_ROOTS, AwsClient, Patience
from chalicelib.aws.connection import Endpoint
from chalicelib.aws.dynamodb import PATIENCE, DynamoDbClient
from chalicelib.aws.errors import NoAnswer, NoCredentials, Refused
from chalicelib.aws.signing import Credentials, Signer
from tests.support.dynamodb_answers import THROTTLED, cancelled, document, error
from tests.support.scripted_server import Move, Server, answer, drop, is_signed

REQUEST = {"TableName": "tokens", "Key": {"id": {"S": "tok_1"}}}
PATIENT = PATIENCE._replace(attempt_seconds=30, total_seconds=100)
SECRET = "a-secret-access-key"
CREDENTIALS = Credentials("AKID", SECRET, "a-session-token")


BUSY = ("ThrottlingError", "TransactionConflict")
ITEM = {"Item": {"id": {"S": "tok_1"}}}
DONE = document(ITEM)


@dataclass
class World:
    server: Server
    client: DynamoDbClient
    pauses: list[float]

    def ask(self, operation: str = "GetItem", request: dict[str, Any] | None = None) -> dict[str, Any]:
        return self.client._make_api_call(operation, dict(request or REQUEST))


@contextmanager
def world(*moves: Move, patience: Patience = PATIENT) -> Iterator[World]:
    pauses: list[float] = []
    signer = Signer(CREDENTIALS, "eu-central-1", "dynamodb")
    with Server(*moves) as server:
        client = DynamoDbClient(AwsClient("dynamodb", Endpoint(server.url, ""), signer, patience, pauses.append))
        try:
            yield World(server, client, pauses)
        finally:
            client.close()


def test_a_request_goes_out_signed_and_its_answer_comes_back() -> None:
    with world(DONE) as there:
        assert there.ask() == ITEM
    [sent] = there.server.received
    assert (sent.path, sent.body) == ("/", REQUEST)
    assert sent.headers["x-amz-target"] == "DynamoDB_20120810.GetItem"
    assert sent.headers["content-type"] == "application/x-amz-json-1.0"
    assert sent.headers["x-amz-security-token"] == "a-session-token"
    assert is_signed(sent, CREDENTIALS, "dynamodb")
    assert SECRET not in str(sent.headers)


@pytest.mark.parametrize(
    "trouble",
    [
        *(
            error(f"{name}Exception")
            for name in ("ProvisionedThroughputExceeded", "TransactionInProgress", "LimitExceeded")
        ),
        *(error(f"{name}Exception") for name in ("TransactionConflict", "ReplicatedWriteConflict")),
        *(cancelled("None", reason) for reason in ("TransactionConflict", "ThrottlingError", "RequestLimitExceeded")),
        *(cancelled("None", reason) for reason in ("ProvisionedThroughputExceeded", "ReplicatedWriteConflict")),
        cancelled("ProvisionedThroughputExceeded", "ReplicatedWriteConflict", "RequestLimitExceeded", *BUSY),
        error("TransactionCanceledException", CancellationReasons=[{}, {"Code": "TransactionConflict"}]),
        error("RequestLimitExceeded"),
        document({"__type": THROTTLED}, 400),
        error("InternalServerError", 500),
        answer(503, b"<html>Service Unavailable</html>"),
        document(b"{}", 429),
        *(document(body) for body in (b'{"Item"', b"[]", b"[" * 100_000, b"", b"\xff")),
        document(ITEM, crc32="1"),
        drop,
    ],
)
def test_a_transient_error_is_retried_once_after_a_short_pause(trouble: Move) -> None:
    with world(trouble, DONE) as there:
        assert there.ask() == ITEM
    assert len(there.server.received) == 2
    assert len(there.pauses) == 1
    assert 0 <= there.pauses[0] <= PATIENCE.pause_seconds


@pytest.mark.parametrize(
    ("trouble", "why", "cause"),
    [
        (document({"__type": THROTTLED}, 400), "ThrottlingException", None),
        (answer(500, b"<html>"), "500", None),
        (drop, "ConnectionResetError", "closed by the other side"),
        (document(ITEM, crc32="1"), "Garbled", "the checksum does not fit"),
        (document(b"[]"), "Garbled", "no JSON object"),
    ],
)
def test_a_lasting_error_is_raised_after_two_attempts(trouble: Move, why: str, cause: str | None) -> None:
    with world(trouble) as there, pytest.raises((Refused, NoAnswer)) as failed:
        there.ask()
    assert (failed.value.why, str(failed.value.__cause__)) == (why, str(cause))
    assert len(there.server.received) == 2


def test_a_failed_condition_is_raised_at_once_with_the_old_item() -> None:
    reasons = [{"Code": "ConditionalCheckFailed", **ITEM}, {"Code": "None"}]
    move = error("ConditionalCheckFailedException", **ITEM, CancellationReasons=reasons)
    with world(move) as there, pytest.raises(Refused) as refused:
        there.ask("UpdateItem")
    assert len(there.server.received) == 1
    assert there.pauses == []
    response = refused.value.response
    assert response["Error"] == {"Code": "ConditionalCheckFailedException", "Message": "Why."}
    assert (response["Item"], response["CancellationReasons"]) == (ITEM["Item"], reasons)
    assert refused.value.operation_name == "UpdateItem"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert response["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"] == "request-1"


@pytest.mark.parametrize(("words", "message"), [({"message": "Why."}, "Why."), ({"Message": "Why."}, "Why."), ({}, "")])
def test_an_error_comes_with_its_message(words: dict[str, str], message: str) -> None:
    with world(document({"__type": "a#AccessDenied", **words}, 400)) as there, pytest.raises(Refused) as refused:
        there.ask()
    assert refused.value.response["Error"] == {"Code": "AccessDenied", "Message": message}


@pytest.mark.parametrize(
    "codes",
    [
        *(("ValidationError", "None"), ("ConditionalCheckFailed", "None"), ("None", "None"), ()),
        *(("ConditionalCheckFailed", "TransactionConflict"), ("ValidationError", "ThrottlingError")),
        *(("ItemCollectionSizeLimitExceeded",), ("SomethingNew",)),
    ],
)
def test_a_transaction_that_would_be_cancelled_again_is_not_repeated(codes: tuple[str, ...]) -> None:
    with world(cancelled(*codes)) as there, pytest.raises(Refused):
        there.ask("TransactWriteItems", {"TransactItems": []})
    assert len(there.server.received) == 1


def test_an_engine_without_checksums_is_believed() -> None:
    with world(answer(200, ITEM)) as there:
        assert there.ask() == ITEM


def test_a_repeated_transaction_bears_the_same_token_and_the_next_one_another() -> None:
    """DynamoDB knows a repetition by it and does nothing twice."""
    with world(drop, DONE) as there:
        there.ask("TransactWriteItems", {"TransactItems": []})
        there.ask("TransactWriteItems", {"TransactItems": []})
        there.ask("TransactWriteItems", {"TransactItems": [], "ClientRequestToken": "mine"})
    first, second, third, fourth = (sent.body["ClientRequestToken"] for sent in there.server.received)
    assert first == second != third
    assert 1 <= len(first) <= 36
    assert fourth == "mine"


def test_a_kept_connection_that_was_closed_meanwhile_costs_no_pause() -> None:
    with world(DONE, drop, DONE) as there:
        there.ask()
        assert there.ask() == ITEM
        assert there.pauses == [0.0]


def test_no_attempt_begins_when_the_time_is_over() -> None:
    with world(drop, patience=PATIENT._replace(total_seconds=0.0)) as there, pytest.raises(NoAnswer):
        there.ask()
    assert there.server.received == []
    with world(drop, patience=PATIENT._replace(attempts=9, total_seconds=9, pause_seconds=1e6)) as there:
        with pytest.raises(NoAnswer):
            there.ask()
        assert len(there.server.received) == 1, "a pause longer than the time that is left"


def test_pauses_grow_and_are_random(monkeypatch: pytest.MonkeyPatch) -> None:
    spans: list[tuple[float, ...]] = []
    uniform = random.SystemRandom.uniform
    monkeypatch.setattr(random.SystemRandom, "uniform", lambda self, *span: spans.append(span) or uniform(self, *span))
    with world(drop, patience=PATIENT._replace(attempts=8)) as there, pytest.raises(NoAnswer):
        there.ask()
    assert spans[:7] == [(0, PATIENCE.pause_seconds * 2**attempt) for attempt in range(7)]
    assert all(0 <= pause <= longest for pause, (_, longest) in zip(there.pauses, spans, strict=False))
    assert len(set(there.pauses)) == 7


def test_binary_values_are_no_json_and_are_sent_nowhere() -> None:
    with world(DONE) as there, pytest.raises(TypeError):
        there.ask(request={"Key": {"id": {"B": b"x"}}})
    assert there.server.received == []


@pytest.mark.parametrize("trouble", [drop, error("InternalServerError", 500)])
def test_warming_up_is_one_read_that_finds_nothing_and_is_tried_once(trouble: Move) -> None:
    with world(document(b"{}"), trouble) as there:
        there.client.warm_up("tokens", "id")
        [sent] = there.server.received
        assert sent.headers["x-amz-target"] == "DynamoDB_20120810.GetItem"
        assert sent.body == {"TableName": "tokens", "Key": {"id": {"S": "warm-up"}}}
        with pytest.raises((NoAnswer, Refused)):
            there.client.warm_up("tokens", "id")
        assert len(there.server.received) == 2


class TestFromTheEnvironment:
    ENVIRON = {"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": SECRET}  # noqa: RUF012 - a constant

    @pytest.mark.parametrize(
        ("more", "host"),
        [
            ({}, "dynamodb.eu-central-1.amazonaws.com"),
            ({"AWS_REGION": "cn-north-1"}, "dynamodb.cn-north-1.amazonaws.com.cn"),
            ({"AWS_USE_FIPS_ENDPOINT": "false"}, "dynamodb.eu-central-1.amazonaws.com"),
            ({"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}, "127.0.0.1:4566"),
            ({"AWS_ENDPOINT_URL": "http://x:4", "AWS_USE_FIPS_ENDPOINT": "true"}, "x:4"),
            ({"AWS_ENDPOINT_URL": "http://x", "AWS_ENDPOINT_URL_DYNAMODB": "http://localhost:8"}, "localhost:8"),
        ],
    )
    def test_the_endpoint_is_the_regions_unless_another_is_named(self, more: dict[str, str], host: str) -> None:
        assert DynamoDbClient.from_environ({**self.ENVIRON, **more})._client._endpoint.host == host

    @pytest.mark.parametrize("region", ["us-east-2", "us-gov-west-1", "ca-central-1"])
    @pytest.mark.parametrize("service", ["dynamodb", "s3", "ssm"])
    def test_one_setting_selects_the_endpoints_with_fips(self, service: str, region: str) -> None:
        environ = {**self.ENVIRON, "AWS_REGION": region, "AWS_USE_FIPS_ENDPOINT": "True"}
        theirs = botocore.session.Session().create_client(
            service,
            region,
            aws_access_key_id="AKID",
            aws_secret_access_key=SECRET,
            config=Config(use_fips_endpoint=True, ignore_configured_endpoint_urls=True),
        )
        ours = AwsClient.from_environ(service, environ, PATIENT)
        assert f"https://{ours._endpoint.host}" == theirs.meta.endpoint_url

    def test_missing_credentials_are_named(self) -> None:
        with pytest.raises(NoCredentials) as raised:
            DynamoDbClient.from_environ({**self.ENVIRON, "AWS_SECRET_ACCESS_KEY": ""})
        assert str(raised.value) == raised.value.why == "AWS_SECRET_ACCESS_KEY: missing"

    def test_over_tls_only_the_named_authorities_are_trusted(self, tmp_path: Path) -> None:
        authority = trustme.CA()
        bundle = tmp_path / "authorities.pem"
        authority.cert_pem.write_to_path(str(bundle))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
        with Server(DONE, tls=tls) as server:
            environ = {**self.ENVIRON, "AWS_ENDPOINT_URL": server.url}
            trusting = DynamoDbClient.from_environ({**environ, "AWS_CA_BUNDLE": str(bundle)}, PATIENCE)
            assert trusting._make_api_call("GetItem", dict(REQUEST)) == ITEM
            trusting.close()
            with pytest.raises(NoAnswer, match="SSLCertVerificationError"):
                DynamoDbClient.from_environ(environ, PATIENCE)._make_api_call("GetItem", dict(REQUEST))
            [sent] = server.received
            assert "/eu-central-1/dynamodb/aws4_request," in sent.headers["authorization"]


def test_amazons_roots_are_those_that_browsers_trust() -> None:
    """Where certifi drops one of them, or renews it, so must we."""

    def certificates(path: str | Path) -> set[str]:
        return {block.partition("-----END")[0] for block in Path(path).read_text().split("-----BEGIN CERTIFICATE")[1:]}

    ours = certificates(AMAZON_ROOTS)
    assert len(ours) == 5
    assert ours <= certificates(certifi.where())
