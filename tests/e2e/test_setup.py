"""Set-up on a machine that is not the one it was written on: old pip, empty home, newer releases, no network."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dev import environments
from dev.engine import ROOT
from tests.support.pins import pins, write_wheel
from tests.support.uv import WITH_UV, uv

OLD_PIP = "23.0" if sys.version_info < (3, 12) else "23.2"  # the oldest that runs there
NEWER = "9999.0"
_NOT_COPIED = shutil.ignore_patterns(".*", "out", "build", "docs", "tests", "studies", "node_modules", "__pycache__")


CACHE = uv("cache", "dir").strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT, tmp_path / "checkout", ignore=_NOT_COPIED)
    return tmp_path / "checkout"


@pytest.fixture(scope="module")
def old_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with an old pip, and no uv."""
    old = tmp_path_factory.mktemp("old") / "environment"
    uv("venv", "--quiet", "--no-project", "--python", sys.executable, str(old))
    uv("pip", "install", "--quiet", "--python", str(old), f"pip=={OLD_PIP}")
    return old / "bin"


@pytest.fixture
def stranger(tmp_path: Path, old_pip: Path) -> dict[str, str]:
    """The environment of somebody with an empty home."""
    home = tmp_path / "home"
    home.mkdir()
    # With the cache of this machine, only to spare the index: it holds what the locks pin, too.
    return {"HOME": str(home), "PATH": f"{old_pip}:/usr/bin:/bin", "UV_CACHE_DIR": CACHE}


@pytest.fixture
def set_up(checkout: Path, stranger: dict[str, str]) -> Callable[..., subprocess.Popen[str]]:
    def set_up(*names: str, **environ: str) -> subprocess.Popen[str]:
        # With an empty value of `environ`, the variable is missing.
        known = {name: value for name, value in {**stranger, **environ}.items() if value}
        return subprocess.Popen(
            [str(shutil.which("python3", path=known["PATH"])), "-I", "dev/environments.py", *names],
            cwd=checkout,
            env=known,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return set_up


@pytest.fixture
def newer_index(tmp_path: Path) -> Path:
    """An index on which everything that is pinned has been released once more."""
    index = tmp_path / "index"
    index.mkdir()
    for lock in ("run", "dev", "engine", "uv"):
        for name in pins(f"requirements/{lock}.txt"):
            write_wheel(index, name, NEWER)
    return index


def installed(environment: Path) -> dict[str, str]:
    listed = json.loads(uv("pip", "list", "--quiet", "--format", "json", "--python", str(environment)))
    return {package["name"]: package["version"] for package in listed}


def test_a_newer_release_of_everything_changes_nothing(
    checkout: Path, set_up: Callable[..., subprocess.Popen[str]], newer_index: Path
) -> None:
    links = {"UV_FIND_LINKS": str(newer_index), "PIP_FIND_LINKS": str(newer_index)}
    # An installer that is free to choose takes the newer one from this index.
    choice = uv("pip", "install", "--dry-run", "--target", str(checkout / "other"), "click", **links)
    assert f"click=={NEWER}" in choice
    process = set_up("run", "engine", **links)
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, ""), output
    for name, lock in ((".venv", "run"), (".venv-engine", "engine")):
        versions, pinned = installed(checkout / name), pins(f"requirements/{lock}.txt")
        assert versions.keys() - pinned.keys() <= {"tokenservice"}
        assert {
            package: version for package, version in versions.items() if version != pinned.get(package, version)
        } == {}
    tool = checkout / ".venv" / "bin" / "tokenctl"
    assert "Usage" in subprocess.run([str(tool), "--help"], capture_output=True, text=True, check=True).stdout


def test_killed_or_concurrent_set_ups_leave_complete_environments(
    checkout: Path, set_up: Callable[..., subprocess.Popen[str]]
) -> None:
    killed = set_up("run", PATH=WITH_UV)
    assert killed.stdout is not None
    while "Setting up .venv" not in killed.stdout.readline():
        assert killed.poll() is None
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    both = [set_up("run", PATH=WITH_UV), set_up("run", PATH=WITH_UV)]
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum("Setting up .venv" in output for output, _ in outputs) == 1
    assert set_up("run", PATH=WITH_UV).communicate() == ("", "")  # nothing is left to do
    assert installed(checkout / ".venv").keys() > {"chalice", "pynamodb", "tokenservice"}


def test_without_pip_uv_comes_with_the_pip_that_python_carries(
    tmp_path: Path, checkout: Path, set_up: Callable[..., subprocess.Popen[str]]
) -> None:
    bare = tmp_path / "bare"
    uv("venv", "--quiet", "--no-project", "--python", sys.executable, str(bare))
    process = set_up("uv", PATH=f"{bare}/bin")
    assert (process.communicate()[1], process.returncode) == ("", 0)
    subprocess.run([str(checkout / ".uv/bin/uv"), "--version"], check=True)


class TestOneLineNamesWhatIsWrong:
    def test_no_network(self, set_up: Callable[..., subprocess.Popen[str]]) -> None:
        nowhere = {
            "PIP_INDEX_URL": "http://127.0.0.1:1",
            "PIP_RETRIES": "1",
            "PIP_FIND_LINKS": "",
            "PIP_CONFIG_FILE": os.devnull,
        }
        process = set_up("run", **nowhere)
        assert process.communicate()[1] == (
            "Set-up failed: uv: the package index can't be reached; see .local/setup-uv.log\n"
        )
        assert process.returncode == 1

    @pytest.mark.parametrize("python", ["/nonexistent/python3.12", "python3.99"])
    def test_a_python_that_does_not_exist(self, set_up: Callable[..., subprocess.Popen[str]], python: str) -> None:
        errors = set_up("run", PATH=WITH_UV, PYTHON=python).communicate()[1]
        assert errors.startswith(
            f"Set-up failed: no Python {python} could be found or downloaded (No interpreter found "
        )
        assert errors.endswith("); install one, or name one: make PYTHON=/path/to/python3.13\n")

    def test_a_python_that_is_too_old(self, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(environments, "OLDEST", (3, 99))
        (checkout / ".local").mkdir()
        run = environments.Environment("run", checkout / ".venv", sys.executable)
        with pytest.raises(environments.SetupError, match=r"Python 3\.11 to 3\.14 is needed; .* is 3\.\d+$"):
            run._clear(environments.find_uv(0), checkout / ".local" / "log")
