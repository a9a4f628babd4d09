"""Lays archives out as Lambda unpacks them, below `out/bench/`.

A peer's libraries are copied out of `.venv`, whose pins have hashes. Stock means as its tool leaves it: sources
only, everything that the libraries bring. Tuned means what we do for ourselves: compiled ahead ("unchecked", so that
Lambda need not look at the source's date), of botocore's data DynamoDB's alone, few certificate authorities.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from dev.engine import ROOT
from studies.bench.box.variants import OURS, Archive, Variant

OUT = ROOT / "out" / "bench"
PEERS = ROOT / "studies" / "bench" / "peers"
AUTHORITIES = "authorities.pem"
"""What a tuned peer trusts, in its archive."""
_RUNTIME = ("awslambdaric",)
_CHALICE_ASKS = ("app.py", "__init__.py")  # the two files that `chalice package` copies of itself
_STAGE = "dev"


class BuildError(Exception):
    """Nothing can be measured; the message is one line for the terminal."""


@dataclass(frozen=True)
class Built:
    """An archive, unpacked.

    Attributes:
        task: the folder, like /var/task.
        zip_bytes: the size of the archive.
        authorities: the certificate authorities that it trusts, as PEM.
    """

    task: Path
    zip_bytes: int
    authorities: bytes


def runtime() -> Path:
    """A new folder with AWS's runtime client, like /var/runtime."""
    task = _new_folder("runtime")
    for name in _closure(_RUNTIME):
        _copy_distribution(name, task)
    _compile(task)
    return task


def python() -> str:
    """An interpreter without packages or `.pth` files, as on Lambda; that of `.venv` may inherit some from its base."""
    folder = _new_folder("python")
    subprocess.run([sys._base_executable, "-I", "-m", "venv", "--without-pip", str(folder)], check=True)
    return str(folder / "bin" / "python")


def built(archive: Archive, package: Path | None) -> Built:
    """Lay an archive out.

    Args:
        package: the deployment archive of our own; only a peer does without it.
    """
    task = _new_folder(archive.name)
    if archive.peer is None:
        assert package is not None
        _unpack_ours(archive, package, task)
    else:
        _make_peer(archive, task)
    zipped = package if archive.name == OURS and package is not None else _zip(task)
    return Built(task, zipped.stat().st_size, _authorities(archive, task))


def all_built(variants: Iterable[Variant], package: Path) -> dict[str, Built]:
    """The archives of these functions, each laid out once, by name."""
    archives = {variant.archive.name: variant.archive for variant in variants}
    return {name: built(archive, package) for name, archive in archives.items()}


def our_package() -> Path:
    """Our deployment archive, made by the same command as for AWS.

    Raises:
        BuildError: it can't be made.
    """
    folder = OUT / "ours-package"
    environ = {"AWS_DEFAULT_REGION": "eu-central-1", **os.environ}
    command = [sys.executable, "-m", "deploy.package", "--stage", _STAGE, "--out", str(folder)]
    run = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    if run.returncode:
        raise BuildError(f"our own package: {' '.join(run.stderr.split()) or run.stdout}")
    return folder / "deployment.zip"


def our_environ(package: Path) -> dict[str, str]:
    """The template's variables that are constants."""
    return {"STAGE": _STAGE, "COMMIT": hashlib.sha256(package.read_bytes()).hexdigest()[:40]}


def _make_peer(archive: Archive, task: Path) -> None:
    for name in _closure(archive.libraries):
        _copy_distribution(name, task)
    for path in (f"{archive.peer}/app.py", *archive.shared):
        shutil.copy(PEERS / path, task)
    if archive.peer and archive.peer.startswith("chalice"):
        (task / "chalice").mkdir()
        chalice = metadata.distribution("chalice")
        for name in _CHALICE_ASKS:
            shutil.copy(str(chalice.locate_file(f"chalice/{name}")), task / "chalice" / name)
    if archive.tuned:
        _strip(task)
        (task / AUTHORITIES).write_bytes(_amazons_authorities())
        _compile(task)


def _unpack_ours(archive: Archive, package: Path, task: Path) -> None:
    with zipfile.ZipFile(package) as zipped:
        zipped.extractall(task)
    # botocore, which ours does without; it is added for comparison.
    missing = [name for name in _closure(archive.libraries) if not _has(task, name)]
    for name in missing:
        _copy_distribution(name, task)
    if missing:
        _strip(task)
        _compile(task)


def _closure(names: Iterable[str]) -> list[str]:
    """These distributions and all that they require."""
    found: list[str] = []
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.append(name)
        for line in metadata.requires(name) or ():
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                waiting.append(wanted.name)
    return sorted(found)


def _has(task: Path, name: str) -> bool:
    return all((task / file).exists() for file in _files(name) if file.endswith(".py"))


def _files(name: str) -> list[str]:
    files = metadata.distribution(name).files or []
    return [str(file) for file in files if not str(file).startswith("..") and "__pycache__" not in file.parts]


def _copy_distribution(name: str, task: Path) -> None:
    distribution = metadata.distribution(name)
    for file in _files(name):
        target = task / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(distribution.locate_file(file)), target)


def _strip(task: Path) -> None:
    for data in (task / "botocore" / "data", task / "boto3" / "data"):
        if data.is_dir():
            for service in data.iterdir():
                if service.is_dir() and service.name != "dynamodb":
                    shutil.rmtree(service)
    for examples in task.glob("b*/**/examples-1.json*"):
        examples.unlink()


def _compile(task: Path) -> None:
    command = [sys._base_executable, "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    subprocess.run([*command, "-s", str(task), "-p", "/var/task", str(task)], check=True)


def _zip(task: Path) -> Path:
    file = task.with_suffix(".zip")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped:
        for path in sorted(task.rglob("*")):
            if path.is_file():
                zipped.write(path, path.relative_to(task))
    return file


def _authorities(archive: Archive, task: Path) -> bytes:
    """The authorities that the archive's client trusts by default."""
    if archive.peer is None:
        own = sorted((task / "chalicelib").rglob("*.pem"))
        return (own[0] if own else task / "botocore" / "cacert.pem").read_bytes()
    if archive.tuned:
        return (task / AUTHORITIES).read_bytes()
    return (task / "botocore" / "cacert.pem").read_bytes()


def _amazons_authorities() -> bytes:
    """The authorities behind AWS's endpoints, taken from Mozilla's list, which names each in a comment."""
    import certifi  # noqa: PLC0415 - only where a peer is made

    listed = re.split(r"(?m)^(?=# Issuer: )", Path(certifi.where()).read_text("utf-8"))
    wanted = [each for each in listed if re.search('# Label: "(Amazon Root CA|Starfield Services Root)', each)]
    if not wanted:
        raise BuildError("certifi's list names none of Amazon's authorities")
    return "".join(wanted).encode()


def _new_folder(name: str) -> Path:
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
