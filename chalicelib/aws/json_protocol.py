"""AWS's JSON protocol: an operation's name in a header, a JSON object there and back.

Source: AWS Smithy documentation, "AWS JSON 1.0 protocol" and "AWS JSON 1.1 protocol".
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, Final

from chalicelib.aws.client import AwsClient, Request, refusal
from chalicelib.aws.connection import Garbled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.aws.connection import Answer

_OK: Final = 200
_SERVER_ERROR: Final = 500
_encode: Final = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode


class JsonProtocol:
    """Calls operations of one service.

    Args:
        target: what stands before the operation's name, `DynamoDB_20120810` for example.
        version: of the protocol.
    """

    def __init__(self, client: AwsClient, target: str, version: str) -> None:
        self._client = client
        self._target = target
        self._content_type = f"application/x-amz-json-{version}"

    def call(self, operation: str, request: Mapping[str, Any], attempts: int | None = None) -> dict[str, Any]:
        """Call an operation.

        Args:
            request: without binary values: bytes are no JSON.
            attempts: how often it is sent; None means as often as the client's patience allows.

        Raises:
            Refused: the service refused, was throttling or had an error of its own.
            NoAnswer: it gave no answer that can be trusted.
        """
        headers = {"content-type": self._content_type, "x-amz-target": f"{self._target}.{operation}"}
        sent = Request("POST", "/", headers, _encode(request).encode())
        return self._client.send(sent, lambda answer: _read(answer, operation), attempts)


def _read(answer: Answer, operation: str) -> dict[str, Any]:
    document = _document(answer)
    if answer.status == _OK:
        return document
    # DynamoDB puts a namespace before an error's name.
    code = str(document.get("__type", answer.status)).rpartition("#")[2]
    raise refusal(answer, code, document.get("message") or document.get("Message") or "", operation, document)


def _document(answer: Answer) -> dict[str, Any]:
    """The answer's JSON object; of a page that something on the way answered in the service's place: nothing."""
    checksum = answer.headers.get("x-amz-crc32")  # DynamoDB's
    if checksum not in (None, str(zlib.crc32(answer.body))):
        raise Garbled("the checksum does not fit")
    try:
        document = json.loads(answer.body.decode())
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        return document
    if answer.status >= _SERVER_ERROR:
        return {}
    raise Garbled("no JSON object")
