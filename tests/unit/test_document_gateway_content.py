"""The gateway's way to the content API, against a real server on a socket of this machine that answers oddly."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import pytest

from examples.document_gateway.content import ContentApi, ContentError, ContentUnavailable, Document, DocumentMissing
from examples.document_gateway.content_server import REPORT
from tests.support.scripted_server import Move, Server, answer, drop

PASSWORD = "the content's password"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def content(server: Server) -> ContentApi:
    return ContentApi(server.url, "gateway", PASSWORD)


@pytest.mark.parametrize(
    ("entry", "size"),
    [
        ({"name": "a.pdf", "content": {"mimeType": "application/pdf", "sizeInBytes": 7}}, 7),
        ({"name": "a.pdf", "content": {"sizeInBytes": "many"}}, None),
        ({"name": "a.pdf"}, None),
    ],
)
def test_a_document_is_described(
    server: Server, content: ContentApi, entry: dict[str, object], size: int | None
) -> None:
    server.moves = [answer(200, {"entry": entry})]
    assert content.describe(REPORT) == Document("a.pdf", size)
    [sent] = server.received
    assert sent.path.endswith(f"/alfresco/versions/1/nodes/{REPORT}")
    assert sent.headers["accept-encoding"] == "identity", "what is compressed could not be resumed by ranges"


@pytest.mark.parametrize(
    ("move", "expected"),
    [
        (drop, ContentUnavailable),
        (answer(200, b"<html>"), ContentUnavailable),
        (answer(200, b"[" * 100_000 + b"]" * 100_000), ContentUnavailable),
        (answer(200, []), ContentUnavailable),
        (answer(200, {"entry": {}}), ContentUnavailable),
        (answer(200, {"entry": []}), ContentUnavailable),
        (answer(302, b"", Location="/elsewhere"), ContentUnavailable),
        (answer(401, {}), ContentUnavailable),
        (answer(500, {}), ContentUnavailable),
        (answer(403, {}), DocumentMissing),
        (answer(404, {}), DocumentMissing),
    ],
)
def test_an_odd_answer_is_reported_without_the_document_s_id_and_followed_nowhere(
    server: Server, content: ContentApi, move: Move, expected: type[ContentError]
) -> None:
    server.moves = [move]
    with pytest.raises(expected) as refused:
        content.describe(REPORT)
    assert len(server.received) == 1
    text = "".join(traceback.format_exception(refused.value)) + repr(refused.value)
    assert REPORT not in text
    assert PASSWORD not in text


@pytest.mark.parametrize("node_id", ["", "..", ".", "a/../b", "a?b", "a#b", "%2e%2e", "a b", "ä", "a\n", "a" * 129])
def test_an_id_that_would_lead_elsewhere_is_not_requested(server: Server, content: ContentApi, node_id: str) -> None:
    for call in (lambda: content.describe(node_id), lambda: content.open(node_id, {})):
        with pytest.raises(DocumentMissing):
            call()
    assert server.received == []
