"""Delivery of batches: retries, events set aside, and time limits."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.splunk.delivery import LEAST_LIMIT_BYTES, LEAST_SECONDS, REQUEST_SECONDS, Deliverer
from chalicelib.splunk.envelope import LogEvent
from chalicelib.splunk.errors import Misconfigured, OutOfTime, SplunkBusy, Undelivered
from chalicelib.splunk.hec import BATCH_BYTES, Composer, HecEvent
from chalicelib.splunk.ledger import Ledger
from chalicelib.splunk.secret import HecToken, fixed
from chalicelib.splunk.transport import NoAnswer, Transport
from chalicelib.splunk.verdicts import Answer
from tests.support.hec_faults import ForcedCode
from tests.support.hec_server import HecServer
from tests.support.splunk_world import MarkedCollector, ScriptedCollector, coded


class Delivered(Ledger):
    """A ledger that also has the accepted messages, the pending ones, and why these are."""

    accepted: list[str]
    left: list[str]
    failure: Undelivered | None

    @property
    def rejected(self) -> list[str]:
        return [each.log.message for each in self.poison]

    def deliver(self, events: Sequence[HecEvent]) -> None:
        super().deliver(events)
        self.accepted += [event.log.message for event in events]


class Bench(ScriptedCollector):
    """A deliverer in front of a scripted collector."""

    def __init__(self, max_bytes: int = 1_000_000, seconds: float = 60.0) -> None:
        super().__init__(MarkedCollector(max_bytes=max_bytes))
        self.remaining = seconds
        self.slept: list[float] = []
        self.timeouts: list[float] = []
        self.tokens: list[str] = []
        self.sizes: list[int] = []
        self.request_seconds = 0.0
        self.secrets = ["the-token"]
        self.deliverer = Deliverer(self.post, HecToken(self.read_secret), self.sleep)

    def read_secret(self) -> str:
        return self.secrets.pop(0) if len(self.secrets) > 1 else self.secrets[0]

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.remaining -= seconds

    def post(self, body: bytes, token: str, timeout_seconds: float) -> Answer:
        self.timeouts.append(timeout_seconds)
        self.tokens.append(token)
        self.sizes.append(len(zlib.decompress(body, 31)))
        self.remaining -= self.request_seconds
        return super().post(body, token, timeout_seconds)

    def budget(self) -> float:
        return max(0.0, self.remaining)

    def deliver(self, *messages: str) -> Delivered:
        """Deliver a batch with these messages."""
        composer = Composer(host="h", source="s", sourcetype="t", index=None, fields={})
        events = [composer.compose(LogEvent(str(n), n, message)) for n, message in enumerate(messages)]
        delivered = Delivered(received=len(events))
        delivered.accepted = []
        rest = self.deliverer.deliver(events, self.budget, delivered)
        delivered.left = [event.log.message for event in rest.events] if rest else []
        delivered.failure = rest.failure if rest else None
        assert delivered.pending == len(delivered.left)
        return delivered


def test_a_good_batch_is_one_request_and_an_empty_one_is_none() -> None:
    bench = Bench()
    delivery = bench.deliver("a", "b", "c")
    assert (delivery.accepted, delivery.requests, delivery.retries) == (["a", "b", "c"], 1, 0)
    assert (delivery.rejected, delivery.failure) == ([], None)
    assert bench.deliver().requests == 0
    room = BATCH_BYTES - bench.sizes[0] + 1  # for one of the messages
    assert [bench.deliver("a" * room, "b", "c").requests for _ in range(2)] == [1, 1]
    assert bench.sizes[1:] == [BATCH_BYTES] * 2


def test_a_probe_leaves_no_trace_and_renews_a_token_that_is_refused() -> None:
    bench = Bench()
    bench.secrets = ["old", "the-token"]
    bench.deliverer.probe(bench.budget)
    assert (bench.tokens, bench.collector.indexed) == (["old", "the-token"], [])


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (coded(9), SplunkBusy),
        (NoAnswer("closed"), OutOfTime),
        (coded(4), Misconfigured),
        (coded(7), Misconfigured),
        (Answer(400, b"<html>"), Misconfigured),
        (Answer(503, b'{"text":"No data","code":5}'), OutOfTime),
        (Answer(403, b'{"text":"No data","code":5}'), Misconfigured),
    ],
)
def test_a_probe_of_a_failing_collector_fails(answer: Answer | Exception, failure: type[Exception]) -> None:
    bench = Bench(seconds=3)
    bench.request_seconds = 1
    bench.script = [answer] * 10
    with pytest.raises(failure) as caught:
        bench.deliverer.probe(bench.budget)
    assert caught.type is failure


@pytest.mark.parametrize("trouble", [coded(9), coded(8), coded(26), Answer(502, b"<html>"), NoAnswer("reset")])
def test_passing_trouble_is_tried_again(trouble: Answer | Exception) -> None:
    bench = Bench()
    bench.script = [trouble, trouble]
    delivery = bench.deliver("a", "b")
    assert delivery.accepted == ["a", "b"]
    assert (delivery.requests, delivery.retries, len(bench.slept)) == (3, 2, 2)


def test_waits_are_full_jitter_below_a_doubling_bound() -> None:
    bench = Bench(seconds=10_000)
    bench.script = [coded(9)] * 12
    random.seed(7)
    bench.deliver("a")
    bounds = [min(20.0, 0.5 * 2**n) for n in range(12)]
    assert all(0 <= slept <= bound for slept, bound in zip(bench.slept, bounds, strict=True))
    assert len(set(bench.slept)) == 12


@pytest.mark.parametrize(
    ("seconds", "after", "slept"),
    [
        (60, 33.0, [33.0]),
        (60, 60.0, []),
        (10, 10 - LEAST_SECONDS, [10 - LEAST_SECONDS]),
        (10, 10 - LEAST_SECONDS + 0.01, []),
    ],
    ids=["it fits", "it does not fit", "it leaves time for a request", "it leaves no time for the request after it"],
)
def test_retry_after_is_waited_for_if_there_is_time(seconds: float, after: float, slept: list[float]) -> None:
    bench = Bench(seconds=seconds)
    bench.script = [coded(9, after=after)]
    delivery = bench.deliver("a", "b")
    assert bench.slept == slept
    assert delivery.left == ([] if slept else ["a", "b"])
    assert isinstance(delivery.failure, OutOfTime) == (not slept)


def test_no_request_begins_without_a_fair_chance() -> None:
    assert Bench(seconds=LEAST_SECONDS).deliver("a").requests == 1
    delivery = Bench(seconds=LEAST_SECONDS - 0.01).deliver("a")
    assert isinstance(delivery.failure, OutOfTime)
    assert str(delivery.failure) == "no time left for a request to the collector"
    assert delivery.requests == 0


def test_a_requests_time_out_is_the_remaining_time_up_to_a_limit() -> None:
    bench = Bench(seconds=100)
    bench.deliver("a")
    bench.remaining = 12.0
    bench.deliver("a")
    assert bench.timeouts == [REQUEST_SECONDS, 12.0]


def test_a_silent_collector_uses_up_the_time_and_no_more() -> None:
    bench = Bench(seconds=100)
    bench.request_seconds = 30.0
    bench.script = [NoAnswer("no answer in time")] * 20
    failure = bench.deliver("a").failure
    assert type(failure) is OutOfTime
    assert str(failure) == "the collector did not accept the events in time; last: no answer in time"
    assert bench.remaining >= 0 or bench.timeouts[-1] < 30.0


@given(st.lists(st.sampled_from(["good", "☠06", "☠12", "☠13", "☠15"]), min_size=1, max_size=30))
def test_k_bad_of_n_are_set_aside_and_the_rest_delivered_with_k_plus_1_more_requests(kinds: list[str]) -> None:
    bench = Bench()
    messages = [f"{kind} {number}" for number, kind in enumerate(kinds)]
    delivery = bench.deliver(*messages)
    bad = [message for message in messages if message.startswith("☠")]
    assert delivery.rejected == bad
    assert delivery.accepted == [message for message in messages if message not in bad]
    assert [event["event"] for event in bench.collector.indexed] == delivery.accepted
    # While it is not known that requests of this size are welcome, code 6 may mean the size: it is sent twice.
    sent_twice = kinds[: kinds.index("good") if "good" in kinds else -1].count("☠06")
    assert delivery.requests == len(bad) + sent_twice + (kinds[-1] == "good")
    assert delivery.retries == 0


@pytest.mark.parametrize("first", ["☠06", "☠13", "good"])
@pytest.mark.parametrize("max_bytes", [20_000, 60_000, 400_000])
def test_a_collector_with_a_lower_limit_has_no_good_event_set_aside(first: str, max_bytes: int) -> None:
    """It answers as if the first event were bad, and sometimes that one is."""
    bench = Bench(max_bytes)
    messages = [first + "x" * 900, first + "x" * 901] + [f"good {n}" + "x" * 900 for n in range(900)]
    delivery = bench.deliver(*messages)
    assert delivery.rejected == [message for message in messages if message.startswith("☠")]
    assert len(delivery.accepted) == len(messages) - len(delivery.rejected)
    assert delivery.requests < 20 + 2 * 900_000 / max_bytes
    bench.sizes.clear()
    bench.deliver(*messages[2:])
    assert max(bench.sizes) <= max_bytes, "what was learnt is remembered"


def test_after_a_request_that_was_too_large_half_of_it_is_the_limit_but_for_single_events() -> None:
    bench = Bench(100_000)
    assert len(bench.deliver("x" * 60_000, "x" * 60_000).accepted) == 2
    assert [bench.deliver(*["x" * size] * 2).requests for size in (29_000, 31_000, 70_000)] == [1, 2, 2]


def test_an_event_rejected_for_its_content_does_not_shrink_requests() -> None:
    bench, messages = Bench(), ["x" * LEAST_LIMIT_BYTES] * 3
    bench.script = [coded(15, 0)]
    delivery = bench.deliver(*messages)
    assert (len(delivery.rejected), len(delivery.accepted)) == (1, 2)
    assert bench.deliver(*messages).requests == 1


def test_a_stray_answer_about_the_size_does_not_split_a_batch_into_single_events() -> None:
    bench = Bench()
    bench.script = [coded(6, 0)]
    assert bench.deliver("a", "b").accepted == ["a", "b"]
    assert bench.deliver("☠06").requests == 1
    bench.sizes.clear()
    assert bench.deliver(*["x" * 100] * 50).requests == 1
    assert max(bench.sizes) < LEAST_LIMIT_BYTES


def test_a_413_is_halved_until_it_fits_and_a_single_event_is_set_aside() -> None:
    bench = Bench()
    for second in (Answer(413, b""), coded(6, 0)):
        bench.script = [Answer(413, b""), second]
        assert bench.deliver("a", "b", "c", "d").accepted == ["a", "b", "c", "d"]
    bench.script = [Answer(413, b"")]
    assert [(each.log.message, each.reason) for each in bench.deliver("a").poison] == [("a", "HTTP 413")]
    bench.script = [Answer(413, b"")]
    delivery = bench.deliver("aaaaa", "bbbbb", "☠06", "ccccc")  # four events of one size
    assert (delivery.rejected, delivery.requests) == (["☠06"], 4)


def test_an_answer_that_names_no_event_is_followed_to_it_by_halves() -> None:
    bench = Bench()
    bench.script = [coded(12), coded(12), coded(12)]  # all four, the first two, the first
    delivery = bench.deliver("a", "b", "c", "d")
    assert (delivery.rejected, delivery.accepted) == (["a"], ["b", "c", "d"])


@pytest.mark.parametrize("code", [5, 7, 10])
def test_wrong_configuration_leaves_the_events_pending_without_a_retry(code: int) -> None:
    bench = Bench()
    bench.script = [coded(code, 1)]
    delivery = bench.deliver("a", "b")
    assert isinstance(delivery.failure, Misconfigured)
    assert (delivery.left, delivery.requests, bench.slept) == (["a", "b"], 1, [])


@pytest.mark.parametrize(
    ("secrets", "refusals", "tokens", "is_accepted"),
    [
        (["old", "new"], 1, ["old", "new"], True),
        (["old", "new"], 2, ["old", "new"], False),
        # It can't be read again: it may be one node of several that refuses it.
        (["the-token", ""], 1, ["the-token"] * 2, True),
    ],
)
def test_a_refused_token_is_read_again_once(
    secrets: list[str], refusals: int, tokens: list[str], is_accepted: bool
) -> None:
    bench = Bench()
    bench.secrets = secrets
    bench.script = [*[coded(4)] * refusals, coded(0)]
    delivery = bench.deliver("a")
    assert (bench.tokens, delivery.accepted == ["a"]) == (tokens, is_accepted)
    assert is_accepted or (isinstance(delivery.failure, Misconfigured) and "invalid token" in str(delivery.failure))


@pytest.mark.parametrize("takes", [0, 2], ids=["nothing", "the events before"])
def test_a_busy_collector_that_names_an_event_gets_all_of_them_again(takes: int) -> None:
    """Whatever it took of them: none is lost, and what comes twice has the same id."""
    with HecServer() as server:
        server.faults.append(ForcedCode(9, index=2, takes=takes))
        bench = Bench()
        bench.deliverer = Deliverer(Transport(server.url).post, HecToken(fixed("the-token")), bench.sleep)
        delivery = bench.deliver("a", "b", "c", "d")
        assert (delivery.accepted, delivery.requests) == (["a", "b", "c", "d"], 2)
        assert server.collector.ids() == [*"0123"[:takes], *"0123"]


@pytest.mark.parametrize(
    ("first", "accepted", "rejected", "left"),
    [([coded(13, 2)], ["a", "b"], ["c"], ["d", "e"]), ([Answer(413, b"")] * 2, [], [], ["a", "b", "c", "d", "e"])],
    ids=["after a part", "of a batch in parts"],
)
def test_what_was_accepted_before_a_failure_counts_and_the_rest_is_pending_in_order(
    first: list[Answer], accepted: list[str], rejected: list[str], left: list[str]
) -> None:
    bench = Bench()
    bench.script = [*first, coded(7, 1)]
    delivery = bench.deliver("a", "b", "c", "d", "e")
    assert (delivery.accepted, delivery.rejected, delivery.left) == (accepted, rejected, left)
    assert isinstance(delivery.failure, Misconfigured)
