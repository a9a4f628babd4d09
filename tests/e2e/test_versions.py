"""What publishes a new version of a function, in the expanded template. What must not: test_stages.py, deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.resources import of_type
from deploy.template import snapshotted, versioned
from tests.support.expansion import expansion
from tests.support.local_aws import Package, Template

NAMES = ("APIHandler", "BasicAuth")


@pytest.fixture(scope="module")
def made(packages: Path) -> Package:
    return Package.of("dev", packages)


@pytest.fixture(scope="module")
def before(made: Package) -> Template:
    return expansion(made.template())


def published(template: Template) -> set[str]:
    """Logical ids of the versions: another id is another version."""
    versions = of_type(template, "AWS::Lambda::Version")
    assert sorted(version["FunctionName"]["Ref"] for version in versions.values()) == sorted(NAMES)
    return set(versions)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Runtime", "python3.14"),
        ("Environment", {"Variables": {"STAGE": "dev", "TOKENS_ISSUED_AFTER": "2026-11-21T12:31:00Z"}}),
        ("Layers", ["arn:aws:lambda:eu-central-1:1:layer:x:1"]),
    ],
)
def test_a_changed_property_publishes_a_version_of_the_same_archive(
    made: Package, before: Template, name: str, value: Any
) -> None:
    changed = made.template()
    for function in NAMES:
        changed["Resources"][function]["Properties"][name] = value
    after = expansion(versioned(changed, made.archive.read_bytes()))
    assert published(after).isdisjoint(published(before))


def test_lambda_sees_a_change_wherever_a_version_is_published(made: Package, before: Template) -> None:
    """It publishes nothing if neither code nor configuration differ, and CloudFormation then fails."""
    after = expansion(versioned(made.template(), b"other"))
    for name in NAMES:
        described, otherwise = (each["Resources"][name]["Properties"]["Description"] for each in (before, after))
        assert described != otherwise


def test_snapshots_are_of_a_version_of_their_own_for_the_functions_behind_the_gateway(
    made: Package, before: Template
) -> None:
    after = expansion(versioned(snapshotted(made.template()), made.archive.read_bytes()))
    functions = of_type(after, "AWS::Lambda::Function").items()
    applied = {name: each["SnapStart"] for name, each in functions if "SnapStart" in each}
    assert applied == {name: {"ApplyOn": "PublishedVersions"} for name in NAMES}
    assert published(after).isdisjoint(published(before))


def test_a_version_of_a_failed_deployment_is_deleted(before: Template) -> None:
    assert {before["Resources"][name]["DeletionPolicy"] for name in published(before)} == {"Delete"}
