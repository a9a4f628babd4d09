"""Names of documents: they are shown on a page, and browsers save files under them."""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import quote

MAX_BYTES: Final = 240
"""In UTF-8. Common file systems take 255; a browser that saves a name twice adds a number to it."""

_MAX_SUFFIX: Final = 10
# Some browsers decode what follows a percent sign.
_FORBIDDEN: Final = frozenset('/\\:*?"<>|%')
# Letters and marks that are blank, or that only change how their neighbours are drawn.
_BLANK: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)


def safe_name(name: str) -> str:
    """A name that is a file name and nothing else.

    Invisible characters go: one of them turns the direction of writing, and makes `gpj.exe` read `exe.jpg`. A
    character is forbidden as well where its compatibility form is: what is not Unicode turns a full-width slash into
    a slash. Browsers rename what Windows takes for devices.
    """
    shown = "".join(map(_shown, unicodedata.normalize("NFC", name)))
    plain = re.sub(r"\s+", " ", unicodedata.normalize("NFC", shown)).strip(". ") or "document"
    stem, dot, suffix = plain.rpartition(".")
    is_suffix = stem and suffix.isascii() and suffix.isalnum() and len(suffix) <= _MAX_SUFFIX
    stem, end = (stem, dot + suffix) if is_suffix else (plain, "")
    return stem.encode()[: MAX_BYTES - len(end)].decode(errors="ignore").rstrip(". ") + end


def _shown(character: str) -> str:
    if unicodedata.category(character)[0] == "C" or _BLANK.match(character):
        return ""
    return "_" if _FORBIDDEN.intersection(unicodedata.normalize("NFKD", character)) else character


def disposition(name: str) -> str:
    """The Content-Disposition header that has a browser save the document and never show it (RFC 6266)."""
    return (
        f'attachment; filename="{name}"' if name.isascii() else f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    )
