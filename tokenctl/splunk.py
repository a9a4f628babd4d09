"""`tokenctl splunk`: what Splunk did not take, and replaying it."""

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
from tokenctl.redrive import MAX_BYTES, SECONDS_PER_ENTRY, FolderSource, QueueSource, summary
from tokenctl.terminal import Terminal, common, plain, table, tracked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from chalicelib.splunk.waiting import Entry, Source
    from tokenctl.deployment import Deployment


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stage keeps what Splunk did not take: one of a bucket and a folder, and perhaps a queue."""

    bucket: str | None
    queue_url: str | None
    folder: Path | None

    def sources(self, aws: Callable[[str], Any]) -> Iterator[tuple[str, Source]]:
        """Each place with its name."""
        if self.bucket:
            yield f"s3://{self.bucket}", BucketSource(aws("s3"), self.bucket)
        if self.queue_url:
            yield self.queue_url, QueueSource(aws("sqs"), self.queue_url)
        if self.folder:
            yield str(self.folder), FolderSource(self.folder)

    def record(self, aws: Callable[[str], Any]) -> FailureRecord | None:
        """Where a replay keeps what is poison."""
        if self.bucket:
            return S3Record(self.bucket, aws("s3"))
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
    """What Splunk did not take."""


@splunk.command("failed")
@place_options
@common
@click.pass_obj
def failed_command(terminal: Terminal, bucket: str | None, queue_url: str | None, folder: Path | None) -> None:
    """List what waits for a redrive, and the poison that a person must look at. Nothing is taken away."""
    deployment = terminal.deployment().with_deployed_splunk()
    place = place_of(deployment, bucket, queue_url, folder)
    rows = list(listing(place, deployment.aws))
    terminal.show(rows, lambda console: _show_kept(console, rows))


@splunk.command("redrive")
@place_options
@common
@click.argument("names", nargs=-1, metavar="[ENTRY]...")
@click.option("--poison", "poison", multiple=True, hidden=True, help="The same as ENTRY, for older scripts.")
@click.pass_obj
def redrive_command(terminal: Terminal, /, names: tuple[str, ...], poison: tuple[str, ...], **where: Any) -> None:
    """Replay what was not accepted in time, or the entries that are named.

    Poison stays, unless it is named. Run it again whenever you like: an entry goes only after Splunk has accepted it.
    One that Splunk refuses is named and stays, and the others go on.
    """
    deployment = terminal.deployment().with_deployed_splunk()
    place = place_of(deployment, **where)
    try:
        replay = build(deployment, place)
    except Misconfigured as error:
        raise click.ClickException(str(error)) from None
    chosen = tuple(dict.fromkeys(names + poison))
    missing: list[str] = []
    outcomes: dict[str, Outcome] = {}
    for name, source in place.sources(deployment.aws):
        if chosen and isinstance(source, QueueSource):
            continue  # nobody knows the names of its entries
        entries = _named(source, chosen, missing) if chosen else _waiting(source)
        # How many entries there are is not known before all are read, and then each would be read twice.
        with terminal.progress(f"Replaying {name}", total=None) as advance:
            most = None if chosen else MOST_REFUSED
            tried = tracked(entries, advance)
            outcomes[name] = redrive(source, replay, tried, lambda: SECONDS_PER_ENTRY, most_refused=most)
    terminal.show({name: outcome.facts() for name, outcome in outcomes.items()}, lambda _: _tell(outcomes))
    for name in missing:
        click.echo(f"Error: there is no entry {plain(name)}", err=True)
    if missing or not all(outcome.is_complete for outcome in outcomes.values()):
        raise SystemExit(1)


def listing(place: Place, aws: Callable[[str], Any]) -> Iterator[dict[str, Any]]:
    """Each entry's kind, name, time, reason and number of events; for a queue only how many wait."""
    for name, source in place.sources(aws):
        if isinstance(source, QueueSource):
            # Looking at a message would hide it from a redrive for a while.
            waiting = source.count()
            if waiting:
                told = f"{waiting} failed invocations wait"
                yield {"kind": Kind.FAILED.value, "name": name, "at": "", "reason": told, "events": None}
            continue
        for kind in Kind:
            for entry in source.entries(kind):
                yield {"kind": kind.value, **summary(entry)}


def build(deployment: Deployment, place: Place) -> Forwarder:
    """The forwarder of a stage, as its Lambda functions have it.

    Raises:
        Misconfigured: the stage has no Splunk, or its settings can't be used.
    """
    settings = deployment.settings.splunk
    if not settings.hec_url:
        raise Misconfigured("SPLUNK_HEC_URL is not set for this stage: there is no Splunk to replay to")
    return forwarder(
        settings,
        deployment.stage,
        ssm=deployment.aws("ssm") if settings.hec_token_parameter else None,
        record=place.record(deployment.aws),
        max_bytes=MAX_BYTES,
    )


def _waiting(source: Source) -> Iterator[Entry]:
    return chain(source.entries(Kind.FAILED), source.entries(Kind.REFUSED))


def _named(source: Source, names: Iterable[str], missing: list[str]) -> Iterator[Entry]:
    """The entries of these names; names of none are added to `missing`."""
    for name in names:
        if entry := source.find(name):
            yield entry
        else:
            missing.append(name)


def _show_kept(console: Console, rows: list[dict[str, Any]]) -> None:
    if not rows:
        console.print("Nothing is kept: Splunk took everything.")
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
    """Where the options say, or else where the stage does."""
    if not (bucket or folder):
        bucket = deployment.settings.splunk.failure_bucket
        folder = LOCAL_SPLUNK if deployment.stage == LOCAL_STAGE and not bucket else None
    if not (bucket or folder):
        # A queue alone will not do: it holds no poison, and a replay may meet some.
        raise click.UsageError("this stage has no SPLUNK_FAILURE_BUCKET: name the record with --bucket or --folder")
    return Place(bucket, queue_url, folder)


def _tell(outcomes: Mapping[str, Outcome]) -> None:
    for name, outcome in outcomes.items():
        click.echo(f"{name}: {outcome.replayed} entries replayed, {outcome.events} events accepted.")
        if outcome.set_aside:
            click.echo(f"  {outcome.set_aside} events are poison; see 'tokenctl splunk failed'.")
        for unreadable in outcome.unreadable:
            click.echo(f"  not readable, left where it is: {unreadable}")
        for refused, reason in outcome.refused.items():
            click.echo(f"  refused, left where it is: {refused}: {reason}", err=True)
        if outcome.stopped:
            click.echo(f"  stopped; what is left waits for the next run: {outcome.stopped}", err=True)
