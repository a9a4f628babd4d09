"""The client is a distribution of its own, which the gateway uses as anybody does."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.pins import pins
from tests.unit.test_architecture import ROOT, STANDARD, imports_of

GATEWAY = ROOT / "examples" / "document_gateway"


@pytest.mark.parametrize("path", sorted(GATEWAY.glob("*.py")), ids=lambda path: path.stem)
def test_the_gateway_knows_the_service_by_its_client_alone(path: Path) -> None:
    """But for the demo, which starts the service."""
    libraries = {"flask", "requests", "tokenservice_client", "waitress", "werkzeug"}
    names = {name.partition(".")[0] for name in imports_of(path)} - STANDARD
    assert names <= libraries | {"examples"} | ({"dev", "tokenctl"} if path.stem == "demo" else set())


def test_the_service_s_own_pins_are_enough_for_it() -> None:
    asked = tomllib.loads((ROOT / "clients" / "python" / "pyproject.toml").read_text())["project"]["dependencies"]
    pinned = pins("requirements/dev.txt")
    for each in map(Requirement, asked):
        assert pinned[each.name] in each.specifier
