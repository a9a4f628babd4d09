"""What publishes a new version of a function, and what must not, in the expanded template. Deployed: test_stages.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy import template as completed
from deploy.resources import of_type
from tests.support.expansion import expansion
from tests.support.local_aws import Package, Template

NAMES = ("APIHandler", "BasicAuth")


@pytest.fixture(scope="module")
def made(packages: Path) -> Package:
    return Package.of("dev", packages)


def anew(made: Package, change: Callable[[Template], Any] = id, archive: bytes | None = None) -> Template:
    """The template that a package gets where its functions or its archive differ."""
    template = made.template()
    change(template)
    return completed.versioned(template, archive or made.archive.read_bytes())


def set_property(name: str, value: Any) -> Callable[[Template], Any]:
    def change(template: Template) -> None:
        for function in NAMES:
            template["Resources"][function]["Properties"][name] = value

    return change


def published(template: Template, **named: str) -> set[str]:
    """Logical ids of the versions: another id is another version."""
    return set(of_type(expansion(template, **named), "AWS::Lambda::Version"))


@pytest.fixture(scope="module")
def before(made: Package) -> set[str]:
    """The versions of the package as it is."""
    return published(made.template())


def test_each_function_behind_the_gateway_publishes_a_version(made: Package) -> None:
    versions = of_type(expansion(made.template()), "AWS::Lambda::Version").values()
    assert sorted(version["FunctionName"]["Ref"] for version in versions) == sorted(NAMES)


def test_the_archives_address_publishes_nothing(made: Package, before: set[str]) -> None:
    assert published(made.template(), archive="s3://other/key.zip") == before


def test_a_tag_publishes_nothing(made: Package, before: set[str]) -> None:
    assert published(anew(made, set_property("Tags", {"cost-centre": "7"}))) == before


@pytest.mark.parametrize(
    "change",
    [
        set_property("MemorySize", 256),
        set_property("Timeout", 5),
        set_property("Runtime", "python3.14"),
        set_property("Environment", {"Variables": {"STAGE": "dev", "TOKENS_ISSUED_AFTER": "2026-11-21T12:31:00Z"}}),
        set_property("Layers", ["arn:aws:lambda:eu-central-1:1:layer:x:1"]),
    ],
)
def test_a_changed_property_publishes_a_version_of_the_same_archive(
    made: Package, before: set[str], change: Callable[[Template], Any]
) -> None:
    assert published(anew(made, change)).isdisjoint(before)


def test_other_code_publishes_versions(made: Package, before: set[str]) -> None:
    assert published(anew(made, archive=b"other")).isdisjoint(before)


def test_lambda_sees_a_change_wherever_a_version_is_published(made: Package) -> None:
    """It publishes nothing if neither code nor configuration differ, and CloudFormation then fails."""
    before, after = (
        of_type(expansion(each), "AWS::Lambda::Function") for each in (made.template(), anew(made, archive=b"other"))
    )
    for name in NAMES:
        assert before[name]["Description"] != after[name]["Description"]


def test_snapshots_are_of_a_version_of_their_own_for_the_functions_behind_the_gateway(
    made: Package, before: set[str]
) -> None:
    functions = of_type(expansion(anew(made, completed.snapshotted)), "AWS::Lambda::Function")
    applied = {name: each["SnapStart"] for name, each in functions.items() if "SnapStart" in each}
    assert applied == {name: {"ApplyOn": "PublishedVersions"} for name in NAMES}
    assert published(anew(made, completed.snapshotted)).isdisjoint(before)


def test_an_older_package_gets_its_own_versions_back(made: Package, before: set[str]) -> None:
    newer = anew(made, set_property("MemorySize", 256), archive=b"other")
    assert published(anew(made)) == before != published(newer)


def test_a_version_of_a_failed_deployment_is_deleted(made: Package) -> None:
    resources = expansion(made.template())["Resources"].values()
    assert {each["DeletionPolicy"] for each in resources if each["Type"] == "AWS::Lambda::Version"} == {"Delete"}
