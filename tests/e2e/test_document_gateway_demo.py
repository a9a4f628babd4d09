"""The gateway's demo from its start to its stop, in a copy of the checkout, so that no real store is touched."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dev.engine import ROOT
from tests.support.gateway_world import Visitor, wait_until
from tests.support.make_run import CONFIG, processes_of


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in ("chalicelib", "dev", "tokenctl", "examples"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("app.py", CONFIG):
        (copy / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    for name in (".venv", ".venv-engine"):
        (copy / name).symlink_to(ROOT / name)
    return copy


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_demo_shows_a_link_that_opens_and_leaves_nothing_running(checkout: Path, number: int) -> None:
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    demo = subprocess.Popen(
        [sys.executable, "-m", "examples.document_gateway.demo"],
        cwd=checkout,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert demo.stdout is not None
    output: list[str] = []
    reader = threading.Thread(target=lambda: output.extend(iter(demo.stdout.readline, "")))
    reader.start()
    try:
        wait_until(lambda: any("Ctrl-C" in line for line in output) or demo.poll() is not None)
        [link] = re.findall(r"^  (http://127\.0\.0\.1:\d+/d/[0-9a-f]{64})$", "".join(output), re.MULTILINE)
        for path in (checkout / ".local").rglob("*"):
            assert path.stat().st_mode & 0o077 == 0, path
        visitor = Visitor()
        assert visitor.press(link).headers["Location"].endswith("/content")
        assert visitor.fetch(link).content.startswith(b"%PDF-1.4")
    finally:
        demo.send_signal(number)
        code = demo.wait(120)
        reader.join(120)
        demo.stdout.close()
    assert code == (0 if number == signal.SIGTERM else -number)
    wait_until(lambda: processes_of(checkout) == [])
    assert "Traceback" not in "".join(output)
    # The link is printed once, for the person at the terminal; the log has the token's id.
    assert "".join(output).count(link.rpartition("/")[2]) == 1
