"""The DynamoDB client that the stores of one process share."""

from __future__ import annotations

import os
from functools import cache

from chalicelib.aws.dynamodb import DynamoDbClient
from chalicelib.aws.errors import NoCredentials
from chalicelib.entry import startup
from chalicelib.settings import BOTOCORE


@cache
def client() -> DynamoDbClient | None:
    """Our own client; `None` means that PynamoDB makes one of botocore.

    Raises:
        SystemExit: credentials or a region are missing; in one line.
    """
    if startup.settings().dynamodb_transport == BOTOCORE:
        return None
    try:
        return DynamoDbClient.from_environ(os.environ)
    except NoCredentials as error:
        raise SystemExit(f"tokenservice: {error}") from None


def disconnect() -> None:
    """Close the connections of our own client, which would be dead in a function that is restored from a snapshot."""
    ours = client()
    if ours is not None:
        ours.close()
