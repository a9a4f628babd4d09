"""From a Lambda event to Splunk: decode, deliver, keep what was not taken, and say what happened."""

from __future__ import annotations

import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any, Final, Protocol

from chalicelib.splunk import envelope as envelopes
from chalicelib.splunk.delivery import Deliverer
from chalicelib.splunk.envelope import Envelope, LogEvent
from chalicelib.splunk.errors import MalformedEnvelope, RecordUnavailable, SplunkError, Undelivered
from chalicelib.splunk.hec import Composer, SetAside, batches
from chalicelib.splunk.record import FailureRecord, Kind
from chalicelib.splunk.secret import Secret, fixed, from_parameter
from chalicelib.splunk.transport import Transport

EVENT_SOURCETYPE: Final = "aws:cloudwatch:event"

# What the failure record may take at the end: three tries, and loading its client with the small share of a
# processor that a 128 MB function has.
RESERVE_SECONDS: Final = 10.0
_LARGEST_RESERVE: Final = 0.25  # of the time there is, where a function has a short time-out

_LOG = logging.getLogger("tokenservice.splunk")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Metric = Callable[[Mapping[str, str], Mapping[str, tuple[float, str]]], object]
Encode = Callable[[Iterable[LogEvent]], bytes]


class SplunkSettings(Protocol):
    """What is needed of `chalicelib.settings.Splunk`."""

    @property
    def hec_url(self) -> str | None: ...
    @property
    def hec_token_parameter(self) -> str | None: ...
    @property
    def hec_token(self) -> str | None: ...
    @property
    def index(self) -> str | None: ...
    @property
    def sourcetype(self) -> str: ...
    @property
    def ca_bundle(self) -> str | None: ...


@dataclass(slots=True)
class Report:
    """What became of one invocation's events.

    Attributes:
        received: events in the input; an input that can't be read counts as one.
        delivered: accepted by Splunk.
        set_aside: kept in the failure record as poison.
        kept: kept in the failure record to be replayed, because others of the input were accepted already.
        requests: requests made to the collector.
        retries: how many of them repeated one that had failed.
        longest_delay_ms, total_delay_ms: from a log event's own time to its acceptance.
        records: names of the entries in the failure record.
    """

    received: int = 0
    delivered: int = 0
    set_aside: int = 0
    kept: int = 0
    requests: int = 0
    retries: int = 0
    longest_delay_ms: int = 0
    total_delay_ms: int = 0
    records: list[str] = field(default_factory=list)


