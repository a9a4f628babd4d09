"""Which package may import which: imports point down only, in the whole tree."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STANDARD = frozenset(sys.stdlib_module_names)

# What is deployed: each package, the packages below it that it may import, and the libraries.
DEPLOYED: dict[str, tuple[set[str], set[str]]] = {
    "chalicelib": (set(), set()),
    "chalicelib.tokens": ({"chalicelib.addresses", "chalicelib.instants", "chalicelib.seal"}, {"msgspec"}),
    "chalicelib.addresses": (set(), set()),
    "chalicelib.seal": ({"chalicelib.errors"}, set()),
    "chalicelib.clients": (set(), set()),
    "chalicelib.errors": (set(), set()),
    "chalicelib.log_names": (set(), set()),
    "chalicelib.redaction": (set(), set()),
    "chalicelib.audit": ({"chalicelib.log_names", "chalicelib.redaction"}, set()),
    "chalicelib.instants": (set(), set()),
    "chalicelib.settings": ({"chalicelib", "chalicelib.instants"}, set()),
    "chalicelib.service": (
        {"chalicelib.tokens", "chalicelib.clients", "chalicelib.errors", "chalicelib.log_names"},
        {"msgspec"},
    ),
    "chalicelib.aws": (set(), set()),
    "chalicelib.splunk": (
        {"chalicelib.aws", "chalicelib.log_names", "chalicelib.settings"},
        {"requests", "urllib3", "tenacity"},
    ),
    "chalicelib.storage": (
        {
            *("chalicelib.addresses", "chalicelib.tokens", "chalicelib.clients", "chalicelib.errors", "chalicelib.aws"),
            "chalicelib.instants",
        },
        {"pynamodb"},
    ),
    "chalicelib.http": (
        {
            *("chalicelib", "chalicelib.service", "chalicelib.errors", "chalicelib.audit", "chalicelib.tokens"),
            *("chalicelib.addresses", "chalicelib.clients", "chalicelib.instants", "chalicelib.redaction"),
        },
        {"chalice", "msgspec"},
    ),
    "chalicelib.authorizer": ({"chalicelib", "chalicelib.clients", "chalicelib.log_names"}, {"chalice"}),
    "chalicelib.entry": (
        {
            *("chalicelib", "chalicelib.instants", "chalicelib.settings", "chalicelib.audit", "chalicelib.storage"),
            *("chalicelib.aws", "chalicelib.service", "chalicelib.authorizer", "chalicelib.splunk", "chalicelib.http"),
        },
        {"chalice"},
    ),
    # dev: for Chalice's commands, never in Lambda
    "app": ({"chalicelib.entry", "dev"}, {"chalice"}),
}
# Everything else may import all of `chalicelib`, and of the others only these.
BESIDE: dict[str, set[str]] = {
    "tokenservice_client": set(),
    "tokenctl": {"chalicelib", "tokenservice_client"},
    "deploy": {"chalicelib", "tokenctl"},
    "dev": {"chalicelib", "tokenctl", "app"},
    "examples": {"tokenservice_client", "dev", "tokenctl"},
    "spec": set(),
    "tests": {"app", "chalicelib", "tokenservice_client", "tokenctl", "deploy", "dev", "examples", "spec"},
    "studies": {"app", "chalicelib", "tokenservice_client", "tokenctl", "deploy", "dev", "tests"},
}


def sources() -> list[Path]:
    """All our modules. The peers of the benchmarks are programs of their own."""
    paths = [ROOT / "app.py", *(ROOT / "clients" / "python" / "tokenservice_client").glob("*.py")]
    for folder in ("chalicelib", *(name for name in BESIDE if name != "tokenservice_client")):
        paths += [path for path in (ROOT / folder).rglob("*.py") if not {"peers", "node_modules"} & set(path.parts)]
    return sorted(paths)


def module_name(path: Path) -> str:
    base = ROOT / "clients" / "python" if "tokenservice_client" in path.parts else ROOT
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(name: str) -> str:
    """The entry of the tables that a module or a name in it belongs to."""
    parts = name.split(".")
    if parts[0] != "chalicelib":
        return parts[0]
    within = ".".join(parts[:2])
    return within if within in DEPLOYED else "chalicelib"


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports anywhere in it, by full name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "chalicelib":
            found.update(f"chalicelib.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_every_deployed_module_has_its_place_in_the_plan() -> None:
    names = {".".join(module_name(path).split(".")[:2]) for path in sources()}
    assert {name for name in names if name.split(".")[0] in ("app", "chalicelib")} == set(DEPLOYED)


def forbidden_imports(path: Path) -> Iterator[str]:
    """The imports of a module that the table does not allow."""
    own = package_of(module_name(path))
    packages, libraries = DEPLOYED.get(own, (BESIDE.get(own, set()), set()))
    ours = {"app", "chalicelib", *BESIDE}
    for name in imports_of(path):
        package = package_of(name)
        top = package.partition(".")[0]
        if top in ours:
            is_allowed = package in {own, *packages} or (own in BESIDE and top in {own, *packages})
        else:
            is_allowed = own not in DEPLOYED or name.partition(".")[0] in STANDARD | libraries
        if not is_allowed:
            yield f"{module_name(path)} imports {name}"


def test_imports_point_down_only() -> None:
    assert [each for path in sources() for each in forbidden_imports(path)] == []


LOCAL = {"dev", "tokenctl", "werkzeug", "waitress", "http.server", "socketserver", "chalice.local", "chalice.config"}
"""What serves `make run` and `chalice local`, its HTTP parsers among it; API Gateway takes its place on AWS."""


@pytest.mark.parametrize(
    ("handler", "unwanted"),
    [
        (
            "app.basic_auth",
            {"chalicelib.http.routes", "chalicelib.http.schemas", "chalicelib.service", "chalicelib.tokens", "msgspec"},
        ),
        ("app.app", {"chalicelib.authorizer", "chalicelib.splunk", "requests", *LOCAL}),
        ("app.forward_logs", {"chalicelib.http.routes", "chalicelib.storage", "pynamodb", "msgspec", "botocore"}),
        ("app.forward_logs", {"chalicelib.splunk.redrive", "chalicelib.splunk.waiting", "xml.etree"}),
        ("app.redrive", {"chalicelib.http.routes", "chalicelib.storage", "pynamodb", "msgspec"}),
    ],
)
def test_a_function_loads_only_its_own_packages(handler: str, unwanted: set[str]) -> None:
    """Lambda names the entry point in `_HANDLER`; every module more costs the start of that function."""
    build = {
        "app.basic_auth": "from chalicelib.entry.authorizer import authorizer; authorizer()",
        "app.app": "from chalicelib.entry.api import service; service()",
        "app.forward_logs": "from chalicelib.entry.forwarder import forwarder; forwarder()",
        "app.redrive": "from chalicelib.entry.redrive import redriver; redriver()",
    }[handler]
    code = f"import sys, app; {build}; print(*sys.modules)"
    environ = {"_HANDLER": handler, "STAGE": "dev", "AWS_DEFAULT_REGION": "eu-central-1"}
    environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    environ |= {"SPLUNK_HEC_URL": "https://splunk.example:8088", "SPLUNK_HEC_TOKEN_PARAMETER": "/hec"}
    environ["SPLUNK_FAILURE_BUCKET"] = "kept"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    assert not unwanted & set(run.stdout.split())
