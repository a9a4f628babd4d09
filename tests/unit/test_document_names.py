"""Names of documents over all of Unicode: what a page shows is what a browser saves, and nothing else.

Headers are read here in few lines, as a browser would read them.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache
from urllib.parse import unquote

import pytest

from examples.document_gateway.names import FALLBACK, MAX_BYTES, MAX_NAME, disposition, safe_name

FORBIDDEN = '/\\:*?"<>|'
DEVICES = [
    "CON",
    "prn",
    "Aux",
    "NUL",
    "COM1",
    "com9",
    "LPT5",
    "COM\u00b9",
    "LPT\u00b3",
    "CONIN$",
    "conout$",
    "\uff23ON",
]
HEADER = re.compile(r"attachment; filename=\"([ -~]+)\"(?:; filename\*=UTF-8''([!#$&+.^_`|~0-9A-Za-z%-]+))?")


@cache
def characters(*, shown: bool) -> list[str]:
    """Those that are shown, or those that are not: controls, surrogates, private use and what is not assigned."""
    every = map(chr, range(sys.maxunicode + 1))
    return [character for character in every if (unicodedata.category(character)[0] != "C") is shown]


def is_forbidden(character: str) -> bool:
    return character in FORBIDDEN or unicodedata.category(character)[0] == "C"


def saved_names(name: str) -> tuple[str, str]:
    """The file names in the header: that of old browsers, and that of all others."""
    header = HEADER.fullmatch(disposition(name))
    assert header, name
    old, encoded = header.groups()
    assert '"' not in old
    assert "%" not in old  # some browsers decode it, some don't
    return old, unquote(encoded, errors="strict") if encoded else old


def suffix_of(name: str) -> str:
    stem, _, suffix = name.rpartition(".")
    return suffix if stem and suffix.isascii() and suffix.isalnum() else ""


def assert_saved_as_shown(shown: str) -> None:
    """Both names are file names on every system, and of the kind that the page shows."""
    old, new = saved_names(shown)
    assert new == shown
    for name in (old, new):
        assert not [character for character in unicodedata.normalize("NFKD", name) if is_forbidden(character)], name
        assert name == name.strip(" ."), name
        assert name
        assert len(name) <= MAX_NAME
        assert len(name.encode()) <= MAX_BYTES
    assert suffix_of(old) == suffix_of(shown)


def test_no_character_turns_a_name_into_another() -> None:
    for character in characters(shown=True):
        # A hundred thousand ideographs and syllables are alike; beside a suffix all are tried below.
        if unicodedata.category(character) != "Lo" or unicodedata.decomposition(character):
            assert_saved_as_shown(safe_name(character))


@pytest.mark.parametrize("name", ["setup.exe{}.pdf", "setup.exe.pdf{}", "{}.exe"])
def test_no_character_beside_a_suffix_turns_it_into_another(name: str) -> None:
    shown = characters(shown=True)
    for start in range(0, len(shown), 40):
        assert_saved_as_shown(safe_name(name.format("".join(shown[start : start + 40]))))


def test_characters_that_show_nothing_are_left_out() -> None:
    hidden = characters(shown=False)
    assert safe_name("".join(hidden)) == FALLBACK
    assert safe_name(".pdf".join(hidden[:200])[-100:] + "a.pdf").endswith("a.pdf")
    for character in hidden:
        if unicodedata.category(character) in ("Cc", "Cf"):
            assert safe_name(f"setup{character}.exe{character}") == "setup.exe"


@pytest.mark.parametrize("blank", "\u034f\u115f\u1160\u17b4\u180b\u2800\u3164\uffa0\ufe0f\U000e0100")
def test_letters_that_show_nothing_are_left_out_too(blank: str) -> None:
    """They would move the end of a name out of sight."""
    assert safe_name(f"report.pdf{blank * 50}.exe") == "report.pdf.exe"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("report\uff02; filename=\uff02setup.exe\uff02; x=\uff02.pdf", "report_; filename=_setup.exe_; x=_.pdf"),
        ("a\u2044b.txt", "a\u2044b.txt"),  # a fraction's slash is no separator anywhere
        ("a\uff0fb\uff3cc\uff1ad.txt", "a_b_c_d.txt"),
        ("\u226e1.pdf", "_1.pdf"),
        ("1 <\u0338 2.pdf", "1 _ 2.pdf"),
    ],
)
def test_what_looks_like_a_forbidden_character_is_one(given: str, shown: str) -> None:
    assert safe_name(given) == shown
    assert_saved_as_shown(shown)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("end", ["", ".txt", ".tar.gz", " .txt", ". ", "\u3000.txt"])
def test_no_name_opens_a_device_of_windows(device: str, end: str) -> None:
    shown = safe_name(device + end)
    assert shown.startswith("_")
    assert_saved_as_shown(shown)
    assert not saved_names(shown)[0].lower().startswith(device[:3].lower())


@pytest.mark.parametrize("name", ["report.pdf.", "report.pdf ", "report.pdf . . ", "  .report.pdf", "..report.pdf"])
def test_dots_and_spaces_at_an_end_go(name: str) -> None:
    assert safe_name(name) == "report.pdf"


@pytest.mark.parametrize("letter", ["a", "\u00fc", "\u65e5", "\U0001f600", "e\u0301", "\ufdfa"])
def test_a_long_name_keeps_its_suffix_and_fits_a_file_system(letter: str) -> None:
    shown = safe_name(letter * 500 + ".docx")
    assert shown.endswith(".docx")
    assert len(shown) > 50
    assert_saved_as_shown(shown)
    assert safe_name(shown) == shown


@pytest.mark.parametrize(
    ("shown", "old"),
    [
        ("\u65e5\u672c.pdf", "document.pdf"),
        ("\u65e5\u672c", "document"),
        ("\u0645\u0644\u0641.exe", "document.exe"),
        ("\u65e5\u672c 2026.pdf", "2026.pdf"),
        ("Gr\u00f6\u00dfe \U0001f600.pdf", "Groe.pdf"),
        ("100 %.pdf", "100 _.pdf"),
        ("a%2Eexe.pdf", "a_2Eexe.pdf"),
        ("setup.\u65e5exe", "setup_exe"),
        ("setup\u2024exe", "setupexe"),
        ("\u65e5con.txt", "_con.txt"),
        ("\u2460\u2461.pdf", "12.pdf"),
    ],
)
def test_a_browser_that_knows_ascii_alone_gets_a_usable_name(shown: str, old: str) -> None:
    assert safe_name(shown) == shown
    assert saved_names(shown) == (old, shown)
