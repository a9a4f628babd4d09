"""One name in several Unicode forms."""

from __future__ import annotations

import unicodedata

from tests.support.api import Api, Credentials, MemoryApi

FORMS = ("NFC", "NFD")
NAME = "Jürgen Nguyễn 한글 Å"
"""Its two forms differ in Latin, Vietnamese and Korean letters."""
MIXED = unicodedata.normalize("NFC", "ü") + unicodedata.normalize("NFD", "ü")


def spelled(form: str, name: str = NAME) -> str:
    text = unicodedata.normalize(form, name)
    assert text.isascii() or text != unicodedata.normalize("NFD" if form == "NFC" else "NFC", name)
    return text


def revoked(api: Api | MemoryApi, client: Credentials, **whose: str) -> int:
    answer = api.call("POST", "/revoke", client, whose)
    assert answer.status == 200, answer.text
    count: int = answer.json["revoked"]
    return count
