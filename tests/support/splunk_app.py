"""The Splunk app in splunk/, read without a Splunk: its files, and the fields that it gives an event.

Source: Splunk, "The sequence of search-time operations": extractions, then aliases, then calculated fields, all of them
from the values before; then event types, and the tags of these.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.support import spl

APP: Final = Path(__file__).resolve().parents[2] / "splunk"


@cache
def config(name: str) -> ConfigParser:
    """Read one of the app's files, `props.conf` for example."""
    read = ConfigParser(interpolation=None, strict=True, delimiters=("=",))
    read.optionxform = str
    read.read(APP / "default" / name, "utf-8")
    return read


def expanded(search: str) -> str:
    """Put the text of its macros into a search, as Splunk does before it reads it."""
    while "`" in search:
        parts = search.split("`")
        parts[1::2] = [config("macros.conf")[name]["definition"] for name in parts[1::2]]
        search = "".join(parts)
    return search


def event(envelope: Mapping[str, Any], indexed_at: float) -> dict[str, Any]:
    """Return what a search finds of an event that came through the HTTP Event Collector.

    Args:
        envelope: `{"time", "host", "source", "sourcetype", "fields", "event"}`.
        indexed_at: epoch seconds.

    Returns:
        Its fields, `eventtype` and `tag` among them.
    """
    content = envelope["event"]
    found: dict[str, Any] = {
        **envelope["fields"],
        "_time": float(envelope["time"]),
        "_indextime": int(indexed_at),
        "_raw": json.dumps(content) if isinstance(content, dict) else content,
        # Where no index is named, the HEC token's decides: in the app it is the macro's.
        "index": envelope.get(
            "index", config("macros.conf")["tokenservice_index"]["definition"].removeprefix("index=")
        ),
        **{name: envelope[name] for name in ("host", "source", "sourcetype")},
    }
    for name, value in _flat(content) if isinstance(content, dict) else ():
        found[name] = [found[name], value] if name in found else value
    found |= {name: made for name, made in calculated(found).items() if made is not None}
    kinds = [name for name, kind in _kinds().items() if kind(found)]
    tags = [tag for name in kinds for tag in _tags(name)]
    return found | {"eventtype": kinds, "tag": tags}


def calculated(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that `props.conf` makes of those that are there."""
    return {name: value(found) for name, value in calculations(found["sourcetype"]).items()}


@cache
def calculations(sourcetype: str) -> dict[str, spl.Value]:
    """Return the calculated fields of a sourcetype, and how each is made."""
    section = config("props.conf")[sourcetype]
    return {key.removeprefix("EVAL-"): spl.expression(section[key]) for key in section if key.startswith("EVAL-")}


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A JSON object's fields by the names that Splunk gives them; `null` is no field."""
    for name, member in value.items():
        if isinstance(member, Mapping):
            yield from _flat(member, f"{prefix}{name}.")
        elif isinstance(member, list):
            yield f"{prefix}{name}{{}}", [json.dumps(each) for each in member]
        elif member is not None:
            yield prefix + name, member if isinstance(member, str) else json.dumps(member)


@cache
def _kinds() -> dict[str, spl.Value]:
    kinds = config("eventtypes.conf")
    return {name: spl.terms(expanded(kinds[name]["search"])) for name in kinds.sections()}


def _tags(kind: str) -> list[str]:
    tags = config("tags.conf")
    section = f"eventtype={kind}"
    return [name for name, value in tags[section].items() if value == "enabled"] if section in tags else []
