"""What Splunk has of the service, and a reader of searches that knows which fields there are at each point."""

from __future__ import annotations

import base64
import csv
import re
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from datetime import UTC, datetime
from functools import cache
from typing import Any

from chalice.app import AuthRequest

from chalicelib.audit import Audit
from chalicelib.authorizer import Authorizer
from chalicelib.clients import Client
from chalicelib.settings import Splunk
from chalicelib.splunk.forward import forwarder
from chalicelib.tokens import Reason
from tests.conftest import ROOT
from tests.hec_server import HecServer
from tests.splunk_world import subscription
from tokenctl.costs import lines

APP = ROOT / "splunk" / "default"
SPLUNKS_OWN = {"_time", "_indextime", "_raw", "source", "sourcetype", "host", "index"}


def config(name: str) -> ConfigParser:
    """One of the app's files."""
    found = ConfigParser(interpolation=None, strict=True)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(APP / name, "utf-8")
    return found


def expanded(search: str) -> str:
    """A search with the text of its macros in their place, as Splunk reads it."""
    macros = config("macros.conf")
    while "`" in search:
        search = re.sub(r"`(\w+)`", lambda found: macros[found[1]]["definition"], search)
    return search


class NoClients:
    """A store that knows nobody, or is away."""

    def find(self, client_id: str) -> Client | None:
        if client_id == "away":
            raise ConnectionError
        return None


@cache
def written() -> tuple[str, ...]:
    """A line of each kind, by the code that writes them."""
    told: list[str] = []
    now = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    authorizer = Authorizer(NoClients(), Audit("prod", "1", told.append), lambda: now)
    for name in ("nobody", "away"):
        authorizer(AuthRequest("TOKEN", "Basic " + base64.b64encode(f"{name}:secret".encode()).decode(), "arn/api"))
    refusals = [line for reason in Reason for line in lines.of_refusal("prod", reason)]
    ours = (*lines.of_issue("prod"), *lines.of_use("prod"), *refusals, *told, *lines.of_authorizer("prod"))
    return (*ours, *lines.of_forwarder("prod", 3))


