"""The client against the service as `make run` serves it, also over a line that loses answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import requests
from tokenservice_client import (
    Refused,
    TokenServiceClient,
)

from tests.support.api import NODE, Api
from tests.support.scripted_server import Handler, Server, answer, drop


@pytest.fixture(scope="module")
def tokens(service: str, api: Api) -> Iterator[TokenServiceClient]:
    """A client with every scope."""
    credentials = api.client()
    with TokenServiceClient(service, credentials.user, credentials.password) as client:
        yield client


class LossyLine:
    """Between client and service; loses the first `to_lose` answers, after the service gave them.

    Attributes:
        lost: the status of each.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._lock = threading.Lock()
        self.url = ""
        self.to_lose = 0
        self.lost: list[int] = []

    def __call__(self, handler: Handler) -> None:
        sent = handler.received
        url, headers = self._upstream + sent.path, dict(sent.headers)
        response = requests.request(sent.method, url, data=sent.content, headers=headers, timeout=60)
        with self._lock:
            is_lost = len(self.lost) < self.to_lose
            if is_lost:
                self.lost.append(response.status_code)
        names = [name for name in ("Content-Type", "Idempotent-Replayed") if name in response.headers]
        move = answer(response.status_code, response.content, **{name: response.headers[name] for name in names})
        (drop if is_lost else move)(handler)


@pytest.fixture
def line(service: str) -> Iterator[LossyLine]:
    line = LossyLine(service)
    with Server(line) as server:
        line.url = server.url
        yield line


@pytest.fixture
def over_the_line(line: LossyLine, api: Api) -> Iterator[TokenServiceClient]:
    credentials = api.client()
    with TokenServiceClient(line.url, credentials.user, credentials.password) as client:
        yield client


def test_every_value_of_the_request_is_returned(tokens: TokenServiceClient) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    issued = tokens.issue(
        NODE,
        max_uses=3,
        expires_at=soon,
        not_before=soon - timedelta(hours=2),
        user="alice",
        ip_addresses=["192.0.2.0/24", "2001:db8::1"],
        actions=["download", "preview"],
        metadata={"name": "Größe.pdf"},
    )
    assert (issued.expires_at, issued.max_uses, issued.actions) == (soon, 3, ("download", "preview"))
    look = tokens.introspect(issued.token, user="alice", ip_address="192.0.2.7")
    assert (look.active, look.node_id, look.uses_remaining, look.metadata) == (True, NODE, 3, {"name": "Größe.pdf"})
    use = tokens.use(issued.token, user="alice", ip_address="192.0.2.7", action="preview")
    assert (use.user, use.metadata, use.uses_remaining, use.replayed) == ("alice", {"name": "Größe.pdf"}, 2, False)
    status = tokens.status(issued.token_id)
    assert [(claim.use_id, claim.user, claim.ip_address, claim.action) for claim in status.claims] == [
        (use.use_id, "alice", "192.0.2.7", "preview")
    ]
    assert (status.expires_at, status.not_before) == (soon, soon - timedelta(hours=2))
    assert set(status.ip_addresses) == {"192.0.2.0/24", "2001:db8::1/128"}


def test_a_refusal_is_an_error_on_use_and_an_answer_on_introspection(tokens: TokenServiceClient) -> None:
    issued = tokens.issue(NODE, user="alice")
    with pytest.raises(Refused) as refused:
        tokens.use(issued.token, user="bob")
    assert (refused.value.code, refused.value.status) == ("user_mismatch", 403)
    assert refused.value.request_id
    look = tokens.introspect(issued.token, user="bob")
    assert (look.active, look.reason, look.node_id) == (False, "user_mismatch", None)


def test_a_use_with_a_lost_answer_is_retried_and_nothing_is_spent_twice(
    over_the_line: TokenServiceClient, line: LossyLine
) -> None:
    issued = over_the_line.issue(NODE, max_uses=2)
    line.to_lose = 2
    use = over_the_line.use(issued.token, user="alice")
    assert line.lost == [200, 200]
    assert (use.replayed, use.uses_remaining) == (True, 1)
    assert over_the_line.introspect(issued.token).uses_remaining == 1
