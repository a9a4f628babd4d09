"""The two calls that the forwarders make: keeping an object in S3 and reading a parameter.

They are called like the clients of AWS's library, so that an operator's commands can hand in those.

Source: Amazon S3 API reference, PutObject; AWS Systems Manager API reference, GetParameter.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from chalicelib.aws.client import AwsClient, Patience, Request, refusal
from chalicelib.aws.json_protocol import JsonProtocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.aws.connection import Answer

_PUT: Final = Patience(attempts=3, attempt_seconds=3.0, total_seconds=9.0, pause_seconds=0.2)
_READ: Final = Patience(attempts=3, attempt_seconds=3.0, total_seconds=9.0, pause_seconds=0.2)
_OK: Final = 200
_CODE: Final = re.compile(rb"<Code>([A-Za-z0-9.]{1,100})</Code>")


class S3:
    """Keeps objects; a bucket is addressed by path, so that any of its names will do."""

    def __init__(self, client: AwsClient) -> None:
        self._client = client

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], patience: Patience = _PUT) -> S3:
        """See `AwsClient.from_environ`."""
        return cls(AwsClient.from_environ("s3", environ, patience))

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, ContentType: str) -> None:  # noqa: N803 - AWS's names
        """Keep an object; one of the same name is replaced.

        Raises:
            ClientError: S3 refused, was throttling or had an error of its own.
            NoAnswer: it gave no answer that can be trusted.
        """
        headers = {"content-type": ContentType, "x-amz-content-sha256": sha256(Body).hexdigest()}
        self._client.send(Request("PUT", f"/{Bucket}/{quote(Key)}", headers, Body), _read_put)


class Ssm:
    """Reads parameters."""

    def __init__(self, client: AwsClient) -> None:
        self._protocol = JsonProtocol(client, "AmazonSSM", "1.1")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], patience: Patience = _READ) -> Ssm:
        """See `AwsClient.from_environ`."""
        return cls(AwsClient.from_environ("ssm", environ, patience))

    def get_parameter(self, *, Name: str, WithDecryption: bool) -> dict[str, Any]:  # noqa: N803 - AWS's names
        """A parameter and its value.

        Raises:
            ClientError: Systems Manager refused, was throttling or had an error of its own.
            NoAnswer: it gave no answer that can be trusted.
        """
        return self._protocol.call("GetParameter", {"Name": Name, "WithDecryption": WithDecryption})


def _read_put(answer: Answer) -> None:
    if answer.status != _OK:
        found = _CODE.search(answer.body)
        code = found[1].decode() if found else str(answer.status)
        raise refusal(answer, code, "", "PutObject", {})
