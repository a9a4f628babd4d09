"""The rooms and which way imports point."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STANDARD = frozenset(sys.stdlib_module_names)

# Each room, the rooms it may import and the libraries it may import. What is not here is not allowed.
ROOMS: dict[str, tuple[set[str], set[str]]] = {
    "chalicelib": (set(), set()),
    "chalicelib.tokens": (set(), set()),
    "chalicelib.clients": (set(), set()),
    "chalicelib.problems": (set(), set()),
    "chalicelib.audit": (set(), set()),
    "chalicelib.instants": (set(), set()),
    "chalicelib.settings": ({"instants"}, set()),
    "chalicelib.service": ({"tokens", "clients", "problems"}, set()),
    "chalicelib.aws": (set(), {"botocore"}),
    "chalicelib.storage": ({"tokens", "clients", "problems", "aws"}, {"pynamodb", "botocore"}),
    "chalicelib.schemas": ({"tokens", "clients"}, {"msgspec"}),
    "chalicelib.conversion": ({"instants", "schemas", "tokens", "problems", "audit"}, {"msgspec"}),
    "chalicelib.parsing": ({"schemas", "problems", "tokens"}, {"msgspec"}),
    "chalicelib.authorizer": ({"clients"}, {"chalice"}),
    "chalicelib.routes": (
        {"service", "parsing", "schemas", "conversion", "problems", "audit", "tokens", "clients"},
        {"chalice"},
    ),
    "chalicelib.runtime": (
        {"instants", "settings", "audit", "storage", "aws", "service", "authorizer", "splunk"},
        set(),
    ),
    "app": ({"routes", "runtime", "schemas"}, {"chalice", "local"}),  # local: for Chalice's commands, never in Lambda
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(name: str) -> str:
    """The room that a module lies in."""
    return ".".join(name.split(".")[:2])


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports anywhere in it, by full name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names if node.module == "chalicelib")
    return found


# A room is a module or a folder of them. The forwarders' folder has a plan of its own.
DEPLOYED = [
    ROOT / "app.py",
    *sorted((ROOT / "chalicelib").glob("*.py")),
    *sorted((ROOT / "chalicelib" / "aws").glob("*.py")),
    *sorted((ROOT / "chalicelib" / "storage").glob("*.py")),
]
FORWARDERS = sorted((ROOT / "chalicelib" / "splunk").glob("*.py"))


def test_every_deployed_module_has_its_room_in_the_plan() -> None:
    assert {room_of(module_name(path)) for path in DEPLOYED} == set(ROOMS)


@pytest.mark.parametrize("path", DEPLOYED, ids=module_name)
def test_imports_point_down_only(path: Path) -> None:
    own = room_of(module_name(path))
    rooms, libraries = ROOMS[own]
    allowed = {own, *(f"chalicelib.{room}" for room in rooms)}
    for name in imports_of(path):
        top = name.partition(".")[0]
        if top == "chalicelib":
            room = room_of(name)
            place = ROOT / "chalicelib" / room.partition(".")[2]
            is_module = room != "chalicelib" and (place.with_suffix(".py").exists() or place.is_dir())
            assert not is_module or room in allowed, f"{module_name(path)} must not import {name}"
        else:
            assert top in STANDARD or top in libraries, f"{module_name(path)} must not import {name}"


@pytest.mark.parametrize("path", FORWARDERS, ids=module_name)
def test_the_forwarders_know_nothing_of_the_rest_service(path: Path) -> None:
    for name in imports_of(path):
        top = name.partition(".")[0]
        if top == "chalicelib":
            assert room_of(name) in ("chalicelib.splunk", "chalicelib.aws"), (
                f"{module_name(path)} must not import {name}"
            )
        else:
            assert top in STANDARD or top in {"requests", "urllib3", "tenacity", "botocore"}


@pytest.mark.parametrize(
    ("handler", "unwanted"),
    [
        (
            "app.basic_auth",
            {"chalicelib.routes", "chalicelib.schemas", "chalicelib.service", "chalicelib.tokens", "msgspec"},
        ),
        ("app.app", {"chalicelib.authorizer", "chalicelib.splunk", "requests"}),
        ("app.forward_logs", {"chalicelib.routes", "chalicelib.storage", "pynamodb", "msgspec", "botocore"}),
        ("app.forward_logs", {"chalicelib.splunk.redrive", "chalicelib.splunk.waiting", "xml.etree"}),
        ("app.redrive", {"chalicelib.routes", "chalicelib.storage", "pynamodb", "msgspec"}),
    ],
)
def test_a_function_loads_only_its_own_rooms(handler: str, unwanted: set[str]) -> None:
    """Lambda names the entry point in `_HANDLER`; every module more costs the start of that function."""
    build = {
        "app.basic_auth": "runtime.authorizer()",
        "app.app": "runtime.token_service()",
        "app.forward_logs": "runtime.forwarder()",
        "app.redrive": "runtime.redriver()",
    }[handler]
    code = f"import sys, app; from chalicelib import runtime; {build}; print(*sys.modules)"
    environ = {"_HANDLER": handler, "STAGE": "dev", "AWS_DEFAULT_REGION": "eu-central-1"}
    environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    environ |= {"SPLUNK_HEC_URL": "https://splunk.example:8088", "SPLUNK_HEC_TOKEN_PARAMETER": "/hec"}
    environ["SPLUNK_FAILURE_BUCKET"] = "kept"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    assert not unwanted & set(run.stdout.split())
