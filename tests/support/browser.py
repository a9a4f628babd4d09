"""A browser and a driver that fit each other, if the machine has them."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import Final, NoReturn

import pytest

from dev.install import in_ci

WITHOUT_BROWSER: Final = "not run in a browser: "
"""The beginning of the reason for a skipped test."""
_BROWSERS: Final = ("google-chrome", "google-chrome-stable", "chromium", "chromium-browser")
_DRIVER: Final = "chromedriver"
_MAX_APART: Final = 1  # major versions; a driver two versions behind answers "session not created"


@dataclass(frozen=True)
class Browser:
    """Paths of programs that work together."""

    program: str
    driver: str


def find() -> Browser:
    """The browser that fits the driver best; skips the test if there is none, and fails it with CI=true."""
    driver = shutil.which(_DRIVER)
    if driver is None:
        _leave_out(f"{_DRIVER} is not installed (Debian: chromium-driver)")
    wanted = major(driver)
    versions = {name: major(path) for name in _BROWSERS if (path := shutil.which(name))}
    if not versions:
        _leave_out("neither google-chrome nor chromium is installed (Debian: chromium)")
    name = min(versions, key=lambda name: abs(versions[name] - wanted))
    if abs(versions[name] - wanted) > _MAX_APART:
        found = ", ".join(f"{name} {version}" for name, version in versions.items())
        _leave_out(f"{_DRIVER} {wanted} fits none of: {found}")
    return Browser(str(shutil.which(name)), driver)


@cache
def major(program: str) -> int:
    """The first number in the version that a program prints."""
    output = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"(\d+)\.\d", output)
    assert version is not None, output
    return int(version[1])


def _leave_out(reason: str) -> NoReturn:
    if in_ci():
        pytest.fail(WITHOUT_BROWSER + reason)
    pytest.skip(WITHOUT_BROWSER + reason)