class Forwarder:
    """Forwards what CloudWatch Logs and EventBridge hand over.

    It returns when every event is accepted by Splunk or kept in the failure record, and raises otherwise:
    Lambda then invokes it again and in the end hands the input to the on-failure destination.

    Args:
        deliverer: None where no Splunk is configured: nothing is forwarded.
        record: None where there is no failure record: what would be kept there fails the invocation.
        metric: takes dimensions and, by name, value and unit.
        own_log_group: never forwarded, or each delivery would cause the next.
        clock_ms: epoch milliseconds.
    """

    def __init__(
        self,
        deliverer: Deliverer | None,
        *,
        stage: str,
        index: str | None = None,
        sourcetype: str = "tokenservice",
        record: FailureRecord | None = None,
        metric: Metric = lambda dimensions, values: None,
        own_log_group: str | None = None,
        max_bytes: int = envelopes.MAX_BYTES,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._deliverer = deliverer
        self._stage = stage
        self._index = index
        self._sourcetype = sourcetype
        self._record = record
        self._metric = metric
        self._own_log_group = own_log_group
        self._max_bytes = max_bytes
        self._clock_ms = clock_ms
        self._said_nothing_is_forwarded = False

    def forward(self, event: Mapping[str, Any], remaining_ms: Callable[[], int]) -> Report:
        """Forward one CloudWatch Logs subscription event.

        Args:
            event: `{"awslogs": {"data": str}}`.
            remaining_ms: how long the invocation may still run.

        Raises:
            Undelivered: none of the events was accepted, and not all could be set aside.
            RecordUnavailable: something had to be kept and was not.
        """
        report = Report()
        if self._is_idle():
            return report
        with _Metrics(self._metric, "logs", report):
            try:
                envelope = envelopes.decode(event, self._max_bytes)
            except MalformedEnvelope as error:
                # Another try would end the same way, and would delay what comes after it.
                report.received = 1
                self._set_aside_whole(event, f"malformed: {error.reason}", report)
                return report
            if envelope.is_control:
                return report
            report.received = envelope.count
            if self._own_log_group and envelope.log_group == self._own_log_group:
                # Failing would be worse than useless: each failure writes new lines to this very log group.
                self._set_aside_whole(event, "the forwarder's own log group must not be subscribed", report)
                return report
            composer = Composer(
                host=envelope.log_stream,
                source=envelope.log_group,
                sourcetype=self._sourcetype,
                index=self._index,
                fields={"log_group": envelope.log_group, "stage": self._stage},
            )
            self._deliver(composer, envelope.log_events, _log_encoder(envelope), remaining_ms, report)
        return report

    def forward_event(self, event: Mapping[str, Any], remaining_ms: Callable[[], int]) -> Report:
        """Forward one EventBridge event: an alarm's or a pipeline's change of state.

        Args:
            event: as EventBridge hands it to Lambda.
            remaining_ms: how long the invocation may still run.

        Raises:
            Undelivered, RecordUnavailable: as `forward`.

        Source: Amazon EventBridge user guide, "Structure of an event".
        """
        report = Report()
        if self._is_idle():
            return report
        with _Metrics(self._metric, "events", report):
            report.received = 1
            try:
                log = LogEvent(_text(event, "id"), _epoch_ms(_text(event, "time")), _json(event).decode())
            except ValueError as error:
                self._set_aside_whole(event, f"malformed: {error}", report)
                return report
            composer = Composer(
                host=str(event.get("account") or "unknown"),
                source=str(event.get("source") or "unknown"),
                sourcetype=EVENT_SOURCETYPE,
                index=self._index,
                fields={
                    "detail_type": str(event.get("detail-type") or ""),
                    "region": str(event.get("region") or ""),
                    "stage": self._stage,
                },
            )
            self._deliver(composer, lambda: iter([log]), lambda events: _json(event), remaining_ms, report)
        return report

    def _is_idle(self) -> bool:
        if self._deliverer is None and not self._said_nothing_is_forwarded:
            self._said_nothing_is_forwarded = True
            _LOG.warning("SPLUNK_HEC_URL is not set: nothing is forwarded to Splunk")
        return self._deliverer is None

    def _deliver(
        self,
        composer: Composer,
        events: Callable[[], Iterator[LogEvent]],
        encode: Encode,
        remaining_ms: Callable[[], int],
        report: Report,
    ) -> None:
        assert self._deliverer is not None  # noqa: S101 - `_is_idle` came first
        budget = _budget(remaining_ms)
        aside: list[SetAside] = []
        for batch in batches(composer, events()):
            aside += batch.set_aside
            delivery = self._deliverer.deliver(batch.events, budget)
            aside += delivery.set_aside
            report.requests += delivery.requests
            report.retries += delivery.retries
            report.delivered += len(delivery.accepted)
            self._note_delays([event.log for event in delivery.accepted], report)
            if delivery.failure is not None:
                if not report.delivered:
                    # Lambda still has all of it and will try again: nothing needs to be kept here.
                    raise delivery.failure
                left = [event.log for event in delivery.undelivered]
                rest = islice(events(), batch.consumed, None)
                self._keep_rest(encode(chain(left, rest)), delivery.failure, aside, report)
                break
        self._set_aside(encode, aside, report)

    def _keep_rest(self, body: bytes, failure: Undelivered, aside: list[SetAside], report: Report) -> None:
        """Keep what is left of an input that was accepted in part.

        If Lambda tried the whole of it again, Splunk would get the accepted part twice.
        """
        kept = report.received - report.delivered - len(aside)
        self._put(Kind.FAILED, body, failure.reason, report)
        report.kept = kept
        _LOG.error("Splunk took only a part: %d events are kept for a redrive: %s", kept, failure.reason)

    def _set_aside(self, encode: Encode, aside: list[SetAside], report: Report) -> None:
        by_reason: defaultdict[str, list[LogEvent]] = defaultdict(list)
        for log, reason in aside:
            by_reason[reason].append(log)
        for reason, logs in by_reason.items():
            self._put(Kind.POISON, encode(logs), reason, report)
            report.set_aside += len(logs)
            _LOG.warning("%d events are set aside in the failure record: %s", len(logs), reason)

    def _set_aside_whole(self, event: Mapping[str, Any], reason: str, report: Report) -> None:
        self._put(Kind.POISON, _json(event), reason, report)
        report.set_aside = report.received
        _LOG.error("an input is set aside in the failure record: %s", reason)

    def _put(self, kind: Kind, body: bytes, reason: str, report: Report) -> None:
        if self._record is None:
            raise RecordUnavailable(f"there is no failure record to keep events in: {reason}")
        report.records.append(self._record.put(kind, body, reason))

    def _note_delays(self, accepted: list[LogEvent], report: Report) -> None:
        now_ms = self._clock_ms()
        delays_ms = [max(0, now_ms - log.timestamp_ms) for log in accepted]
        report.longest_delay_ms = max(report.longest_delay_ms, *delays_ms, 0)
        report.total_delay_ms += sum(delays_ms)


def forwarder(
    settings: SplunkSettings,
    stage: str,
    *,
    record: FailureRecord | None = None,
    metric: Metric = lambda dimensions, values: None,
    own_log_group: str | None = None,
    max_bytes: int = envelopes.MAX_BYTES,
) -> Forwarder:
    """Build a forwarder from settings; for the arguments see `Forwarder`.

    Raises:
        Misconfigured: the collector's address or the CA bundle can't be used.
    """
    deliverer = None
    if settings.hec_url:
        parameter = settings.hec_token_parameter or ""
        read = fixed(settings.hec_token) if settings.hec_token else from_parameter(parameter)
        deliverer = Deliverer(Transport(settings.hec_url, settings.ca_bundle).post, Secret(read))
    return Forwarder(
        deliverer,
        stage=stage,
        index=settings.index,
        sourcetype=settings.sourcetype,
        record=record,
        metric=metric,
        own_log_group=own_log_group,
        max_bytes=max_bytes,
    )


class _Metrics:
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
            "EventsFailed": (report.received - report.delivered - report.set_aside, "Count"),
            "RequestsRetried": (report.retries, "Count"),
        }
        if report.delivered:
            values["DeliveryDelayMax"] = (report.longest_delay_ms, "Milliseconds")
            values["DeliveryDelayMean"] = (round(report.total_delay_ms / report.delivered, 3), "Milliseconds")
        self._metric(self._dimensions, values)
        if isinstance(failure[1], SplunkError):
            _LOG.error("the events stay with Lambda: %s", failure[1])


def _budget(remaining_ms: Callable[[], int]) -> Callable[[], float]:
    reserve = min(RESERVE_SECONDS, remaining_ms() / 1000 * _LARGEST_RESERVE)
    return lambda: max(0.0, remaining_ms() / 1000 - reserve)


def _log_encoder(envelope: Envelope) -> Encode:
    return lambda events: envelopes.encode(envelope, events)


def _json(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()


def _text(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is missing or not a string")
    return value


def _epoch_ms(time_: str) -> int:
    try:
        instant = datetime.fromisoformat(time_)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None or instant < _EPOCH:
        raise ValueError("time is no RFC 3339 time with offset")
    return (instant - _EPOCH) // timedelta(milliseconds=1)
