"""Seal what a token hides under a key that only the token itself gives.

A table holds the token's SHA-256 alone, and from that neither the token nor this key can be computed. So whoever has
the table, or a backup of it, can't open what is sealed. decisions/0021 has the argument.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from typing import Final

from chalicelib.errors import InternalError

_LABEL: Final = b"tokenservice: seal 1\n"
_BLOCK_BYTES: Final = 64
_KEY_BYTES: Final = 32


def key(token: str) -> bytes:
    """The 32 bytes that seal what a token hides. Whoever has them can't compute the token."""
    return hashlib.sha3_256(_LABEL + token.encode()).digest()


def seal(text: bytes, key: bytes) -> str:
    """Encrypt a JSON text, padded with spaces so that its length shows in steps of 64 bytes, and authenticate it.

    A key must seal one text only: a second one would be encrypted with the same stream.

    Returns:
        Base64 of the encrypted text and of its tag, 32 bytes.
    """
    padded = text.ljust(-(-len(text) // _BLOCK_BYTES) * _BLOCK_BYTES)
    encrypted, tag_key = _encrypt(padded, key)
    return binascii.b2a_base64(encrypted + _tag(encrypted, tag_key), newline=False).decode()


def unseal(sealed: str, key: bytes) -> bytes:
    """The text that was sealed, with its padding.

    Raises:
        InternalError: it was altered, or the key is another one.
    """
    try:
        raw = binascii.a2b_base64(sealed, strict_mode=True)
    except ValueError:
        raw = b""
    encrypted, tag = raw[:-_KEY_BYTES], raw[-_KEY_BYTES:]
    text, tag_key = _encrypt(encrypted, key)
    if not hmac.compare_digest(_tag(encrypted, tag_key), tag):
        raise InternalError("What is stored of the token was altered.")
    return text


def _encrypt(text: bytes, key: bytes) -> tuple[bytes, bytes]:
    """Combine a text with the key's stream by exclusive or, which also decrypts; and the key of its tag."""
    stream = hashlib.shake_256(key).digest(_KEY_BYTES + len(text))
    mixed = int.from_bytes(text, "big") ^ int.from_bytes(stream[_KEY_BYTES:], "big")
    return mixed.to_bytes(len(text), "big"), stream[:_KEY_BYTES]


def _tag(encrypted: bytes, tag_key: bytes) -> bytes:
    # Unlike SHA-2, SHA-3 makes a MAC as soon as a secret comes first: a known tag leads to no other text's.
    return hashlib.sha3_256(tag_key + encrypted).digest()