def flat(value: Any, prefix: str = "") -> Iterator[str]:
    """A JSON object's fields by the names that Splunk gives them."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from flat(member, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix


@cache
def arriving() -> dict[str, set[str]]:
    """By sourcetype, the fields of what a strict receiver gets of the forwarder, and those that props.conf makes."""
    alarm = {
        "id": "c4c1c1c9-6542-e61b-6ef0-8c4d36933a92",
        "detail-type": "CloudWatch Alarm State Change",
        "source": "aws.cloudwatch",
        "time": "2026-11-21T04:05:06Z",
        # Source: Amazon CloudWatch user guide, "Alarm events and EventBridge".
        "detail": {"alarmName": "tokenservice-prod-slow", "state": {"value": "ALARM", "reason": "too slow"}},
    }
    with HecServer() as server:
        made = forwarder(Splunk(server.url, None, "the-token", None, "tokenservice", None), "prod")
        made.forward(subscription([*written(), *lines.PLATFORM]), lambda: 60_000)
        made.forward_event(alarm, lambda: 60_000)
    props = config("props.conf")
    found: dict[str, set[str]] = {}
    for event in server.collector.indexed:
        fields = found.setdefault(event["sourcetype"], set(SPLUNKS_OWN))
        fields.update(event["fields"])
        if isinstance(event["event"], dict):
            fields.update(flat(event["event"]))
    for sourcetype, fields in found.items():
        for key, value in props[sourcetype].items():
            fields.update([key.removeprefix("EVAL-")] if key.startswith("EVAL-") else [])
            fields.update(re.findall(r" AS (\w+)", value) if key.startswith("FIELDALIAS-") else [])
    return found


class Unknown(AssertionError):
    """A search uses a field that is not there at this point of it."""


class Search:
    """Follows a search from command to command, and knows which fields there are."""

    def __init__(self, fields: set[str]) -> None:
        self.fields = set(fields)

    def follow(self, text: str) -> set[str]:
        for command in re.split(r"\|(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", text):
            name, _, rest = command.strip().partition(" ")
            step: Callable[[str], None] | None = getattr(self, f"_{name}", None)
            if step is None:
                self._search(command)
            else:
                step(rest)
        return self.fields

    def _use(self, *names: str) -> None:
        if unknown := set(names) - self.fields:
            raise Unknown(f"{', '.join(sorted(unknown))}: there is no such field")

    def _search(self, rest: str) -> None:
        rest = re.sub(r"`\w+`", "", rest)
        compared = re.compile(r"([\w.]+)\s*(?:!?=\s*(?:\"[^\"]*\"|[^\s()]+)|IN\s*\([^)]*\))")
        self._use(*compared.findall(rest))
        rest = re.sub(r"\"[^\"]*\"|[()]", " ", compared.sub(" ", rest))
        assert set(rest.split()) <= {"AND", "OR", "NOT", "*"}, rest

    def _dedup(self, rest: str) -> None:
        self._use(*rest.removesuffix("keepempty=true").split())

    def _fillnull(self, rest: str) -> None:
        self._use(*re.sub(r"value=\S+", "", rest).split())

    def _bin(self, rest: str) -> None:
        self._use(rest.split(maxsplit=1)[0])

    def _eval(self, rest: str) -> None:
        name, _, expression = rest.partition("=")
        self._use(*self._names(expression))
        self.fields.add(name)

    def _names(self, expression: str) -> list[str]:
        """The fields in an expression: its words, but for functions and operators."""
        bare = re.sub(r"\"[^\"]*\"", " ", expression)
        return [name for name in re.findall(r"(?<![\w.])[A-Za-z_][\w.]*(?![\w.(])", bare) if name not in ("AND", "OR")]

    def _stats(self, rest: str) -> None:
        made, _, by = rest.partition(" by ")
        after = set(by.split())
        self._use(*after)
        function = re.compile(rf"([a-z]\w*(?P<of>{_nested(5)})|count\b)(?: AS (?P<name>\w+))?")
        for found in function.finditer(made):
            self._use(*self._names(found["of"] or ""))
            after.add(found["name"] or found[1])
        assert not function.sub("", re.sub(r"limit=\d+", "", made)).strip(), made
        self.fields = after

    def _timechart(self, rest: str) -> None:
        self._use("_time")
        self._stats(rest)
        self.fields.add("_time")

    def _rex(self, rest: str) -> None:
        self._use("_raw")
        self.fields.update(re.findall(r"\(\?<(\w+)>", rest))

    def _lookup(self, rest: str) -> None:
        table, field, output, *made = rest.split()
        with (ROOT / "splunk" / "lookups" / f"{table}.csv").open(encoding="utf-8", newline="") as file:
            columns = set(csv.DictReader(file).fieldnames or ())
        assert output == "OUTPUT"
        assert {field, *made} <= columns
        self._use(field)
        self.fields.update(made)

    def _rename(self, rest: str) -> None:
        for old, new in re.findall(r"(\S+) AS (\w+)", rest):
            self._use(old)
            self.fields = self.fields - {old} | {new}

    def _sort(self, rest: str) -> None:
        self._use(rest.removeprefix("- "))

    def _table(self, rest: str) -> None:
        self._use(*rest.split())
        self.fields = set(rest.split())

    _fields = _table

    def _head(self, rest: str) -> None:
        assert rest.isdigit()

    def _where(self, rest: str) -> None:
        self._use(*self._names(rest))

    def _convert(self, rest: str) -> None:
        self._use(*self._names(rest))


def _nested(deep: int) -> str:
    """A pattern of round brackets with so many more in them."""
    return rf"\((?:[^()]|{_nested(deep - 1)})*\)" if deep else r"\([^()]*\)"


def known_to(text: str) -> set[str]:
    """The fields of the sourcetype that a search begins with."""
    [sourcetype] = re.findall(r'sourcetype="?([\w:]+)', text)
    return arriving()[sourcetype]
