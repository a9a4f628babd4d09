"""Software bills of materials in CycloneDX 1.6: what is in an archive, or what a wheel needs.

Source: CycloneDX 1.6 JSON reference; NTIA, "The Minimum Elements For a Software Bill of Materials" (2021).
"""

from __future__ import annotations

import hashlib
import json
import sys
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parseaddr
from importlib.metadata import PathDistribution, distribution
from pathlib import Path
from typing import Any, Final, NamedTuple

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from chalicelib import __version__

SUFFIX: Final = ".cdx.json"
_OURS: Final = ("tokenservice", "tokenservice-client")


class Library(NamedTuple):
    """A library, or the application itself.

    Attributes:
        metadata: as in `importlib.metadata`'s `PackageMetadata.json`.
        sha256: hexadecimal, of its wheel or archive; empty means unknown.
        files: what is used of it, to SHA-256; empty means all.
    """

    metadata: dict[str, Any]
    sha256: str = ""
    files: Mapping[str, str] = {}


def of_archive(archive: Path, wheels: Mapping[str, str]) -> dict[str, Any]:
    """Describe the deployment archive.

    Args:
        wheels: normalized name of each installed library to the SHA-256 of its wheel.
    """
    with zipfile.ZipFile(archive) as zipped:
        found = list(_metadata(zipped))
        # `chalice package` copies two files of the installed Chalice.
        files = [name for name in zipped.namelist() if name.startswith("chalice/") and name.endswith(".py")]
        used = {name: hashlib.sha256(zipped.read(name)).hexdigest() for name in files}
    chalice = Library(distribution("chalice").metadata.json, files=used)
    ours = {**distribution("tokenservice").metadata.json, "version": __version__}
    return _document(
        Library(ours, _digest(archive)), [chalice, *(Library(each, wheels[_name(each)]) for each in found)]
    )


def of_wheel(wheel: Path) -> dict[str, Any]:
    """Describe a wheel of ours, with the libraries that it needs in the versions of this environment."""
    with zipfile.ZipFile(wheel) as zipped:
        [metadata] = _metadata(zipped)
    needed: dict[str, Library] = {}
    _add_needed(metadata, needed)
    return _document(Library(metadata, _digest(wheel)), list(needed.values()))


def write(document: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _metadata(zipped: zipfile.ZipFile) -> Iterator[dict[str, Any]]:
    """The metadata of each distribution in an archive or a wheel."""
    for name in zipped.namelist():
        folder, _, file = name.partition("/")
        if folder.endswith(".dist-info") and file == "METADATA":
            yield PathDistribution(zipfile.Path(zipped, f"{folder}/")).metadata.json


def _document(root: Library, libraries: list[Library]) -> dict[str, Any]:
    described = {**_component(root), "type": "application"}
    refs = {_name(each.metadata): _ref(each.metadata) for each in libraries}
    needs = {_ref(each.metadata): refs.keys() & _needed(each.metadata) for each in libraries}
    dependencies = {described["bom-ref"]: refs.keys() - {name for names in needs.values() for name in names}, **needs}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, root.sha256)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "authors": [{"name": "The build of the token service (deploy/sbom.py)"}],
            "component": described,
        },
        "components": sorted(map(_component, libraries), key=lambda component: str(component["bom-ref"])),
        "dependencies": [
            {"ref": ref, "dependsOn": sorted(refs[name] for name in names)}
            for ref, names in sorted(dependencies.items())
        ],
    }


def _component(library: Library) -> dict[str, Any]:
    metadata = library.metadata
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": _ref(metadata),
        "name": metadata["name"],
        "version": metadata["version"],
        "purl": _ref(metadata),
    }
    if supplier := metadata.get("author") or metadata.get("maintainer") or _person(metadata.get("author_email", "")):
        component["supplier"] = {"name": supplier}
    if licence := _licence(metadata):
        component["licenses"] = [licence]
    if library.sha256:
        component["hashes"] = _sha256(library.sha256)
    if library.files:
        component["components"] = [
            {"type": "file", "name": name, "hashes": _sha256(digest)} for name, digest in sorted(library.files.items())
        ]
    return component


def _licence(metadata: dict[str, Any]) -> dict[str, Any] | None:
    """An SPDX expression, or else the name that a library gives its licence; None if it names none."""
    classified = [
        each.rpartition(" :: ")[2] for each in metadata.get("classifier", []) if each.startswith("License ::")
    ]
    text = metadata.get("license_expression") or metadata.get("license", "")
    if not text or "\n" in text:  # some have the whole licence there
        text = " or ".join(classified)
    try:
        return {"expression": str(canonicalize_license_expression(text))} if text else None
    except InvalidLicenseExpression:
        return {"license": {"name": text}}


def _person(addresses: str) -> str:
    name, address = parseaddr(addresses)
    return name or address


def _sha256(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _name(metadata: dict[str, Any]) -> str:
    return canonicalize_name(metadata["name"])


def _ref(metadata: dict[str, Any]) -> str:
    # Ours are on no index: another package could get their names there.
    kind = "generic" if metadata["name"] in _OURS else "pypi"
    return f"pkg:{kind}/{_name(metadata)}@{metadata['version']}"


def _needed(metadata: dict[str, Any]) -> set[str]:
    """The libraries that it needs, extras left out."""
    requirements = map(Requirement, metadata.get("requires_dist", []))
    return {
        canonicalize_name(each.name) for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})
    }


def _add_needed(metadata: dict[str, Any], libraries: dict[str, Library]) -> None:
    for name in sorted(_needed(metadata) - libraries.keys()):
        libraries[name] = Library(distribution(name).metadata.json)
        _add_needed(libraries[name].metadata, libraries)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        write(of_wheel(Path(argument)), Path(argument).with_suffix(SUFFIX))
