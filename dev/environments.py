"""Creates virtual environments from complete, hashed requirements: `python3 -I dev/environments.py run engine`.

uv installs what a lock in `requirements/` names and resolves nothing, so a new release of a library changes nothing.
This script starts on any Python from 3.8 on with nothing installed, so it imports the standard library alone.
uv finds the Python for the environments, and downloads one if the machine has none from 3.11 to 3.14.

An environment counts as complete once its stamp holds the fingerprint of its lock. The stamp is written last: the next
run recreates what was interrupted.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / ".local"
OWN_UV = ROOT / ".uv"
"""Where uv is installed if the path has none."""

OLDEST, NEWEST = (3, 11), (3, 14)
NEWEST_OF_SCANNERS = (3, 13)  # AppInspect needs an lxml that has no wheel for later ones
_OLDEST_UV = (0, 8)  # the first with `uv venv --clear`

SETS = {
    "run": ".venv",  # what `make run` and tokenctl need
    "dev": ".venv",  # the same versions, and what tests, checks and benchmarks need
    "engine": ".venv-engine",  # apart: MiniStack needs one exact botocore, older than the one that we deploy
    "scanners": ".venv-scanners",  # apart: checkov and AppInspect need years-old libraries
}
"""Name of a lock to the directory of its environment."""
_EDITABLE = ("run", "dev")
_INCLUDED = {"run": "dev"}  # an environment of the second holds all of the first

# Variables that would make uv or pip install something else than the lock.
_IGNORED = (
    "UV_CONSTRAINT",
    "UV_OVERRIDE",
    "UV_EXCLUDE_NEWER",
    "UV_PYTHON",
    "PIP_CONSTRAINT",
    "PIP_TARGET",
    "PIP_PREFIX",
)
_UNREACHABLE = ("error sending request", "dns error", "offline?", "Connection refused", "after connection broken by")
_UNTRUSTED = "invalid peer certificate"
_NO_SPACE = ("No space left on device", "os error 28")


def complete_lock(path: Path) -> str:
    """The text of a lock, with that of the locks that it includes."""
    text = path.read_text("utf-8")
    return re.sub(r"(?m)^-r (\S+)\n", lambda line: complete_lock(path.parent / line[1]), text)


class SetupError(Exception):
    """Set-up can't continue; the message is one line for the terminal."""


