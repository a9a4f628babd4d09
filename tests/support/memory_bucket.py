"""An S3 bucket in memory, called like the clients of AWS's library and our own."""

from __future__ import annotations

import io
from typing import Any

from chalicelib.aws.errors import Refused

BUCKET = "kept"
PAGE = 2  # names at once; a real bucket gives a thousand


class MemoryBucket:
    """The calls that a redrive makes, of the bucket `BUCKET`.

    Attributes:
        objects: by name.
        metadata: by name, if any.
        calls: made so far, each as operation and name.
    """

    def __init__(self, objects: dict[str, str] | None = None) -> None:
        self.objects = {name: text.encode() for name, text in (objects or {}).items()}
        self.metadata: dict[str, dict[str, str]] = {}
        self.calls: list[tuple[str, str]] = []

    def called(self, operation: str, name: str) -> None:
        """Note a call; a test may let something happen here."""
        self.calls.append((operation, name))

    def list_objects_v2(self, Bucket: str, Prefix: str, StartAfter: str = "") -> Any:
        assert Bucket == BUCKET
        self.called("list", Prefix)
        found = sorted(name for name in self.objects if name.startswith(Prefix) and name > StartAfter)
        items = [{"Key": name} for name in found[:PAGE]]
        return ({"Contents": items} if items else {}) | {"IsTruncated": len(found) > PAGE}

    def get_object(self, Bucket: str, Key: str) -> Any:
        assert Bucket == BUCKET
        self.called("get", Key)
        if Key not in self.objects:
            raise Refused({"Error": {"Code": "NoSuchKey", "Message": ""}}, "GetObject")
        return {"Body": io.BytesIO(self.objects[Key]), "Metadata": self.metadata.get(Key, {})}

    def put_object(
        self,
        Bucket: str,
        Key: str,
        Body: bytes,
        ContentType: str,
        Metadata: dict[str, str] | None = None,
    ) -> None:
        assert Bucket == BUCKET
        self.called("put", Key)
        assert ContentType == "application/json"
        self.objects[Key] = Body
        self.metadata[Key] = Metadata or {}

    def delete_object(self, Bucket: str, Key: str) -> None:
        assert Bucket == BUCKET
        self.called("delete", Key)
        self.objects.pop(Key, None)
