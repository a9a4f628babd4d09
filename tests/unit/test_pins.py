"""The pinned requirements are what the input files ask for, and one set where they overlap."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
INPUTS = {
    "lambda.in": "requirements.txt",
    "dev.in": "requirements/dev.txt",
    "bench.in": "requirements/bench.txt",
    "load.in": "requirements/load.txt",
    "engine.in": "requirements/engine.txt",
    "appinspect.in": "requirements/appinspect.txt",
    "checks.in": "requirements/checks.txt",
    "checkov.in": "requirements/checkov.txt",
}
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)


def pins(path: str) -> dict[str, str]:
    """Name to version."""
    return {canonicalize_name(name): version for name, version, _ in _PIN.findall((ROOT / path).read_text())}


@pytest.mark.parametrize(("asked", "pinned"), INPUTS.items())
def test_pins_answer_what_is_asked_for(asked: str, pinned: str) -> None:
    lines = (ROOT / "requirements" / asked).read_text().splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    found = pins(pinned)
    assert {each.name for each in wanted if found.get(canonicalize_name(each.name)) not in each.specifier} == set()
    # `make lock` notes below each pin who asked for it.
    asked_for = {name for name, _, rest in _PIN.findall((ROOT / pinned).read_text()) if f"/{asked}\n" in rest + "\n"}
    assert {canonicalize_name(name) for name in asked_for} == {canonicalize_name(each.name) for each in wanted}


@pytest.mark.parametrize("pinned", INPUTS.values())
def test_every_pin_has_hashes_and_no_index_is_named(pinned: str) -> None:
    text = (ROOT / pinned).read_text()
    assert [name for name, _, rest in _PIN.findall(text) if "--hash=sha256:" not in rest] == []
    assert "://" not in text


def test_what_is_tested_is_what_is_deployed() -> None:
    assert pins("requirements.txt").items() <= pins("requirements/dev.txt").items()


def test_the_translator_that_checks_is_the_one_that_deploys_in_tests() -> None:
    assert (
        pins("requirements/checks.txt")["aws-sam-translator"] == pins("requirements/engine.txt")["aws-sam-translator"]
    )
