"""What is put under load: `chalice local` on either engine, and the package deployed into the local AWS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests

from chalicelib import clients, instants
from chalicelib.clients import Client, Scope
from chalicelib.http.routes import BASE_PATH
from dev.engine import Engine
from tests.support.api import Credentials
from tests.support.local_aws import Package, Stack, local_aws
from tests.support.serving import serving
from tests.support.store_engines import DYNAMODB_LOCAL, MINISTACK, OPEN, StoreEngine, with_tables

CALLER: Final = "load"
_PATIENCE_SECONDS: Final = 60


@dataclass(frozen=True)
class Target:
    """A running service.

    Attributes:
        name: for people.
        url: with the base path.
        stored: counts what is in the token table now.
        callers_per_second: how fast it can take in new callers; 0: all at once. The local AWS starts a process for
            each call at once, and each of these takes a processor for a third of a second.
    """

    name: str
    url: str
    credentials: Credentials
    stored: Callable[[], Stored]
    callers_per_second: float = 0


@dataclass(frozen=True)
class Stored:
    """What the token table holds.

    Attributes:
        overspent: tokens with more claims than uses.
    """

    tokens: int
    claims: int
    overspent: int


def count(dynamodb: Any, table: str) -> Stored:
    """Read the whole table."""
    found: Counter[str] = Counter()
    pages = dynamodb.get_paginator("scan").paginate(
        TableName=table, ConsistentRead=True, ProjectionExpression="claims, max_uses"
    )
    for page in pages:
        for item in page["Items"]:
            claims = len(item["claims"]["M"])
            found.update(tokens=1, claims=claims, overspent=claims > int(item["max_uses"]["N"]))
    return Stored(found["tokens"], found["claims"], found["overspent"])


@contextmanager
def local_on_ministack(scratch: Path) -> Iterator[Target]:
    """What `make run` serves: the state is kept on disk, too."""
    with (
        Engine(state_dir=scratch / "state", log=scratch / "ministack.log") as engine,
        _served(with_tables(MINISTACK, engine.client_environ), scratch) as target,
    ):
        yield target


@contextmanager
def local_on_dynamodb_local(scratch: Path) -> Iterator[Target]:
    with OPEN[DYNAMODB_LOCAL](scratch) as engine, _served(engine, scratch) as target:
        yield target


@contextmanager
def _served(engine: StoreEngine, scratch: Path) -> Iterator[Target]:
    secret, stored = clients.new_secret(instants.now())
    assert engine.client_store().add(Client(CALLER, frozenset(Scope), (stored,), instants.now()))
    log = scratch / "service.log"
    with serving(log, **engine.environ) as address:
        target = Target(
            f"chalice local on {engine.name}",
            address + BASE_PATH,
            Credentials(CALLER, secret),
            lambda: count(engine.dynamodb(), engine.token_table),
        )
        _warm_up(target)
        yield target


@contextmanager
def deployed(scratch: Path) -> Iterator[Target]:
    """Gateway, authorizer and functions as CloudFormation makes them of the package, IAM enforced; without a Splunk."""
    log = scratch / "local-aws.log"
    with local_aws(log) as aws:
        stack = Stack(aws, Package.of("dev", scratch / "packages"))
        credentials = stack.add_client(CALLER, "issue", "use", "manage")
        target = Target(
            "deployed into MiniStack",
            stack.url + BASE_PATH,
            credentials,
            lambda: count(aws.client("dynamodb"), stack.outputs["TokenTableName"]),
            callers_per_second=2,
        )
        _warm_up(target)
        yield target


def _warm_up(target: Target) -> None:
    """Call each operation once, as `make run` does before it is ready."""

    def call(method: str, path: str, body: Mapping[str, str] | None = None) -> Any:
        auth = (target.credentials.user, target.credentials.password)
        answer = requests.request(method, target.url + path, auth=auth, json=body, timeout=_PATIENCE_SECONDS)
        assert answer.ok, answer.text
        return answer.json()

    call("GET", "/version")
    call("POST", "/use", {"token": call("POST", "/token", {"nodeId": "warm-up"})["token"]})


OPEN_TARGET: Final[Mapping[str, Callable[[Path], Any]]] = {
    "ministack": local_on_ministack,
    "dynamodb-local": local_on_dynamodb_local,
    "deployed": deployed,
}
"""By name: starts everything below the folder, and stops it at the end of the block."""

ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "callers": ("studies.load.users",),
    "service": ("dev.gateway",),
    "functions": ("lambda",),
    "engine": ("dev.engine_process", "DynamoDBLocal.jar"),
}
"""Whose processor time counts for what."""
