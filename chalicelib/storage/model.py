"""What both kinds of items share: how they reach DynamoDB, and how instants and counts are written."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, TypeVar

from pynamodb.attributes import Attribute
from pynamodb.constants import NUMBER
from pynamodb.models import Model

from chalicelib.instants import EPOCH

_MICROSECOND: Final = timedelta(microseconds=1)
_M = TypeVar("_M", bound=Model)


class InstantAttribute(Attribute[datetime]):
    """An aware datetime, stored as a number of epoch seconds, exact to the microsecond."""

    attr_type = NUMBER

    def serialize(self, value: datetime) -> str:
        # Integer and decimal arithmetic: a float would round the last digits of a microsecond.
        return format((Decimal((value - EPOCH) // _MICROSECOND) / 1_000_000).normalize(), "f")

    def deserialize(self, value: str) -> datetime:
        return EPOCH + int(Decimal(value) * 1_000_000) * _MICROSECOND


class CountAttribute(Attribute[int]):
    """A whole number. PynamoDB's own attribute goes through JSON, which takes ten times as long."""

    attr_type = NUMBER

    def serialize(self, value: int) -> str:
        return str(value)

    def deserialize(self, value: str) -> int:
        return int(value)


INSTANT: Final = InstantAttribute()
"""To write an instant inside another value."""


class Meta:
    """How every model reaches DynamoDB.

    Two attempts with a pause of at most a second between them end within three seconds: a caller waits no longer to
    learn that the store is away.
    """

    connect_timeout_seconds = 0.9
    read_timeout_seconds = 0.9
    max_retry_attempts = 1
    max_pool_connections = 50
    billing_mode = "PAY_PER_REQUEST"


def bind(model: type[_M], table_name: str) -> type[_M]:
    """The model for one table. A model of its own for each table, since PynamoDB keeps the connection in the class."""
    meta = type("Meta", (Meta,), {"table_name": table_name})
    return type(model.__name__, (model,), {"Meta": meta})
