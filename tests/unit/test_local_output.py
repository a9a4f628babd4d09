"""What the local service writes is shown, stored for its owner, and bounded."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dev import output
from dev.engine import ROOT
from dev.output import LogFile, hand_on, readable, show


def test_every_line_reaches_everyone_in_its_order() -> None:
    lines = [b"first\n", b"\xff not UTF-8\n", b"last, without a line break"]
    one: list[bytes] = []
    other: list[bytes] = []
    hand_on(lines, [one.append, other.append]).join()
    assert one == other == lines


COMMON = {"time": "2026-11-27T04:05:06.789Z", "level": "INFO", "stage": "local", "version": "1", "requestId": "r"}


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        ({"event": "token.issued", **COMMON, "clientId": "demo", "user": "Jürgen"},
         "04:05:06 token.issued clientId=demo user=Jürgen"),
        ({"event": "token.refused", **COMMON, "level": "WARNING", "reason": "user_mismatch"},
         "04:05:06 WARNING token.refused reason=user_mismatch"),
        ({"event": "access", **COMMON, "status": 201, "method": "POST", "path": "/token", "milliseconds": 3.2},
         "04:05:06 201 POST /token 3.2 ms"),
        ({"_aws": {"Timestamp": 1}, "Stage": "local", "StoreLatency": 1.2}, None),
        ({"Stage": "local", "AuthFailed": 1}, None),
        ({"event": "token.used", **COMMON, "user": "\x1b[2J\x9b\u202e\u2066"},
         "04:05:06 token.used user=\\x1b[2J\\x9b\\u202e\\u2066"),
    ],
)  # fmt: skip
def test_the_terminal_shows_events_as_lines_for_people(event: dict[str, object], shown: str | None) -> None:
    assert readable(json.dumps(event, ensure_ascii=False)) == shown


@pytest.mark.parametrize(
    ("line", "shown"), [("Größe\n", "Größe"), ("\x1b]0;title\x07", "\\x1b]0;title\\x07"), ("[1]", "[1]")]
)
def test_other_lines_are_shown_as_they_are_but_for_control_characters(line: str, shown: str) -> None:
    assert readable(line) == shown


def test_a_line_that_is_not_utf_8_is_shown(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    show(b"\xff\n")
    assert capfdbinary.readouterr().out == "\ufffd\n".encode()


def test_a_terminal_that_is_gone_stops_nothing() -> None:
    """In a process of its own, whose standard output has no reader."""
    code = "from dev.output import show; [show(b'lost\\n') for _ in range(3)]; import os; os._exit(7)"
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (7, b"")


def test_the_log_file_holds_the_newest_lines_and_the_part_before_those_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_MAX_BYTES", 100)
    lines = [f"line %s {number:03}\n".encode() for number in range(100)]
    for line in lines:
        with closing(LogFile(tmp_path / "service.log")) as log:
            log.write(line)
    stored = (tmp_path / "service.log.1").read_bytes() + (tmp_path / "service.log").read_bytes()
    assert stored == b"".join(lines)[-len(stored) :]
    assert 100 < len(stored) <= 200
    assert len(list(tmp_path.iterdir())) == 2


def test_a_log_file_that_can_not_be_written_is_reported_once_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "service.log").mkdir()
    log = LogFile(tmp_path / "service.log")
    seen: list[bytes] = []
    hand_on([b"secret one\n", b"two\n"], [log.write, seen.append]).join()
    assert seen == [b"secret one\n", b"two\n"]
    errors = capsys.readouterr().err
    assert re.fullmatch(r"tokenservice: .*service\.log can't be written: .*Is a directory.*\n", errors)
