"""`tokenctl splunk`: list and replay events that Splunk did not accept."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from chalicelib.splunk.errors import Misconfigured
from chalicelib.splunk.forward import Forwarder, forwarder
from chalicelib.splunk.record import FailureRecord, FolderRecord, Kind, S3Record
from chalicelib.splunk.redrive import MOST_REFUSED, Outcome, redrive
from chalicelib.splunk.waiting import BucketSource
from tokenctl.deployment import LOCAL_SPLUNK, LOCAL_STAGE
from tokenctl.errors import OwnErrors
from tokenctl.redrive import MAX_BYTES, SECONDS_PER_ENTRY, FolderSource, QueueSource, summary
from tokenctl.terminal import Terminal, common, plain, table, tracked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from chalicelib.splunk.waiting import Entry, Source
    from tokenctl.deployment import Deployment


@dataclass(frozen=True, slots=True)
class Place:
    """The failure record of a stage: a bucket or a folder, and perhaps a queue."""

    bucket: str | None
    queue_url: str | None
    folder: Path | None

    def sources(self, aws: Callable[[str], Any]) -> Iterator[tuple[str, Source]]:
        if self.bucket:
            yield f"s3://{self.bucket}", BucketSource(OwnErrors(aws("s3")), self.bucket)
        if self.queue_url:
            yield self.queue_url, QueueSource(aws("sqs"), self.queue_url)
        if self.folder:
            yield str(self.folder), FolderSource(self.folder)

    def record(self, aws: Callable[[str], Any]) -> FailureRecord | None:
        """The record in which a replay stores poison."""
        if self.bucket:
            return S3Record(self.bucket, OwnErrors(aws("s3")))
        return FolderRecord(self.folder) if self.folder else None


def place_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that name the failure record."""
    options = (
        click.option("--bucket", metavar="NAME", help="S3 bucket of the record; else that of the stage's forwarder."),
        click.option("--queue-url", envvar="SPLUNK_FAILURE_QUEUE_URL", metavar="URL", help="SQS queue beside it."),
        click.option(
            "--folder",
            envvar="SPLUNK_FAILURE_FOLDER",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="Folder of the record; for the local stage, that of 'make run'.",
        ),
    )
    for add in reversed(options):
        function = add(function)
    return function


@click.group()
def splunk() -> None:
    """List and replay events that Splunk did not accept."""


@splunk.command("failed")
@place_options
@common
def failed_command(terminal: Terminal, bucket: str | None, queue_url: str | None, folder: Path | None) -> None:
    """List the entries that wait for a redrive, and the poison for a person. Changes nothing."""
    deployment = terminal.deployment().with_deployed_splunk()
    place = place_of(deployment, bucket, queue_url, folder)
    rows = list(listing(place, deployment.aws))
    terminal.show(rows, lambda console: _show_entries(console, rows))


@splunk.command("redrive")
@place_options
@common
@click.argument("names", nargs=-1, metavar="[ENTRY]...")
def redrive_command(terminal: Terminal, /, names: tuple[str, ...], **where: Any) -> None:
    """Replay the entries that wait, or those that are named.

    Poison is replayed only if it is named. An entry is removed after Splunk has accepted it, so the command may be
    repeated at any time. A rejected entry is listed and stays; the others are replayed.
    """
    deployment = terminal.deployment().with_deployed_splunk()
    place = place_of(deployment, **where)
    try:
        replay = build(deployment, place)
    except Misconfigured as error:
        raise click.ClickException(str(error)) from None
    selected = tuple(dict.fromkeys(names))
    missing: list[str] = []
    outcomes: dict[str, Outcome] = {}
    for name, source in place.sources(deployment.aws):
        if selected and isinstance(source, QueueSource):
            continue  # its entries have no names that a person could know
        entries = _named(source, selected, missing) if selected else _waiting(source)
        # Counting the entries would read each of them twice.
        with terminal.progress(f"Replaying {name}", total=None) as advance:
            most_refused = None if selected else MOST_REFUSED
            outcomes[name] = redrive(
                source, replay, tracked(entries, advance), lambda: SECONDS_PER_ENTRY, most_refused=most_refused
            )
    terminal.show({name: outcome.facts() for name, outcome in outcomes.items()}, lambda _: _show_outcomes(outcomes))
    for name in missing:
        click.echo(f"Error: there is no entry {plain(name)}", err=True)
    if missing or not all(outcome.is_complete for outcome in outcomes.values()):
        raise SystemExit(1)


def listing(place: Place, aws: Callable[[str], Any]) -> Iterator[dict[str, Any]]:
    """Kind, name, time, reason and number of events of each entry; for a queue only the number of entries."""
    for name, source in place.sources(aws):
        if isinstance(source, QueueSource):
            # Reading a message would hide it from a redrive for a while.
            if waiting := source.count():
                reason = f"{waiting} failed invocations wait"
                yield {"kind": Kind.FAILED.value, "name": name, "at": "", "reason": reason, "events": None}
            continue
        for kind in Kind:
            for entry in source.entries(kind):
                yield {"kind": kind.value, **summary(entry)}


def build(deployment: Deployment, place: Place) -> Forwarder:
    """The forwarder of a stage, the same as in its Lambda functions.

    Raises:
        Misconfigured: the stage has no Splunk, or its settings can't be used.
    """
    settings = deployment.settings.splunk
    if not settings.hec_url:
        raise Misconfigured("SPLUNK_HEC_URL is not set for this stage: there is no Splunk to replay to")
    return forwarder(
        settings,
        deployment.stage,
        ssm=OwnErrors(deployment.aws("ssm")) if settings.hec_token_parameter else None,
        record=place.record(deployment.aws),
        max_bytes=MAX_BYTES,
    )


def _waiting(source: Source) -> Iterator[Entry]:
    return chain(source.entries(Kind.FAILED), source.entries(Kind.REFUSED))


def _named(source: Source, names: Iterable[str], missing: list[str]) -> Iterator[Entry]:
    """The entries of these names; names without an entry are added to `missing`."""
    for name in names:
        if entry := source.find(name):
            yield entry
        else:
            missing.append(name)


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


def place_of(deployment: Deployment, bucket: str | None, queue_url: str | None, folder: Path | None) -> Place:
    """The place of the options, or else of the stage."""
    if not (bucket or folder):
        bucket = deployment.settings.splunk.failure_bucket
        folder = LOCAL_SPLUNK if deployment.stage == LOCAL_STAGE and not bucket else None
    if not (bucket or folder):
        # A queue alone is not enough: a replay may have to store poison.
        raise click.UsageError("this stage has no SPLUNK_FAILURE_BUCKET: name the record with --bucket or --folder")
    return Place(bucket, queue_url, folder)


def _show_outcomes(outcomes: Mapping[str, Outcome]) -> None:
    for name, outcome in outcomes.items():
        click.echo(f"{name}: {outcome.replayed} entries replayed, {outcome.events} events accepted.")
        if outcome.set_aside:
            click.echo(f"  {outcome.set_aside} events are poison; see 'tokenctl splunk failed'.")
        for unreadable in outcome.unreadable:
            click.echo(f"  unreadable, not removed: {unreadable}")
        for refused, reason in outcome.refused.items():
            click.echo(f"  rejected, not removed: {refused}: {reason}", err=True)
        if outcome.stopped:
            click.echo(f"  stopped; the rest waits for the next run: {outcome.stopped}", err=True)
