"""The REST handler: routes, service and token store."""

from __future__ import annotations

from functools import cache

from chalice import Blueprint
from chalice.app import ChaliceAuthorizer

from chalicelib import __version__, instants
from chalicelib.entry import dynamodb, process
from chalicelib.http import routes
from chalicelib.http.routes import BASE_PATH
from chalicelib.http.schemas import VersionAnswer
from chalicelib.service import TokenService
from chalicelib.storage.token_store import TokenStore

__all__ = ["BASE_PATH", "blueprint", "service", "store", "warm_up"]


@cache
def store() -> TokenStore:
    return TokenStore(process.settings().token_table, process.audit().latency, dynamodb.client())


@cache
def service() -> TokenService:
    return TokenService(store(), process.audit(), instants.now, process.settings().tokens_issued_after)


def blueprint(authorizer: ChaliceAuthorizer) -> Blueprint:
    """All routes, to be registered under `BASE_PATH`; nothing is built before the first request."""
    settings = process.settings()
    return routes.blueprint(
        authorizer, service, VersionAnswer("tokenservice", __version__, settings.commit, settings.stage)
    )


def warm_up() -> None:
    service()
    store().warm_up()
