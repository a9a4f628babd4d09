"""`tokenctl splunk resend`: hand a part of a log group to the log forwarder's code again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from chalicelib.audit import timestamp
from chalicelib.instants import now
from chalicelib.splunk.envelope import Envelope, LogEvent, encode
from chalicelib.splunk.errors import Misconfigured
from chalicelib.splunk.record import Kind
from chalicelib.splunk.redrive import redrive
from chalicelib.splunk.waiting import Entry
from tokenctl import splunk
from tokenctl.errors import DeploymentError, aws_errors
from tokenctl.logs import FILTER_NAME, LOG_GROUPS, check_stage
from tokenctl.redrive import SECONDS_PER_ENTRY
from tokenctl.terminal import Instant, Terminal, common, fail, plain, tracked

_SUBSCRIBED: Final = [name for name in LOG_GROUPS if name != "forwarder"]


@click.command("resend")
@click.argument("group", type=click.Choice(_SUBSCRIBED))
@click.option("--since", type=Instant(), required=True, help="RFC 3339, or 30m, 2h, 3d ago.")
@click.option("--until", type=Instant(), help="The same; else now.")
@splunk.place_options
@common
def resend(
    terminal: Terminal,
    *,
    group: str,
    since: datetime,
    until: datetime | None,
    bucket: str | None,
    queue_url: str | None,
    folder: Path | None,
) -> None:
    """Send what a log group received in a time to Splunk again: where events are in neither Splunk nor failure record.

    The group's subscription says which lines go. What Splunk has already comes twice, with the same event_id.
    """
    deployment = terminal.deployment().with_deployed_splunk()
    check_stage(deployment)
    place = splunk.place_of(deployment, bucket, queue_url, folder)
    name = LOG_GROUPS[group].format(stage=deployment.stage)
    with aws_errors(f"log group {name}"):
        source = LogGroupSource(deployment.aws("logs"), name, since, until or now())
        try:
            forwarder = splunk.build(deployment, place)
        except Misconfigured as error:
            raise click.ClickException(str(error)) from None
        with terminal.progress(f"Sending {name}", total=None) as advance:
            entries = tracked(source.entries(Kind.FAILED), advance)
            # Nothing keeps lines that are passed over, so it ends at the first that are refused.
            outcome = redrive(source, forwarder, entries, lambda: SECONDS_PER_ENTRY, most_refused=1)
    facts = {
        "logGroup": name,
        "events": outcome.events,
        "setAside": outcome.set_aside,
        "stopped": outcome.stopped,
    }
    text = f"{name}: {outcome.events} events accepted by Splunk, {outcome.set_aside} set aside."
    terminal.show(facts, lambda console: console.print(plain(text)))
    if outcome.stopped:
        fail(f"{outcome.stopped}; when that is mended, go on with --since {timestamp(source.reached)}")


class LogGroupSource:
    """The log events of a time, as the group's subscription to Splunk would hand them to the forwarder.

    Args:
        client: of CloudWatch Logs.

    Attributes:
        reached: nothing before this instant is left to be read.

    Raises:
        DeploymentError: the group has no such subscription.
    """

    def __init__(self, client: Any, group: str, since: datetime, until: datetime) -> None:
        found = client.describe_subscription_filters(logGroupName=group, filterNamePrefix=FILTER_NAME)
        subscription = next(iter(found["subscriptionFilters"]), None)
        if subscription is None:
            raise DeploymentError(f"log group {group} is not sent to Splunk: it has no subscription {FILTER_NAME!r}")
        self.reached = since
        self._client = client
        self._group = group
        self._until = until
        self._pattern = subscription.get("filterPattern", "")
        self._owner = subscription["destinationArn"].split(":")[4]

    def entries(self, kind: Kind) -> Iterator[Entry]:
        """An entry for each log stream of each page, in the order of time."""
        pages = self._client.get_paginator("filter_log_events").paginate(
            logGroupName=self._group,
            filterPattern=self._pattern,
            startTime=int(self.reached.timestamp() * 1000),
            endTime=int(self._until.timestamp() * 1000),
        )
        for page in pages:
            streams: dict[str, list[LogEvent]] = {}
            for event in page["events"]:
                log = LogEvent(event["eventId"], event["timestamp"], event["message"])
                streams.setdefault(event["logStreamName"], []).append(log)
            if streams:
                first_ms = min(log.timestamp_ms for logs in streams.values() for log in logs)
                self.reached = datetime.fromtimestamp(first_ms / 1000, UTC)
            for stream, logs in streams.items():
                envelope = Envelope(False, self._owner, self._group, stream, (FILTER_NAME,), logs)
                payload = json.loads(encode(envelope, logs))
                yield Entry(stream, payload, kind.value, timestamp(self.reached), stream)

    def find(self, name: str) -> Entry | None:
        """None: nobody names lines of a log group."""
        return None

    def remove(self, entry: Entry) -> None:
        """What was sent stays in the log group."""
