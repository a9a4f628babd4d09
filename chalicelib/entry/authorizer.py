"""The authorizer and its client store."""

from __future__ import annotations

from functools import cache

from chalicelib import instants
from chalicelib.authorizer import Authorizer
from chalicelib.entry import startup
from chalicelib.storage.client_store import ClientStore


@cache
def store() -> ClientStore:
    return ClientStore(startup.settings().client_table, startup.audit().latency, startup.dynamodb())


@cache
def authorizer() -> Authorizer:
    return Authorizer(store(), startup.audit(), instants.now, startup.settings().stage)


def warm_up() -> None:
    authorizer()
    store().warm_up()
