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
from typing import Any, Final

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from chalicelib import __version__

SUFFIX: Final = ".cdx.json"
_OURS: Final = ("tokenservice", "tokenservice-client")


Metadata = dict[str, Any]
"""Of a library or of the application itself, as in `importlib.metadata`'s `PackageMetadata.json`."""


def of_archive(archive: Path, wheels: Mapping[str, str]) -> dict[str, Any]:
    """Describe the deployment archive.

    Args:
        wheels: normalized name of each installed library to the SHA-256 of its wheel.
    """
    with zipfile.ZipFile(archive) as zipped:
        libraries = {_name(each): each for each in _metadata(zipped)}
        # `chalice package` copies two files of the installed Chalice.
        files = [
            {"type": "file", "name": name, "hashes": _sha256(zipped.read(name))}
            for name in sorted(zipped.namelist())
            if name.startswith("chalice/") and name.endswith(".py")
        ]
    chalice = distribution("chalice").metadata.json
    components = [{**_component(chalice), "components": files}]
    for name, metadata in libraries.items():
        components.append({**_component(metadata), "hashes": [{"alg": "SHA-256", "content": wheels[name]}]})
    ours = {**distribution("tokenservice").metadata.json, "version": __version__}
    return _document(archive, ours, [chalice, *libraries.values()], components)


def of_wheel(wheel: Path) -> dict[str, Any]:
    """Describe a wheel of ours, with the libraries that it needs in the versions of this environment."""
    with zipfile.ZipFile(wheel) as zipped:
        [metadata] = _metadata(zipped)
    needed: dict[str, Metadata] = {}
    _add_needed(metadata, needed)
    return _document(wheel, metadata, list(needed.values()), [_component(each) for each in needed.values()])


def write(document: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _metadata(zipped: zipfile.ZipFile) -> Iterator[Metadata]:
    """The metadata of each distribution in an archive or a wheel."""
    for name in zipped.namelist():
        folder, _, file = name.partition("/")
        if folder.endswith(".dist-info") and file == "METADATA":
            yield PathDistribution(zipfile.Path(zipped, f"{folder}/")).metadata.json


def _document(
    path: Path, ours: Metadata, libraries: list[Metadata], components: list[dict[str, Any]]
) -> dict[str, Any]:
    """Describe an archive or a wheel, given its own metadata and the libraries that it holds or needs."""
    content = path.read_bytes()
    refs = {_name(each): _ref(each) for each in libraries}
    needs = {_ref(each): refs.keys() & _needed(each) for each in libraries}
    dependencies = {_ref(ours): refs.keys() - {name for names in needs.values() for name in names}, **needs}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(content).hexdigest())}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "authors": [{"name": "The build of the token service (deploy/sbom.py)"}],
            "component": {**_component(ours), "type": "application", "hashes": _sha256(content)},
        },
        "components": sorted(components, key=lambda component: str(component["bom-ref"])),
        "dependencies": [
            {"ref": ref, "dependsOn": sorted(refs[name] for name in names)}
            for ref, names in sorted(dependencies.items())
        ],
    }


def _component(metadata: Metadata) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": _ref(metadata),
        "name": metadata["name"],
        "version": metadata["version"],
        "purl": _ref(metadata),
    }
    name, address = parseaddr(metadata.get("author_email", ""))
    if supplier := metadata.get("author") or metadata.get("maintainer") or name or address:
        component["supplier"] = {"name": supplier}
    if licence := _licence(metadata):
        component["licenses"] = [licence]
    return component


def _licence(metadata: Metadata) -> dict[str, Any] | None:
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


def _sha256(content: bytes) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}]


def _name(metadata: Metadata) -> str:
    return canonicalize_name(metadata["name"])


def _ref(metadata: Metadata) -> str:
    # Ours are on no index: another package could get their names there.
    kind = "generic" if metadata["name"] in _OURS else "pypi"
    return f"pkg:{kind}/{_name(metadata)}@{metadata['version']}"


def _needed(metadata: Metadata) -> set[str]:
    """The libraries that it needs, extras left out."""
    requirements = map(Requirement, metadata.get("requires_dist", []))
    return {
        canonicalize_name(each.name) for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})
    }


def _add_needed(metadata: Metadata, libraries: dict[str, Metadata]) -> None:
    for name in sorted(_needed(metadata) - libraries.keys()):
        libraries[name] = distribution(name).metadata.json
        _add_needed(libraries[name], libraries)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        write(of_wheel(Path(argument)), Path(argument).with_suffix(SUFFIX))
