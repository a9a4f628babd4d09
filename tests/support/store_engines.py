"""The two engines that the store is held to, and the stores on them: for tests and for long runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import boto3
import pytest

from chalicelib.aws.client import Patience
from chalicelib.aws.dynamodb import PATIENCE, DynamoDbClient
from chalicelib.settings import SLIM
from chalicelib.storage import model
from chalicelib.storage.client_store import ClientStore
from chalicelib.storage.store import Observe
from chalicelib.storage.token_store import TokenStore
from dev.dynamodb_local import DynamoDbLocal
from dev.engine import Engine
from tokenctl import tables
from tokenctl.deployment import open_stage

STAGE: Final = "local"
TRANSPORT: Final = os.environ.setdefault("DYNAMODB_TRANSPORT", SLIM)
"""What the stores call DynamoDB with: as in Lambda, unless the environment asks for botocore."""
MINISTACK: Final = "ministack"
DYNAMODB_LOCAL: Final = "dynamodb-local"


# A busy machine, or a Java program's first answers, are not what these tests are about; nor are time-outs.
_CONNECT_SECONDS: Final = 10.0
_READ_SECONDS: Final = 30.0
_PATIENCE: Final = PATIENCE._replace(attempt_seconds=_READ_SECONDS, total_seconds=4 * _READ_SECONDS)


@dataclass(frozen=True)
class StoreEngine:
    """One engine with the tables of stage `local` in it.

    Attributes:
        environ: points an AWS client of a process at it.
        patience: of the stores on it.
    """

    name: str
    environ: Mapping[str, str]
    token_table: str
    client_table: str
    patience: Patience = _PATIENCE

    def token_store(self, observe: Observe = lambda *_: None, **options: Any) -> TokenStore:
        """A store on this engine, whatever engine this process's other calls go to."""
        store = TokenStore(self.token_table, observe, self._client(), **options)
        self._bind(store._model)
        return store

    def client_store(self, observe: Observe = lambda *_: None) -> ClientStore:
        store = ClientStore(self.client_table, observe, self._client())
        self._bind(store._model)
        return store

    def _client(self) -> DynamoDbClient | None:
        return DynamoDbClient.from_environ(self.environ, self.patience) if TRANSPORT == SLIM else None

    def dynamodb(self) -> Any:
        """The engine itself, past our own code."""
        names = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        return _dynamodb(*(self.environ[name] for name in names))

    def _bind(self, model: Any) -> None:
        model.Meta.connect_timeout_seconds = min(_CONNECT_SECONDS, self.patience.attempt_seconds)
        model.Meta.read_timeout_seconds = self.patience.attempt_seconds
        model.Meta.host = self.environ["AWS_ENDPOINT_URL"]
        model.Meta.region = self.environ["AWS_DEFAULT_REGION"]
        model.Meta.aws_access_key_id = self.environ["AWS_ACCESS_KEY_ID"]
        model.Meta.aws_secret_access_key = self.environ["AWS_SECRET_ACCESS_KEY"]


@cache
def _dynamodb(url: str, region: str, key_id: str, key: str) -> Any:
    """One client for each engine: making one takes a tenth of a second."""
    session = boto3.session.Session(key_id, key, region_name=region)
    return session.client("dynamodb", endpoint_url=url)


def with_tables(name: str, environ: Mapping[str, str]) -> StoreEngine:
    """A running engine, with the tables made in it as `tokenctl tables create` makes them."""
    with _environ(environ), pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.Meta, "connect_timeout_seconds", _CONNECT_SECONDS)
        patch.setattr(model.Meta, "read_timeout_seconds", _READ_SECONDS)
        deployment = open_stage(STAGE)
        tables.create(deployment)
    return StoreEngine(name, dict(environ), deployment.settings.token_table, deployment.settings.client_table)


@contextmanager
def _environ(variables: Mapping[str, str]) -> Iterator[None]:
    """Let the AWS clients that are made in this block go where the variables point."""
    before = dict(os.environ)
    os.environ.update(variables)
    boto3.DEFAULT_SESSION = None  # it keeps the credentials that it found first
    try:
        yield
    finally:
        boto3.DEFAULT_SESSION = None
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _ministack(directory: Path) -> Iterator[StoreEngine]:
    with Engine(log=directory / "ministack.log") as engine:
        yield with_tables(MINISTACK, engine.client_environ)


@contextmanager
def _dynamodb_local(directory: Path) -> Iterator[StoreEngine]:
    with DynamoDbLocal(log=directory / "dynamodb-local.log") as engine:
        yield with_tables(DYNAMODB_LOCAL, engine.client_environ)


OPEN: Final[Mapping[str, Callable[[Path], Any]]] = {MINISTACK: _ministack, DYNAMODB_LOCAL: _dynamodb_local}
"""By name: starts the engine with its log in the directory, and stops it at the end of the block."""
