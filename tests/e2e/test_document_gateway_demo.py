"""The gateway's demo from its start to its stop, in a copy of the checkout, so that no real store is touched."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import requests

from dev.engine import free_port
from tests.support.make_run import Run, copy_of_the_checkout, processes_of


def test_the_demo_shows_a_link_that_opens_and_leaves_nothing_running(tmp_path: Path) -> None:
    checkout = copy_of_the_checkout(tmp_path / "checkout", "examples")
    program = (sys.executable, "-m", "examples.document_gateway.demo")
    demo = Run(checkout, {"PORT": str(free_port())}, program=program)
    try:
        demo.wait_until(lambda: any("Ctrl-C" in line for line in demo.output))
        [link] = re.findall(r"^  (http://127\.0\.0\.1:\d+/d/[0-9a-f]{64})$", "".join(demo.output), re.MULTILINE)
        visit = "ab" * 16
        assert "Your download has begun" in requests.post(link, data={"visit": visit}, timeout=60).text
        document = requests.get(f"{link}/content", params={"visit": visit}, timeout=60)
        assert document.content.startswith(b"%PDF-1.4")
    finally:
        code = demo.stop()
    assert (code, processes_of(checkout)) == (0, {})
    output = "".join(demo.output + demo.errors)
    assert "Traceback" not in output
    # The link is printed once, for the person at the terminal; the log has the token's id.
    assert output.count(link.rpartition("/")[2]) == 1
