"""The gateway's parts without a network: names of documents, pages, settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chalicelib.tokens import Reason
from examples.document_gateway import refusals
from examples.document_gateway.app import safe_name
from examples.document_gateway.settings import Settings, SettingsError

GATEWAY = Path(__file__).resolve().parents[2] / "examples" / "document_gateway"
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
