"""Sends batches until each event is accepted, rejected, or the time is up."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from tenacity import RetryCallState, Retrying, retry_if_result, wait_random_exponential

from chalicelib.splunk.errors import Misconfigured, OutOfTime, SplunkBusy, Undelivered
from chalicelib.splunk.hec import BATCH_BYTES, HecEvent, RejectedEvent
from chalicelib.splunk.ledger import Ledger
from chalicelib.splunk.transport import NoAnswer
from chalicelib.splunk.verdicts import (
    Accepted,
    Answer,
    Busy,
    ConfigurationRejected,
    EventRejected,
    RequestRejected,
    TokenRejected,
    Verdict,
    judge,
)

if TYPE_CHECKING:
    from chalicelib.splunk.secret import HecToken

REQUEST_SECONDS: Final = 30.0
# A request over TLS needs at least this with a small function's share of a processor.
LEAST_SECONDS: Final = 1.0
# No collector is known to have a lower limit. One wrong answer must not make each event a request of its own.
LEAST_LIMIT_BYTES: Final = 16_384
# Full jitter: between 0 and 0.5 s, then 1 s, 2 s … 20 s.
# Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
_JITTER = wait_random_exponential(multiplier=0.5, max=20)

Post = Callable[[bytes, str, float], Answer]
Budget = Callable[[], float]
"""How much time is left for waits and requests, in seconds; it only shrinks."""


class Rest(NamedTuple):
    """The events of a batch that are still pending, in their order, and why."""

    events: Sequence[HecEvent]
    failure: Undelivered


class _Parts:
    """The parts of one batch that are still to be sent, the next one last.

    Attributes:
        suspected_bytes: size of a request that may have been too large; its first event is sent alone next.
        accepted_bytes: size of the largest request that was not too large.
    """

    def __init__(self, batch: Sequence[HecEvent]) -> None:
        self.stack: list[Sequence[HecEvent]] = [batch] if batch else []
        self.suspected_bytes = 0
        self.accepted_bytes = 0

    def next(self, limit_bytes: int) -> Sequence[HecEvent]:
        """Take the next part, cut until it is no larger than that or a single event."""
        events = self.stack.pop()
        while len(events) > 1 and size(events) > limit_bytes:
            events = self.halve(events)
        return events

    def halve(self, events: Sequence[HecEvent]) -> Sequence[HecEvent]:
        """Put the second half back; return the first."""
        middle = len(events) // 2
        self.stack.append(events[middle:])
        return events[:middle]

    def left(self, events: Sequence[HecEvent]) -> list[HecEvent]:
        """All events that are pending after sending `events` failed, in their order."""
        return [event for part in (events, *reversed(self.stack)) for event in part]


class Deliverer:
    """Delivers batches to one collector.

    Args:
        post: sends a gzipped body with a HEC token and a time-out in seconds; raises NoAnswer or
            Misconfigured.
        secret: the HEC token.
        sleep: waits that many seconds.
    """

    def __init__(self, post: Post, secret: HecToken, sleep: Callable[[float], None] = time.sleep) -> None:
        self._post = post
        self._secret = secret
        self._sleep = sleep
        self._limit_bytes = BATCH_BYTES

    def deliver(self, batch: Sequence[HecEvent], budget: Budget, ledger: Ledger) -> Rest | None:
        """Send a batch, and parts of it again as the answers require; the ledger records each event's end.

        Args:
            batch: events in their order.
            budget: seconds that are left for waits and requests.
            ledger: of the batch's input.

        Returns:
            None if no event is pending any more.
        """
        parts = _Parts(batch)
        while parts.stack:
            events = parts.next(self._limit_bytes)
            try:
                verdict = self._final_verdict(events, budget, ledger)
            except Undelivered as failure:
                return Rest(parts.left(events), failure)
            self._settle(events, verdict, parts, ledger)
        return None

    def probe(self, budget: Budget) -> None:
        """Send a request without events: it checks address, TLS, token and collector, and leaves no trace.

        Raises:
            Undelivered: one of them does not work.
        """
        self._final_verdict([], budget, Ledger())

    def _final_verdict(
        self, events: Sequence[HecEvent], budget: Budget, ledger: Ledger
    ) -> Accepted | EventRejected | RequestRejected:
        """Send events until there is an answer about them, and not only about the collector."""
        verdict = self._send(events, budget, ledger)
        if isinstance(verdict, TokenRejected):
            # The token was replaced, or it is one node of several that does not know it: the transport takes another.
            self._secret.renew(budget())
            verdict = self._send(events, budget, ledger)
        if isinstance(verdict, Busy):
            kind = SplunkBusy if verdict.by_itself else OutOfTime
            raise kind(f"the collector did not accept the events in time; last: {verdict.reason}")
        if isinstance(verdict, TokenRejected | ConfigurationRejected):
            raise Misconfigured(f"the collector refuses the events: {verdict.reason}")
        return verdict

    def _settle(
        self,
        events: Sequence[HecEvent],
        verdict: Accepted | EventRejected | RequestRejected,
        parts: _Parts,
        ledger: Ledger,
    ) -> None:
        """Record what became of the events, and put back what is to be sent again."""
        suspected_bytes, parts.suspected_bytes = parts.suspected_bytes, 0
        match verdict:
            case Accepted():
                ledger.deliver(events)
                parts.accepted_bytes = max(parts.accepted_bytes, size(events))
                if suspected_bytes:
                    # The first event alone was accepted, so the request was too large.
                    self._limit_bytes = max(suspected_bytes // 2, LEAST_LIMIT_BYTES)
            case EventRejected(0, may_be_size=True) if len(events) > 1 and size(events) > parts.accepted_bytes:
                # Splunk Cloud gives this answer to a request that is too large as well: send that event alone, once.
                parts.suspected_bytes = size(events)
                parts.stack += [events[1:], events[:1]]
            case EventRejected(number, reason):
                ledger.deliver(events[:number])
                ledger.reject([RejectedEvent(events[number].log, reason)])
                if number:
                    # Events before it were accepted. Doubt costs a request, trust in vain would cost good events.
                    parts.accepted_bytes = max(parts.accepted_bytes, size(events))
                if number + 1 < len(events):
                    parts.stack.append(events[number + 1 :])
            case RequestRejected(reason) if len(events) == 1:
                ledger.reject([RejectedEvent(events[0].log, reason)])
            case _:  # too large, and more than one
                parts.stack.append(parts.halve(events))

    def _send(self, events: Sequence[HecEvent], budget: Budget, ledger: Ledger) -> Verdict:
        """Send events as one request, and again while the collector is busy and the time allows it."""
        # Level 1: half the processor time of the default for a tenth more bytes.
        body = zlib.compress(b"".join([event.body for event in events]), level=1, wbits=31)

        def attempt() -> Verdict:
            token = self._secret.get(budget())
            seconds = budget()
            if seconds < LEAST_SECONDS:
                raise OutOfTime("no time left for a request to the collector")
            ledger.requests += 1
            try:
                return judge(self._post(body, token, min(seconds, REQUEST_SECONDS)), len(events))
            except NoAnswer as error:
                return Busy(str(error))

        def wait(state: RetryCallState) -> float:
            retry_after = state.outcome.result().retry_after_seconds if state.outcome else None
            return max(float(_JITTER(state)), retry_after or 0.0)

        def sleep(seconds: float) -> None:
            ledger.retries += 1
            self._sleep(seconds)

        retrying = Retrying(
            retry=retry_if_result(lambda verdict: isinstance(verdict, Busy)),
            wait=wait,
            stop=lambda state: state.upcoming_sleep + LEAST_SECONDS > budget(),
            sleep=sleep,
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        verdict: Verdict = retrying(attempt)
        return verdict


def size(events: Sequence[HecEvent]) -> int:
    """Bytes of a request with these events, before compression."""
    return sum(len(event.body) for event in events)
