"""The README is true: its routes, its settings, its error codes. Its session is in test_examples.py."""

from __future__ import annotations

import re
from pathlib import Path

from chalicelib.http.problems import TABLE
from chalicelib.http.routes import ROUTES
from chalicelib.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_route_is_listed_with_its_scope_and_no_other() -> None:
    listed = set(re.findall(r"^\| `([A-Z]+ /\S+)` \| `?(\w+)`? \|", section("API"), re.MULTILINE))
    routes = {(f"{route.method} {route.path}".replace("token_id", "tokenId"), route.scope or "any") for route in ROUTES}
    assert listed == routes


def test_every_error_code_is_listed_beside_its_status() -> None:
    for row in re.findall(r"^\| ([\d ]+) \| (.*) \|$", section("API"), re.MULTILINE):
        statuses = {int(status) for status in row[0].split()}
        for code in re.findall(r"`([a-z_]+)`", row[1]):
            assert TABLE[code].status in statuses
    assert {code for code in TABLE if f"`{code}`" in section("API")} == set(TABLE)


def test_every_setting_is_listed_and_no_other() -> None:
    asked: set[str] = set()

    class Recorder(dict[str, str]):
        def get(self, name: str, default: str = "") -> str:
            asked.add(name)
            return {"STAGE": "dev"}.get(name, default)

    Settings.from_environ(Recorder())
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", section("Settings"), re.MULTILINE)) == asked
