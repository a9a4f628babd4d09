"""Which browser the tests start."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import browser


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path with nothing but the programs that a test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "true")
    return tmp_path


def install(machine: Path, name: str, version: str) -> str:
    program = machine / name
    program.write_text(f"#!/bin/sh\necho 'Some Browser {version} built on Debian 12.9'\n")
    program.chmod(0o700)
    return str(program)


@pytest.mark.parametrize(
    ("chrome", "chromium", "chosen"),
    [
        ("156.0.1", "158.0.1", "google-chrome"),
        ("153.0.1", "156.0.1", "chromium"),
        ("157.0.1", "159.0.1", "google-chrome"),
    ],
)
def test_the_browser_that_fits_the_driver_is_started(machine: Path, chrome: str, chromium: str, chosen: str) -> None:
    driver = install(machine, "chromedriver", "156.0.9")
    install(machine, "google-chrome", chrome)
    install(machine, "chromium", chromium)
    assert browser.find() == browser.Browser(str(machine / chosen), driver)


def test_a_pair_that_does_not_fit_is_an_error_in_ci_that_names_both_versions(machine: Path) -> None:
    install(machine, "chromedriver", "156.0.9")
    install(machine, "chromium", "158.0.1")
    with pytest.raises(pytest.fail.Exception, match="chromedriver 156 fits none of: chromium 158"):
        browser.find()


def test_elsewhere_the_test_is_skipped(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match=r"chromedriver is not installed"):
        browser.find()
    install(machine, "chromedriver", "156.0.9")
    with pytest.raises(pytest.skip.Exception, match=r"neither google-chrome nor chromium"):
        browser.find()
