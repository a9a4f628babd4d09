"""What a month of calls consumes of each service.

If a figure can't be measured without AWS, the larger one is used, and a comment says so.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from chalicelib.tokens import MISMATCHES, Reason
from tokenctl.costs import lines
from tokenctl.costs.stage_facts import Measured, Stage

GB: Final = 1e9
WRITE_UNIT_BYTES: Final = 1024
# Sizes of a usual token (a UUID for the node, bound to a user) and of one claim, as DynamoDB reckons them; and the
# units that an issue and a use consume. tests/contract/test_tokenctl_cost.py holds them against both engines.
TOKEN_BYTES: Final = 538
CLAIM_BYTES: Final = 199
ISSUE_UNITS: Final = 3  # the item, and its entries in both indexes
READ_UNITS: Final = 1  # a client, read consistently
INDEX_BYTES: Final = 141  # of an entry: both keys, the token's id and its issuer
# The item and its two entries; DynamoDB adds 100 bytes to each.
STORED_BYTES: Final = TOKEN_BYTES + CLAIM_BYTES + 2 * INDEX_BYTES + 3 * 100
KEPT_DAYS: Final = 9  # 7 after the expiry, and up to 2 until DynamoDB's TTL comes to it
SECONDS_AN_HOUR: Final = 3600
SHRUNK: Final = 0.15  # logs as they are kept; the share that AWS's examples of prices take
SENT_SHRUNK: Final = 0.25  # logs as Splunk gets them, gzipped at level 1
RESPONSE_BYTES: Final = 1_000  # headers included
KMS_SECONDS: Final = 300  # DynamoDB asks for a table's key, and a forwarder for the HEC token, every five minutes
# Of a scheduled redrive where nothing waits: two listings of the failure bucket and the connection for them. A guess:
# it was not measured with a small function's share of a processor.
REDRIVE_MS: Final = 500
REDRIVE_LISTINGS: Final = 2
TROUBLE_HOURS: Final = 24  # from one trouble to the next; a guess
# Of a whole processor: 2.5 ms for a batch of seven events over HTTP, measured with bench/forwarder.py's own forwarder
# and receiver; more events cost what forwarder.json says.
BATCH_CPU_MS: Final = 2.5
WHOLE_PROCESSOR_MB: Final = 1_769


@dataclass(frozen=True, slots=True)
class Traffic:
    """The calls of a month.

    Attributes:
        calls: of the REST API.
        uses_per_token: uses that are granted for each token.
        refused: share of the calls that are refused uses; their reasons are spread evenly.
        clients: applications; each calls the authorizer once in its TTL.
        calls_per_batch: calls whose lines a forwarder gets at once. CloudWatch Logs decides; 1 is the most expensive.
        splunk_ms: how long Splunk takes for a request.
        cold: share of invocations that start a process. AWS says: under 1 %.
        looks: how often somebody opens the dashboard.
    """

    calls: float
    memory_mb: int
    uses_per_token: int = 1
    refused: float = 0.05
    clients: int = 3
    calls_per_batch: float = 1
    splunk_ms: float = 50
    cold: float = 0.01
    looks: float = 100


@dataclass(frozen=True, slots=True)
class Quantity:
    """One line of the bill: an amount of what `price` names."""

    service: str
    what: str
    price: str
    amount: float


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of call, and how many there are in the month."""

    calls: float
    ms: float
    written: lines.Lines
    write_units: float


