"""The page of the API reference (`make reference`) is one file that a browser draws without a network."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dev import install
from dev.engine import ROOT, free_port
from tests.support import examples
from tests.support.browser import chromium
from tests.support.examples import WITHOUT_NODE
from tests.support.waiting import wait_until

LOGO = "https://cdn.redoc.ly/redoc/logo-mini"
"""The renderer's logo beside its name; no option leaves it out, and the page works without it."""


def test_a_browser_without_a_network_draws_every_operation(tmp_path: Path) -> None:
    page = tmp_path / "api.html"
    redocly = ("make", "--silent", "deploy/openapi/node_modules/.package-lock.json")
    if shutil.which("npm") is None or subprocess.run(redocly, cwd=ROOT, check=False).returncode:
        (pytest.fail if install.in_ci() else pytest.skip)(f"{WITHOUT_NODE}npm is missing or did not install Redocly")
    build = ("npm", "run", "--silent", "page", "--", "--output", str(page))
    subprocess.run(build, cwd=ROOT / "deploy" / "openapi", check=True)
    paths = examples.document()["paths"]
    # The proxy is a port at which nobody listens; only what is visible is drawn.
    with chromium(tmp_path, f"--proxy-server=127.0.0.1:{free_port()}", "--window-size=1400,9000") as chrome:
        chrome.get(page.as_uri())
        wait_until(lambda: all(f">{path}<" in chrome.page_source for path in paths))
        drawn = chrome.page_source
        errors = [entry["message"] for entry in chrome.get_log("browser") if "ERR_" in entry["message"]]
    errors = [message for message in errors if not message.startswith(LOGO)]
    for operation in examples.operations():
        for sample in operation["x-codeSamples"]:
            assert sample["label"] in drawn
    assert errors == []
    assert re.findall(r'<(?:img|link|script|iframe)\b[^>]*\b(?:src|href)="(?!data:)[^"]*"', drawn) == []
