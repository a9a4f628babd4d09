"""Sends batches until each event is accepted, set aside, or the time is up."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from tenacity import RetryCallState, Retrying, retry_if_result, wait_random_exponential

from chalicelib.splunk import errors
from chalicelib.splunk.errors import Misconfigured, OutOfTime, Undelivered
from chalicelib.splunk.hec import (
    BATCH_BYTES,
    Accepted,
    Answer,
    Busy,
    Denied,
    HecEvent,
    Poisoned,
    SetAside,
    TooLarge,
    Verdict,
    Wrong,
    judge,
)
from chalicelib.splunk.transport import NoAnswer

if TYPE_CHECKING:
    from chalicelib.splunk.secret import Secret

REQUEST_SECONDS: Final = 30.0
# Less than this is no fair chance for a request over TLS at a small function's share of a processor.
LEAST_SECONDS: Final = 1.0
# No collector is known to take less. A stray answer must not make each event a request of its own.
LEAST_LIMIT_BYTES: Final = 16_384
# Full jitter: between 0 and 0.5 s, then 1 s, 2 s … 20 s.
# Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
_JITTER = wait_random_exponential(multiplier=0.5, max=20)

Post = Callable[[bytes, str, float], Answer]


class Budget(Protocol):
    """How much time there is for waits and requests, in seconds; it only shrinks."""

    def __call__(self) -> float: ...


@dataclass(slots=True)
class Delivery:
    """What became of a batch; each of its events is in exactly one of the three lists.

    Attributes:
        failure: why there are undelivered events.
        requests: how many requests were made.
        retries: how many of them repeated one that had failed.
    """

    accepted: list[HecEvent] = field(default_factory=list)
    set_aside: list[SetAside] = field(default_factory=list)
    undelivered: list[HecEvent] = field(default_factory=list)
    failure: Undelivered | None = None
    requests: int = 0
    retries: int = 0


class _Pending:
    """The parts of one batch that are still to be sent, the next one last.

    Attributes:
        suspected_bytes: the size of a request that may have been too large; its first event is sent alone next.
        welcome_bytes: a request of this size was not too large.
    """

    def __init__(self, batch: Sequence[HecEvent]) -> None:
        self.parts: list[Sequence[HecEvent]] = [batch] if batch else []
        self.suspected_bytes = 0
        self.welcome_bytes = 0

    def next(self, limit_bytes: int) -> Sequence[HecEvent]:
        """Take the next part, cut until it is no larger than that or a single event."""
        events = self.parts.pop()
        while len(events) > 1 and size(events) > limit_bytes:
            events = self.halve(events)
        return events

    def halve(self, events: Sequence[HecEvent]) -> Sequence[HecEvent]:
        """Put the second half back; return the first."""
        middle = len(events) // 2
        self.parts.append(events[middle:])
        return events[:middle]

    def left(self, events: Sequence[HecEvent]) -> list[HecEvent]:
        """All events that were not dealt with when sending `events` failed, in their order."""
        return [event for part in (events, *reversed(self.parts)) for event in part]


class Deliverer:
    """Delivers batches to one collector.

    Args:
        post: sends a gzipped body with a HEC token and a time-out in seconds; raises NoAnswer or
            Misconfigured.
        secret: the HEC token.
        sleep: waits that many seconds.
    """

    def __init__(self, post: Post, secret: Secret, sleep: Callable[[float], None] = time.sleep) -> None:
        self._post = post
        self._secret = secret
        self._sleep = sleep
        self._limit_bytes = BATCH_BYTES

    def deliver(self, batch: Sequence[HecEvent], budget: Budget) -> Delivery:
        """Send a batch, and send it again in parts as far as the answers ask for that.

        Args:
            batch: events in their order.
            budget: seconds that are left for waits and requests.
        """
        delivery = Delivery()
        pending = _Pending(batch)
        while pending.parts:
            events = pending.next(self._limit_bytes)
            try:
                verdict = self._final_verdict(events, budget, delivery)
            except Undelivered as failure:
                delivery.failure = failure
                delivery.undelivered = pending.left(events)
                break
            self._settle(events, verdict, pending, delivery)
        return delivery

    def probe(self, budget: Budget) -> None:
        """Send a request without events: it shows address, TLS, token and collector to be well, and leaves no trace.

        Raises:
            Undelivered: they are not.
        """
        self._final_verdict([], budget, Delivery())

    def _final_verdict(
        self, events: Sequence[HecEvent], budget: Budget, delivery: Delivery
    ) -> Accepted | Poisoned | TooLarge:
        """Send events until there is an answer about them, and not only about the collector."""
        verdict = self._send(events, budget, delivery)
        if isinstance(verdict, Denied):
            # The token was replaced, or it is one node of several that does not know it: the transport takes another.
            self._secret.renew(budget())
            verdict = self._send(events, budget, delivery)
        if isinstance(verdict, Busy):
            kind = errors.Busy if verdict.by_itself else OutOfTime
            raise kind(f"the collector did not take the events in time; last: {verdict.reason}")
        if isinstance(verdict, Denied | Wrong):
            raise Misconfigured(f"the collector refuses to take the events: {verdict.reason}")
        return verdict

    def _settle(
        self,
        events: Sequence[HecEvent],
        verdict: Accepted | Poisoned | TooLarge,
        pending: _Pending,
        delivery: Delivery,
    ) -> None:
        """Note what became of the events, and what of them is to be sent again."""
        suspected_bytes, pending.suspected_bytes = pending.suspected_bytes, 0
        match verdict:
            case Accepted():
                delivery.accepted += events
                pending.welcome_bytes = max(pending.welcome_bytes, size(events))
                if suspected_bytes:
                    # Alone the first event was welcome, so it was the size that displeased.
                    self._limit_bytes = max(suspected_bytes // 2, LEAST_LIMIT_BYTES)
            case Poisoned(0, may_be_size=True) if len(events) > 1 and size(events) > pending.welcome_bytes:
                # Splunk Cloud says this of a request that is too large for it as well: ask once, with that
                # event alone.
                pending.suspected_bytes = size(events)
                pending.parts += [events[1:], events[:1]]
            case Poisoned(number, reason):
                delivery.accepted += events[:number]
                delivery.set_aside.append(SetAside(events[number].log, reason))
                if number:
                    # Events before it were taken. Doubt costs a request, trust in vain would cost good events.
                    pending.welcome_bytes = max(pending.welcome_bytes, size(events))
                if number + 1 < len(events):
                    pending.parts.append(events[number + 1 :])
            case TooLarge(reason) if len(events) == 1:
                delivery.set_aside.append(SetAside(events[0].log, reason))
            case _:  # too large, and more than one
                pending.parts.append(pending.halve(events))

    def _send(self, events: Sequence[HecEvent], budget: Budget, delivery: Delivery) -> Verdict:
        """Send events as one request, and again while the collector is busy and the time allows it."""
        # Level 1: half the processor time of the default for a tenth more bytes.
        body = zlib.compress(b"".join([event.body for event in events]), level=1, wbits=31)
        before = delivery.requests

        def attempt() -> Verdict:
            token = self._secret.get(budget())
            seconds = budget()
            if seconds < LEAST_SECONDS:
                raise OutOfTime("no time left for a request to the collector")
            delivery.requests += 1
            try:
                return judge(self._post(body, token, min(seconds, REQUEST_SECONDS)), len(events))
            except NoAnswer as error:
                return Busy(str(error))

        def wait(state: RetryCallState) -> float:
            verdict = state.outcome.result() if state.outcome else None
            asked = verdict.retry_after_seconds if isinstance(verdict, Busy) else None
            return max(float(_JITTER(state)), asked or 0.0)

        retrying = Retrying(
            retry=retry_if_result(lambda verdict: isinstance(verdict, Busy)),
            wait=wait,
            stop=lambda state: state.upcoming_sleep + LEAST_SECONDS > budget(),
            sleep=self._sleep,
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        try:
            verdict: Verdict = retrying(attempt)
        finally:
            delivery.retries += max(0, delivery.requests - before - 1)
        return verdict


def size(events: Sequence[HecEvent]) -> int:
    """Bytes of a request with these events, before compression."""
    return sum(len(event.body) for event in events)
