"""The Splunk app keeps up with the service: its events, its reasons, and what the forwarder sends."""

from __future__ import annotations

import csv
import re
from configparser import ConfigParser
from pathlib import Path
from xml.etree import ElementTree as ET

from chalicelib.clients import Doubt
from chalicelib.tokens import Reason

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "splunk"
EVENT = re.compile(r'"((?:token|auth)\.[a-z]+)"')


def conf(name: str) -> ConfigParser:
    parser = ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(APP / "default" / f"{name}.conf", "utf-8")
    return parser


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
    assert written <= set(EVENT.findall(conf("props")["tokenservice"]["EVAL-action"]))


def test_searches_name_only_macros_and_lookups_that_the_app_has() -> None:
    files = [path for path in (APP / "default").rglob("*") if path.is_file()]
    lines = [line for path in files for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    macros = set(re.findall(r"`(\w+)`", "\n".join(lines)))
    lookups = set(re.findall(r"\| lookup (\w+)", "\n".join(lines)))
    assert macros
    assert lookups
    assert macros <= set(conf("macros").sections())
    assert lookups <= set(conf("transforms").sections())


def test_alerts_are_off_until_somebody_wants_them() -> None:
    searches = conf("savedsearches")
    scheduled = [name for name in searches.sections() if searches[name].get("enableSched") == "1"]
    assert scheduled
    assert all(searches[name]["disabled"] == "1" for name in scheduled)


def test_the_dashboard_is_well_formed() -> None:
    view = ET.parse(APP / "default/data/ui/views/tokenservice.xml").getroot()
    assert view.find("label") is not None
    assert len(view.findall(".//panel")) >= 8
