"""The client against the service as `make run` serves it, also over a line that loses answers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import requests
from tokenservice_client import TokenServiceClient

from tests.support.api import NODE, Api
from tests.support.scripted_server import Handler, Server, answer, drop


@pytest.fixture(scope="module")
def tokens(service: str, api: Api) -> Iterator[TokenServiceClient]:
    """A client with every scope."""
    credentials = api.client()
    with TokenServiceClient(service, credentials.user, credentials.password) as client:
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


def test_a_use_with_a_lost_answer_is_retried_and_nothing_is_spent_twice(service: str, api: Api) -> None:
    lost: list[int] = []

    def line(handler: Handler) -> None:
        """Hand the call on, and lose the first two answers to a use."""
        sent = handler.received
        response = requests.request(
            sent.method, service + sent.path, data=sent.content, headers=sent.headers, timeout=60
        )
        if sent.path.endswith("/use") and len(lost) < 2:
            lost.append(response.status_code)
            drop(handler)
            return
        names = [name for name in ("Content-Type", "Idempotent-Replayed") if name in response.headers]
        answer(response.status_code, response.content, **{name: response.headers[name] for name in names})(handler)

    credentials = api.client()
    with Server(line) as server, TokenServiceClient(server.url, credentials.user, credentials.password) as client:
        issued = client.issue(NODE, max_uses=2)
        use = client.use(issued.token, user="alice")
        assert lost == [200, 200]
        assert (use.replayed, use.uses_remaining) == (True, 1)
        assert client.introspect(issued.token).uses_remaining == 1
