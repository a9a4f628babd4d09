"""The operator's command line, run in this process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tokenctl import __main__ as program
from tokenctl import deployment as deployment_
from tokenctl.deployment import Deployment


@dataclass(frozen=True)
class Run:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def assert_refused(self, *words: str, code: int = 1) -> None:
        """It failed with one line on standard error that says these words, and printed nothing else."""
        assert self.code == code, self.out + self.err
        assert self.out == ""
        lines = [line for line in self.err.splitlines() if line]
        if code == 2:  # click tells the usage before
            lines = [line for line in lines if not line.startswith(("Usage:", "Try "))]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("Error: ")
        for word in words:
            assert word in lines[0]


Tokenctl = Callable[..., Run]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The local log: of this test alone, and not there yet."""
    path = tmp_path / ".local" / "service.log"
    path.parent.mkdir()
    monkeypatch.setattr(deployment_, "LOCAL_LOG", path)
    return path


@pytest.fixture
def tokenctl(
    deployment: Deployment, log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Tokenctl:
    """Runs the program in this process."""

    def run(*arguments: str) -> Run:
        monkeypatch.setattr(sys, "argv", ["tokenctl", *arguments])
        capsys.readouterr()
        environ = dict(os.environ)
        try:
            with pytest.raises(SystemExit) as ended:
                program.main()
        finally:
            os.environ.clear()
            os.environ.update(environ)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        code = ended.value.code
        return Run(code if isinstance(code, int) else 0, printed.out, printed.err)

    monkeypatch.setenv("COLUMNS", "200")
    return run
