"""The gateway's parts: names of documents, pages, settings, and its way to a content API that answers oddly."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from chalicelib.tokens import Reason
from examples.document_gateway import refusals
from examples.document_gateway.app import safe_name
from examples.document_gateway.content import ContentApi, ContentError, ContentUnavailable, Document, DocumentMissing
from examples.document_gateway.content_server import REPORT
from examples.document_gateway.settings import Settings, SettingsError
from tests.support.scripted_server import Move, Server, answer, drop
from tests.unit.test_architecture import ROOT, STANDARD, imports_of

GATEWAY = ROOT / "examples" / "document_gateway"
ENVIRON = {
    "TOKENSERVICE_URL": "https://tokens.example",
    "TOKENSERVICE_USER": "gateway",
    "TOKENSERVICE_PASSWORD": "tss_" + "p" * 43,
    "CONTENT_URL": "https://alfresco.example",
    "CONTENT_USER": "reader",
    "CONTENT_PASSWORD": "content-password",
}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("...", "document"),
        ("  .report.pdf. . ", "report.pdf"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("C:\\a\\b.txt", "C__a_b.txt"),
        ("a\r\nSet-Cookie: x=y.txt", "aSet-Cookie_ x=y.txt"),
        ("report\u202efdp.exe", "reportfdp.exe"),
    ],
)
def test_a_name_is_a_file_name_and_nothing_else(given: str, shown: str) -> None:
    assert safe_name(given) == safe_name(shown) == shown


def test_every_page_for_a_reason_of_the_service_has_words() -> None:
    words = (GATEWAY / "templates" / "refused.html").read_text("utf-8")
    pages = {page.name for page in vars(refusals).values() if isinstance(page, refusals.Page)}
    assert set(re.findall(r'^  "([a-z-]+)": ', words, re.MULTILINE)) == pages
    own = {reason for reason in Reason if refusals.page_of(reason) is not refusals.UNKNOWN}
    assert own == {Reason.EXHAUSTED, Reason.EXPIRED, Reason.NOT_YET_VALID, Reason.USER, Reason.ADDRESS}


def test_settings_are_read_and_their_secrets_not_shown() -> None:
    within = {"CONTENT_URL": "http://alfresco:8080", "CONTENT_INSECURE": "yes"}  # one's own network
    settings = Settings.from_environ({**ENVIRON, **within, "TRUSTED_HOPS": "1", "USER_HEADER": "X-Person"})
    assert (settings.listen, settings.trusted_hops, settings.user_header) == ("127.0.0.1:8080", 1, "X-Person")
    for secret in ("TOKENSERVICE_PASSWORD", "CONTENT_PASSWORD"):
        assert ENVIRON[secret] not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        *((name, "", "missing") for name in ENVIRON),
        ("TOKENSERVICE_URL", "http://tokens.example", "must begin with https://"),
        ("CONTENT_URL", "http://alfresco.example", "must begin with https://"),
        ("CONTENT_URL", "https://a:secret@b.example", "must not hold a user"),
        ("TRUSTED_HOPS", "-1", "not a whole number"),
        ("USER_HEADER", "X-Person", "needs TRUSTED_HOPS"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(name: str, value: str, why: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: {why}[^\n]*$") as refused:
        Settings.from_environ({**ENVIRON, name: value})
    assert "secret" not in str(refused.value)


def test_the_readme_lists_every_setting_and_no_other() -> None:
    names_read: set[str] = set()

    class Recorder(dict[str, str]):
        def get(self, name: str, default: str = "") -> str:
            names_read.add(name)
            return ENVIRON.get(name, default)

    Settings.from_environ(Recorder())
    rows = (GATEWAY / "README.md").read_text("utf-8").partition("## Settings")[2].partition("\n## ")[0]
    names = [row.split("|")[1] for row in rows.splitlines() if row.startswith("|")]
    assert set(re.findall(r"`([A-Z_]+)`", " ".join(names))) == names_read


@pytest.mark.parametrize("path", sorted(GATEWAY.glob("*.py")), ids=lambda path: path.stem)
def test_the_gateway_knows_the_service_by_its_client_alone(path: Path) -> None:
    """But for the demo, which starts the service."""
    libraries = {"flask", "requests", "tokenservice_client", "waitress", "werkzeug"}
    names = {name.partition(".")[0] for name in imports_of(path)} - STANDARD
    assert names <= libraries | {"examples"} | ({"dev", "tokenctl"} if path.stem == "demo" else set())


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def content(server: Server) -> ContentApi:
    return ContentApi(server.url, "gateway", ENVIRON["CONTENT_PASSWORD"])


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
    assert ENVIRON["CONTENT_PASSWORD"] not in text


@pytest.mark.parametrize("node_id", ["", "..", ".", "a/../b", "a?b", "a#b", "%2e%2e", "a b", "ä", "a\n", "a" * 129])
def test_an_id_that_would_lead_elsewhere_is_not_requested(server: Server, content: ContentApi, node_id: str) -> None:
    for call in (lambda: content.describe(node_id), lambda: content.open(node_id, {})):
        with pytest.raises(DocumentMissing):
            call()
    assert server.received == []
