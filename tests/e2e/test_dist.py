"""The wheels of tokenctl and of the Python client, installed into empty environments by somebody without a checkout."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy import sbom
from dev.engine import ROOT, Engine
from tests.support.api import Api
from tests.support.pins import pins
from tests.support.uv import WITH_UV, uv
from tokenctl.deployment import Deployment

OLDEST = "3.9"
CLIENT = ROOT / "clients" / "python" / "tokenservice_client"
NEEDED = {"requests", "tenacity", "urllib3"}
"""The distributions that the client depends on."""
WITHOUT_OLDEST = f"not run on Python {OLDEST}: "
PROGRAM = """
import sys
from tokenservice_client import Refused, TokenServiceClient
with TokenServiceClient(sys.argv[1], *sys.stdin.read().split()) as client:
    issued = client.issue("a-document", max_uses=1, expires_in=60)
    print(client.use(issued.token, action="download").node_id, client.status(issued.token_id).uses_remaining)
    try:
        client.use(issued.token)
    except Refused as refused:
        print(refused.code)
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make dist` builds, from a copy of the sources."""
    root = tmp_path_factory.mktemp("dist")
    for name in ("chalicelib", "tokenctl", "clients"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, root / name)
    for project in (root, root / "clients" / "python"):
        build = ("build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.prefix)
        uv(*build, "--out-dir", str(root / "wheels"), str(project))
    return root / "wheels"


def wheel(wheels: Path, name: str) -> Path:
    [path] = wheels.glob(f"{name}-*.whl")
    return path


def metadata(path: Path) -> Message:
    with zipfile.ZipFile(path) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("/METADATA")]
        return message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def tokenctl(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    environment = tmp_path_factory.mktemp("operator") / "environment"
    uv("venv", "--quiet", "--no-project", "--python", sys.executable, str(environment))
    # The versions that are tested: what is newest today is not this test's subject.
    pins = ("--constraints", str(ROOT / "requirements" / "run.txt"))
    uv("pip", "install", "--quiet", "--python", str(environment), *pins, str(wheel(wheels, "tokenservice")))
    return str(environment / "bin" / "tokenctl")


@pytest.mark.parametrize("name", ["tokenservice", "tokenservice_client"])
def test_a_bill_of_materials_names_what_a_wheel_needs(wheels: Path, name: str) -> None:
    path = wheel(wheels, name)
    bill = sbom.of_wheel(path)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None
    assert bill["metadata"]["component"]["hashes"][0]["content"] == hashlib.sha256(path.read_bytes()).hexdigest()
    components = {canonicalize_name(each["name"]): each for each in bill["components"]}
    needed = {canonicalize_name(Requirement(each).name) for each in metadata(path).get_all("Requires-Dist", [])}
    assert needed <= components.keys()
    tested = pins("requirements/run.txt")
    assert {name: each["version"] for name, each in components.items()}.items() <= tested.items()
    assert all(each["licenses"] for each in components.values())


class TestTokenctl:
    def test_it_works_on_a_stage_without_a_checkout(
        self, tokenctl: str, deployment: Deployment, engine: Engine, tmp_path: Path
    ) -> None:
        environ = {"PATH": WITH_UV, "HOME": str(tmp_path), **engine.client_environ}

        def run(*arguments: str) -> str:
            command = [tokenctl, "--stage", "elsewhere", *arguments]
            return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True).stdout

        run("tables", "create")
        assert run("client", "add", "records", "--scope", "use")
        assert "records" in run("client", "list")

    def test_the_local_stage_needs_a_checkout(self, tokenctl: str, tmp_path: Path) -> None:
        command = [tokenctl, "client", "list"]
        run = subprocess.run(
            command, cwd=tmp_path, env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=False
        )
        assert run.returncode == 1
        assert "name a stage with --stage" in run.stderr
        assert len(run.stderr.splitlines()) == 1


class TestClient:
    def test_its_wheel_holds_the_package_its_licence_and_what_an_index_shows(self, wheels: Path) -> None:
        path = wheel(wheels, "tokenservice_client")
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
        modules = {f"tokenservice_client/{each.name}" for each in (*CLIENT.glob("*.py"), CLIENT / "py.typed")}
        assert {name for name in names if ".dist-info/" not in name} == modules
        shown = metadata(path)
        assert [name for name in names if name.endswith("/licenses/LICENSE")]
        assert {Requirement(each).name for each in shown.get_all("Requires-Dist", [])} == NEEDED
        assert shown["Requires-Python"] == f">={OLDEST}"
        assert "Refused" in str(shown.get_payload())  # the README
        assert shown.get_all("Project-URL")
        assert f"Programming Language :: Python :: {OLDEST}" in shown.get_all("Classifier", [])

    @pytest.mark.parametrize("version", [OLDEST, ""], ids=["oldest", "this"])
    def test_it_calls_the_service_from_an_empty_environment(
        self, version: str, wheels: Path, service: str, api: Api, tmp_path: Path
    ) -> None:
        python = find_python(version) if version else sys.executable
        uv("venv", "--quiet", "--no-project", "--python", python, str(tmp_path / "environment"))
        install = ("pip", "install", "--quiet", "--python", str(tmp_path / "environment"))
        uv(*install, "--resolution", "lowest-direct", str(wheel(wheels, "tokenservice_client")))
        client = api.client()
        command = [str(tmp_path / "environment" / "bin" / "python"), "-W", "error", "-c", PROGRAM, service]
        given = f"{client.user} {client.password}"
        run = subprocess.run(command, input=given, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert run.stdout.split() == ["a-document", "0", "token_exhausted"]


def find_python(version: str) -> str:
    """A Python of this machine; skips the test if there is none, since most machines lack the oldest."""
    for directory in (Path.home() / ".pyenv" / "versions").glob(f"{version}.*"):
        return str(directory / "bin" / "python")
    try:
        return uv("python", "find", "--no-project", "--no-python-downloads", version).split()[0]
    except subprocess.CalledProcessError:
        pytest.skip(f"{WITHOUT_OLDEST}it is not installed")
