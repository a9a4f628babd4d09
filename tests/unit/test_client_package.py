"""The client is a distribution of its own: it needs nothing of the service, and says what it needs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.client_package import CLIENT, NEEDED
from tests.support.pins import pins
from tests.unit.test_architecture import ROOT, STANDARD, imports_of

GATEWAY = ROOT / "examples" / "document_gateway"


def names_of(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports_of(path)} - STANDARD


@pytest.mark.parametrize("path", sorted(CLIENT.glob("*.py")), ids=lambda path: path.stem)
def test_the_client_imports_nothing_of_the_service(path: Path) -> None:
    # typing_extensions: for type checkers alone, which know it without its being installed.
    assert names_of(path) <= NEEDED | {"tokenservice_client", "typing_extensions"}


@pytest.mark.parametrize("path", sorted(GATEWAY.glob("*.py")), ids=lambda path: path.stem)
def test_the_gateway_knows_the_service_by_its_client_alone(path: Path) -> None:
    """But for the demo, which starts the service."""
    libraries = {"flask", "requests", "tokenservice_client", "waitress", "werkzeug"}
    assert names_of(path) <= libraries | {"examples"} | ({"dev", "tokenctl"} if path.stem == "demo" else set())


def test_the_service_s_own_pins_are_enough_for_it() -> None:
    asked = tomllib.loads((CLIENT.parent / "pyproject.toml").read_text())["project"]["dependencies"]
    pinned = pins("requirements/dev.txt")
    for each in map(Requirement, asked):
        assert pinned[each.name] in each.specifier
