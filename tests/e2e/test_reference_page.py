"""The page of the API reference (`make reference`) is one file that a browser draws without a network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy import reference
from deploy.checks.openapi import ToolsMissing
from dev import install
from dev.engine import free_port
from tests.support import examples
from tests.support.browser import chromium
from tests.support.examples import WITHOUT_NODE
from tests.support.waiting import wait_until

LOGO = "https://cdn.redoc.ly/redoc/logo-mini"
"""The renderer's logo beside its name; no option leaves it out, and the page works without it."""


def test_a_browser_without_a_network_draws_every_operation(tmp_path: Path) -> None:
    page = tmp_path / "api.html"
    try:
        reference.build_page(page)
    except ToolsMissing as missing:
        (pytest.fail if install.in_ci() else pytest.skip)(f"{WITHOUT_NODE}{missing}")
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


def test_without_node_the_reason_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(reference, "DOCUMENT", tmp_path / "openapi.json")
    assert reference.main() == 1
    assert capsys.readouterr().err.startswith("Error: out/api.html: node and npm are not installed")
