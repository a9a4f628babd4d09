"""Creates the two virtual environments and what else is asked for, or finds that they are as they should be.

Runs on the machine's own Python 3.11 with nothing installed, so it imports the standard library alone.
An environment counts as installed once its stamp holds the fingerprint of what it was made from. The stamp is
written last: whatever was interrupted is made anew by the next run.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
LOG_DIRECTORY = ROOT / ".local"

PACKAGE_OF_PROGRAM = {
    "java": "default-jre-headless",
    "npm": "npm",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "javac": "default-jdk-headless",
}
"""Debian's packages of the programs that DynamoDB Local and some tests need."""

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


@dataclass(frozen=True)
class DynamoDbLocal:
    """Amazon's DynamoDB Local, which is carried by a package of npm and needs Java to run.

    A developer may do without it: what can't be had is told, and set-up goes on. With CI=true it must be there; root
    then installs the programs that are missing.

    Attributes:
        directory: where it lives, below the root of the checkout.
        pin: the package, its version and its Subresource Integrity, below the root.
    """

    directory: str
    pin: str

    @property
    def path(self) -> Path:
        return ROOT / self.directory

    @property
    def stamp(self) -> Path:
        return self.path / "installed"

    @property
    def log(self) -> Path:
        return LOG_DIRECTORY / f"setup-{self.directory.lstrip('.')}.log"

    def is_unpacked(self) -> bool:
        """Whether the pinned version is there; whether Java is, too, is another question."""
        return self.stamp.exists() and self.stamp.read_text() == (ROOT / self.pin).read_text()

    def is_installed(self) -> bool:
        return self.is_unpacked() and shutil.which("java") is not None

    def install(self, lock: int) -> None:
        """Fetch and unpack it.

        Args:
            lock: descriptor of the lock on set-up, which npm and apt-get hold, too.

        Raises:
            InstallError: with CI=true, where it can't be had.
        """
        try:
            with self.log.open("w") as log:
                provide("java", (self.log, log.fileno(), lock))
                if not self.is_unpacked():
                    provide("npm", (self.log, log.fileno(), lock))
                    self._fetch(log.fileno(), lock)
        except InstallError as error:
            if in_ci():
                raise
            print(f"Going on without DynamoDB Local: {error}", file=sys.stderr, flush=True)

    def _fetch(self, log: int, lock: int) -> None:
        print(f"Setting up {self.directory} (a few seconds, once) ...", flush=True)
        pin = json.loads((ROOT / self.pin).read_text())
        shutil.rmtree(self.path, ignore_errors=True)
        with tempfile.TemporaryDirectory() as download:
            named = f"{pin['package']}@{pin['version']}"
            run((self.log, log, lock), "npm", "pack", named, "--ignore-scripts", "--pack-destination", download)
            archives = list(Path(download).iterdir())
            if len(archives) != 1:
                raise InstallError(f"{named}: npm left {len(archives)} files in place of an archive")
            unpack(archives[0], pin["integrity"], self.path)
        self.stamp.write_text((ROOT / self.pin).read_text())


@dataclass(frozen=True)
class Programs:
    """Programs of Debian's that some tests use.

    A developer may do without them: that is told, and set-up goes on. With CI=true they must be there; root then
    installs what is missing.

    Attributes:
        what: they are together, in words.
    """

    what: str
    programs: tuple[str, ...]

    @property
    def log(self) -> Path:
        return LOG_DIRECTORY / f"setup-{self.programs[0]}.log"

    def is_installed(self) -> bool:
        return all(shutil.which(program) for program in self.programs)

    def install(self, lock: int) -> None:
        """Install what is missing.

        Args:
            lock: descriptor of the lock on set-up, which apt-get holds, too.

        Raises:
            InstallError: with CI=true, where it can't be had.
        """
        try:
            with self.log.open("w") as log:
                for program in self.programs:
                    provide(program, (self.log, log.fileno(), lock))
        except InstallError as error:
            if in_ci():
                raise
            print(f"Going on without {self.what}: {error}", file=sys.stderr, flush=True)


