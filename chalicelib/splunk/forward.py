"""From a Lambda event to Splunk: decode, deliver, store what was not accepted, write metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from chalicelib.splunk.delivery import Budget, Deliverer
from chalicelib.splunk.entries import Encode, EntryWriter, TimeLeft
from chalicelib.splunk.envelope import MAX_BYTES, LogEvent, decode, encode, to_json
from chalicelib.splunk.errors import MalformedEnvelope, Misconfigured, SplunkError
from chalicelib.splunk.hec import Composer, batches
from chalicelib.splunk.ledger import Ledger, WriteMetrics
from chalicelib.splunk.record import FailureRecord
from chalicelib.splunk.secret import HecToken, fixed, from_parameter
from chalicelib.splunk.transport import Transport

if TYPE_CHECKING:
    from chalicelib.settings import Splunk

EVENT_SOURCETYPE: Final = "aws:cloudwatch:event"
_IDLE: Final = "SPLUNK_HEC_URL is not set: nothing is forwarded to Splunk"

_LOG = logging.getLogger("tokenservice.splunk")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Input(NamedTuple):
    """The log events of one input.

    Attributes:
        encode: encodes some of them as an input of their own.
        rejection: why none of them is to be sent; mostly empty.
    """

    events: Sequence[LogEvent]
    composer: Composer
    encode: Encode
    rejection: str = ""


@dataclass(frozen=True, slots=True)
class Forwarder:
    """Forwards the events of CloudWatch Logs and EventBridge; see `Ledger` for what it guarantees.

    Attributes:
        deliverer: None means that nothing is forwarded.
        record: None means that the invocation fails if something has to be stored.
        own_log_group: never forwarded, or each delivery would cause the next.
        clock_ms: epoch milliseconds.
    """

    deliverer: Deliverer | None
    stage: str
    _: KW_ONLY
    index: str | None = None
    sourcetype: str = "tokenservice"
    record: FailureRecord | None = None
    write_metrics: WriteMetrics = lambda values: None
    own_log_group: str | None = None
    max_bytes: int = MAX_BYTES
    clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000

    def forward(self, event: Mapping[str, Any], remaining_ms: Callable[[], int]) -> Ledger:
        """Forward one CloudWatch Logs subscription event.

        Args:
            event: `{"awslogs": {"data": str}}`.
            remaining_ms: how long the invocation may still run.

        Raises:
            Undelivered: none of the events was accepted, and not all could be set aside.
            RecordUnavailable: something had to be stored and was not.
        """
        return self._run(self._read_logs, event, remaining_ms)

    def forward_event(self, event: Mapping[str, Any], remaining_ms: Callable[[], int]) -> Ledger:
        """Forward one EventBridge event, as it comes to Lambda: an alarm's or a pipeline's change of state.

        Arguments and errors as `forward`.
        """
        return self._run(self._read_event, event, remaining_ms)

    def probe(self, budget: Budget) -> None:
        """Check whether Splunk accepts requests; see `Deliverer.probe`."""
        if self.deliverer is None:
            raise Misconfigured(_IDLE)
        self.deliverer.probe(budget)

    def _run(
        self,
        read: Callable[[Mapping[str, Any]], _Input],
        event: Mapping[str, Any],
        remaining_ms: Callable[[], int],
    ) -> Ledger:
        ledger = Ledger(clock_ms=self.clock_ms)
        if self.deliverer is None:
            return ledger
        writer = EntryWriter(self.record, TimeLeft(remaining_ms), ledger)
        try:
            try:
                parsed = read(event)
            except MalformedEnvelope as error:
                # Another try would end the same way, and would delay what comes after it.
                ledger.received = 1
                writer.write_input(to_json(event).encode(), f"malformed: {error}")
            else:
                ledger.received = len(parsed.events)
                if parsed.rejection:
                    writer.write_input(to_json(event).encode(), parsed.rejection)
                else:
                    _deliver(self.deliverer, parsed, writer, ledger)
            ledger.close()
        except SplunkError as error:
            _LOG.error("the events stay with Lambda: %s", error)
            raise
        finally:
            if values := ledger.metrics():
                self.write_metrics(values)
        return ledger

    def _read_logs(self, event: Mapping[str, Any]) -> _Input:
        envelope = decode(event, self.max_bytes)
        composer = Composer(
            host=envelope.log_stream,
            source=envelope.log_group,
            sourcetype=self.sourcetype,
            index=self.index,
            fields={"log_group": envelope.log_group, "stage": self.stage},
        )
        # Failing would be worse than useless: each failure logs new lines to this very log group.
        is_own = envelope.events and self.own_log_group and envelope.log_group == self.own_log_group
        rejection = "the forwarder's own log group must not be subscribed" if is_own else ""
        return _Input(envelope.events, composer, lambda logs: encode(envelope, logs), rejection)

    def _read_event(self, event: Mapping[str, Any]) -> _Input:
        """Source: Amazon EventBridge user guide, "Structure of an event"."""
        log = LogEvent(_text(event, "id"), _epoch_ms(_text(event, "time")), to_json(event))
        composer = Composer(
            host=str(event.get("account") or "unknown"),
            source=str(event.get("source") or "unknown"),
            sourcetype=EVENT_SOURCETYPE,
            index=self.index,
            fields={
                "detail_type": str(event.get("detail-type") or ""),
                "region": str(event.get("region") or ""),
                "stage": self.stage,
            },
        )
        return _Input([log], composer, lambda logs: to_json(event).encode())


def _deliver(deliverer: Deliverer, parsed: _Input, writer: EntryWriter, ledger: Ledger) -> None:
    for batch in batches(parsed.composer, parsed.events):
        ledger.skip(batch.blank)
        ledger.reject(batch.unsendable)
        rest = deliverer.deliver(batch.events, writer.time_left.budget, ledger)
        if rest:
            if not ledger.delivered:
                raise rest.failure  # Lambda still has all of it and will try again: nothing needs to be stored here
            pending = (event.log for event in rest.events)
            later = parsed.events[batch.consumed :]
            writer.write_rest(chain(pending, later), parsed.encode, rest.failure)
            break
    writer.write_poison(parsed.encode)


def build_forwarder(
    settings: Splunk,
    stage: str,
    *,
    ssm: Any = None,
    record: FailureRecord | None = None,
    write_metrics: WriteMetrics = lambda values: None,
    own_log_group: str | None = None,
    max_bytes: int = MAX_BYTES,
) -> Forwarder:
    """Build a forwarder from settings; for the other arguments see `Forwarder`.

    Args:
        ssm: called like botocore's SSM client, but raises our errors; `None` means our own.

    Raises:
        Misconfigured: the collector's address or a file for TLS can't be used.
    """
    deliverer = None
    if not settings.hec_url:
        _LOG.warning(_IDLE)
    else:
        parameter = settings.hec_token_parameter or ""
        read = fixed(settings.hec_token) if settings.hec_token else from_parameter(parameter, ssm)
        transport = Transport(settings.hec_url, settings.ca_bundle, settings.client_certificate)
        deliverer = Deliverer(transport.post, HecToken(read))
    return Forwarder(
        deliverer,
        stage=stage,
        index=settings.index,
        sourcetype=settings.sourcetype,
        record=record,
        write_metrics=write_metrics,
        own_log_group=own_log_group,
        max_bytes=max_bytes,
    )


def _text(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not value:
        raise MalformedEnvelope(f"{name} is missing or not a string")
    return value


def _epoch_ms(time_: str) -> int:
    try:
        instant = datetime.fromisoformat(time_)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None or instant < _EPOCH:
        raise MalformedEnvelope("time is no RFC 3339 time with offset")
    return (instant - _EPOCH) // timedelta(milliseconds=1)
