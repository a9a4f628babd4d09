"""Secrets in what is written while the store is away."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chalicelib.entry import api as entry
from chalicelib.storage.token_store import TokenStore
from dev.engine import HOST, free_port
from tests.support.api import Api, Credentials
from tests.support.output import Output, level
from tokenctl.deployment import Deployment

ROUTES: list[tuple[str, str, dict[str, Any]]] = [
    # The text that holds `s` gets the token in its place.
    ("POST", "/token", {"nodeId": "s", "user": "s", "metadata": {"s": "s"}}),
    ("POST", "/tokens", {"tokens": [{"nodeId": "s", "user": "s"}] * 2}),
    *(("POST", path, {"token": "s", "user": "alice"}) for path in ("/use", "/introspect")),
    ("GET", "/use", {"token": "s", "user": "alice"}),
    ("POST", "/revoke", {"user": "s"}),
    *((method, "/token/{}", {}) for method in ("GET", "DELETE")),
]


@pytest.mark.parametrize(("method", "path", "said"), ROUTES, ids=str)
def test_the_caller_may_try_again_and_no_secret_is_in_the_logged_exception(  # noqa: PLR0917 - a table and fixtures
    api: Api,
    client: Credentials,
    deployment: Deployment,
    output: Output,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path: str,
    said: dict[str, Any],
) -> None:
    issued = api.issue(client)
    token, said = issued["token"], json.loads(json.dumps(said).replace('"s"', f'"{issued["token"]}"'))
    # Nobody listens where the store should be.
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{HOST}:{free_port()}")
    monkeypatch.setattr(entry.service(), "_store", TokenStore(deployment.settings.token_table))
    output.read()
    with level("DEBUG"):
        sent = {"body": said} if method == "POST" else {"query": said}
        answer = api.call(method, path.format(issued["tokenId"]), client, **sent)
    assert (answer.status, answer.code) == (503, "store_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    written = output.read()
    lines = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
    [reported] = [line for line in lines if line.get("event") == "log"]
    assert reported["requestId"] == answer.json["requestId"]
    assert "Traceback" in reported["exception"]
    for text in (written, answer.text, str(answer.headers)):
        assert token not in text
        assert client.password not in text
    assert HOST not in answer.text
