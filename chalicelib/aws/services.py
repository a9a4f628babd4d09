"""Small clients of S3, for the failure record, and of Systems Manager, for secrets.

They are called like the clients of AWS's library, so that an operator's commands can hand in those.

Source: Amazon S3 API reference, PutObject, GetObject, DeleteObject, ListObjectsV2; AWS Systems Manager API reference,
GetParameter.
"""

from __future__ import annotations

import io
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote_plus

from chalicelib.aws.client import AwsClient, Patience, Request, refusal
from chalicelib.aws.connection import Garbled
from chalicelib.aws.json_protocol import JsonProtocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chalicelib.aws.connection import Answer

_PATIENCE: Final = Patience(attempts=3, attempt_seconds=3.0, total_seconds=9.0, pause_seconds=0.2)
READ_ENTRIES: Final = Patience(attempts=3, attempt_seconds=10.0, total_seconds=25.0, pause_seconds=0.5)
"""For the failure record: an entry has some megabytes, and a small function reads them slowly."""
_SUCCESS: Final = frozenset({200, 204})
_XMLNS: Final = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_ITEM: Final = f"{_XMLNS}Contents"
_METADATA: Final = "x-amz-meta-"
_CODE: Final = re.compile(rb"<Code>([A-Za-z0-9.]{1,100})</Code>")


class S3:
    """Keeps objects; a bucket is addressed by path, so that any of its names will do.

    Each call raises Refused where S3 refused, was throttling or had an error of its own, and NoAnswer where it gave
    no answer that can be trusted.
    """

    def __init__(self, client: AwsClient) -> None:
        self._client = client

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], patience: Patience = _PATIENCE) -> S3:
        return cls(AwsClient.from_environ("s3", environ, patience))

    def put_object(
        self, *, Bucket: str, Key: str, Body: bytes, ContentType: str, Metadata: Mapping[str, str] | None = None
    ) -> None:
        """Keep an object; one of the same name is replaced."""
        headers = {"content-type": ContentType} | {f"{_METADATA}{name}": v for name, v in (Metadata or {}).items()}
        self._send("PutObject", Request("PUT", f"/{Bucket}/{quote(Key)}", headers, Body))

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        """An object: `Body`, to be read, and `Metadata`."""
        return self._send("GetObject", Request("GET", f"/{Bucket}/{quote(Key)}"), _object)

    def delete_object(self, *, Bucket: str, Key: str) -> None:
        """Forget an object; one that is not there is no error."""
        self._send("DeleteObject", Request("DELETE", f"/{Bucket}/{quote(Key)}"))

    def list_objects_v2(self, *, Bucket: str, Prefix: str, StartAfter: str = "") -> dict[str, Any]:
        """The next objects in the order of names, a thousand at most: `Contents`, and whether it `IsTruncated`."""
        # In the order of names, as the signature wants them.
        query = f"encoding-type=url&list-type=2&prefix={quote(Prefix, safe='')}"
        if StartAfter:
            query += f"&start-after={quote(StartAfter, safe='')}"
        return self._send("ListObjectsV2", Request("GET", f"/{Bucket}", query=query), _list)

    def _send(
        self, operation: str, request: Request, read: Callable[[Answer], dict[str, Any]] = lambda _: {}
    ) -> dict[str, Any]:
        headers = {**request.headers, "x-amz-content-sha256": sha256(request.body).hexdigest()}
        return self._client.send(request._replace(headers=headers), lambda answer: read(_done(answer, operation)))


class Ssm:
    """Reads parameters."""

    def __init__(self, client: AwsClient) -> None:
        self._protocol = JsonProtocol(client, "AmazonSSM", "1.1")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Ssm:
        return cls(AwsClient.from_environ("ssm", environ, _PATIENCE))

    def get_parameter(self, *, Name: str, WithDecryption: bool) -> dict[str, Any]:
        """A parameter and its value. Raises as `S3` does."""
        return self._protocol.call("GetParameter", {"Name": Name, "WithDecryption": WithDecryption})


def _done(answer: Answer, operation: str) -> Answer:
    if answer.status not in _SUCCESS:
        found = _CODE.search(answer.body)
        code = found[1].decode() if found else str(answer.status)
        raise refusal(answer, code, "", operation, {})
    return answer


def _object(answer: Answer) -> dict[str, Any]:
    metadata = {name.removeprefix(_METADATA): v for name, v in answer.headers.items() if name.startswith(_METADATA)}
    return {"Body": io.BytesIO(answer.body), "Metadata": metadata}


def _list(answer: Answer) -> dict[str, Any]:
    from xml.etree import ElementTree  # noqa: PLC0415 - only what lists needs it

    try:
        root = ElementTree.fromstring(answer.body)  # noqa: S314 - of S3, whose certificate was checked
        items = [{part.tag.removeprefix(_XMLNS): part.text or "" for part in item} for item in root.iter(_ITEM)]
        found = [{"Key": unquote_plus(item["Key"]), "Size": int(item["Size"])} for item in items]
    except (ElementTree.ParseError, KeyError, ValueError):
        raise Garbled("a list that can't be read") from None
    return {"Contents": found, "IsTruncated": root.findtext(f"{_XMLNS}IsTruncated") == "true"}
