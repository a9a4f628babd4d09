"""What a document gateway needs around it: the real service and a content server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tokenservice_client import Issued, TokenServiceClient

from examples.document_gateway.__main__ import gateway
from examples.document_gateway.content_server import REPORT, serving
from examples.document_gateway.settings import Settings
from tests.support.api import Credentials

CONTENT = {"CONTENT_USER": "gateway", "CONTENT_PASSWORD": "the content's password"}


@dataclass
class World:
    """A gateway's address, and a client of the token service with every scope."""

    url: str
    tokens: TokenServiceClient

    def link(self, node_id: str = REPORT, **terms: Any) -> tuple[str, Issued]:
        issued = self.tokens.issue(node_id, **terms)
        return f"{self.url}/d/{issued.token}", issued

    def uses(self, issued: Issued) -> int:
        return len(self.tokens.status(issued.token_id).claims)


@contextmanager
def gateway_world(tokens_url: str, client: Credentials, content_url: str, **changed: str) -> Iterator[World]:
    environ = {
        "TOKENSERVICE_URL": tokens_url,
        "TOKENSERVICE_USER": client.user,
        "TOKENSERVICE_PASSWORD": client.password,
        "CONTENT_URL": content_url,
        **CONTENT,
        **changed,
    }
    with (
        serving(gateway(Settings.from_environ(environ))) as url,
        TokenServiceClient(tokens_url, client.user, client.password) as tokens,
    ):
        yield World(url, tokens)
