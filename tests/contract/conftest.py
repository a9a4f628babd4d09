"""The operator's command line, run in this process."""

from __future__ import annotations

import logging
import os
import sys
from itertools import count
from pathlib import Path

import pytest

from tests.support.operator import Run, Tokenctl
from tokenctl import __main__ as program
from tokenctl import deployment as deployment_
from tokenctl.deployment import Deployment

_numbers = count()


@pytest.fixture
def name() -> str:
    """A client's name that is still free."""
    return f"application-{next(_numbers)}"


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
    # The service, which other tests run in this process, logs to standard output.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    return run
