"""The Splunk app keeps up with the service: its events, its reasons, and what the forwarder sends."""

from __future__ import annotations

import csv
import re
from xml.etree import ElementTree as ET

import pytest

from chalicelib.clients import Doubt
from chalicelib.tokens import Reason
from tests.conftest import ROOT
from tests.splunk_search import Search, config, expanded, known_to

APP = ROOT / "splunk"
PAGE = ROOT / "docs" / "splunk.md"
SEARCHES = {name: section for name, section in config("savedsearches.conf").items() if "search" in section}
EVENT = re.compile(r'"((?:token|auth)\.[a-z]+)"')


def test_every_reason_of_a_refusal_has_its_meaning() -> None:
    with (APP / "lookups" / "tokenservice_reasons.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    known = {row["reason"] for row in rows}
    assert len(known) == len(rows)
    assert known >= {reason.value for reason in Reason} | {doubt.value for doubt in Doubt} | {"insufficient_scope"}
    assert {row["severity"] for row in rows} <= {"low", "medium", "high"}


def test_every_event_that_the_service_writes_has_an_outcome() -> None:
    written = set()
    for name in ("service", "authorizer"):
        written.update(EVENT.findall((ROOT / "chalicelib" / f"{name}.py").read_text("utf-8")))
    assert written
    assert written <= set(EVENT.findall(config("props.conf")["tokenservice"]["EVAL-action"]))


def test_searches_name_only_macros_and_lookups_that_the_app_has() -> None:
    files = [path for path in (APP / "default").rglob("*") if path.is_file()]
    lines = [line for path in files for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    macros = set(re.findall(r"`(\w+)`", "\n".join(lines)))
    lookups = set(re.findall(r"\| lookup (\w+)", "\n".join(lines)))
    assert macros
    assert lookups
    assert macros <= set(config("macros.conf").sections())
    assert lookups <= set(config("transforms.conf").sections())


@pytest.mark.parametrize("name", [name for name in SEARCHES if not SEARCHES[name]["search"].startswith("|")])
def test_every_field_of_a_report_or_alert_is_there_where_it_is_used(name: str) -> None:
    text = expanded(SEARCHES[name]["search"])
    Search(known_to(text)).follow(text)


def test_every_search_of_the_documents_can_be_followed() -> None:
    told = re.findall(r"^```\n(`.*?)```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(told) >= 4
    for text in map(expanded, told):
        Search(known_to(text)).follow(" ".join(text.split()))


def test_alerts_are_off_until_somebody_wants_them() -> None:
    searches = config("savedsearches.conf")
    scheduled = [name for name in searches.sections() if searches[name].get("enableSched") == "1"]
    assert scheduled
    assert all(searches[name]["disabled"] == "1" for name in scheduled)


def test_the_dashboard_is_well_formed() -> None:
    view = ET.parse(APP / "default/data/ui/views/tokenservice.xml").getroot()
    assert view.find("label") is not None
    assert len(view.findall(".//panel")) >= 8
