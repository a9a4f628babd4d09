"""The page of the API reference (`make reference`) is one file that a browser draws without a network."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from deploy import reference
from deploy.checks.openapi import ToolsMissing
from dev import install
from dev.engine import free_port
from tests.support import browser, examples
from tests.support.examples import WITHOUT_NODE


def test_a_browser_without_a_network_draws_every_operation(tmp_path: Path) -> None:
    page = tmp_path / "api.html"
    try:
        reference.build_page(page)
    except ToolsMissing as missing:
        (pytest.fail if install.in_ci() else pytest.skip)(f"{WITHOUT_NODE}{missing}")
    # The proxy is a port at which nobody listens. Root, who runs containers, can't have Chromium's sandbox.
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += [f"--user-data-dir={tmp_path}", f"--proxy-server=127.0.0.1:{free_port()}", "--virtual-time-budget=20000"]
    options += ["--window-size=1400,9000"]  # only what is visible is drawn
    command = [browser.find().program, *options, "--enable-logging=stderr", "--dump-dom", page.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    drawn = re.sub(r"<(script|style).*?</\1>", "", run.stdout, flags=re.DOTALL)
    assert [path for path in examples.document()["paths"] if f">{path}<" not in drawn] == []
    for operation in examples.operations():
        for sample in operation["x-codeSamples"]:
            assert sample["label"] in run.stdout
    assert [line for line in run.stderr.splitlines() if "CONSOLE" in line and "ERR_" in line] == []
    assert re.findall(r'<(?:img|link|script|iframe)\b[^>]*\b(?:src|href)="(?!data:)[^"]*"', run.stdout) == []


def test_without_node_the_reason_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(reference, "DOCUMENT", tmp_path / "openapi.json")
    assert reference.main() == 1
    assert capsys.readouterr().err.startswith("Error: out/api.html: node and npm are not installed")
