"""The libraries of the archive are those of the lock, for Lambda's platform, whatever machine builds."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from pathlib import Path

import pytest

from deploy.archive import PackageError, install
from tests.support.pins import write_wheel

# Fits no machine that runs this test: Chalice would fetch it without a hash here.
FOREIGN = "arm64" if platform.machine() == "x86_64" else "x86_64"
PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"
TAGS = {
    "pure": "py3-none-any",
    "x86_64": f"{PYTHON}-{PYTHON}-manylinux2014_x86_64",
    "arm64": f"{PYTHON}-{PYTHON}-manylinux2014_aarch64",
}


class Index:
    """A folder of wheels of the library `demo`, in place of the package index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, tag: str, code: str = "answer = 42\n") -> str:
        """Add a wheel; return its SHA-256."""
        return hashlib.sha256(write_wheel(self.folder, "Demo", "1.0", tag, code).read_bytes()).hexdigest()

    def lock(self, *hashes: str) -> Path:
        path = self.folder / "lock.txt"
        path.write_text(" ".join(["demo==1.0", *(f"--hash=sha256:{each}" for each in hashes)]) + "\n")
        return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return Index(tmp_path)


def test_a_library_is_installed_for_the_architecture_that_is_set(index: Index, tmp_path: Path) -> None:
    digests = {architecture: index.add(TAGS[architecture]) for architecture in ("x86_64", "arm64")}
    lock = index.lock(*digests.values())
    for architecture, digest in digests.items():
        assert install(tmp_path / architecture, architecture, lock) == {"demo": digest}
        assert (tmp_path / architecture / "demo.py").exists()


@pytest.mark.parametrize("kind", ["pure", FOREIGN])
def test_a_swapped_wheel_is_refused(index: Index, tmp_path: Path, kind: str) -> None:
    lock = index.lock(index.add(TAGS[kind]))
    index.add(TAGS[kind], "answer = 'of somebody else'\n")
    with pytest.raises(PackageError, match="DO NOT MATCH"):
        install(tmp_path / "task", FOREIGN, lock)
    assert not (tmp_path / "task" / "demo.py").exists()


def test_a_library_without_a_hash_in_the_lock_is_refused(index: Index, tmp_path: Path) -> None:
    index.add(TAGS["pure"])
    with pytest.raises(PackageError, match="Hashes are required"):
        install(tmp_path / "task", FOREIGN, index.lock())


def test_a_library_without_a_wheel_for_lambda_is_an_error(index: Index, tmp_path: Path) -> None:
    digest = index.add(f"{PYTHON}-{PYTHON}-macosx_11_0_arm64")
    with pytest.raises(PackageError, match=r"demo==1\.0"):
        install(tmp_path / "task", FOREIGN, index.lock(digest))
