"""What `tokenctl --json` prints: the same values, and nothing that a terminal acts on."""

from __future__ import annotations

import json
import sys

from tokenctl.terminal import printable_json


def test_no_character_of_a_value_reaches_a_terminal_as_a_command() -> None:
    value = "".join(map(chr, range(sys.maxunicode + 1)))
    printed = printable_json(json.dumps({"user": value}, indent=2, ensure_ascii=False))
    assert json.loads(printed) == json.loads(json.dumps({"user": value}))
    assert printed.replace("\n", "").isprintable()


def test_letters_stay_readable() -> None:
    printed = printable_json(json.dumps("J\u00fcrgen\x7f\x9b31m\u202e\U000e0041", ensure_ascii=False))
    assert printed == '"J\u00fcrgen\\u007f\\u009b31m\\u202e\\udb40\\udc41"'
