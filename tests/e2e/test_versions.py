"""What publishes a new version of a function, and what must not: in the expanded template and on the local AWS."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy import template as completed
from tests.support.expansion import expansion, of_type
from tests.support.local_aws import LocalAws, Package, Stack, Template

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


def test_each_function_behind_the_gateway_publishes_a_version(made: Package) -> None:
    versions = of_type(expansion(made), "AWS::Lambda::Version").values()
    assert sorted(version["FunctionName"]["Ref"] for version in versions) == sorted(NAMES)


def test_the_archives_address_publishes_nothing(made: Package) -> None:
    assert published(made.template(), archive="s3://other/key.zip") == published(made.template())


def test_a_tag_publishes_nothing(made: Package) -> None:
    tagged = anew(made, set_property("Tags", {"cost-centre": "7"}))
    assert published(tagged) == published(made.template())


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
    made: Package, change: Callable[[Template], Any]
) -> None:
    assert published(anew(made, change)).isdisjoint(published(made.template()))


def test_other_code_publishes_versions(made: Package) -> None:
    assert published(anew(made, archive=b"other")).isdisjoint(published(made.template()))


def test_lambda_sees_a_change_wherever_a_version_is_published(made: Package) -> None:
    """It publishes nothing if neither code nor configuration differ, and CloudFormation then fails."""
    before, after = (
        of_type(expansion(each), "AWS::Lambda::Function") for each in (made.template(), anew(made, archive=b"other"))
    )
    for name in NAMES:
        assert before[name]["Description"] != after[name]["Description"]


def test_snapshots_are_of_a_version_of_their_own_for_the_functions_behind_the_gateway(made: Package) -> None:
    functions = of_type(expansion(anew(made, completed.snapshotted)), "AWS::Lambda::Function")
    applied = {name: each["SnapStart"] for name, each in functions.items() if "SnapStart" in each}
    assert applied == {name: {"ApplyOn": "PublishedVersions"} for name in NAMES}
    assert published(anew(made, completed.snapshotted)).isdisjoint(published(made.template()))


def test_an_older_package_gets_its_own_versions_back(made: Package) -> None:
    newer = anew(made, set_property("MemorySize", 256), archive=b"other")
    older = anew(made)
    assert published(older) == published(made.template()) != published(newer)


def test_a_version_of_a_failed_deployment_is_deleted(made: Package) -> None:
    versions = [each for each in expansion(made)["Resources"].values() if each["Type"] == "AWS::Lambda::Version"]
    assert {version["DeletionPolicy"] for version in versions} == {"Delete"}


# --- On the local AWS


@pytest.fixture(scope="module")
def stack(aws: LocalAws, made: Package) -> Stack:
    return Stack(aws, made)


def live(stack: Stack) -> tuple[str, tuple[str, int]]:
    """The version that the gateway calls, and the code and memory it has."""
    functions = stack.aws.client("lambda")
    version = functions.get_alias(FunctionName=f"tokenservice-{stack.stage}", Name="live")["FunctionVersion"]
    named = functions.get_function_configuration(FunctionName=f"tokenservice-{stack.stage}", Qualifier=version)
    return version, (named["CodeSha256"], named["MemorySize"])


def test_the_same_package_from_another_address_is_deployed_and_publishes_nothing(stack: Stack, made: Package) -> None:
    before = live(stack)
    template = made.template()
    set_property("Tags", {"cost-centre": "7"})(template)
    stack.update(made, template)  # each update has an address of its own
    assert live(stack) == before


def test_a_changed_template_is_deployed_and_taken_back(stack: Stack, made: Package) -> None:
    before, first = live(stack)
    stack.update(made, anew(made, set_property("MemorySize", 256)))
    changed, second = live(stack)
    stack.update(made, made.template())
    again, third = live(stack)
    assert len({before, changed, again}) == 3
    assert first == third != second


def test_other_code_is_deployed_and_taken_back(stack: Stack, made: Package, tmp_path: Path) -> None:
    before, first = live(stack)
    other = Package("dev", tmp_path)
    other.archive.write_bytes(made.archive.read_bytes())
    with zipfile.ZipFile(other.archive, "a") as archive:
        archive.writestr("another.txt", "other code")
    stack.update(other, anew(made, archive=other.archive.read_bytes()))
    assert live(stack)[1] != first
    stack.update(made, made.template())
    again, second = live(stack)
    assert again != before
    assert second == first


def test_a_deployment_that_failed_can_be_tried_again(stack: Stack, made: Package) -> None:
    before = live(stack)
    template = anew(made, set_property("MemorySize", 512))
    broken = anew(made, set_property("MemorySize", 512))
    broken["Resources"]["SecondAlias"] = {
        "Type": "AWS::Lambda::Alias",
        "DependsOn": "APIHandlerAliaslive",
        "Properties": {"FunctionName": {"Ref": "APIHandler"}, "FunctionVersion": "1", "Name": "live"},
    }
    with pytest.raises(AssertionError, match="already exists"):
        stack.update(made, broken)
    assert live(stack) == before
    stack.update(made, template)
    assert live(stack)[1] != before[1]
