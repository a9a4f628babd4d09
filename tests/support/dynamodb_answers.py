"""DynamoDB's answers for the scripted server."""

from __future__ import annotations

import json
import zlib
from typing import Any, Final

from tests.support.scripted_server import Move, answer

THROTTLED: Final = "com.amazon.coral.availability#ThrottlingException"


def document(content: Any, status: int = 200, crc32: str | None = None) -> Move:
    """A response with its checksum, or with another one."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return answer(status, body, x_amz_crc32=crc32 or str(zlib.crc32(body)), x_amzn_RequestId="request-1")


def error(name: str, status: int = 400, **more: Any) -> Move:
    kind = name if "#" in name else f"com.amazonaws.dynamodb.v20120810#{name}"
    return document({"__type": kind, "message": "Why.", **more}, status)


def cancelled(*codes: str) -> Move:
    return error("TransactionCanceledException", CancellationReasons=[{"Code": code} for code in codes])
