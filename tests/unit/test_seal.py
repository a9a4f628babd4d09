"""What a token hides is sealed under a key that only the token gives."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import seal
from chalicelib.errors import InternalError

TOKEN = "0123456789abcdef" * 4
OTHER = "0123456789abcdee" * 4
KEY = seal.key(TOKEN)


def test_the_seal_is_the_one_that_decision_0021_describes() -> None:
    """Restated from the page, not from the code: a table of today must be readable for 30 days."""
    key = hashlib.sha3_256(b"tokenservice: seal 1\n" + TOKEN.encode()).digest()
    text = b'{"node_id":"node"}'
    stream = hashlib.shake_256(key).digest(32 + 64)
    encrypted = bytes(a ^ b for a, b in zip(text.ljust(64), stream[32:], strict=True))
    tag = hashlib.sha3_256(stream[:32] + encrypted).digest()
    assert seal.key(TOKEN) == key
    assert seal.seal(text, key) == base64.b64encode(encrypted + tag).decode()
    assert seal.seal(text, key) == (
        "hAWifxY5npvg57ngPNXpqIcV0GC6QQJhUeeEPnNqtvcLa/BZ5EVTUnPB29oVL81u"
        "B4FPjx8JhILZYMpY0pfoy2qqZB7FNKlVAfFABNa+N/aMb1H9VYS7f4G2I1Ex9v1e"
    )


@given(st.binary(max_size=300).map(lambda text: text + b"}"))
def test_a_sealed_text_comes_back_with_spaces_behind_it(text: bytes) -> None:
    opened = seal.unseal(seal.seal(text, KEY), KEY)
    assert opened.rstrip(b" ") == text
    assert len(opened) % 64 == 0


@pytest.mark.parametrize(("shortest", "longest"), [(1, 64), (65, 128)])
def test_texts_of_about_the_same_length_have_seals_of_the_same_length(shortest: int, longest: int) -> None:
    assert len({len(seal.seal(b"x" * length, KEY)) for length in (shortest, longest)}) == 1


def test_the_key_of_another_token_opens_nothing() -> None:
    with pytest.raises(InternalError, match=r"^What is stored of the token was altered\.$"):
        seal.unseal(seal.seal(b"{}", KEY), seal.key(OTHER))


def test_no_altered_byte_and_no_part_of_a_seal_is_opened() -> None:
    sealed = base64.b64decode(seal.seal(b"{}", KEY))
    altered = [sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :] for place in range(len(sealed))]
    parts = [sealed[:length] for length in range(len(sealed))]
    for raw in (*altered, *parts, sealed + b"\0"):
        with pytest.raises(InternalError):
            seal.unseal(base64.b64encode(raw).decode(), KEY)
    for text in ("", "no base64", seal.seal(b"{}", KEY) + "\n"):
        with pytest.raises(InternalError):
            seal.unseal(text, KEY)
