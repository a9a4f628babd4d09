"""The service's events in Splunk, and an interpreter of searches: their fields and their results."""

from __future__ import annotations

import base64
import csv
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache, partial
from itertools import groupby
from typing import Any

import pyparsing as pp
from chalice.app import AuthRequest

from chalicelib.audit import Audit
from chalicelib.authorizer import Authorizer
from chalicelib.clients import Client
from chalicelib.log_names import Event as Event_
from chalicelib.splunk.ledger import Ledger
from chalicelib.tokens import Reason
from tests.support import log_lines as lines
from tests.support import spl, splunk_app
from tests.support.splunk_world import ALARM, START_MS, ScriptedCollector, forwarding, subscription

Event = dict[str, Any]


class NoClients:
    """A store without clients, or unavailable."""

    def find(self, client_id: str) -> Client | None:
        if client_id == "away":
            raise ConnectionError
        return None


def refuse_credentials(reported: list[str]) -> None:
    """Let the authorizer write what it does of a client that there is not, and while its store is away."""
    authorizer = Authorizer(NoClients(), Audit("prod", "1", reported.append), lambda: datetime.now(UTC), "prod")
    for name in ("nobody", "away"):
        authorizer(AuthRequest("TOKEN", "Basic " + base64.b64encode(f"{name}:secret".encode()).decode(), "arn/api"))


@cache
def written() -> tuple[str, ...]:
    """A line of each kind, by the code that writes them."""
    reported: list[str] = []
    now = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    refuse_credentials(reported)
    Audit("prod", "1", reported.append).metrics(Ledger(received=3, blank=1, retries=1).metrics())
    refusals = [line for reason in Reason for line in lines.of_refusal("prod", reason)]
    Audit("prod", "1", reported.append).event(Event_.ISSUED, now, notBefore=now)
    ours = (*lines.of_issue("prod"), *lines.of_use("prod"), *refusals, *reported, *lines.of_authorizer("prod"))
    return (*ours, *lines.of_trouble("prod"), *lines.of_redrive("prod"), *lines.of_forwarder("prod", 3))


@cache
def arriving() -> dict[str, set[str]]:
    """By sourcetype, the fields of what a strict receiver gets of the forwarder, and those that props.conf makes."""
    found: dict[str, set[str]] = {}
    for envelope in forwarded([*written(), *lines.PLATFORM], ALARM):
        fields = found.setdefault(envelope["sourcetype"], set())
        fields.update(splunk_app.event(envelope, indexed_at=0), splunk_app.calculations(envelope["sourcetype"]))
    return found