class Month:
    """A month of traffic on a stage.

    Args:
        hours: of the month.
    """

    def __init__(self, traffic: Traffic, stage: Stage, measured: Measured, events_per_second: float, hours: int):
        self.traffic = traffic
        self._stage = stage
        self._measured = measured
        self._events_per_second = events_per_second
        self._hours = hours
        self._kinds = tuple(self._all_kinds())

    @property
    def calls_per_second(self) -> float:
        return self.traffic.calls / self._hours / SECONDS_AN_HOUR

    @property
    def tokens(self) -> float:
        """Number of issued tokens."""
        return self.traffic.calls * (1 - self.traffic.refused) / (1 + self.traffic.uses_per_token)

    @property
    def authorizer_calls(self) -> float:
        """A client calls at random times; the cache answers all calls in the TTL after each miss."""
        spared = self.calls_per_second / self.traffic.clients * self._stage.authorizer_ttl_seconds
        return self.traffic.calls / (1 + spared)

    @property
    def batches(self) -> float:
        """Invocations of the log forwarder. A batch is of one function: the authorizer's lines come by themselves."""
        return (self.traffic.calls + self.authorizer_calls) / self.traffic.calls_per_batch + self.redrives

    @property
    def redrives(self) -> float:
        """Runs of the scheduled redrive. Nothing waits in a usual month."""
        return self._hours * 60 / self._stage.redrive_minutes

    @property
    def batch_ms(self) -> float:
        """How long the forwarder takes for a batch; its share of a processor stretches its own work."""
        events = self._events_per_call * self.traffic.calls_per_batch
        cpu = BATCH_CPU_MS + events / self._events_per_second * 1000
        return cpu * max(1.0, WHOLE_PROCESSOR_MB / self.traffic.memory_mb) + self.traffic.splunk_ms

    @property
    def write_units(self) -> float:
        return sum(kind.calls * kind.write_units for kind in self._kinds)

    @property
    def call_ms(self) -> float:
        """The mean over kinds of calls of what a warm one takes."""
        return self._mean(lambda kind: kind.ms)

    @property
    def logged_bytes(self) -> float:
        """Of all functions but the forwarder, whose lines go to no forwarder."""
        return sum(self.bytes_of_functions.values()) - self.forwarder_bytes

    @property
    def forwarder_bytes(self) -> float:
        """What the forwarder itself writes."""
        return self.bytes_of_functions["forward_logs"]

    @cached_property
    def bytes_of_functions(self) -> dict[str, float]:
        """What each function's log group gets. State changes are rare: their forwarder writes next to nothing."""
        stage, batch = self._stage.name, round(self._events_per_call * self.traffic.calls_per_batch)
        own = self._mean(lambda kind: lines.size(kind.written)) + self._platform_bytes("api_handler")

        def written(name: str, those: lines.Lines) -> int:
            return lines.size(those) + self._platform_bytes(name)

        return {
            "api_handler": self.traffic.calls * own,
            "basic_auth": self.authorizer_calls * written("basic_auth", lines.of_authorizer(stage)),
            "forward_logs": self.batches * written("forward_logs", lines.of_forwarder(stage, batch)),
            "forward_events": 0,
            "redrive": self.redrives * written("redrive", lines.of_redrive(stage)),
        }

    def _platform_bytes(self, function: str) -> int:
        """What Lambda writes for an invocation that succeeds."""
        if function in self._stage.quiet:
            return 0
        return lines.size(lines.PLATFORM) + (len(lines.TRACED) if function in self._stage.traced else 0)

    @property
    def _scanned_bytes(self) -> float:
        """The dashboard shows a day: each log query reads its log groups' lines of 24 hours."""
        month = sum(self.bytes_of_functions[function] for function in self._stage.queried)
        return self.traffic.looks * month / self._hours * 24

    @property
    def access_bytes(self) -> float:
        return self.traffic.calls * len(lines.ACCESS.encode())

    @property
    def events(self) -> float:
        """Log events that go to Splunk."""
        of_calls = self.traffic.calls * self._events_per_call + self.authorizer_calls * (len(lines.PLATFORM) + 1)
        return of_calls + self.redrives * (len(lines.PLATFORM) + 1)

    @property
    def _events_per_call(self) -> float:
        return len(lines.PLATFORM) + self._mean(lambda kind: len(kind.written))

    def quantities(self) -> Sequence[Quantity]:
        """Return the whole bill, in the order in which it is printed."""
        return [
            Quantity("API Gateway", "REST requests", "gateway-request", self.traffic.calls),
            *self._lambda(),
            *self._dynamodb(),
            Quantity("S3", "listings of the redrive", "s3-request", REDRIVE_LISTINGS * self.redrives),
            *self._logs(),
            *self._metrics(),
            Quantity("CloudWatch", f"metrics of {self._stage.alarms} alarms", "alarm", self._stage.alarm_metrics),
            Quantity("CloudWatch", "dashboard", "dashboard", 1),
            Quantity("CloudWatch", "log queries of the dashboard", "logs-scanned", self._scanned_bytes / GB),
            *self._traces(),
            # One client asks for each table's key; a second one would double it.
            Quantity("KMS", "keys of tables, HEC token", "kms-request", 3 * self._seconds / KMS_SECONDS),
            Quantity("Transfer", "answers to callers", "transfer", self.traffic.calls * RESPONSE_BYTES / GB),
            Quantity("Transfer", "logs to Splunk, gzipped", "transfer", self.logged_bytes * SENT_SHRUNK / GB),
        ]

    def _all_kinds(self) -> Iterator[_Kind]:
        traffic, stage, uses = self.traffic, self._stage.name, self.traffic.uses_per_token
        use_ms = self._measured.use_ms
        yield _Kind(self.tokens, self._measured.issue_ms, lines.of_issue(stage), ISSUE_UNITS)
        claims = [_units(TOKEN_BYTES + number * CLAIM_BYTES) for number in range(1, uses + 1)]
        yield _Kind(self.tokens * uses, use_ms, lines.of_use(stage), sum(claims) / uses)
        # A refused write is charged like one that was made, and a mismatch is counted by a second one.
        full = _units(TOKEN_BYTES + uses * CLAIM_BYTES)
        refused = traffic.calls * traffic.refused / len(Reason)
        for reason in Reason:
            writes = 2 if reason in MISMATCHES else 1
            yield _Kind(refused, use_ms * writes, lines.of_refusal(stage, reason), full * writes)

    def _lambda(self) -> Iterator[Quantity]:
        cold = self.traffic.cold * self._measured.init_ms
        for function, calls, ms in (
            ("REST", self.traffic.calls, self._mean(lambda kind: math.ceil(kind.ms)) + cold),
            ("authorizer", self.authorizer_calls, math.ceil(self._measured.authorizer_ms) + cold),
            ("log forwarder", self.batches, math.ceil(self.batch_ms) + cold),
            # A quarter of an hour is too long for a process to be kept: each run starts one.
            ("redrive", self.redrives, REDRIVE_MS + self._measured.init_ms),
        ):
            gb_seconds = calls * ms / 1000 * self.traffic.memory_mb / 1024
            yield Quantity("Lambda", f"{function}, requests", "lambda-request", calls)
            yield Quantity("Lambda", f"{function}, duration", "lambda-gb-second", gb_seconds)

    def _dynamodb(self) -> Iterator[Quantity]:
        yield Quantity("DynamoDB", "writes, indexes too", "dynamodb-write", self.write_units)
        yield Quantity("DynamoDB", "reads of clients", "dynamodb-read", self.authorizer_calls * READ_UNITS)
        stored = self.tokens * KEPT_DAYS * 24 / self._hours * STORED_BYTES / GB
        yield Quantity("DynamoDB", "storage", "dynamodb-storage", stored)
        yield Quantity("DynamoDB", "point-in-time recovery", "dynamodb-recovery", stored)

    def _logs(self) -> Iterator[Quantity]:
        yield Quantity("CloudWatch", "logs, REST, authorizer", "logs-from-lambda", self.logged_bytes / GB)
        yield Quantity("CloudWatch", "logs, forwarder", "logs-from-lambda", self.forwarder_bytes / GB)
        yield Quantity("CloudWatch", "logs, access", "logs", self.access_bytes / GB)
        months = self._stage.log_days * 24 / self._hours
        kept = (self.logged_bytes + self.forwarder_bytes + self.access_bytes) * SHRUNK * months / GB
        yield Quantity("CloudWatch", f"logs kept {self._stage.log_days} days", "logs-kept", kept)

    def _metrics(self) -> Iterator[Quantity]:
        by_dimension: dict[tuple[str, ...], float] = defaultdict(float)
        for (_, dimensions), values in self.values_of_metrics().items():
            # A metric costs nothing in an hour without a value.
            by_dimension[tuple(name for name, _ in dimensions)] += 1 - math.exp(-values / self._hours)
        for names, metrics in sorted(by_dimension.items()):
            yield Quantity("CloudWatch", f"metrics by {names[-1].lower()}", "metric", metrics)

    def values_of_metrics(self) -> dict[lines.Series, float]:
        """Return how many values each metric gets in the month."""
        values: dict[lines.Series, float] = defaultdict(float)
        written = [
            *((kind.calls, kind.written) for kind in self._kinds),
            (self.authorizer_calls, lines.of_authorizer(self._stage.name)),
            (self.batches, lines.of_forwarder(self._stage.name, 1)),
            (self.redrives, lines.of_redrive(self._stage.name)),
            (self._hours / TROUBLE_HOURS, lines.of_trouble(self._stage.name)),
        ]
        for times, calls_lines in written:
            for series in lines.series(calls_lines):
                values[series] += times
        return values

    def _traces(self) -> Iterator[Quantity]:
        functions = {"api_handler": self.traffic.calls, "basic_auth": self.authorizer_calls}
        functions |= {"forward_logs": self.batches, "redrive": self.redrives}
        for name, invocations in functions.items():
            if name in self._stage.traced:
                yield Quantity("X-Ray", f"traces, {name}", "trace", self._traced(invocations))

    def _traced(self, invocations: float) -> float:
        """The first of each second, and of the others a twentieth: X-Ray's default rule.

        Each function is reckoned with a first of its own, which is the most that it can be.
        """
        rate = invocations / self._seconds
        first = 1 - math.exp(-rate)
        return (first + 0.05 * (rate - first)) * self._seconds

    def _mean(self, of: Callable[[_Kind], float]) -> float:
        """Over all calls, each kind by its share."""
        return sum(kind.calls * of(kind) for kind in self._kinds) / self.traffic.calls

    @property
    def _seconds(self) -> float:
        return self._hours * SECONDS_AN_HOUR


def _units(size: int) -> int:
    return math.ceil(size / WRITE_UNIT_BYTES)
