"""What DynamoDB charges for a request: measured by an engine, and calculated from the item."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from chalicelib.aws.signing import Credentials, Signer, region_from_environ
from tests.support.dynamodb_proxy import Proxy

WRITE_UNIT_BYTES: Final = 1024
USD_PER_MILLION_WRITE_UNITS: Final = 0.625
USD_PER_MILLION_READ_UNITS: Final = 0.125
"""On-demand in us-east-1, as lowered in November 2024; other Regions cost up to twice that."""


class Meter(Proxy):
    """A proxy between a store and an engine that sums up the capacity that each request consumed.

    Args:
        environ: points an AWS client at the engine.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._adding = threading.Lock()
        self._units: dict[str, float] = {}
        self._signer = Signer(Credentials.from_environ(environ), region_from_environ(environ), "dynamodb")
        self._host = environ["AWS_ENDPOINT_URL"].partition("//")[2]
        super().__init__(environ["AWS_ENDPOINT_URL"])

    def ask(self, request: Any) -> Any:
        asked = json.loads(request.body)
        body = json.dumps({**asked, "ReturnConsumedCapacity": "INDEXES"}).encode()
        headers = {name.lower(): value for name, value in request.headers.items()}
        named = {"host": self._host, "content-type": headers["content-type"], "x-amz-target": headers["x-amz-target"]}
        answer = super().ask(replace(request, headers=self._signer.sign("POST", "/", named, body), body=body))
        consumed = json.loads(answer.body).get("ConsumedCapacity") or {}
        with self._adding:
            for name, units in _parts(consumed):
                self._units[name] = self._units.get(name, 0.0) + units
        return answer

    def read(self) -> dict[str, float]:
        """Units since the last reading: of the table and of each index, and `total`."""
        with self._adding:
            units, self._units = self._units, {}
        return units


def _parts(consumed: Mapping[str, Any]) -> list[tuple[str, float]]:
    if not consumed:
        return []
    parts = [("total", consumed["CapacityUnits"]), ("table", consumed.get("Table", {}).get("CapacityUnits", 0.0))]
    indexes = consumed.get("GlobalSecondaryIndexes", {})
    return parts + [(name, index["CapacityUnits"]) for name, index in sorted(indexes.items())]


def item_bytes(item: Mapping[str, Any]) -> int:
    """The size of an item as DynamoDB reckons it.

    Source: Amazon DynamoDB developer guide, "DynamoDB item sizes and formats".
    """
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(typed: Mapping[str, Any]) -> int:
    [(kind, value)] = typed.items()
    match kind:
        case "S":
            return len(value.encode())
        case "N":
            digits = len(Decimal(value).normalize().as_tuple().digits)
            return math.ceil(digits / 2) + 1
        case "SS":
            return sum(len(text.encode()) for text in value)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _value_bytes(part) for name, part in value.items())
        case "L":
            return 3 + sum(1 + _value_bytes(part) for part in value)
        case "BOOL" | "NULL":
            return 1
    raise ValueError(f"no size is known for the type {kind}")


def write_units(size: int) -> int:
    """What one write costs; the larger one of the item before and after counts, also where a condition failed."""
    return math.ceil(size / WRITE_UNIT_BYTES)


def usd_per_million(write: float, read: float = 0.0) -> float:
    """The price of a million calls that consume that many units each."""
    return round(write * USD_PER_MILLION_WRITE_UNITS + read * USD_PER_MILLION_READ_UNITS, 3)
