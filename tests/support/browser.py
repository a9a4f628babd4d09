"""A browser and its driver, if the machine has them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from selenium import webdriver

from dev.install import in_ci

WITHOUT_BROWSER: Final = "not run in a browser: "
"""The beginning of the reason for a skipped test."""
_BROWSERS: Final = ("google-chrome", "google-chrome-stable", "chromium", "chromium-browser")
_MAX_APART: Final = 1  # major versions; a driver two versions behind answers "session not created"


@contextmanager
def chromium(downloads: Path, *arguments: str) -> Iterator[webdriver.Chrome]:
    """Run a browser without a window. Without one the test is skipped, or fails with CI=true.

    Args:
        downloads: where it saves documents, and its own files.
        arguments: more of its command line.
    """
    driver = shutil.which("chromedriver")
    programs = [path for name in _BROWSERS if (path := shutil.which(name))]
    fitting = [path for path in programs if driver and abs(_major(path) - _major(driver)) <= _MAX_APART]
    if not fitting:
        reason = "no browser with a chromedriver of its version is installed (Debian: chromium, chromium-driver)"
        (pytest.fail if in_ci() else pytest.skip)(WITHOUT_BROWSER + reason)
    options = webdriver.ChromeOptions()
    options.binary_location = fitting[0]
    # Its sandbox does not work for root, which is who runs containers; /dev/shm is small in them.
    fixed = ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "no-first-run")
    quiet = ("disable-background-networking", "disable-component-update", f"user-data-dir={downloads / 'profile'}")
    for argument in (*(f"--{name}" for name in (*fixed, *quiet)), *arguments):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With the driver's path nothing is looked for, and nothing downloaded.
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield chrome
    finally:
        chrome.quit()


@cache
def _major(program: str) -> int:
    """The first number in the version that a program prints."""
    output = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"(\d+)\.\d", output)
    assert version is not None, output
    return int(version[1])
