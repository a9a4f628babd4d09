"""Keeps tokens and secrets out of logs and errors, wherever a caller put them (into a user name, say)."""

from __future__ import annotations

import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

# Patterns that are texts are compiled by the first line that needs them: few lines ever do.

# One character as it may stand in a URL or in a text that is JSON already. Its digits are no part of what follows.
_ESCAPED = r"%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}"
_BETWEEN = rf"(?:[\s:=+,;\"']|{_ESCAPED}|\\[^u])+"
_TOKEN = rf"({_ESCAPED}|)([0-9A-Fa-f]{{64,}})"
_CLIENT_SECRET = r"(?ai:tss)(?:_|%5[Ff]|\\u005[Ff])(?:[A-Za-z0-9_-]|%2[Dd]|%5[Ff]){16,}"  # noqa: S105 - a pattern
# Case is ignored in names and in ASCII alone: elsewhere the Kelvin sign would be a K, and that is no base64.
_BASIC = rf"((?ai:basic){_BETWEEN})((?:[A-Za-z0-9+/]|%2[BbFf]){{3,}}(?:=|%3[Dd]){{0,2}})"
_OTHER_SCHEME = rf"((?ai:bearer|splunk){_BETWEEN})[A-Za-z0-9+/=._~%-]{{16,}}"
_BASE64 = r"[A-Za-z0-9+/]{12,}={0,2}"
# Base64 of nine printable ASCII characters, beginning wherever a group of three does. Ids of ours hardly ever match.
_BASE64_OF_TEXT = re.compile(
    rb"(?:[I-Za-f][C-HS-Xi-nyz0-3][ABEFIJMNQRUVYZcdghklopstwx014589][A-Za-z0-9+/]){3}",
)
_LEAST_BASE64 = 12
_TOKEN_LENGTH = 64
_HEX = b"0123456789abcdefABCDEF"
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_OTHERS_AS_SPACES = bytes(byte if byte in _ALPHABET else 32 for byte in range(256))
# A client's id and a password, but no URL, and no id with the name of its kind before it.
_USER_AND_PASSWORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}:(?!//|[0-9A-Fa-f-]*(?![!-~]))[!-~]{4}"  # noqa: S105 - a pattern
_MAX_DEPTH = 2  # base64 of a header that holds base64


def redact(text: str) -> str:
    """Replace whatever looks like a token, a client secret or credentials, also within base64.

    A token is replaced by its id in brackets, by which an auditor can identify it.
    """
    return _redact(text, _MAX_DEPTH)


def _redact(text: str, depth: int) -> str:
    """The same, looking into so many layers of base64."""
    text = re.sub(_TOKEN, _token_id, text)
    text = re.sub(_CLIENT_SECRET, "[secret]", text)
    text = re.sub(_BASIC, _credentials, text)
    text = re.sub(_OTHER_SCHEME, r"\1[credentials]", text)
    if not depth:
        return text
    return re.sub(_BASE64, lambda found: "[credentials]" if _hides(found[0], depth) else found[0], text)


def redact_all(value: Any) -> Any:
    """The same for every text in a JSON value, names included.

    It must come before the value is written as JSON: the letter of an escape would else become part of what follows.
    """
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(name): redact_all(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [redact_all(member) for member in value]
    return value


def to_line(members: Mapping[str, Any]) -> str:
    """One JSON object in one line, without secrets."""
    line = as_json(members)
    return as_json(redact_all(members)) if _is_suspect(line) else line


def _is_suspect(line: str) -> bool:
    """Whether one of the patterns may match in a text of this JSON; most lines hold none, and looking once is cheap.

    What every match begins with stands in the JSON as it is: escapes part no digits and no names.
    """
    lowered = line.lower()
    if "basic" in lowered or "bearer" in lowered or "splunk" in lowered:
        return True
    if "tss_" in lowered or "tss%" in lowered or "tss\\" in lowered:
        return True
    for run in line.encode("utf-8", "replace").translate(_OTHERS_AS_SPACES).split():
        # A slice, because a call for each word is what a refusal with fifty mistakes would mostly consist of.
        if run[_LEAST_BASE64 - 1 :] and (
            (len(run) >= _TOKEN_LENGTH and re.search(_TOKEN, run.decode()))
            or (run.translate(None, _HEX) and _BASE64_OF_TEXT.search(run))
        ):
            return True
    return False


as_json: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


def _token_id(found: re.Match[str]) -> str:
    # The rule of `tokens.token_id`, stated here again because redaction is loaded where tokens are not.
    return f"{found[1]}[tok_{hashlib.sha256(found[2].lower().encode()).hexdigest()[:32]}]"


def _credentials(found: re.Match[str]) -> str:
    """Basic credentials hold a colon; words that merely follow the word "basic" don't."""
    return f"{found[1]}[credentials]" if b":" in _decoded(unquote(found[2])) else found[0]


def _hides(encoded: str, depth: int) -> bool:
    """Whether base64 holds a secret, wherever in it that begins: what stands before it may be base64 by its letters."""
    run = encoded.rstrip("=").encode()
    if not run.translate(None, _HEX) or _BASE64_OF_TEXT.search(run) is None:
        return False
    for start in range(4):
        text = _decoded(encoded[start:]).decode("latin-1")
        if re.search(_USER_AND_PASSWORD, text) or _redact(text, depth - 1) != text:
            return True
    return False


def _decoded(encoded: str) -> bytes:
    """The bytes of base64 with or without its padding; a last character that is one too many is left out."""
    encoded = encoded.rstrip("=")
    encoded = encoded[:-1] if len(encoded) % 4 == 1 else encoded
    return binascii.a2b_base64(encoded + "=" * (-len(encoded) % 4))
