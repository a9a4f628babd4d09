"""Our own DynamoDB client against a scripted server: retries, errors and requests."""

from __future__ import annotations

import inspect
import json
import ssl
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import botocore.exceptions
import botocore.session
import certifi
import pytest
import trustme
from botocore.config import Config
from pynamodb.attributes import Attribute

from chalicelib.aws import gate
from chalicelib.aws.client import AMAZON_ROOTS, AwsClient, Patience
from chalicelib.aws.connection import Endpoint
from chalicelib.aws.dynamodb import PATIENCE, DynamoDbClient
from chalicelib.aws.errors import NoAnswer, NoCredentials, Refused
from chalicelib.aws.signing import Credentials, Signer
from chalicelib.storage.token_item import TokenItem
from chalicelib.tokens import Terms

ROOT = Path(__file__).resolve().parents[2]
REQUEST = {"TableName": "tokens", "Key": {"id": {"S": "tok_1"}}}
PATIENT = PATIENCE._replace(attempt_seconds=30, total_seconds=100)
THROTTLED = "com.amazon.coral.availability#ThrottlingException"
SECRET = "a-secret-access-key"


@dataclass(frozen=True)
class Scripted:
    """One answer. `crc32`: None means correct, "" means none."""

    body: bytes
    status: int = 200
    crc32: str | None = None

    @classmethod
    def of(cls, document: Any, status: int = 200) -> Scripted:
        return cls(json.dumps(document).encode(), status)

    @classmethod
    def error(cls, name: str, status: int = 400, **more: Any) -> Scripted:
        return cls.of({"__type": f"com.amazonaws.dynamodb.v20120810#{name}", "message": "Why.", **more}, status)


DONE = Scripted.of({"Item": {"id": {"S": "tok_1"}}})