class Environment(NamedTuple):
    """One virtual environment.

    Attributes:
        name: the lock, a key of `SETS`.
        directory: where it is created.
        python: the Python to create it with, in uv's words; empty: any that is supported.
    """

    name: str
    directory: Path
    python: str

    @property
    def executable(self) -> Path:
        return self.directory / "bin" / "python"

    def fingerprint(self, name: str) -> str:
        """The directory, which scripts in the environment contain, and a digest of everything that is installed."""
        content = complete_lock(ROOT / "requirements" / f"{name}.txt").encode()
        if name in _EDITABLE:
            content += (ROOT / "pyproject.toml").read_bytes()
        return f"{self.directory}\n{name}\n{hashlib.sha256(content).hexdigest()}\n"

    def stamp(self) -> tuple[str, str]:
        """The fingerprint of what is installed, and the Python that it was created for; both empty if incomplete."""
        lines = _read(self.directory / "installed").splitlines(keepends=True)
        return "".join(lines[:3]), "".join(lines[3:])

    def is_complete(self) -> bool:
        names = [self.name, _INCLUDED.get(self.name, self.name)]
        return self.stamp()[0] in [self.fingerprint(name) for name in names] and self._is_usable()

    def version(self) -> tuple[int, int]:
        """Of its Python; 0.0 if there is none."""
        found = re.search(r"(?m)^version_info = (\d+)\.(\d+)", _read(self.directory / "pyvenv.cfg"))
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def create(self, uv: Uv) -> None:
        """Create the environment, or update it in place if only its lock changed.

        Raises:
            SetupError: names the log with uv's output.
        """
        shown = self.directory.relative_to(ROOT)
        stamp, python = self.stamp()
        is_whole = stamp.startswith(f"{self.directory}\n") and self._is_usable()
        python = self.python or (python if is_whole else "")
        larger = _INCLUDED.get(self.name)
        name = larger if larger and is_whole and f"\n{larger}\n" in stamp else self.name  # takes nothing away
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            (self.directory / "installed").unlink()
        log = LOGS / f"setup-{shown.name.lstrip('.')}.log"
        log.unlink(missing_ok=True)
        print(f"{'Updating' if is_whole else 'Setting up'} {shown} (seconds to a minute, once) ...", flush=True)
        if not is_whole:
            self._clear(uv, log)
        here = ("--python", str(self.executable))
        lock = str(ROOT / "requirements" / f"{name}.txt")
        # A library without a wheel is built with the pinned setuptools, not with the newest.
        builders = ("--build-constraints", str(ROOT / "requirements" / "run.txt"))
        uv.run(log, shown, "pip", "sync", "--require-hashes", *builders, *here, lock)
        if name in _EDITABLE:
            project = ("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
            uv.run(log, shown, "pip", "install", *here, *project)
        (self.directory / "installed").write_text(self.fingerprint(name) + python, "utf-8")

    def _clear(self, uv: Uv, log: Path) -> None:
        newest = NEWEST_OF_SCANNERS if self.name == "scanners" else NEWEST
        python = self.python or f">={OLDEST[0]}.{OLDEST[1]},<{newest[0]}.{newest[1] + 1}"
        command = ("venv", "--no-project", "--clear", "--python", python, str(self.directory))
        if uv.call(log, *command) != 0:
            raise SetupError(f"no Python {python} could be found or downloaded ({reason(log)}); {self._cure()}")
        version = self.version()
        if not OLDEST <= version <= newest:
            raise SetupError(f"Python 3.11 to 3.14 is needed; {python} is {version[0]}.{version[1]}")

    def _cure(self) -> str:
        if self.directory == ROOT / SETS[self.name]:
            return "install one, or name one: make PYTHON=/path/to/python3.13"
        major, minor = self._replace(directory=ROOT / SETS[self.name]).version()
        return "install it" + (f", or use the one that is here: LAMBDA_PYTHON={major}.{minor}" if major else "")

    def _is_usable(self) -> bool:
        """Whether its Python still exists, and is the wanted one."""
        return self.executable.exists() and self.python in ("", self.stamp()[1])


class Uv:
    """The program that creates environments and installs into them.

    Args:
        program: its path.
        lock: descriptor of the lock on set-up. uv holds it, too: if this process is killed alone, uv is still at work.
    """

    def __init__(self, program: str, lock: int) -> None:
        self.program = program
        self._lock = lock
        self._environ = {name: value for name, value in os.environ.items() if name not in _IGNORED}
        self._environ.update(index_of_pip())
        if not os.access(str(Path.home()), os.W_OK):
            self._environ.setdefault("UV_CACHE_DIR", str(LOGS / "uv-cache"))

    def call(self, log: Path, *arguments: str) -> int:
        """Run uv and append its output to a log; returns its exit code."""
        with log.open("ab") as output:
            command = [self.program, *arguments]
            code = subprocess.run(
                command, stdout=output, stderr=output, pass_fds=(self._lock,), env=self._environ, check=False
            ).returncode
        if code != 0 and _UNTRUSTED in log.read_text("utf-8", "replace") and "UV_SYSTEM_CERTS" not in self._environ:
            # A company's proxy has an authority of its own. Not at first: a small container may have no authorities.
            self._environ.update(UV_SYSTEM_CERTS="1", UV_NATIVE_TLS="1")
            log.unlink()
            return self.call(log, *arguments)
        return code

    def run(self, log: Path, subject: Path, *arguments: str) -> None:
        """The same.

        Raises:
            SetupError: it failed.
        """
        if self.call(log, *arguments) != 0:
            raise SetupError(f"{subject}: {reason(log)}; see {log.relative_to(ROOT)}")


def reason(log: Path) -> str:
    """Why uv or pip failed, in one line, from its output."""
    output = log.read_text("utf-8", "replace")
    if any(sign in output for sign in _NO_SPACE):
        return "no space left on the device"
    if _UNTRUSTED in output:
        return "the package index has a certificate that this machine does not trust"
    if any(sign in output for sign in _UNREACHABLE):
        return "the package index can't be reached"
    lines = [line.strip(" \u00d7\u2570\u2500\u25b6") for line in output.splitlines()]  # uv draws a tree of causes
    errors = [line for line in lines if line.lower().startswith(("error: ", "failed to ", "hash mismatch"))]
    return re.sub(r"(?i)^error: ", "", errors[0]).rstrip(".:") if errors else "the installation failed"


def index_of_pip() -> dict[str, str]:
    """The package index that pip is configured with: uv does not read pip's configuration."""
    if any(os.environ.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL")):
        return {}
    index = os.environ.get("PIP_INDEX_URL", "")
    if not index and has_pip():
        command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
        index = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout.decode()
    return {"UV_DEFAULT_INDEX": index.strip()} if index.strip() else {}


def has_pip() -> bool:
    command = [sys.executable, "-m", "pip", "--version"]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def find_uv(lock: int) -> Uv:
    """The uv on the path, or else the pinned one, which is installed into a directory of its own.

    Raises:
        SetupError: neither can be had.
    """
    on_path = shutil.which("uv")
    if on_path and _version_of_uv(on_path) >= _OLDEST_UV:
        return Uv(on_path, lock)
    requirements = ROOT / "requirements" / "uv.txt"
    stamp = OWN_UV / "installed"
    fingerprint = hashlib.sha256(requirements.read_bytes()).hexdigest()
    program = OWN_UV / "bin" / "uv"
    if not (program.exists() and stamp.exists() and stamp.read_text("utf-8") == fingerprint):
        print("Setting up uv (a few seconds, once) ...", flush=True)
        _install_uv(requirements, lock)
        stamp.write_text(fingerprint, "utf-8")
    return Uv(str(program), lock)


def _install_uv(requirements: Path, lock: int) -> None:
    """With the machine's pip, or, if there is none, with the pip that Python carries for virtual environments."""
    shutil.rmtree(OWN_UV, ignore_errors=True)
    log = LOGS / "setup-uv.log"
    python = sys.executable
    environ = {name: value for name, value in os.environ.items() if name not in _IGNORED}
    environ.update(PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0", PIP_DISABLE_PIP_VERSION_CHECK="1")
    with log.open("wb") as output:

        def succeeds(*command: str) -> bool:
            run = subprocess.run(command, stdout=output, stderr=output, pass_fds=(lock,), env=environ, check=False)
            return run.returncode == 0

        if not has_pip():
            if not succeeds(python, "-I", "-m", "venv", "--clear", str(OWN_UV)):
                missing = "neither pip nor a complete venv module (Debian: python3-venv)"
                raise SetupError(f"{python} has {missing}; install one of them, or uv")
            python = str(OWN_UV / "bin" / "python")
        target = ("--target", str(OWN_UV)) if python == sys.executable else ()
        pip = (python, "-m", "pip", "install", "--no-deps", "--require-hashes", "--only-binary", ":all:")
        if not succeeds(*pip, *target, "-r", str(requirements)):
            raise SetupError(f"uv: {reason(log)}; see {log.relative_to(ROOT)}")


def _version_of_uv(program: str) -> tuple[int, ...]:
    output = subprocess.run([program, "--version"], stdout=subprocess.PIPE, check=False).stdout.decode()
    version = re.search(r"(\d+)\.(\d+)", output)
    return (int(version[1]), int(version[2])) if version else (0, 0)


def _read(path: Path) -> str:
    """The text of a file; empty if there is none."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return path.read_text("utf-8")
    return ""


def environment(argument: str) -> Environment:
    """`run`, or with a Python of its own `run@3.13`, which is then created in `.venv-run-3.13`."""
    name, _, version = argument.partition("@")
    if name not in SETS or (version and not re.match(r"3\.\d+$", version)):
        raise SetupError(f"there is no environment {argument!r}")
    if version:
        return Environment(name, ROOT / f".venv-{name}-{version}", version)
    python = "" if name == "scanners" else os.environ.get("PYTHON", "").strip()
    return Environment(name, ROOT / SETS[name], python)


def main(arguments: list[str]) -> int:
    """Create what is missing of these environments, `uv` for uv itself; returns the exit code."""
    # Without a handler SIGTERM would end this process and leave uv at work.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        wanted = [environment(argument) for argument in arguments if argument != "uv"]
        LOGS.mkdir(mode=0o700, exist_ok=True)
        # Two at once would delete each other's unfinished environment.
        with (LOGS / "setup.lock").open("w") as lock:
            _take(lock.fileno())
            missing = [one for one in wanted if not one.is_complete()]
            if missing or "uv" in arguments:
                uv = find_uv(lock.fileno())
                for one in missing:
                    one.create(uv)
    except KeyboardInterrupt:
        print("Set-up interrupted; the next run begins it anew.", file=sys.stderr)
        return 130
    except SetupError as error:
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
