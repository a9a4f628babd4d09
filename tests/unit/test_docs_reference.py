"""The API reference is one file that needs nothing else, and is as new as the document."""

from __future__ import annotations

import html
import json
import re
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from deploy import reference
from dev.engine import ROOT, free_port
from tests.support import browser
from tokenctl import openapi

PAGE = ROOT / "docs" / "api.html"
LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg"
"""What the renderer asks for in vain: the page's policy forbids it, and its style hides the empty place."""


@cache
def text() -> str:
    return PAGE.read_text("utf-8")


def renderer() -> reference.Renderer:
    found = reference.find_renderer(text())
    assert found is not None
    return found


def test_the_page_is_what_the_document_and_the_pinned_renderer_make_now() -> None:
    """`python -m deploy.reference` makes it anew."""
    assert renderer().is_pinned()
    assert text() == reference.page(openapi.document(), renderer())


def test_a_renderer_that_was_changed_is_noticed() -> None:
    assert not reference.Renderer(renderer().bundle + " ", renderer().licences).is_pinned()


def test_the_page_names_nothing_that_a_browser_would_fetch() -> None:
    """Beside the policy, which would not let it."""
    shell = text().replace(renderer().bundle, "")
    assert re.findall(r"<[^>]*\b(?:src|href|action|data)\s*=", shell) == []
    assert "@import" not in shell
    assert "default-src 'none'" in shell
    assert shell.count("<script") == shell.count("</script>") == 4


def test_the_renderers_licences_are_kept_with_it() -> None:
    assert "The MIT License" in renderer().licences
    assert "Jed Watson" in renderer().licences


def test_no_text_of_the_document_can_end_the_script_that_holds_it() -> None:
    document = openapi.document()
    document["info"]["description"] = "</script><script>alert(1)</script><!--"
    made = reference.page(document, renderer())
    held = made.partition('id="document">\n')[2].partition("\n</script>")[0]
    assert "<" not in held
    assert json.loads(held) == document


def test_where_npm_is_missing_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(reference.NoReference, match="npm is not installed"):
        reference.fetch_renderer()


def test_another_archive_than_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text('#!/bin/sh\necho other > "$5/redoc.tgz"\n')
    npm.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(reference.NoReference, match=r"not what redoc\.json pins"):
        reference.fetch_renderer()


def test_a_browser_without_a_network_draws_every_operation_with_its_samples(tmp_path: Path) -> None:
    # The proxy is a port at which nobody listens. Root, who runs containers, can't have Chromium's sandbox.
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += [f"--user-data-dir={tmp_path}", f"--proxy-server=127.0.0.1:{free_port()}", "--virtual-time-budget=20000"]
    command = [browser.find().program, *options, "--enable-logging=stderr", "--dump-dom", PAGE.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    drawn = run.stdout.partition('<div id="reference">')[2].partition('id="document"')[0]
    shown: Counter[str] = Counter()
    for path, methods in openapi.document()["paths"].items():
        assert path in drawn
        for operation in methods.values():
            assert f">{operation['summary']}<" in html.unescape(drawn)
            shown.update(each["label"] for each in operation["x-codeSamples"])
    tabs = Counter(re.findall(r'role="tab"[^>]*>([^<]+)<', drawn))
    assert {label: tabs[label] for label in shown} == shown
    said = [line for line in run.stderr.splitlines() if ":CONSOLE" in line]
    assert [line for line in said if "Content Security Policy" not in line] == []
    assert {found for line in said for found in re.findall(r"https?://[^' ]+", line)} <= {LOGO}
