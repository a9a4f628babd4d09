"""Names of documents over all of Unicode: what a page shows is what a browser saves, and nothing else."""

from __future__ import annotations

import re
import sys
import unicodedata
from urllib.parse import unquote

import pytest

from examples.document_gateway.names import MAX_BYTES, disposition, safe_name

EVERY = list(map(chr, range(sys.maxunicode + 1)))
HIDDEN = [character for character in EVERY if unicodedata.category(character)[0] == "C"]
"""Controls, surrogates, private use and what is not assigned."""
SHOWN = sorted(set(EVERY).difference(HIDDEN))
FORBIDDEN = {*'/\\:*?"<>|%', *HIDDEN}
HEADER = re.compile(r"attachment; filename(=\"|\*=UTF-8'')([ -~]+?)\"?")


def assert_saved_as_shown(name: str) -> None:
    """The name in the header is a file name on every system, and the one that the page shows."""
    header = HEADER.fullmatch(disposition(name))
    assert header, name
    assert name == (unquote(header[2], errors="strict") if "*" in header[1] else header[2])
    assert FORBIDDEN.isdisjoint(unicodedata.normalize("NFKD", name)), name
    assert name == name.strip(" .") == safe_name(name)
    assert 0 < len(name.encode()) <= MAX_BYTES


@pytest.mark.parametrize("name", ["setup.exe{}.pdf", "setup.exe.pdf{}", "{}.exe"])
def test_no_character_turns_a_name_into_another(name: str) -> None:
    for start in range(0, len(SHOWN), 40):
        assert_saved_as_shown(safe_name(name.format("".join(SHOWN[start : start + 40]))))


def test_characters_that_show_nothing_are_left_out() -> None:
    assert safe_name("".join(HIDDEN)) == "document"
    for blank in "\u202e\u200b\u034f\u115f\u1160\u17b4\u180b\u2800\u3164\uffa0\ufe0f\U000e0100":
        assert safe_name(f"report.pdf{blank * 50}.exe") == "report.pdf.exe"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("Report.pdf", "Report.pdf"),
        ("...", "document"),
        ("  .report.pdf. . ", "report.pdf"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("C:\\a\\b.txt", "C__a_b.txt"),
        ("a\r\nSet-Cookie: x=y.txt", "aSet-Cookie_ x=y.txt"),
        ("  a \u00a0 b .txt", "a b.txt"),
        ("Gro\u0308ße.pdf", "Größe.pdf"),
        ("100%20.pdf", "100_20.pdf"),
        ("a\uff0fb\uff3cc\uff1ad.txt", "a_b_c_d.txt"),
        ("1 <\u0338 2.pdf", "1 _ 2.pdf"),
        ("a" * 300 + ".pdf", "a" * (MAX_BYTES - 4) + ".pdf"),
        ("\U0001f600" * 100 + ".docx", "\U0001f600" * 58 + ".docx"),
    ],
)
def test_a_name_is_a_file_name_and_nothing_else(given: str, shown: str) -> None:
    assert safe_name(given) == shown
    assert_saved_as_shown(shown)