def forwarded(messages: Iterable[str], *state_changes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a strict receiver gets of the forwarder: HEC envelopes."""
    splunk = ScriptedCollector()
    made = forwarding(splunk.post, stage="prod")
    made.forward(subscription(messages), lambda: 60_000)
    for change in state_changes:
        made.forward_event(change, lambda: 60_000)
    return splunk.collector.indexed


def logged(names: Iterable[str], indexed_at: int, **facts: str) -> list[Event]:
    """Audit events as Splunk has them. They happened one after the other, a millisecond apart."""
    reported: list[str] = []
    audit = Audit("prod", "1", reported.append)
    for name in names:
        audit.event(name, datetime.fromtimestamp(START_MS / 1000, UTC), **CALL, **facts)
    return [splunk_app.event(envelope, indexed_at) for envelope in forwarded(reported)]


CALL = {"clientId": "records", "tokenId": "tok_1", "nodeId": "node", "user": "ada"}


QUOTED = pp.QuotedString('"', unquote_results=False)
COMMANDS = pp.DelimitedList(pp.original_text_for((QUOTED | pp.Regex(r'[^"|]+'))[1, ...]), delim="|")
ARGUMENT = pp.original_text_for(pp.nested_expr())
AGGREGATE = pp.Regex(r"[a-z]\w*")("function") + pp.Opt(ARGUMENT("argument")) + pp.Opt("AS" + pp.Regex(r"\w+")("name"))
AGGREGATES_OF = pp.Suppress(pp.Opt(pp.Regex(r"limit=\d+"))) + pp.Group(AGGREGATE)[1, ...]
CTIMES = (pp.Suppress("ctime(") + pp.Regex(r"\w+") + pp.Suppress(")"))[1, ...]


class Unknown(AssertionError):
    """A search uses a field that is not there at this point of it."""


class Search:
    """Follows a search from command to command.

    Args:
        fields: that there are.
        events: that are searched; none where only the fields matter.
    """

    def __init__(self, fields: Iterable[str], events: Iterable[Event] = ()) -> None:
        self.fields = set(fields)
        self.rows = sorted(events, key=lambda event: -event["_time"])  # Splunk finds the newest first

    def follow(self, text: str) -> set[str]:
        """Run the search; the fields that there are after it. What it found is in `rows`."""
        for command in spl.parse(COMMANDS, splunk_app.expanded(text)):
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

    def _compiled(self, value: spl.Value) -> spl.Value:
        self._use(*spl.fields_of(value))
        return value

    def _search(self, rest: str) -> None:
        self.rows = list(filter(self._compiled(spl.terms(rest)), self.rows))

    def _where(self, rest: str) -> None:
        self.rows = list(filter(self._compiled(spl.expression(rest)), self.rows))

    def _eval(self, rest: str) -> None:
        name, _, text = rest.partition("=")
        value = self._compiled(spl.expression(text))
        self.fields.add(name)
        self.rows = [present(row | {name: value(row)}) for row in self.rows]

    def _dedup(self, rest: str) -> None:
        name = rest.removesuffix(" keepempty=true")
        self._use(name)
        firsts: dict[str, Event] = {}
        self.rows = [row for row in self.rows if name not in row or firsts.setdefault(row[name], row) is row]

    def _fillnull(self, rest: str) -> None:
        value, *names = rest.split()
        self._use(*names)
        self.rows = [dict.fromkeys(names, value.removeprefix("value=").strip('"')) | row for row in self.rows]

    def _bin(self, rest: str) -> None:
        name, _, span = rest.partition(" span=")
        self._use(name)
        width = spl.parse(spl.SPAN, span)[0]
        self.rows = [row | {name: row[name] // width * width} for row in self.rows]

    def _stats(self, rest: str) -> None:
        made, _, by = rest.partition(" by ")
        names = by.split()
        self._use(*names)
        aggregates = dict(self._aggregates(made))

        def key(row: Event) -> list[str]:
            return [str(row[name]) for name in names]

        rows = sorted((row for row in self.rows if all(name in row for name in names)), key=key)
        groups = [list(group) for _, group in groupby(rows, key)] if names else [rows]
        self.fields = {*names, *aggregates}
        self.rows = [
            {name: group[0][name] for name in names} | present({name: of(group) for name, of in aggregates.items()})
            for group in groups
        ]

    def _eventstats(self, rest: str) -> None:
        """Add to each row what is made of all rows."""
        made = {name: of(self.rows) for name, of in self._aggregates(rest)}
        self.fields.update(made)
        self.rows = [present(row | made) for row in self.rows]

    def _aggregates(self, text: str) -> Iterator[tuple[str, Callable[[list[Event]], Any]]]:
        """Read `count dc(tokenId) AS tokens sum(eval(…)) AS used`: the name of each result, and how it is made."""
        for aggregate in spl.parse(AGGREGATES_OF, text):
            function, argument = aggregate["function"], aggregate.get("argument", "")
            expression = argument[1:-1].removeprefix("eval")
            value = self._compiled(spl.expression(expression)) if expression else lambda row: True
            yield aggregate.get("name", function + argument), partial(_aggregate, AGGREGATES[function], value)

    def _timechart(self, rest: str) -> None:
        """How the time is cut does not matter here."""
        self._use("_time")
        self._stats(rest)
        self.fields.add("_time")

    def _rex(self, rest: str) -> None:
        self._use("_raw")
        self.fields.update(re.compile(rest.strip('"').replace("(?<", "(?P<")).groupindex)

    def _lookup(self, rest: str) -> None:
        table, field, output, *made = rest.split()
        path = splunk_app.APP / "lookups" / splunk_app.config("transforms.conf")[table]["filename"]
        with path.open(encoding="utf-8", newline="") as file:
            found = {row[field]: row for row in csv.DictReader(file)}
        assert output == "OUTPUT"
        self._use(field)
        self.fields.update(made)
        self.rows = [row | {name: found[row[field]][name] for name in made if row[field] in found} for row in self.rows]

    def _rename(self, rest: str) -> None:
        names = rest.replace(",", " ").split()
        assert set(names[1::3]) == {"AS"}
        renamed = dict(zip(names[::3], names[2::3], strict=True))
        self._use(*renamed)
        self.fields = self.fields - set(renamed) | set(renamed.values())
        self.rows = [{renamed.get(name, name): value for name, value in row.items()} for row in self.rows]

    def _sort(self, rest: str) -> None:
        name = rest.removeprefix("- ")
        self._use(name)
        self.rows = sorted(self.rows, key=lambda row: row[name], reverse=rest.startswith("- "))

    def _table(self, rest: str) -> None:
        self._use(*rest.split())
        self.fields = set(rest.split())

    _fields = _table

    def _head(self, rest: str) -> None:
        self.rows = self.rows[: int(rest)]

    def _convert(self, rest: str) -> None:
        self._use(*spl.parse(CTIMES, rest))


def present(row: Event) -> Event:
    return {name: value for name, value in row.items() if value is not None}


def _aggregate(of: Callable[[list[Any]], Any], value: Callable[[spl.Event], Any], rows: list[Event]) -> Any:
    # What a condition says no to is not there to be counted.
    return of([found for row in rows if (found := value(row)) is not None and found is not False])


AGGREGATES: dict[str, Callable[[list[Any]], Any]] = {
    "avg": lambda values: sum(map(float, values)) / len(values) if values else None,
    "count": len,
    "dc": lambda values: len(set(map(str, values))),
    "latest": lambda values: values[0] if values else None,
    "max": lambda values: max(values, key=spl.order, default=None),
    "min": lambda values: min(values, key=spl.order, default=None),
    "p50": lambda values: sorted(map(float, values))[len(values) // 2] if values else None,
    "p99": lambda values: sorted(map(float, values))[len(values) * 99 // 100] if values else None,
    "sum": lambda values: sum(map(float, values)) if values else None,
    "values": lambda values: sorted(set(map(str, values))) or None,
}


def known_to(text: str) -> set[str]:
    """The fields of the sourcetype that a search begins with."""
    terms = [term for term in shlex.split(splunk_app.expanded(text)) if term.startswith("sourcetype=")]
    return arriving()[terms[0].removeprefix("sourcetype=")]
