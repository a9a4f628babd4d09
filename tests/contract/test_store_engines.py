"""DynamoDB Local as a process: its address, its end and its installation."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dev import install
from dev.engine import ROOT, free_port
from dev.install import InstallError, unpack
from tests.support.store_engines import StoreEngine


def test_another_archive_than_the_pinned_one_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "package.tgz"
    archive.write_bytes(b"another")
    with pytest.raises(InstallError, match="not the pinned sha512-other"):
        unpack(archive, "sha512-other", tmp_path / "into")
    assert not (tmp_path / "into").exists()


class TestWithoutJava:
    @pytest.fixture(autouse=True)
    def no_programs(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))

    def test_a_developer_continues_without_it_and_continuous_integration_fails(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        missing = "java is not installed (Debian: default-jre-headless)"
        monkeypatch.delenv("CI", raising=False)
        assert install.main() == 0
        assert capsys.readouterr().err == f"Continuing without DynamoDB Local: {missing}\n"
        monkeypatch.setenv("CI", "true")
        assert install.main() == 1
        assert missing in capsys.readouterr().err


class TestProcess:
    def test_it_listens_on_this_machine_alone(self, second_engine: StoreEngine) -> None:
        port = int(second_engine.environ["AWS_ENDPOINT_URL"].rpartition(":")[2])
        tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
        sockets = [line.split()[1:4:2] for table in tables for line in table]  # local address and state, 0A: it listens
        here = [
            address.partition(":")[0]
            for address, state in sockets
            if state == "0A" and address.endswith(f":{port:04X}")
        ]
        assert [address[-8:] for address in here] == ["0100007F"]  # 127.0.0.1, and as IPv6 mapped

    @pytest.mark.usefixtures("second_engine")
    def test_it_ends_when_its_parent_is_killed(self) -> None:
        """The operating system then closes the pipe that the parent holds."""
        command = [sys.executable, "-m", "dev.dynamodb_local", str(free_port())]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as engine:
            engine.communicate()
        assert engine.returncode == -signal.SIGKILL
