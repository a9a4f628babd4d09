"""The REST handler: routes, service and token store."""

from __future__ import annotations

import os
from functools import cache

from chalice import Blueprint
from chalice.app import ChaliceAuthorizer

from chalicelib import __version__, instants
from chalicelib.entry import startup
from chalicelib.http import routes
from chalicelib.http.routes import BASE_PATH
from chalicelib.http.schemas import VersionAnswer
from chalicelib.service import TokenService
from chalicelib.storage import index_keys
from chalicelib.storage.token_store import TokenStore

__all__ = ["BASE_PATH", "blueprint", "service", "store", "warm_up"]


@cache
def index_secrets() -> tuple[bytes, ...]:
    """The secrets of the index of nodes, read once; none without a parameter.

    Raises:
        StoreUnavailable: the parameter can't be read.
    """
    parameter = startup.settings().index_key_parameter
    if parameter is None:
        return ()
    from chalicelib.aws.services import Ssm  # noqa: PLC0415 - without a parameter no start needs it

    return index_keys.read_secrets(parameter, Ssm.from_environ(os.environ))


@cache
def store() -> TokenStore:
    settings = startup.settings()
    return TokenStore(
        settings.token_table,
        startup.audit().latency,
        startup.dynamodb(),
        index_secrets=index_secrets,
        seals=settings.seal_node_ids,
    )


@cache
def service() -> TokenService:
    settings = startup.settings()
    return TokenService(
        store(),
        startup.audit(),
        instants.now,
        settings.tokens_issued_after,
        logs_node_ids=settings.log_node_ids,
    )


def blueprint(authorizer: ChaliceAuthorizer) -> Blueprint:
    """All routes, to be registered under `BASE_PATH`; nothing is built before the first request."""
    settings = startup.settings()
    return routes.blueprint(
        authorizer, service, VersionAnswer("tokenservice", __version__, settings.commit, settings.stage)
    )


def warm_up() -> None:
    service()
    store().warm_up()
    index_secrets()
