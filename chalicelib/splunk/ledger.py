"""What became of one invocation's events, and the metrics of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chalicelib.splunk.errors import SplunkError

if TYPE_CHECKING:
    from chalicelib.splunk.delivery import Delivery

_LOG = logging.getLogger("tokenservice.splunk")

Metric = Callable[[Mapping[str, str], Mapping[str, tuple[float, str]]], object]


@dataclass(slots=True)
class Report:
    """What became of one invocation's events.

    Attributes:
        received: events in the input; an input that can't be read counts as one.
        delivered: accepted by Splunk.
        set_aside: kept in the failure record as poison.
        blank: nothing but white space; neither sent nor kept.
        kept: kept in the failure record to be replayed, because others of the input were accepted already.
        requests: requests made to the collector.
        retries: how many of them repeated one that had failed.
        longest_delay_ms, total_delay_ms: from a log event's own time to its acceptance.
        records: names of the entries in the failure record.
    """

    received: int = 0
    delivered: int = 0
    set_aside: int = 0
    blank: int = 0
    kept: int = 0
    requests: int = 0
    retries: int = 0
    longest_delay_ms: int = 0
    total_delay_ms: int = 0
    records: list[str] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Events that are not dealt with: neither delivered nor set aside nor blank."""
        return self.received - self.delivered - self.set_aside - self.blank

    def add(self, delivery: Delivery, now_ms: int) -> None:
        """Count what was accepted, and what that took."""
        self.requests += delivery.requests
        self.retries += delivery.retries
        self.delivered += len(delivery.accepted)
        delays_ms = [max(0, now_ms - event.log.timestamp_ms) for event in delivery.accepted]
        self.longest_delay_ms = max(self.longest_delay_ms, *delays_ms, 0)
        self.total_delay_ms += sum(delays_ms)


class Metrics:
    """Writes an invocation's metrics when it ends, however it ends."""

    def __init__(self, metric: Metric, forwarder_name: str, report: Report) -> None:
        self._metric = metric
        self._dimensions = {"Forwarder": forwarder_name}
        self._report = report

    def __enter__(self) -> None:
        pass

    def __exit__(self, *failure: object) -> None:
        report = self._report
        values: dict[str, tuple[float, str]] = {
            "EventsReceived": (report.received, "Count"),
            "EventsDelivered": (report.delivered, "Count"),
            "EventsSetAside": (report.set_aside, "Count"),
            "EventsFailed": (report.left, "Count"),
            "RequestsRetried": (report.retries, "Count"),
        }
        if report.blank:
            values["EventsBlank"] = (report.blank, "Count")
        if report.delivered:
            values["DeliveryDelayMax"] = (report.longest_delay_ms, "Milliseconds")
            values["DeliveryDelayMean"] = (round(report.total_delay_ms / report.delivered, 3), "Milliseconds")
        self._metric(self._dimensions, values)
        if isinstance(failure[1], SplunkError):
            _LOG.error("the events stay with Lambda: %s", failure[1])
