"""What the local service writes is shown, kept for its owner, and bounded."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from local.output import LogFile, Output, show
from tests.conftest import ROOT


def test_every_line_reaches_everyone_in_its_order() -> None:
    lines = [b"first\n", b"\xff not UTF-8\n", b"last, without a line break"]
    one: list[bytes] = []
    other: list[bytes] = []
    Output(lines, [one.append, other.append]).finish()
    assert one == other == lines


def test_lines_are_shown_as_they_are(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for line in (b"Gr\xc3\xb6\xc3\x9fe\n", b"\xff\n"):
        show(line)
    assert capfdbinary.readouterr().out == b"Gr\xc3\xb6\xc3\x9fe\n\xff\n"


def test_a_terminal_that_is_gone_stops_nothing() -> None:
    """In a process of its own, whose standard output nobody reads."""
    code = "from local.output import show; [show(b'lost\\n') for _ in range(3)]; import os; os._exit(7)"
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (7, b"")


def test_only_its_owner_can_read_the_log_file(tmp_path: Path) -> None:
    path = tmp_path / "service.log"
    before = os.umask(0)
    try:
        log = LogFile(path, max_bytes=40)
        for _ in range(4):
            log.write(b'{"nodeId":"secret"}\n')
        log.close()
    finally:
        os.umask(before)
    parts = sorted(tmp_path.iterdir())
    assert [part.name for part in parts] == ["service.log", "service.log.1"]
    assert [stat.S_IMODE(part.stat().st_mode) for part in parts] == [0o600, 0o600]


def test_the_log_file_holds_the_newest_lines_and_the_part_before_those_before_them(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "service.log", max_bytes=100)
    lines = [f"line {number:03}\n".encode() for number in range(100)]
    for line in lines:
        log.write(line)
    log.close()
    kept = (tmp_path / "service.log.1").read_bytes() + (tmp_path / "service.log").read_bytes()
    assert kept == b"".join(lines)[-len(kept) :]
    assert 100 < len(kept) <= 200
    assert len(list(tmp_path.iterdir())) == 2


def test_a_log_file_goes_on_where_an_earlier_run_ended(tmp_path: Path) -> None:
    for line in (b"yesterday\n", b"today %s %d\n"):
        log = LogFile(tmp_path / "service.log")
        log.write(line)
        log.close()
    assert (tmp_path / "service.log").read_bytes() == b"yesterday\ntoday %s %d\n"


def test_a_log_file_that_can_not_be_written_is_told_once_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "service.log").mkdir()
    log = LogFile(tmp_path / "service.log")
    seen: list[bytes] = []
    Output([b"secret one\n", b"two\n"], [log.write, seen.append]).finish()
    assert seen == [b"secret one\n", b"two\n"]
    told = capsys.readouterr().err
    assert told == "tokenservice: service.log can't be written: Is a directory\n"
