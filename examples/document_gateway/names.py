"""Names of documents: they are shown on a page, written to a header, and used as file names by the person's machine."""

from __future__ import annotations

import mimetypes
import re
import unicodedata
from typing import Final
from urllib.parse import quote

FALLBACK: Final = "document"
MAX_NAME: Final = 120
"""Characters; with UTF-8 that stays below the 255 bytes of common file systems, but for the rarest scripts."""

_MAX_SUFFIX: Final = 10
_FORBIDDEN: Final = re.compile(r'[/\\:*?"<>|]')
# Windows opens devices by these names, whatever follows the dot.
_DEVICE: Final = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}")
_ATTRIBUTE_CHARACTERS: Final = "!#$&+-.^_`|~"  # RFC 8187, attr-char


def safe_name(name: str, media_type: str = "") -> str:
    """A name that is a file name and nothing else, on every system.

    Control characters go, and so do invisible ones: one of them turns the direction of writing, and makes
    `gpj.exe` read `exe.jpg`.

    Args:
        media_type: gives a name its suffix where it has none.
    """
    seen = "".join(each if unicodedata.category(each)[0] != "C" else "" for each in unicodedata.normalize("NFC", name))
    plain = re.sub(r"\s+", " ", _FORBIDDEN.sub("_", seen)).strip(". ")
    if _DEVICE.fullmatch(plain):
        plain = "_" + plain
    plain = plain or FALLBACK
    stem, dot, suffix = plain.rpartition(".")
    if not dot or len(suffix) > _MAX_SUFFIX or not suffix.isalnum():
        stem, suffix = plain, (mimetypes.guess_extension(safe_media_type(media_type)) or "").removeprefix(".")
    stem = stem[: MAX_NAME - len(suffix) - 1].rstrip(". ")
    return f"{stem}.{suffix}" if suffix and suffix != "bin" else stem


def safe_media_type(media_type: str) -> str:
    """The type without its parameters; what is none becomes the type of mere bytes."""
    plain = media_type.partition(";")[0].strip().lower()
    return plain if _MEDIA_TYPE.fullmatch(plain) else "application/octet-stream"


def disposition(name: str) -> str:
    """The Content-Disposition header that has a browser save the document and never show it (RFC 6266).

    Args:
        name: a safe one.
    """
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode() or FALLBACK
    header = f'attachment; filename="{ascii_name}"'
    return header if ascii_name == name else f"{header}; filename*=UTF-8''{quote(name, safe=_ATTRIBUTE_CHARACTERS)}"


def size_in_words(size: int | None) -> str:
    """Bytes as people read them; empty where nobody knows."""
    if size is None:
        return ""
    amount, unit = float(size), "bytes"
    for larger in ("KB", "MB", "GB", "TB"):
        if amount < 1000:  # noqa: PLR2004 - as file managers count
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 10 else f"{amount:.1f} {unit}"  # noqa: PLR2004
