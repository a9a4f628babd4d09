"""Secrets in the store, and in what is written while the store is away."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from chalicelib.entry import api as entry
from chalicelib.entry import authorizer
from chalicelib.storage.client_store import ClientStore
from chalicelib.storage.token_store import TokenStore
from dev.engine import HOST, free_port
from tests.support.api import Api, Credentials
from tests.support.output import Output, level
from tokenctl.deployment import Deployment


class TestStoreAway:
    """Nobody listens where the store should be."""

    @pytest.fixture
    def away(
        self, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[], AbstractContextManager[None]]:
        @contextmanager
        def gone() -> Iterator[None]:
            with monkeypatch.context() as patch:
                patch.setenv("AWS_ENDPOINT_URL", f"http://{HOST}:{free_port()}")
                patch.setattr(entry.service(), "_store", TokenStore(deployment.settings.token_table))
                yield

        return gone

    ROUTES = (
        ("POST", "/token", lambda s: {"nodeId": s, "user": s, "metadata": {s: s}}),
        ("POST", "/tokens", lambda s: {"tokens": [{"nodeId": s, "user": s}] * 2}),
        ("POST", "/use", lambda s: {"token": s, "user": s[::-1]}),
        ("GET", "/use", lambda s: {"token": s, "user": s[::-1]}),
        ("POST", "/introspect", lambda s: {"token": s, "user": s[::-1]}),
        ("POST", "/revoke", lambda s: {"user": s}),
        ("GET", "/token/{}", lambda _: None),
        ("DELETE", "/token/{}", lambda _: None),
    )

    @pytest.mark.parametrize(("method", "path", "said"), ROUTES, ids=[f"{route[0]} {route[1]}" for route in ROUTES])
    def test_the_caller_may_try_again_and_no_secret_is_in_the_logged_exception(  # noqa: PLR0917 - a table and fixtures
        self,
        api: Api,
        client: Credentials,
        away: Callable[[], AbstractContextManager[None]],
        output: Output,
        method: str,
        path: str,
        said: Callable[[str], Any],
    ) -> None:
        issued = api.issue(client)
        token = issued["token"]
        output.read()
        with away(), level("DEBUG"):
            sent = {"body": said(token)} if method == "POST" else {"query": said(token)}
            answer = api.call(method, path.format(issued["tokenId"]), client, **sent)
        assert (answer.status, answer.code) == (503, "store_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        written = output.read()
        [reported] = [
            line
            for line in map(json.loads, filter(lambda t: t.startswith("{"), written.splitlines()))
            if line.get("event") == "log"
        ]
        assert reported["requestId"] == answer.json["requestId"]
        assert "Traceback" in reported["exception"]
        for text in (written, answer.text, str(answer.headers)):
            assert token not in text
            assert client.password not in text
        assert HOST not in answer.text

    def test_credentials_that_could_not_be_checked_are_not_written(
        self,
        api: Api,
        client: Credentials,
        deployment: Deployment,
        output: Output,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        output.read()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{HOST}:{free_port()}")
        monkeypatch.setattr(authorizer.authorizer(), "_store", ClientStore(deployment.settings.client_table))
        with level("DEBUG"):
            answer = api.call("GET", "/version", client)
        written = output.read()
        assert answer.status >= 500
        assert "credentials could not be checked" in written
        for text in (written, answer.text):
            assert client.password not in text
            assert client.header.removeprefix("Basic ") not in text
