"""DynamoDB's API for PynamoDB, in the place of botocore's client.

PynamoDB asks its client for one thing: `_make_api_call(operation, request)`, with an answer as JSON gives it.
Binary attributes are the one difference, and nothing stored here has any. Errors are our own; `gate` hands them to
PynamoDB under botocore's names.

Source: Amazon DynamoDB developer guide, "DynamoDB low-level API" and "Error handling with DynamoDB".
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from chalicelib.aws.client import AwsClient, Patience
from chalicelib.aws.json_protocol import JsonProtocol

if TYPE_CHECKING:
    from collections.abc import Mapping

PATIENCE: Final = Patience(attempts=2, attempt_seconds=1.3, total_seconds=2.7, pause_seconds=0.1)
"""A caller learns within three seconds that the store is away. Each attempt may count one mismatch more, hence two."""


class DynamoDbClient:
    """What PynamoDB calls.

    Every request of the service may arrive twice; a transaction gets a token by which DynamoDB knows it again.
    """

    # PynamoDB takes a client whose signer found no credentials for a broken one. Ours is never made without.
    _request_signer = None

    def __init__(self, client: AwsClient) -> None:
        self._client = client
        self._protocol = JsonProtocol(client, "DynamoDB_20120810", "1.0")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], patience: Patience = PATIENCE) -> DynamoDbClient:
        """A client for the region, the credentials and the endpoint that the standard variables name.

        Raises:
            NoCredentials: a variable is missing.
        """
        return cls(AwsClient.from_environ("dynamodb", environ, patience))

    def close(self) -> None:
        self._client.close()

    def warm_up(self, table_name: str, key: str) -> None:
        """Open a connection by asking, in one attempt, for an item that there is not.

        Args:
            key: name of the table's partition key.

        Raises:
            Refused, NoAnswer: that failed. Nothing depends on it.
        """
        self._protocol.call("GetItem", {"TableName": table_name, "Key": {key: {"S": "warm-up"}}}, attempts=1)

    def _make_api_call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Called by PynamoDB. Raises Refused and NoAnswer."""
        if operation == "TransactWriteItems":
            request.setdefault("ClientRequestToken", os.urandom(16).hex())
        return self._protocol.call(operation, request)
