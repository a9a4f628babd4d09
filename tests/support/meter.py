"""What DynamoDB charges for a request: measured by an engine, and calculated from the item."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from chalicelib.aws.signing import Credentials, Signer, region_from_environ
from tests.support.dynamodb_proxy import Proxy


class Meter(Proxy):
    """A proxy between a store and an engine that sums up the capacity that each request consumed.

    Args:
        environ: points an AWS client at the engine.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._units: list[float] = []
        self._signer = Signer(Credentials.from_environ(environ), region_from_environ(environ), "dynamodb")
        self._host = environ["AWS_ENDPOINT_URL"].partition("//")[2]
        super().__init__(environ["AWS_ENDPOINT_URL"])

    def ask(self, request: Any) -> Any:
        asked = json.loads(request.body)
        body = json.dumps({**asked, "ReturnConsumedCapacity": "TOTAL"}).encode()
        headers = {name.lower(): value for name, value in request.headers.items()}
        named = {"host": self._host, "content-type": headers["content-type"], "x-amz-target": headers["x-amz-target"]}
        answer = super().ask(replace(request, headers=self._signer.sign("POST", "/", named, body), body=body))
        consumed = json.loads(answer.body).get("ConsumedCapacity") or {}
        self._units.append(consumed.get("CapacityUnits", 0.0))
        return answer

    def read(self) -> float:
        """Units since the last reading."""
        units, self._units = self._units, []
        return sum(units)


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
