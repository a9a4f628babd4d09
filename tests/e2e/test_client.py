"""The client against the service as `make run` serves it, over a line that loses answers."""

from __future__ import annotations

import requests
from tokenservice_client import TokenServiceClient

from tests.support.api import NODE, Api
from tests.support.scripted_server import Handler, Server, answer, drop


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
