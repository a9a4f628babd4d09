"""The log of a stage in trouble, by the code that writes it: its lines by log group, and what Splunk gets of them."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from chalice.app import AuthRequest

from chalicelib.audit import Audit, JsonFormatter
from chalicelib.authorizer import Authorizer
from chalicelib.clients import AuthRefusal
from chalicelib.log_names import Event
from chalicelib.splunk.errors import SplunkError
from chalicelib.splunk.forward import Forwarder, build_forwarder
from chalicelib.splunk.ledger import Ledger
from chalicelib.splunk.redrive import ScheduledRedrive
from tests.support import log_lines, splunk_app
from tests.support.audited import NOON, life
from tests.support.hec_faults import ForcedCode
from tests.support.hec_server import HecServer
from tests.support.memory_store import MemoryClientStore
from tests.support.searches import Row
from tests.support.splunk_world import (
    START_MS,
    MarkedCollector,
    Place,
    ScriptedCollector,
    forwarding,
    state_change,
    subscription,
)
from tokenctl.logs import LOG_GROUPS

# Source: AWS Lambda developer guide, "Log formats" and "Python function errors".
_TIMED_OUT: Final = "2026-11-21T12:00:00.123Z 8f5f Task timed out after 29.00 seconds"
_TIMED_OUT_AS_JSON: Final = '{"time":"2026-11-21T12:00:00.123Z","type":"platform.report","record":{"status":"timeout"}}'
_CRASHED: Final = (_TIMED_OUT, json.dumps({"errorMessage": "no", "errorType": "Runtime.ExitError"}))
REFUSED_CALLS: Final = tuple(
    log_lines.access(status="401", clientId=client_id, reason=reason, error=error)
    for client_id, reason, error in (
        ("records", "wrong_secret", "ACCESS_DENIED"),
        ("-", "unknown_client", "ACCESS_DENIED"),
        ("-", "-", "UNAUTHORIZED"),
    )
)
"""Of the access log: a wrong secret, a name that no client has, and no credentials at all."""


@cache
def lines() -> Mapping[str, Sequence[str]]:
    """Return the lines by the names of log groups that `tokenctl logs query` takes."""
    with _logged() as api:
        logging.getLogger("tokenservice").error("a bug")
    return {
        "access": (log_lines.ACCESS, log_lines.access(status="503"), *REFUSED_CALLS),
        "api": (*life().lines, *log_lines.of_store("prod", "claim"), *log_lines.PLATFORM, *api, *_CRASHED),
        "authorizer": (
            *_refused_credentials(),
            *log_lines.of_store("prod", "find_client"),
            *log_lines.PLATFORM,
            *_CRASHED,
        ),
        **_of_forwarders(),
    }


def _refused_credentials() -> list[str]:
    """Return what the functions write of credentials: unknown, not to be checked, wrong, without a scope."""
    with _logged() as written:
        audit = Audit("prod", "1", written.append)
        credentials = AuthRequest("TOKEN", "Basic bm9ib2R5OnNlY3JldA==", "arn/api")
        for store in (MemoryClientStore(), None):  # no such client, and no store
            Authorizer(store, audit, lambda: NOON, "prod")(credentials)
        audit.event(Event.AUTH_REFUSED, NOON, "WARNING", clientId="app", reason=AuthRefusal.WRONG_SECRET)
        of_a_scope = {"reason": "insufficient_scope", "sourceIp": "192.0.2.7"}  # by the REST function
        audit.event(Event.AUTH_REFUSED, NOON, "WARNING", clientId="app", **of_a_scope)
    return written


def _of_forwarders() -> dict[str, Sequence[str]]:
    """Return what the forwarders and the redrive write while Splunk accepts nothing, and then only some."""
    with HecServer(MarkedCollector()) as server:
        place = Place(server)
        for name, message, content in (("good", "good", None), ("bad", "☠07", None), ("unreadable", "", "[]")):
            place.wait(f"failed/{name}.json", message, content=content)

        def made(written: list[str]) -> Forwarder:
            return build_forwarder(place.settings, "prod", write_metrics=Audit("prod", "1", written.append).metrics)

        server.sickness = ForcedCode(7)
        with _logged() as forwarded, suppress(SplunkError):
            made(forwarded).forward(subscription(["a"]), lambda: 60_000)
        with _logged() as redriven:
            audit = Audit("prod", "1", redriven.append)
            schedule = ScheduledRedrive(place.source, made(redriven), audit.metrics)
            schedule.run(lambda: 300_000)
            server.sickness = None
            schedule.run(lambda: 300_000)
        Audit("prod", "1", forwarded.append).metrics(Ledger(received=2, blank=1, set_aside=1, retries=1).metrics())
    return {
        "forwarder": [*forwarded, *log_lines.of_forwarder("prod", 3), _TIMED_OUT_AS_JSON],
        "events": [*forwarded, _TIMED_OUT],
        "redrive": [*redriven, _TIMED_OUT, *log_lines.PLATFORM],
    }


@contextmanager
def _logged() -> Iterator[list[str]]:
    """Collect the diagnostics of the service as its functions write them."""
    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(JsonFormatter("prod", "1").format(record))  # type: ignore[method-assign] # to read it here
    logger = logging.getLogger("tokenservice")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


# --- In Splunk -------------------------------------------------------------------------------------------------------

INDEXED_AT: Final = START_MS // 1000


def forwarded(messages: Iterable[str], *state_changes: Mapping[str, Any], **origin: Any) -> list[dict[str, Any]]:
    """Return what a strict receiver gets of the forwarder: HEC envelopes. `origin` is of the subscription event."""
    splunk = ScriptedCollector()
    made = forwarding(splunk.post, stage="prod")
    made.forward(subscription(messages, **origin), lambda: 60_000)
    for change in state_changes:
        made.forward_event(change, lambda: 60_000)
    return splunk.collector.indexed


@cache
def events() -> Sequence[Row]:
    """Return the stage's log in Splunk, and the event of an alarm. The forwarder's own log is not forwarded."""
    envelopes = forwarded([], state_change("tokenservice-prod-redrive-stuck"))
    written = {**lines(), "access": REFUSED_CALLS}  # of the access log, those alone are forwarded
    for number, (name, group) in enumerate(LOG_GROUPS.items()):
        if name != "forwarder":
            envelopes += forwarded(written[name], log_group=group.format(stage="prod"), first_id=1_000 * number)
    return splunk_app.events(envelopes, INDEXED_AT + 60)


def logged(names: Iterable[str], indexed_at: int, **facts: str) -> list[Row]:
    """Return audit events as Splunk has them. They happened one after the other, a millisecond apart."""
    written: list[str] = []
    call = {"clientId": "records", "tokenId": "tok_1", "nodeId": "node", "user": "ada"}
    for name in names:
        now = datetime.fromtimestamp(START_MS / 1000, UTC)
        Audit("prod", "1", written.append).event(Event(name), now, **call, **facts)
    return splunk_app.events(forwarded(written), indexed_at)


@cache
def _known() -> Mapping[str, set[str]]:
    """Return the fields of each sourcetype: those of its events, and those that props.conf makes."""
    found: dict[str, set[str]] = {}
    for event in events():
        kind = event["sourcetype"]
        found.setdefault(kind, {*splunk_app.calculations(kind)}).update(event)
    return found


def answers(texts: Sequence[str], events: Iterable[Row]) -> list[Row]:
    """Return the results of a search, and of those that go on from it, among events of its sourcetype."""
    [sourcetype] = re.findall(r"sourcetype=\"?([\w:]+)", splunk_app.expanded(texts[0]))
    search = splunk_app.Search(_known()[sourcetype], sorted(events, key=lambda event: -event["_time"]))  # newest first
    for text in texts:
        search.follow(text)
    return search.rows
