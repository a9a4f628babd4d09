"""From a Lambda event to Splunk: decode, deliver, keep what was not taken, and say what happened."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, Final, Protocol

from chalicelib.splunk import envelope as envelopes
from chalicelib.splunk.delivery import Budget, Deliverer
from chalicelib.splunk.entries import Encode, Keeper, TimeLeft
from chalicelib.splunk.envelope import Envelope, LogEvent
from chalicelib.splunk.errors import MalformedEnvelope, Misconfigured
from chalicelib.splunk.hec import Composer, batches
from chalicelib.splunk.ledger import Metric, Metrics, Report
from chalicelib.splunk.record import FailureRecord
from chalicelib.splunk.secret import Secret, fixed, from_parameter
from chalicelib.splunk.transport import Transport

EVENT_SOURCETYPE: Final = "aws:cloudwatch:event"

_LOG = logging.getLogger("tokenservice.splunk")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


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
        keeper = Keeper(self._record, TimeLeft(remaining_ms), report)
        if self._is_idle():
            return report
        with Metrics(self._metric, "logs", report):
            try:
                envelope = envelopes.decode(event, self._max_bytes)
            except MalformedEnvelope as error:
                # Another try would end the same way, and would delay what comes after it.
                report.received = 1
                keeper.keep_input(envelopes.to_json(event).encode(), f"malformed: {error.reason}")
                return report
            if envelope.is_control:
                return report
            report.received = len(envelope.events)
            if self._own_log_group and envelope.log_group == self._own_log_group:
                # Failing would be worse than useless: each failure writes new lines to this very log group.
                keeper.keep_input(
                    envelopes.to_json(event).encode(), "the forwarder's own log group must not be subscribed"
                )
                return report
            composer = Composer(
                host=envelope.log_stream,
                source=envelope.log_group,
                sourcetype=self._sourcetype,
                index=self._index,
                fields={"log_group": envelope.log_group, "stage": self._stage},
            )
            self._deliver(composer, envelope.events, _log_encoder(envelope), keeper, report)
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
        keeper = Keeper(self._record, TimeLeft(remaining_ms), report)
        if self._is_idle():
            return report
        with Metrics(self._metric, "events", report):
            report.received = 1
            try:
                log = LogEvent(_text(event, "id"), _epoch_ms(_text(event, "time")), envelopes.to_json(event))
            except ValueError as error:
                keeper.keep_input(envelopes.to_json(event).encode(), f"malformed: {error}")
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
            self._deliver(composer, [log], lambda events: envelopes.to_json(event).encode(), keeper, report)
        return report

    def probe(self, budget: Budget) -> None:
        """Ask Splunk whether it is well; see `Deliverer.probe`."""
        if self._deliverer is None:
            raise Misconfigured("SPLUNK_HEC_URL is not set: nothing is forwarded to Splunk")
        self._deliverer.probe(budget)

    def _is_idle(self) -> bool:
        if self._deliverer is None and not self._said_nothing_is_forwarded:
            self._said_nothing_is_forwarded = True
            _LOG.warning("SPLUNK_HEC_URL is not set: nothing is forwarded to Splunk")
        return self._deliverer is None

    def _deliver(
        self,
        composer: Composer,
        events: Sequence[LogEvent],
        encode: Encode,
        keeper: Keeper,
        report: Report,
    ) -> None:
        assert self._deliverer is not None  # noqa: S101 - `_is_idle` came first
        for batch in batches(composer, events):
            delivery = self._deliverer.deliver(batch.events, keeper.time_left.budget)
            report.add(delivery, self._clock_ms())
            report.blank += batch.blank
            keeper.hold(chain(batch.set_aside, delivery.set_aside))
            failure = delivery.failure or keeper.make_room(encode)
            if failure is not None and keeper.left:
                if not report.delivered:
                    # Lambda still has all of it and will try again: nothing needs to be kept here.
                    raise failure
                left = (event.log for event in delivery.undelivered)
                keeper.keep_rest(chain(left, events[batch.consumed :]), encode, failure)
                break
        keeper.keep_held(encode)


def forwarder(
    settings: SplunkSettings,
    stage: str,
    *,
    ssm: Any = None,
    record: FailureRecord | None = None,
    metric: Metric = lambda dimensions, values: None,
    own_log_group: str | None = None,
    max_bytes: int = envelopes.MAX_BYTES,
) -> Forwarder:
    """Build a forwarder from settings; for the other arguments see `Forwarder`.

    Args:
        ssm: an SSM client of botocore, to read the HEC token with; None: our own.

    Raises:
        Misconfigured: the collector's address or the CA bundle can't be used.
    """
    return Forwarder(
        deliverer(settings, ssm),
        stage=stage,
        index=settings.index,
        sourcetype=settings.sourcetype,
        record=record,
        metric=metric,
        own_log_group=own_log_group,
        max_bytes=max_bytes,
    )


def deliverer(settings: SplunkSettings, ssm: Any = None) -> Deliverer | None:
    """Build what delivers to the collector of these settings, which may name none; see `forwarder`."""
    if not settings.hec_url:
        return None
    parameter = settings.hec_token_parameter or ""
    read = fixed(settings.hec_token) if settings.hec_token else from_parameter(parameter, ssm)
    return Deliverer(Transport(settings.hec_url, settings.ca_bundle).post, Secret(read))


def _log_encoder(envelope: Envelope) -> Encode:
    return lambda events: envelopes.encode(envelope, events)


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
