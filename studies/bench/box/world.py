"""The store behind the functions: an engine for DynamoDB with the tables, and TLS in front of it."""

from __future__ import annotations

import hashlib
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import trustme
from botocore.config import Config

from dev import leash
from dev.dynamodb_local import DynamoDbLocal, why_missing
from dev.engine import ROOT, Engine
from studies.bench.box.events import CLIENT, SCOPES

TOKEN_TABLE = "bench-tokens"
CLIENT_TABLE = "bench-clients"
_WARM_UP_WRITES = 300  # a Java program is slow at first


@dataclass(frozen=True)
class World:
    """The store that the functions call.

    Attributes:
        engine: which one it is, in words.
        credentials: that it takes, as Lambda hands them to a function.
        url: with TLS.
        authority: the certificate of the authority that the functions have to trust, as PEM.
        secret: the secret of the client `events.CLIENT`.
    """

    engine: str
    credentials: Mapping[str, str]
    url: str
    authority: bytes
    secret: str


@contextmanager
def opened(folder: Path) -> Iterator[World]:
    """Start the engine and TLS, and end them with the block."""
    with ExitStack() as stack:
        engine: DynamoDbLocal | Engine
        session: dict[str, str] = {}
        if why_missing() is None:
            name = "DynamoDB Local"
            session = {"AWS_SESSION_TOKEN": "s" * 356}  # as long as a role's; MiniStack would look it up
            engine = stack.enter_context(DynamoDbLocal(log=folder / "engine.log"))
        else:
            name = "MiniStack"
            engine = stack.enter_context(Engine(log=folder / "engine.log"))
        authority = trustme.CA()
        certificate = folder / "server.pem"
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
        port = stack.enter_context(_tls(certificate, engine.endpoint_url.rpartition(":")[2]))
        secret = _furnish(engine.client_environ)
        credentials = engine.credentials | session
        yield World(name, credentials, f"https://127.0.0.1:{port}", authority.cert_pem.bytes(), secret)


@contextmanager
def _tls(certificate: Path, engine_port: str) -> Iterator[int]:
    command = [sys.executable, "-m", "studies.bench.box.tls", str(certificate), engine_port]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        leash.stop(process, 5.0)
        process.stdout.close()


def _furnish(environ: dict[str, str]) -> str:
    """Create the tables and the client, and warm the engine up; returns the client's secret."""
    dynamodb = boto3.client(
        "dynamodb",
        endpoint_url=environ["AWS_ENDPOINT_URL"],
        region_name=environ["AWS_DEFAULT_REGION"],
        aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
        config=Config(read_timeout=60, retries={"max_attempts": 3}),
    )
    for table, key in ((TOKEN_TABLE, "id"), (CLIENT_TABLE, "client_id")):
        dynamodb.create_table(
            TableName=table,
            KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
    secret = f"tss_{secrets.token_urlsafe(32)}"
    stored = {"digest": {"S": hashlib.sha256(secret.encode()).hexdigest()}, "created_at": {"N": str(int(time.time()))}}
    dynamodb.put_item(
        TableName=CLIENT_TABLE,
        Item={
            "client_id": {"S": CLIENT},
            "scopes": {"SS": SCOPES.split()},
            "secrets": {"L": [{"M": stored}]},
            "created_at": {"N": str(int(time.time()))},
            "version": {"N": "1"},
        },
    )
    for number in range(_WARM_UP_WRITES):
        dynamodb.update_item(
            TableName=TOKEN_TABLE,
            Key={"id": {"S": f"warm-up-{number % 10}"}},
            UpdateExpression="SET n = :n",
            ConditionExpression="attribute_not_exists(m)",
            ExpressionAttributeValues={":n": {"N": str(number)}},
            ReturnValues="ALL_NEW",
        )
    return secret
