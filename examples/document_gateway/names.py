"""Names of documents: they are shown on a page, written to a header, and used as file names by the person's machine."""

from __future__ import annotations

import mimetypes
import re
import unicodedata
from typing import Final
from urllib.parse import quote

FALLBACK: Final = "document"
MAX_NAME: Final = 120
"""Characters."""
MAX_BYTES: Final = 240
"""In UTF-8. Common file systems take 255; a browser that saves a name twice adds a number to it."""

_MAX_SUFFIX: Final = 10
_FORBIDDEN: Final = frozenset('/\\:*?"<>|')
# Letters and marks that are blank, or that only change how their neighbours are drawn.
_BLANK: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
# Windows opens devices by these names, whatever follows the dot. Superscript digits count.
_DEVICE: Final = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9]|conin\$|conout\$) *(\..*)?")
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}")
_ATTRIBUTE_CHARACTERS: Final = "!#$&+-.^_`|~"  # RFC 8187, attr-char


def safe_name(name: str, media_type: str = "") -> str:
    """A name that is a file name and nothing else, on every system.

    Control characters go, and so do invisible ones: one of them turns the direction of writing, and makes
    `gpj.exe` read `exe.jpg`. A character is forbidden as well where its compatibility form is: what is not Unicode
    turns a full-width slash into a slash.

    Args:
        media_type: gives a name its suffix where it has none.
    """
    shown = "".join(map(_shown, unicodedata.normalize("NFC", name)))
    plain = re.sub(r"\s+", " ", unicodedata.normalize("NFC", shown)).strip(". ")
    if _DEVICE.fullmatch(unicodedata.normalize("NFKD", plain)):
        plain = "_" + plain
    stem, suffix = _split(plain or FALLBACK)
    if not suffix:
        guessed = (mimetypes.guess_extension(safe_media_type(media_type)) or "").removeprefix(".")
        suffix = "" if guessed == "bin" else guessed
    end = f".{suffix}" if suffix else ""
    stem = stem[: MAX_NAME - len(end)].encode()[: MAX_BYTES - len(end)].decode(errors="ignore")
    return stem.rstrip(". ") + end


def _shown(character: str) -> str:
    if unicodedata.category(character)[0] == "C" or _BLANK.match(character):
        return ""
    return "_" if _FORBIDDEN.intersection(unicodedata.normalize("NFKD", character)) else character


def _split(name: str) -> tuple[str, str]:
    """The stem and the suffix without its dot; an empty suffix if there is none that systems know."""
    stem, _, suffix = name.rpartition(".")
    is_suffix = stem and suffix.isascii() and suffix.isalnum() and len(suffix) <= _MAX_SUFFIX
    return (stem, suffix) if is_suffix else (name, "")


def safe_media_type(media_type: str) -> str:
    """The type without its parameters; what is none becomes the type of mere bytes."""
    plain = media_type.partition(";")[0].strip().lower()
    return plain if _MEDIA_TYPE.fullmatch(plain) else "application/octet-stream"


def disposition(name: str) -> str:
    """The Content-Disposition header that has a browser save the document and never show it (RFC 6266).

    Args:
        name: a safe one.
    """
    ascii_name = _ascii_name(name)
    header = f'attachment; filename="{ascii_name}"'
    return header if ascii_name == name else f"{header}; filename*=UTF-8''{quote(name, safe=_ATTRIBUTE_CHARACTERS)}"


def _ascii_name(name: str) -> str:
    """The same for browsers that know ASCII alone: a safe name with the same suffix."""
    if name.isascii():
        return name.replace("%", "_")  # some browsers decode what follows it
    stem, suffix = _split(name)
    # A dot in a stem would become the suffix's where none is left.
    ascii_stem = "".join(map(_in_ascii, stem if suffix else stem.replace(".", "_"))).strip(". ")
    return safe_name(f"{ascii_stem or FALLBACK}.{suffix}")


def _in_ascii(character: str) -> str:
    """The character, or the letters and digits in its compatibility form."""
    if character.isascii():
        return character.replace("%", "_")
    return "".join(part for part in unicodedata.normalize("NFKD", character) if part.isascii() and part.isalnum())


def size_in_words(size: int | None) -> str:
    """Bytes as people read them; empty where nobody knows."""
    if size is None:
        return ""
    amount, unit = float(size), "bytes"
    for larger in ("KB", "MB", "GB", "TB"):
        if amount < 1000:  # noqa: PLR2004 - as file managers count
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 10 else f"{amount:.1f} {unit}"  # noqa: PLR2004 - two digits