def provide(program: str, logged: tuple[Path, int, int]) -> None:
    """Have a program of Debian's; root installs it in CI.

    Args:
        logged: as in `run`.

    Raises:
        InstallError: it is not there, and not for us to install, or that failed.
    """
    if shutil.which(program) is not None:
        return
    package = PACKAGE_OF_PROGRAM[program]
    if not (in_ci() and os.geteuid() == 0 and shutil.which("apt-get")):
        raise InstallError(f"{program} is not installed (Debian: {package})")
    print(f"Installing {package} ...", flush=True)
    for arguments in (("update",), ("install", "--yes", "--no-install-recommends", package)):
        run(logged, "apt-get", *arguments)
    if shutil.which(program) is None:
        raise InstallError(f"{package} brought no {program}")


def run(logged: tuple[Path, int, int], *command: str) -> None:
    """Run a program that fetches something.

    Args:
        logged: path of its log, the log's descriptor, and the descriptor of the lock on set-up, which it holds, too.

    Raises:
        InstallError: it failed; names the log.
    """
    path, log, lock = logged
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "npm_config_update_notifier": "false"}
    if subprocess.run(command, stdout=log, stderr=log, pass_fds=(lock,), env=environ, check=False).returncode != 0:
        raise InstallError(f"{' '.join(command[:2])} failed; all it said is in {path.relative_to(ROOT)}")


def unpack(archive: Path, integrity: str, into: Path) -> None:
    """Unpack the emulator out of a package of npm.

    Args:
        integrity: `sha512-` and the archive's digest in base64, as npm's registry tells it.

    Raises:
        InstallError: the archive is another one, or holds no emulator.
    """
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != integrity:
        raise InstallError(f"{archive.name} has the integrity {found}, not the pinned {integrity}")
    with tarfile.open(archive) as package:
        for member in package:
            name = PurePosixPath(member.name)
            content = package.extractfile(member) if member.isreg() else None
            if content is None or name.parts[:2] != ("package", "emulator") or ".." in name.parts:
                continue
            path = into.joinpath(*name.parts[2:])
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                shutil.copyfileobj(content, file)
    if not (into / "DynamoDBLocal.jar").exists():
        raise InstallError(f"{archive.name} holds no DynamoDBLocal.jar")


def in_ci() -> bool:
    """Whether this is continuous integration, where nothing may be left out."""
    return os.environ.get("CI") == "true"


ENVIRONMENTS = (
    Environment(".venv", "requirements/dev.txt", editable=True, duration="about a minute"),
    # Apart, because the emulator needs one exact botocore that is older than the one we deploy.
    Environment(".venv-engine", "requirements/engine.txt", editable=False, duration="half a minute"),
)
DYNAMODB_LOCAL = DynamoDbLocal(".dynamodb-local", "requirements/dynamodb-local.json")
EXTRA: dict[str, Environment | DynamoDbLocal | Programs] = {
    # Apart, because nothing else needs its XML and image libraries.
    "appinspect": Environment(".venv-appinspect", "requirements/appinspect.txt", False, "half a minute"),
    # The Lambda box and the libraries of the peers in bench/, which nothing else needs.
    "bench": Environment(".venv-bench", "requirements/bench.txt", False, "half a minute"),
    "browser": Programs("a browser", ("chromium", "chromedriver")),
    "jdk": Programs("a Java compiler", ("javac",)),
    # What looks templates, pins and the tree over.
    "checks": Environment(".venv-checks", "requirements/checks.txt", False, "a minute"),
    # Apart, because it brings a fork of detect-secrets under the same module name.
    "checkov": Environment(".venv-checkov", "requirements/checkov.txt", False, "a minute"),
    "dynamodb-local": DYNAMODB_LOCAL,
    # The load generator, which brings its own web server and an event loop that patches the standard library.
    "load": Environment(".venv-load", "requirements/load.txt", False, "half a minute"),
}
"""What only some targets need, by the name that is given as an argument."""


def main(*extra: str) -> int:
    """Install what is missing of the environments, and of what is named of `EXTRA`; returns the exit code."""
    # Without a handler SIGTERM would end this process and leave pip working on.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        _check_python()
        LOG_DIRECTORY.mkdir(exist_ok=True)
        # Two `make` at once would clear each other's half-made environment.
        with (LOG_DIRECTORY / "setup.lock").open("w") as lock:
            _take(lock.fileno())
            for each in (*ENVIRONMENTS, *(EXTRA[name] for name in extra)):
                if not each.is_installed():
                    each.install(lock.fileno())
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
