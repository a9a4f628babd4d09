"""`tokenctl splunk`: list and replay events that Splunk did not accept, or never got."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final

import click
from rich.console import Console

from chalicelib.audit import timestamp
from chalicelib.instants import now
from chalicelib.splunk.envelope import Envelope, LogEvent, decode, encode
from chalicelib.splunk.errors import MalformedEnvelope, SplunkError
from chalicelib.splunk.forward import Forwarder, build_forwarder
from chalicelib.splunk.ledger import Ledger
from chalicelib.splunk.record import Kind, S3Record
from chalicelib.splunk.redrive import MOST_REJECTED, Outcome, redrive
from chalicelib.splunk.waiting import BucketSource, Entry
from tokenctl.deployment import Deployment
from tokenctl.errors import DeploymentError, OwnErrors, aws_errors
from tokenctl.logs import FILTER_NAME, LOG_GROUPS, check_stage
from tokenctl.terminal import Instant, Terminal, common, fail, plain, table

# An operator's machine has the memory and the time for inputs that a function must reject.
MAX_BYTES: Final = 1024 * 1024 * 1024
_SECONDS_PER_ENTRY: Final = 120.0

_BUCKET = click.option("--bucket", metavar="NAME", help="Bucket of the record; else the stage's own.")


@click.group()
def splunk() -> None:
    """List and replay events that Splunk did not accept."""


@splunk.command("failed")
@_BUCKET
@common
def failed_command(terminal: Terminal, bucket: str | None) -> None:
    """List the entries that wait for a redrive, and the poison for a person. Changes nothing."""
    deployment = terminal.deployment().with_deployed_splunk()
    source = BucketSource(OwnErrors(deployment.aws("s3")), _bucket(deployment, bucket))
    rows = [{"kind": kind.value, **summary(entry)} for kind in Kind for entry in source.entries(kind)]
    terminal.show(rows, lambda console: _show_entries(console, rows))


@splunk.command("redrive")
@_BUCKET
@common
@click.argument("names", nargs=-1, metavar="[ENTRY]...")
def redrive_command(terminal: Terminal, bucket: str | None, names: tuple[str, ...]) -> None:
    """Replay the entries that wait, or those that are named.

    Poison is replayed only if it is named. An entry is removed after Splunk has accepted it, so the command may be
    repeated at any time. A rejected entry is listed and stays; the others are replayed.
    """
    deployment = terminal.deployment().with_deployed_splunk()
    bucket = _bucket(deployment, bucket)
    place, source = f"s3://{bucket}", BucketSource(OwnErrors(deployment.aws("s3")), bucket)
    replay = _forwarder(deployment, bucket)
    named = {name: source.find(name) for name in names}
    entries = chain(source.entries(Kind.DEFERRED), source.entries(Kind.REJECTED))
    if names:
        entries = chain(entry for entry in named.values() if entry)
    # Counting the entries would read each of them twice.
    waiting = terminal.tracked(entries, f"Replaying {place}")
    most_rejected = None if names else MOST_REJECTED
    outcome = redrive(source, replay, waiting, lambda: _SECONDS_PER_ENTRY, most_rejected=most_rejected)
    terminal.show({place: asdict(outcome)}, lambda _: _show_outcome(place, outcome))
    missing = [name for name, entry in named.items() if entry is None]
    for name in missing:
        click.echo(f"Error: there is no entry {plain(name)}", err=True)
    if missing or not outcome.is_complete:
        raise SystemExit(1)


@splunk.command("resend")
@click.argument("group", type=click.Choice([name for name in LOG_GROUPS if name != "forwarder"]))
@click.option("--since", type=Instant(), required=True, help="RFC 3339, or 30m, 2h, 3d ago.")
@click.option("--until", type=Instant(), help="The same; else now.")
@_BUCKET
@common
def resend_command(terminal: Terminal, group: str, since: datetime, until: datetime | None, bucket: str | None) -> None:
    """Send what a log group received in a time to Splunk again: where events are in neither Splunk nor failure record.

    The group's subscription says which lines go. What Splunk has already comes twice, with the same event_id.
    """
    deployment = terminal.deployment().with_deployed_splunk()
    check_stage(deployment)
    name = LOG_GROUPS[group].format(stage=deployment.stage)
    sent = Counter(events=0, setAside=0, deferred=0)
    with aws_errors(f"log group {name}"):
        replay = _forwarder(deployment, _bucket(deployment, bucket))
        logged = _logged(deployment.aws("logs"), name, since, until or now())
        for reached, batch in terminal.tracked(logged, f"Sending {name}"):
            try:
                ledger = _send(replay, batch)
            except SplunkError as error:
                fail(f"{error}; when that is mended, go on with --since {timestamp(reached)}")
            sent.update(events=ledger.delivered, setAside=ledger.set_aside, deferred=ledger.deferred)
    text = f"{name}: {sent['events']} events accepted by Splunk, {sent['setAside']} set aside, "
    text += f"{sent['deferred']} stored for the redrive."
    terminal.show({"logGroup": name, **sent}, text)


def _send(replay: Forwarder, batch: Mapping[str, Any]) -> Ledger:
    deadline = time.monotonic() + _SECONDS_PER_ENTRY
    return replay.forward(batch, lambda: int((deadline - time.monotonic()) * 1000))


def _logged(client: Any, group: str, since: datetime, until: datetime) -> Iterator[tuple[datetime, Mapping[str, Any]]]:
    """What the group's subscription would hand to the forwarder of a time, each with the first instant of its page.

    Raises:
        DeploymentError: the group has no such subscription.
    """
    found = client.describe_subscription_filters(logGroupName=group, filterNamePrefix=FILTER_NAME)
    if not found["subscriptionFilters"]:
        raise DeploymentError(f"log group {group} is not sent to Splunk: it has no subscription {FILTER_NAME!r}")
    subscription = found["subscriptionFilters"][0]
    times = {"startTime": int(since.timestamp() * 1000), "endTime": int(until.timestamp() * 1000)}
    pattern = subscription.get("filterPattern", "")
    for page in client.get_paginator("filter_log_events").paginate(logGroupName=group, filterPattern=pattern, **times):
        streams: dict[str, list[LogEvent]] = {}
        for event in page["events"]:
            log = LogEvent(event["eventId"], event["timestamp"], event["message"])
            streams.setdefault(event["logStreamName"], []).append(log)
        # Whoever goes on after a failure sends the whole page again.
        first_ms = min((event["timestamp"] for event in page["events"]), default=0)
        for stream, logs in streams.items():
            envelope = Envelope(group, stream, logs)
            yield datetime.fromtimestamp(first_ms / 1000, UTC), json.loads(encode(envelope, logs))


def _bucket(deployment: Deployment, named: str | None) -> str:
    """Return the failure record's bucket: that of the option, or else the stage's."""
    bucket = named or deployment.settings.splunk.failure_bucket
    if not bucket:
        raise click.UsageError("this stage has no SPLUNK_FAILURE_BUCKET: name the record with --bucket")
    return bucket


def _forwarder(deployment: Deployment, bucket: str) -> Forwarder:
    """Return the forwarder of a stage, the same as in its Lambda functions; poison goes to the bucket.

    Raises:
        SplunkError: the stage's settings can't be used.
    """
    settings = deployment.settings.splunk
    if not settings.hec_url:
        fail("SPLUNK_HEC_URL is not set for this stage: there is no Splunk to replay to")
    ssm = OwnErrors(deployment.aws("ssm")) if settings.hec_token_parameter else None
    record = S3Record(bucket, OwnErrors(deployment.aws("s3")))
    return build_forwarder(settings, deployment.stage, ssm=ssm, record=record, max_bytes=MAX_BYTES)


def summary(entry: Entry) -> dict[str, Any]:
    """Return the facts of an entry that may be shown: never a message."""
    facts: dict[str, Any] = {"name": entry.name, "at": entry.at, "reason": entry.reason, "events": None}
    if entry.payload is None:
        return facts
    if "awslogs" not in entry.payload:
        return facts | {"events": 1, "source": str(entry.payload.get("source", "unknown"))}
    try:
        envelope = decode(entry.payload, MAX_BYTES)
    except MalformedEnvelope:
        return facts
    return facts | {"events": len(envelope.events), "source": envelope.log_group}


def _show_entries(console: Console, rows: list[dict[str, Any]]) -> None:
    if not rows:
        console.print("The failure record is empty.")
        return
    cells = [
        (
            plain(row["kind"], "red" if row["kind"] == Kind.POISON else "yellow"),
            row["name"],
            "?" if row["events"] is None else str(row["events"]),
            row["at"],
            row["reason"],
        )
        for row in rows
    ]
    console.print(table(("kind", "name", "events", "at", "reason"), cells))


def _show_outcome(name: str, outcome: Outcome) -> None:
    click.echo(f"{name}: {outcome.replayed} entries replayed, {outcome.events} events accepted.")
    if outcome.set_aside:
        click.echo(f"  {outcome.set_aside} events are poison; see 'tokenctl splunk failed'.")
    for unreadable in outcome.unreadable:
        click.echo(f"  unreadable, not removed: {unreadable}")
    for refused, reason in outcome.refused.items():
        click.echo(f"  rejected, not removed: {refused}: {reason}", err=True)
    if outcome.stopped:
        click.echo(f"  stopped; the rest waits for the next run: {outcome.stopped}", err=True)
