"""Each lock pins what its dependency group in `pyproject.toml` names, and the locks agree where they overlap."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dev.environments import NEWEST
from dev.lock import LockError, digests, machines
from tests.support.pins import PIN, ROOT, pins

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {
    "lambda": "requirements.txt",
    "run": "requirements/run.txt",
    "dev": "requirements/dev.txt",
    "engine": "requirements/engine.txt",
    "scanners": "requirements/scanners.txt",
    "uv": "requirements/uv.txt",
}


def requirements_of(group: str) -> Iterator[Requirement]:
    for entry in PROJECT["dependency-groups"][group]:
        if isinstance(entry, dict):
            yield from requirements_of(entry["include-group"])
        else:
            yield Requirement(entry)


@pytest.mark.parametrize("group", PROJECT["dependency-groups"])
def test_a_lock_pins_everything_that_its_group_names(group: str) -> None:
    pinned = pins(LOCKS[group])
    wanted = list(requirements_of(group))
    assert [str(each) for each in wanted if pinned.get(canonicalize_name(each.name)) not in each.specifier] == []


@pytest.mark.parametrize("lock", LOCKS.values())
def test_every_pin_has_hashes_and_no_lock_names_an_index(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert [name for name, _, rest in PIN.findall(text) if "--hash=sha256:" not in rest] == []
    assert "://" not in text


_FITTING = (
    "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64",
    "cp39-abi3-musllinux_1_2_aarch64",
    "cp314-cp314-macosx_10_13_universal2",
    "py2.py3-none-macosx_11_0_arm64",
)
_OTHER = (
    "cp312-cp312-win_amd64",
    "cp310-cp310-manylinux_2_28_x86_64",
    "cp313-cp313t-manylinux_2_28_x86_64",
    "cp315-cp315-macosx_11_0_arm64",
    "pp311-pypy311_pp73-manylinux_2_28_x86_64",
    "cp312-cp312-manylinux_2_28_s390x",
)
_SDIST = {"hashes": {"sha256": "sdist"}}


def released(*tags: str, **others: object) -> dict[str, Any]:
    wheels = [{"url": f"https://index/thing-1-{each}.whl", "hashes": {"sha256": each}} for each in tags]
    return {"name": "thing", "version": "1", "wheels": wheels, **others}


class TestFilesThatALockPins:
    def test_wheels_that_a_supported_machine_can_install_and_the_source_for_those_without_a_wheel(self) -> None:
        package = released(*_FITTING, *_OTHER, sdist=_SDIST)
        assert digests(package, machines(NEWEST)) == sorted([*_FITTING, "sdist"])

    def test_no_source_if_every_machine_has_a_wheel(self) -> None:
        assert digests(released("py3-none-any", sdist=_SDIST), machines(NEWEST)) == ["py3-none-any"]

    def test_nothing_of_a_library_for_windows_alone(self) -> None:
        assert digests(released("py3-none-any", marker="sys_platform == 'win32'"), machines(NEWEST)) == []

    def test_a_machine_without_any_file_is_an_error(self) -> None:
        with pytest.raises(LockError, match="thing 1 has no file"):
            digests(released(*_FITTING), machines(NEWEST))


def test_every_package_of_npm_is_pinned_by_its_content_and_no_registry_is_named() -> None:
    """`npm run lock` in that folder writes such a lock."""
    folder = ROOT / "deploy" / "openapi"
    text = (folder / "package-lock.json").read_text("utf-8")
    assert "://" not in text
    root, *packages = json.loads(text)["packages"].values()
    assert all(each["integrity"].startswith("sha512-") for each in packages)
    assert not any("resolved" in each for each in packages)
    assert root["devDependencies"] == json.loads((folder / "package.json").read_text("utf-8"))["devDependencies"]
    assert all(re.fullmatch(r"[\d.]+", version) for version in root["devDependencies"].values())


def test_what_is_tested_is_what_is_deployed_and_what_make_run_serves() -> None:
    assert pins(LOCKS["lambda"]).items() <= pins(LOCKS["run"]).items() <= pins(LOCKS["dev"]).items()


def test_the_wheel_of_the_project_admits_the_versions_that_are_tested() -> None:
    tested = pins(LOCKS["run"])
    wanted = [Requirement(each) for each in PROJECT["project"]["dependencies"]]
    assert [str(each) for each in wanted if tested[canonicalize_name(each.name)] not in each.specifier] == []


RUNTIMES: Any = tomllib.loads((ROOT / "deploy" / "runtimes.toml").read_text())


def test_aws_supports_the_deployed_runtime_for_another_year() -> None:
    end: date = RUNTIMES["runtime"][RUNTIMES["deployed"]]["deprecated"]
    assert end - datetime.now(UTC).date() > timedelta(days=365), "move to a later runtime: docs/deploy.md"


def test_the_documented_end_of_each_runtime_is_the_one_in_the_table() -> None:
    document = (ROOT / "docs" / "deploy.md").read_text()
    for version, facts in RUNTIMES["runtime"].items():
        cells = (f"Python {version}", facts["operating_system"], facts["deprecated"], facts["blocked"])
        assert f"| {' | '.join(map(str, cells))} |" in document


def test_the_pins_are_enough_for_the_python_client() -> None:
    asked = tomllib.loads((ROOT / "clients" / "python" / "pyproject.toml").read_text())["project"]["dependencies"]
    pinned = pins("requirements/dev.txt")
    for each in map(Requirement, asked):
        assert pinned[each.name] in each.specifier
