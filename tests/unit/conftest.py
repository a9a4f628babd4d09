"""Unit tests start no engine: their API is on the stores in memory. Each of its answers must be as documented."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any
from unicodedata import normalize

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from tests.support.api import BASE_PATH, Answer, Credentials, MemoryApi
from tests.support.examples import document


@cache
def validator(schema: str) -> Draft202012Validator:
    """Checks values by a schema of the OpenAPI document."""
    whole = {"$ref": schema, "components": document()["components"]}
    return Draft202012Validator(whole, format_checker=FormatChecker())


def check(answer: Answer, operation: Mapping[str, Any]) -> None:
    """Hold an answer against its operation in the document: status, media type, members, code and headers."""
    documented = operation["responses"][str(answer.status)]
    headers = {name.lower() for name in documented.get("headers", {})}
    if "content" in documented:
        [(media_type, content)] = documented["content"].items()
        assert answer.headers["content-type"] == media_type
        schema = content["schema"]["$ref"]
        validator(schema).validate(answer.json)
        members = document()["components"]["schemas"][schema.rpartition("/")[2]]["properties"]
        assert set(answer.json) <= set(members)
        assert answer.code is None or f"`{answer.code}`" in documented["description"]
    else:
        assert answer.text == ""
    assert set(answer.headers) - {"content-type", "cache-control"} <= headers


class DocumentedApi(MemoryApi):
    """The API, which fails a test if it takes a body that the OpenAPI document forbids, or answers otherwise."""

    def call(self, method: str, path: str, client: Credentials | None, body: Any = None, **more: Any) -> Answer:
        answer = super().call(method, path, client, body, **more)
        documented = BASE_PATH + re.sub("^/token/[^/]+$", "/token/{tokenId}", path)
        operation = document()["paths"].get(documented, {}).get(method.lower())
        if operation and answer.headers:  # what the gateway refuses by itself has none
            check(answer, operation)
            if "requestBody" in operation and isinstance(body, dict) and answer.status < 400:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
                # Lengths are of names in normal form C.
                validator(schema).validate(json.loads(normalize("NFC", json.dumps(body, ensure_ascii=False))))
        return answer


@pytest.fixture(scope="session")
def api() -> MemoryApi:
    return DocumentedApi()


# pytest makes a session's fixture once: a client of the engine's API would be none of this API's.
@pytest.fixture(scope="session")
def client(api: MemoryApi) -> Credentials:
    return api.client()
