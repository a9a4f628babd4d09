"""The gateway's demo from its start to its stop, in a copy of the checkout, so that no real store is touched."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.support.gateway_world import Visitor
from tests.support.make_run import Run, copy_of_the_checkout, processes_of
from tests.support.waiting import wait_until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_demo_shows_a_link_that_opens_and_leaves_nothing_running(tmp_path: Path, number: int) -> None:
    checkout = copy_of_the_checkout(tmp_path / "checkout", "examples")
    demo = Run(checkout, {}, module="examples.document_gateway.demo")
    try:
        demo.wait_until(lambda: any("Ctrl-C" in line for line in demo.output))
        [link] = re.findall(r"^  (http://127\.0\.0\.1:\d+/d/[0-9a-f]{64})$", "".join(demo.output), re.MULTILINE)
        for path in (checkout / ".local").rglob("*"):
            assert path.stat().st_mode & 0o077 == 0, path
        visitor = Visitor()
        assert visitor.press(link).headers["Location"].endswith("/content")
        assert visitor.fetch(link).content.startswith(b"%PDF-1.4")
    finally:
        code = demo.stop(number)
    assert code == (0 if number == signal.SIGTERM else -number)
    wait_until(lambda: processes_of(checkout) == [])
    output = "".join(demo.output + demo.errors)
    assert "Traceback" not in output
    # The link is printed once, for the person at the terminal; the log has the token's id.
    assert output.count(link.rpartition("/")[2]) == 1