class Server(ThreadingHTTPServer):
    """Gives the answers in turn, the last one for ever; None: closes the connection."""

    daemon_threads = True

    def __init__(self, answers: tuple[Scripted | None, ...], tls: ssl.SSLContext | None = None) -> None:
        self.answers = answers
        self.asked: list[tuple[dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append(({name.lower(): value for name, value in self.headers.items()}, body))
        answer = self.server.answers[min(len(self.server.asked), len(self.server.answers)) - 1]
        if answer is None:
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        self.send_header("Content-Length", str(len(answer.body)))
        crc32 = str(zlib.crc32(answer.body)) if answer.crc32 is None else answer.crc32
        if crc32:
            self.send_header("x-amz-crc32", crc32)
        self.send_header("x-amzn-RequestId", "request-1")
        self.end_headers()
        self.wfile.write(answer.body)


@dataclass
class World:
    server: Server
    client: DynamoDbClient
    pauses: list[float]

    def ask(self, operation: str = "GetItem", request: dict[str, Any] | None = None) -> dict[str, Any]:
        return self.client._make_api_call(operation, dict(request or REQUEST))


@contextmanager
def world(*answers: Scripted | None, patience: Patience = PATIENT) -> Iterator[World]:
    server = Server(answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    pauses: list[float] = []
    signer = Signer(Credentials("AKID", SECRET, "a-session-token"), "eu-central-1", "dynamodb")
    client = DynamoDbClient(AwsClient("dynamodb", Endpoint(server.url, ""), signer, patience, pauses.append))
    try:
        yield World(server, client, pauses)
    finally:
        client.close()
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_request_goes_out_signed_and_its_answer_comes_back() -> None:
    with world(DONE) as there:
        assert there.ask() == {"Item": {"id": {"S": "tok_1"}}}
    [(headers, body)] = there.server.asked
    assert json.loads(body) == REQUEST
    assert headers["x-amz-target"] == "DynamoDB_20120810.GetItem"
    assert headers["content-type"] == "application/x-amz-json-1.0"
    assert headers["x-amz-security-token"] == "a-session-token"
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKID/")
    assert SECRET not in str(headers)


@pytest.mark.parametrize(
    "trouble",
    [
        Scripted.error("ProvisionedThroughputExceededException"),
        Scripted.error("TransactionInProgressException"),
        Scripted.error("RequestLimitExceeded"),
        Scripted.error("LimitExceededException"),
        Scripted.error("TransactionConflictException"),
        Scripted.error("ReplicatedWriteConflictException"),
        *(
            Scripted.error("TransactionCanceledException", CancellationReasons=[{"Code": "None"}, {"Code": reason}])
            for reason in (
                *("TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded", "RequestLimitExceeded"),
                "ReplicatedWriteConflict",
            )
        ),
        Scripted.of({"__type": THROTTLED}, 400),
        Scripted.error("InternalServerError", 500),
        Scripted(b"<html>Service Unavailable</html>", 503, ""),
        Scripted(b"{}", 429),
        Scripted(b'{"Item"', 200),
        Scripted(b"[]", 200),
        Scripted(b"[" * 100_000, 200),
        Scripted(b"", 200),
        replace(DONE, crc32="1"),
        None,
    ],
)
def test_a_transient_error_is_retried_once_after_a_short_pause(trouble: Scripted | None) -> None:
    with world(trouble, DONE) as there:
        assert there.ask() == {"Item": {"id": {"S": "tok_1"}}}
    assert len(there.server.asked) == 2
    assert len(there.pauses) == 1
    assert 0 <= there.pauses[0] <= PATIENCE.pause_seconds


def test_a_lasting_error_is_raised_after_two_attempts() -> None:
    with world(Scripted.of({"__type": THROTTLED}, 400)) as there, pytest.raises(Refused) as refused:
        there.ask()
    assert refused.value.response["Error"]["Code"] == "ThrottlingException"
    assert len(there.server.asked) == 2
    with world(Scripted(b"<html>", 503, "")) as there, pytest.raises(Refused) as refused:
        there.ask()
    assert refused.value.response["Error"]["Code"] == "503"
    with world(None) as there, pytest.raises(NoAnswer, match="ConnectionResetError"):
        there.ask()
    with world(replace(DONE, crc32="1")) as there, pytest.raises(NoAnswer, match="Garbled"):
        there.ask()


def test_a_failed_condition_is_raised_at_once_with_the_old_item() -> None:
    item = {"id": {"S": "tok_1"}}
    reasons = [{"Code": "ConditionalCheckFailed", "Item": item}, {"Code": "None"}]
    answer = Scripted.error("ConditionalCheckFailedException", Item=item, CancellationReasons=reasons)
    with world(answer) as there, pytest.raises(Refused) as refused:
        there.ask("UpdateItem")
    assert len(there.server.asked) == 1
    assert there.pauses == []
    response = refused.value.response
    assert response["Error"] == {"Code": "ConditionalCheckFailedException", "Message": "Why."}
    assert (response["Item"], response["CancellationReasons"]) == (item, reasons)
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert response["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"] == "request-1"


@pytest.mark.parametrize(
    "codes",
    [
        ("ValidationError", "None"),
        ("ConditionalCheckFailed", "None"),
        ("ConditionalCheckFailed", "TransactionConflict"),
        ("ValidationError", "ThrottlingError"),
        ("ItemCollectionSizeLimitExceeded",),
        ("SomethingNew",),
        ("None", "None"),
        (),
    ],
)
def test_a_transaction_that_would_be_cancelled_again_is_not_repeated(codes: tuple[str, ...]) -> None:
    answer = Scripted.error("TransactionCanceledException", CancellationReasons=[{"Code": code} for code in codes])
    with world(answer) as there, pytest.raises(Refused):
        there.ask("TransactWriteItems", {"TransactItems": []})
    assert len(there.server.asked) == 1


def test_an_engine_without_checksums_is_believed() -> None:
    with world(replace(DONE, crc32="")) as there:
        assert there.ask() == {"Item": {"id": {"S": "tok_1"}}}


def test_a_repeated_transaction_bears_the_same_token_and_the_next_one_another() -> None:
    """DynamoDB knows a repetition by it and does nothing twice."""
    with world(None, DONE) as there:
        there.ask("TransactWriteItems", {"TransactItems": []})
        there.ask("TransactWriteItems", {"TransactItems": []})
        there.ask("TransactWriteItems", {"TransactItems": [], "ClientRequestToken": "mine"})
    first, second, third, fourth = (json.loads(body)["ClientRequestToken"] for _, body in there.server.asked)
    assert first == second != third
    assert 1 <= len(first) <= 36
    assert fourth == "mine"


def test_a_kept_connection_that_was_closed_meanwhile_costs_no_pause() -> None:
    with world(DONE, None, DONE) as there:
        there.ask()
        assert there.ask() == {"Item": {"id": {"S": "tok_1"}}}
        assert there.pauses == [0.0]


def test_no_attempt_begins_when_the_time_is_over() -> None:
    with world(None, patience=PATIENT._replace(total_seconds=0.0)) as there, pytest.raises(NoAnswer):
        there.ask()
    assert there.server.asked == []
    with world(None, patience=PATIENT._replace(attempts=9, total_seconds=9, pause_seconds=1e6)) as there:
        with pytest.raises(NoAnswer):
            there.ask()
        assert len(there.server.asked) == 1, "a pause longer than the time that is left"


def test_pauses_grow_and_are_random() -> None:
    with world(None, patience=PATIENT._replace(attempts=8)) as there, pytest.raises(NoAnswer):
        there.ask()
    assert all(pause <= PATIENCE.pause_seconds * 2**n for n, pause in enumerate(there.pauses))
    assert max(there.pauses) > PATIENCE.pause_seconds
    assert len(set(there.pauses)) == 7


def test_binary_values_are_no_json_and_are_sent_nowhere() -> None:
    with world(DONE) as there, pytest.raises(TypeError):
        there.ask(request={"Key": {"id": {"B": b"x"}}})
    assert there.server.asked == []


class TestWarmingUp:
    def test_a_read_that_finds_nothing_opens_the_connection(self) -> None:
        with world(Scripted(b"{}"), DONE) as there:
            there.client.warm_up("tokens", "id")
            there.ask()
        (headers, body), _ = there.server.asked
        assert headers["x-amz-target"] == "DynamoDB_20120810.GetItem"
        assert json.loads(body) == {"TableName": "tokens", "Key": {"id": {"S": "warm-up"}}}

    @pytest.mark.parametrize("trouble", [None, Scripted.error("InternalServerError", 500)])
    def test_it_is_tried_once_and_raised(self, trouble: Scripted | None) -> None:
        with world(trouble) as there, pytest.raises((OSError, Refused)):
            there.client.warm_up("tokens", "id")
        assert len(there.server.asked) == 1


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
        assert DynamoDbClient.from_environ({**self.ENVIRON, **more})._client.host == host

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
        assert f"https://{AwsClient.from_environ(service, environ, PATIENT).host}" == theirs.meta.endpoint_url

    def test_missing_credentials_are_named(self) -> None:
        with pytest.raises(NoCredentials, match="AWS_SECRET_ACCESS_KEY: missing"):
            DynamoDbClient.from_environ({**self.ENVIRON, "AWS_SECRET_ACCESS_KEY": ""})

    def test_over_tls_only_the_named_authorities_are_trusted(self, tmp_path: Path) -> None:
        authority = trustme.CA()
        bundle = tmp_path / "authorities.pem"
        authority.cert_pem.write_to_path(str(bundle))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
        server = Server((DONE,), tls)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        environ = {**self.ENVIRON, "AWS_ENDPOINT_URL": server.url}
        try:
            trusting = DynamoDbClient.from_environ({**environ, "AWS_CA_BUNDLE": str(bundle)}, PATIENT)
            assert trusting._make_api_call("GetItem", dict(REQUEST)) == {"Item": {"id": {"S": "tok_1"}}}
            trusting.close()
            with pytest.raises(NoAnswer, match="SSLCertVerificationError"):
                DynamoDbClient.from_environ(environ, PATIENT)._make_api_call("GetItem", dict(REQUEST))
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def test_amazons_roots_are_those_that_browsers_trust() -> None:
    """Where certifi drops one of them, or renews it, so must we."""

    def certificates(path: str | Path) -> set[str]:
        return {block.partition("-----END")[0] for block in Path(path).read_text().split("-----BEGIN CERTIFICATE")[1:]}

    ours = certificates(AMAZON_ROOTS)
    assert len(ours) == 5
    assert ours <= certificates(certifi.where())


class TestTheGate:
    def test_botocore_has_all_names_of_the_stand_ins(self) -> None:
        """Names that botocore lacks would hide that PynamoDB needs others."""
        for module, names in gate.STAND_INS.items():
            __import__(f"botocore.{module}")
            for name in names:
                assert hasattr(sys.modules[f"botocore.{module}"], name), f"botocore.{module}.{name}"

    def test_a_refusal_reads_like_botocores(self) -> None:
        arguments: Any = ({"Error": {"Code": "C", "Message": "M"}}, "Op")
        ours, theirs = Refused(*arguments), botocore.exceptions.ClientError(*arguments)
        assert str(ours) == str(theirs)
        assert (ours.response, ours.operation_name) == (theirs.response, theirs.operation_name)

    def test_inspect_for_pynamodb_returns_what_inspect_does(self) -> None:
        ours = gate.Inspect("inspect")

        def attributes(member: object) -> bool:
            return isinstance(member, Attribute)

        assert ours.getmembers(TokenItem, attributes) == inspect.getmembers(TokenItem, attributes) != []
        assert ours.getfullargspec(Attribute.__init__).args == inspect.getfullargspec(Attribute.__init__).args
        assert ours.get_annotations(Terms) == inspect.get_annotations(Terms) != {}

    def test_the_first_use_of_another_name_loads_the_module_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        late = gate.Late("calendar")
        monkeypatch.setitem(sys.modules, "calendar", late)
        assert not hasattr(late, "__path__")
        assert sys.modules["calendar"] is late
        assert late.timegm is sys.modules["calendar"].timegm
        assert sys.modules["calendar"] is not late
        assert late.isleap is sys.modules["calendar"].isleap

    def test_pynamodb_and_both_stores_load_with_them_alone(self) -> None:
        """In a process where any look at the real botocore fails."""
        code = """
import sys
from chalicelib.aws import gate
gate.close()
names = set(gate.STAND_INS)
from chalicelib.aws.dynamodb import DynamoDbClient
from chalicelib.storage.client_store import ClientStore
from chalicelib.storage.token_store import TokenStore
from chalicelib.errors import StoreUnavailable
environ = {"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s"}
client = DynamoDbClient.from_environ({**environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
loaded = {name for name in sys.modules if name.startswith("botocore")}
assert loaded == {"botocore"} | {f"botocore.{name}" for name in names}, loaded
for store in (TokenStore("tokens", client=client), ClientStore("clients", client=client)):
    try:
        store.find("tok_1")
    except StoreUnavailable as error:
        assert "NoAnswer" in repr(error.__cause__.cause), repr(error.__cause__)
    else:
        raise AssertionError("nobody listens there")
try:
    TokenStore("others").find("tok_1")
except RuntimeError as error:
    assert "DYNAMODB_TRANSPORT=botocore" in str(error)
print("all is well")
"""
        environ = {"AWS_DEFAULT_REGION": "eu-central-1"}
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
        )
        assert run.stdout == "all is well\n", run.stderr
