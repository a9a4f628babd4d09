"""Creates the two virtual environments, or finds that they are as they should be.

Runs on the machine's own Python 3.11 with nothing installed, so it imports the standard library alone.
An environment counts as installed once its stamp holds the fingerprint of what it was made from. The stamp is
written last: whatever was interrupted is made anew by the next run.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import signal
import subprocess
import sys
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOG_DIRECTORY = ROOT / ".local"

# What pip says where it never reached an index; a wrong hash or an unknown version reads differently.
_UNREACHABLE = ("after connection broken by", "Max retries exceeded", "Connection to ", "Read timed out")


class InstallError(Exception):
    """Set-up can't go on; the message is one line for the person at the terminal."""


@dataclass(frozen=True)
class Environment:
    """One virtual environment.

    Attributes:
        directory: where it lives, below the root of the checkout.
        requirements: its pinned requirements with hashes, below the root.
        editable: whether the checkout itself is installed in it, for the console script.
        duration: how long set-up takes, in words.
    """

    directory: str
    requirements: str
    editable: bool
    duration: str

    @property
    def path(self) -> Path:
        return ROOT / self.directory

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    @property
    def stamp(self) -> Path:
        return self.path / "installed"

    @property
    def log(self) -> Path:
        return LOG_DIRECTORY / f"setup-{self.directory.lstrip('.')}.log"

    def fingerprint(self) -> str:
        """The path, because scripts in an environment begin with it, and a digest of all that is installed in it."""
        parts = [(ROOT / self.requirements).read_text()]
        if self.editable:
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())
            parts.append(json.dumps([project["build-system"], project["project"]], sort_keys=True))
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        return f"{self.path}\n{digest}\n"

    def is_installed(self) -> bool:
        return self._stamped() == self.fingerprint() and self.python.exists()

    def install(self, lock: int) -> None:
        """Make the environment; a whole one in which only requirements changed is brought up to date where it is.

        Args:
            lock: descriptor of the lock on set-up. pip holds it, too: killed alone, we would leave it at work.

        Raises:
            InstallError: naming the log where pip's own words are.
        """
        is_whole = self._stamped().startswith(f"{self.path}\n") and self.python.exists()
        self.stamp.unlink(missing_ok=True)
        pip = ("pip", "install", "--disable-pip-version-check")
        with self.log.open("w") as log:
            if is_whole:
                print(f"Bringing {self.directory} up to date ...", flush=True)
            else:
                print(f"Setting up {self.directory} ({self.duration}, once) ...", flush=True)
                venv.EnvBuilder(clear=True, symlinks=True).create(self.path)
                self._run(log.fileno(), lock, "ensurepip", "--default-pip")
            self._run(log.fileno(), lock, *pip, "--require-hashes", "-r", str(ROOT / self.requirements))
            if self.editable:
                self._run(log.fileno(), lock, *pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT))
        self.stamp.write_text(self.fingerprint())

    def _stamped(self) -> str:
        try:
            return self.stamp.read_text()
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def _run(self, log: int, lock: int, module: str, *arguments: str) -> None:
        command = [str(self.python), "-I", "-m", module, *arguments]
        if subprocess.run(command, stdout=log, stderr=log, pass_fds=(lock,), check=False).returncode == 0:
            return
        said = self.log.read_text(errors="replace")
        where = f"all it said is in {self.log.relative_to(ROOT)}"
        if any(sign in said for sign in _UNREACHABLE):
            raise InstallError(f"{self.directory}: the package index can't be reached; {where}")
        errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
        raise InstallError(f"{self.directory}: {errors[0] if errors else module + ' failed'}; {where}")


ENVIRONMENTS = (
    Environment(".venv", "requirements/dev.txt", editable=True, duration="about a minute"),
    # Apart, because the emulator needs one exact botocore that is older than the one we deploy.
    Environment(".venv-engine", "requirements/engine.txt", editable=False, duration="half a minute"),
)
EXTRA = {
    # Apart, because nothing else needs its XML and image libraries.
    "appinspect": Environment(".venv-appinspect", "requirements/appinspect.txt", False, "half a minute"),
}
"""Environments that only some targets need, by the name that is given as an argument."""


def main(*extra: str) -> int:
    """Install what is missing of the environments, and of those of `EXTRA` that are named; returns the exit code."""
    # Without a handler SIGTERM would end this process and leave pip working on.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        _check_python()
        LOG_DIRECTORY.mkdir(exist_ok=True)
        # Two `make` at once would clear each other's half-made environment.
        with (LOG_DIRECTORY / "setup.lock").open("w") as lock:
            _take(lock.fileno())
            for environment in (*ENVIRONMENTS, *(EXTRA[name] for name in extra)):
                if not environment.is_installed():
                    environment.install(lock.fileno())
    except KeyboardInterrupt:
        print("Set-up interrupted; the next run begins it anew.", file=sys.stderr)
        return 130
    except InstallError as error:
        print(f"Set-up failed: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"Set-up failed: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _take(lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Waiting for another set-up to end ...", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def _check_python() -> None:
    if sys.version_info[:2] != (3, 11):
        raise InstallError(f"Python 3.11 is needed, this is {sys.version.split()[0]}")
    # Debian keeps ensurepip in a package of its own; `import venv` alone would succeed there.
    if importlib.util.find_spec("ensurepip") is None:
        raise InstallError(
            f"{sys.executable} can't make virtual environments; install its venv module (Debian: python3.11-venv)"
        )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
