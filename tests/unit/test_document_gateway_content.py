"""The gateway's way to the content API, against a real server on a socket of this machine that answers oddly."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from examples.document_gateway.content import ContentApi, ContentError, ContentUnavailable, Document, DocumentMissing
from examples.document_gateway.content_server import REPORT
from tests.unit.test_client_transport import Move, Server, answer, drop

PASSWORD = "the content's password"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def content(server: Server) -> ContentApi:
    return ContentApi(server.url, "gateway", PASSWORD)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"name": "a.pdf", "content": {"mimeType": "application/pdf", "sizeInBytes": 7}}, ("application/pdf", 7)),
        ({"name": "a.pdf", "content": {"sizeInBytes": "many"}}, ("application/octet-stream", None)),
        ({"name": "a.pdf"}, ("application/octet-stream", None)),
    ],
)
def test_a_document_is_described(
    server: Server, content: ContentApi, entry: dict[str, object], expected: tuple[str, int | None]
) -> None:
    server.moves = [answer(200, {"entry": entry})]
    assert content.describe(REPORT) == Document("a.pdf", *expected)
    assert server.received[0].path.endswith(f"/alfresco/versions/1/nodes/{REPORT}")


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
    assert refused.value.__context__ is None


@pytest.mark.parametrize("node_id", ["", "..", ".", "a/../b", "a?b", "a#b", "%2e%2e", "a b", "ä", "a\n", "a" * 129])
def test_an_id_that_would_lead_elsewhere_is_not_requested(server: Server, content: ContentApi, node_id: str) -> None:
    for call in (lambda: content.describe(node_id), lambda: content.open(node_id, {})):
        with pytest.raises(DocumentMissing):
            call()
    assert server.received == []


def test_ranges_go_there_and_the_range_comes_back(server: Server, content: ContentApi) -> None:
    headers = {"Content_Range": "bytes 0-3/9", "ETag": '"1"', "Set_Cookie": "a=b", "X_Node": REPORT}
    server.moves = [answer(206, b"%PDF", Content_Type="application/pdf", **headers)]
    opened = content.open(REPORT, {"Range": "bytes=0-3", "If-Range": '"1"'})
    assert b"".join(opened.pieces()) == b"%PDF"
    assert opened.headers == {"Content-Length": "4", "Content-Range": "bytes 0-3/9", "ETag": '"1"'}
    assert (opened.status, opened.media_type) == (206, "application/pdf")
    [request] = server.received
    assert (request.headers["range"], request.headers["if-range"]) == ("bytes=0-3", '"1"')
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["authorization"].startswith("Basic ")


def test_a_content_that_breaks_off_is_an_error(server: Server, content: ContentApi) -> None:
    server.moves = [answer(200, b"%PDF", announced=9)]
    with pytest.raises(ContentUnavailable, match="ended early"):
        list(content.open(REPORT, {}).pieces())


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Range": "bytes 0-1"},
        {"Content_Range": "bytes -5-1/9"},
        {"Content_Range": "items 0-1/9"},
        {"Content_Encoding": "gzip"},
        {"Content_Type": "multipart/byteranges"},
        {"Content_Type": 'multipart/byteranges; boundary=""'},
        {"Content_Type": "multipart/byteranges; boundary=" + "b" * 71},
    ],
)
def test_a_content_that_contradicts_itself_is_not_passed_on(
    server: Server, content: ContentApi, headers: dict[str, str]
) -> None:
    server.moves = [answer(206, b"%PDF", **headers)]
    with pytest.raises(ContentUnavailable, match="wrong Content-"):
        content.open(REPORT, {"Range": "bytes=0-1,3-4"})


@pytest.mark.parametrize("length", ["-5", "+5", "5, 5", "4.0", "0x4", "", "\u0664", "9" * 19])
def test_a_length_that_is_none_is_not_passed_on(server: Server, content: ContentApi, length: str) -> None:
    def move(handler: Any) -> None:
        line = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        handler.wfile.write(line.encode() + b"%PDF")
        handler.close_connection = True

    server.moves = [move]
    with pytest.raises(ContentUnavailable, match="wrong Content-Length"):
        content.open(REPORT, {})


@pytest.mark.parametrize("boundary", ["THIS_STRING_SEPARATES", "'()+_,-./:=?", "3d6b6a416f9b5"])
def test_several_ranges_keep_the_boundary_between_them(server: Server, content: ContentApi, boundary: str) -> None:
    server.moves = [answer(206, b"--b", Content_Type=f'Multipart/ByteRanges; charset=x; boundary="{boundary}"')]
    several = content.open(REPORT, {"Range": "bytes=0-1,3-4"})
    assert several.content_type == f'multipart/byteranges; boundary="{boundary}"'
    assert several.media_type == "multipart/byteranges"
    several.close()


def test_what_only_helps_a_browser_may_be_missing_and_is_never_odd(server: Server, content: ContentApi) -> None:
    server.moves = [answer(200, b"%PDF", ETag='"\u00e9"'.encode().decode("latin-1"), Last_Modified="yesterday")]
    opened = content.open(REPORT, {})
    assert opened.headers == {"Content-Length": "4", "Last-Modified": "yesterday"}
    opened.close()
