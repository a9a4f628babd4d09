"""`tokenctl cost`: what a month of calls costs on AWS, by service, beside the containers that this design replaces.

The stage is as prod, with the settings of this repository. tests/contract/test_tokenctl_cost.py holds each figure below
against what it comes from: the template, the lines that the code writes, the benchmarks, both engines' units. If a
figure can't be measured without AWS, the larger one is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Final

import click
from rich.console import Console
from rich.text import Text

from chalicelib.tokens import MISMATCHES, Reason
from tokenctl.prices import AS_OF, HOURS, PRICES, REGION
from tokenctl.terminal import Terminal, common, plain, table

# The calls of a usual month: each token is for one user and used once, and the reasons of refusals are spread evenly.
CLIENTS: Final = 3
REFUSED: Final = 0.05
COLD: Final = 0.01  # of invocations start a process; AWS says: under 1 %

# Settings of the stage.
MEMORY_MB: Final = 128
TTL_SECONDS: Final = 60
REDRIVES: Final = HOURS * 4
LOG_DAYS: Final = 90
ALARMS, ALARM_METRICS = 10, 14
METRICS: Final = 5  # that get values in each hour; those of refused credentials, locked tokens and poison cost cents

# Milliseconds, as billed: medians of docs/performance.md, rounded up.
CALL_MS: Final = 7
AUTHORIZER_MS: Final = 4
START_MS: Final = 150
REDRIVE_MS: Final = 500  # two listings where nothing waits, and the connection for them; a guess
# Of the log forwarder: a batch, of which 50 ms wait for Splunk and 2.5 are a whole processor's, measured with
# studies/bench/forwarder.py; and each event in it.
EVENTS_PER_CPU_SECOND: Final = 78_000
WHOLE_PROCESSOR_MB: Final = 1_769
BATCH_MS: Final = 50 + 2.5 * WHOLE_PROCESSOR_MB / MEMORY_MB
EVENT_MS: Final = 1_000 / EVENTS_PER_CPU_SECOND * WHOLE_PROCESSOR_MB / MEMORY_MB

# Log lines of an invocation, Lambda's own included, and their bytes. Of a forwarder that succeeds Lambda writes none.
CALL_LINES, CALL_BYTES = 6, 1_280
AUTHORIZER_LINES, AUTHORIZER_BYTES = 4, 490
REDRIVE_LINES, REDRIVE_BYTES = 4, 460
BATCH_BYTES: Final = 90
ACCESS_BYTES: Final = 440
STORED_SHARE: Final = 0.15  # logs as they are stored; the share that AWS's examples of prices take
SENT_SHARE: Final = 0.25  # logs as Splunk gets them, gzipped at level 1
RESPONSE_BYTES: Final = 1_000  # headers included

# A token bound to a user, with one claim: its write units and bytes, as DynamoDB counts them.
ISSUE_UNITS: Final = 3  # the item, and its entries in both indexes
USE_UNITS: Final = 1
REFUSAL_UNITS: Final = 1 + len(MISMATCHES) / len(Reason)  # a mismatch is counted by a second write
TOKEN_BYTES, CLAIM_BYTES, INDEX_BYTES = 538, 199, 141
STORED_BYTES: Final = TOKEN_BYTES + CLAIM_BYTES + 2 * INDEX_BYTES + 3 * 100  # DynamoDB adds 100 to each
KEPT_DAYS: Final = 9  # 7 after the expiry, and up to 2 until DynamoDB's TTL comes to it
KMS_SECONDS: Final = 300  # DynamoDB asks for a table's key, and a forwarder for the HEC token, every five minutes

# Options.
ZONES: Final = 2
FIREWALL_RULES: Final = 4
SNAPSHOTS: Final = 2  # of the REST function and the authorizer; a deployment deletes the versions before
LONG_LOG_DAYS: Final = 400  # the 12 months at hand that US federal agencies need, and some

# The design that this one replaces: tasks on Fargate, day and night.
TASKS, TASK_VCPUS, TASK_GB = 4, 1, 2
CONTAINERS_USD: Final = (
    TASKS * HOURS * (TASK_VCPUS * PRICES["fargate-vcpu-hour"].usd(1) + TASK_GB * PRICES["fargate-gb-hour"].usd(1))
)

_GB: Final = 1e9
_SECONDS: Final = HOURS * 3_600


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the bill: a quantity of what `price` names, and its dollars."""

    service: str
    what: str
    price: str
    quantity: float
    usd: float


class Month:
    """What a month of calls takes.

    Args:
        calls: of the REST API.
        calls_per_batch: calls whose lines a forwarder gets at once. CloudWatch Logs decides; 1 is the most expensive.

    Attributes:
        tokens: that are issued.
        authorizer_calls: a client calls at random times, and the gateway answers all calls in the TTL after each miss.
        batches: calls of the log forwarder. A batch is of one function.
        batch_ms: how long the forwarder takes for one.
        events: log events that go to Splunk.
        logged_bytes: of all functions but the forwarder, whose own lines go nowhere else.
        traces: of the REST function.
    """

    def __init__(self, calls: float, calls_per_batch: float = 1) -> None:
        self.calls = calls
        self.per_second = calls / _SECONDS
        self.tokens = calls * (1 - REFUSED) / 2
        self.authorizer_calls = calls / (1 + self.per_second / CLIENTS * TTL_SECONDS)
        self.write_units = self.tokens * (ISSUE_UNITS + USE_UNITS) + calls * REFUSED * REFUSAL_UNITS
        self.batches = (calls + self.authorizer_calls) / calls_per_batch + REDRIVES
        self.batch_ms = BATCH_MS + CALL_LINES * calls_per_batch * EVENT_MS
        self.events = calls * CALL_LINES + self.authorizer_calls * AUTHORIZER_LINES + REDRIVES * REDRIVE_LINES
        self.logged_bytes = calls * CALL_BYTES + self.authorizer_calls * AUTHORIZER_BYTES + REDRIVES * REDRIVE_BYTES
        self.forwarder_bytes = self.batches * BATCH_BYTES
        self.access_bytes = calls * ACCESS_BYTES
        self.stored_gb_a_day = (self.logged_bytes + self.forwarder_bytes + self.access_bytes) / _GB * STORED_SHARE / 30
        self.traces = _traces(calls)

    def amounts(self) -> Sequence[tuple[str, str, str, float]]:
        """Return service, what, price and amount of each line of the bill; each price has one line."""
        calls, authorized = self.calls, self.authorizer_calls
        started_ms = COLD * START_MS
        milliseconds = calls * (CALL_MS + started_ms) + authorized * (AUTHORIZER_MS + started_ms)
        # A quarter of an hour is too long for a process to be kept: each redrive starts one.
        milliseconds += self.batches * (self.batch_ms + started_ms) + REDRIVES * (REDRIVE_MS + START_MS)
        stored_gb = self.tokens * KEPT_DAYS * 24 / HOURS * STORED_BYTES / _GB
        ours_gb, access_gb = (self.logged_bytes + self.forwarder_bytes) / _GB, self.access_bytes / _GB
        sent_gb = (calls * RESPONSE_BYTES + self.logged_bytes * SENT_SHARE) / _GB
        return [
            ("API Gateway", "REST requests", "gateway-request", calls),
            ("Lambda", "requests of all functions", "lambda-request", calls + authorized + self.batches + REDRIVES),
            ("Lambda", "duration of all functions", "lambda-gb-second", milliseconds / 1_000 * MEMORY_MB / 1_024),
            ("DynamoDB", "writes, indexes too", "dynamodb-write", self.write_units),
            ("DynamoDB", "reads of clients", "dynamodb-read", authorized),
            ("DynamoDB", "storage", "dynamodb-storage", stored_gb),
            ("DynamoDB", "point-in-time recovery", "dynamodb-recovery", stored_gb),
            ("S3", "listings of the redrive", "s3-request", 2 * REDRIVES),
            ("CloudWatch", "logs of functions", "logs-from-lambda", ours_gb),
            ("CloudWatch", "logs of access", "logs", access_gb),
            ("CloudWatch", f"logs kept {LOG_DAYS} days", "logs-kept", self.stored_gb_a_day * LOG_DAYS),
            ("CloudWatch", "metrics", "metric", METRICS),
            ("CloudWatch", f"metrics of {ALARMS} alarms", "alarm", ALARM_METRICS),
            ("CloudWatch", "dashboard", "dashboard", 1),
            ("X-Ray", "traces of the REST function", "trace", self.traces),
            # One client asks for each table's key; a second one would double it.
            ("KMS", "keys of tables, HEC token", "kms-request", 3 * _SECONDS / KMS_SECONDS),
            ("Transfer", "answers to callers, logs to Splunk", "transfer", sent_gb),
        ]

    def options(self) -> Sequence[tuple[str, str, Mapping[str, float]]]:
        """Return parameter or setting, what it switches on, and the amount of each price that it adds."""
        splunk_gb = self.logged_bytes * SENT_SHARE / _GB
        endpoint_hours = {"endpoint-hour": ZONES * HOURS}
        firewall = {"firewall": 1, "firewall-rule": FIREWALL_RULES, "firewall-request": self.calls}
        memory_gb = MEMORY_MB / 1_024
        restored_gb = (self.calls + self.authorizer_calls) * COLD * memory_gb
        snapshots = {"snapshot-kept": SNAPSHOTS * memory_gb * _SECONDS, "snapshot-restored": restored_gb}
        nat = {"nat-hour": ZONES * HOURS, "nat-data": splunk_gb}
        longer = {"logs-kept": self.stored_gb_a_day * (LONG_LOG_DAYS - LOG_DAYS)}
        return [
            ("KeyArn", "a KMS key of your own", {"kms-key": 1}),
            ("SubnetIds", f"a VPC: endpoint for SSM in {ZONES} zones", {**endpoint_hours, "endpoint-data": splunk_gb}),
            ("SubnetIds", f"a VPC: NAT gateways in {ZONES} zones, if Splunk needs them", nat),
            ("ApiEndpointIds", f"a private API: endpoint in {ZONES} zones", endpoint_hours),
            ("WebFirewall", f"AWS WAF with {FIREWALL_RULES} rules", firewall),
            ("LogDays", f"logs kept for {LONG_LOG_DAYS} days", longer),
            ("snap_start", "starts from snapshots", snapshots),
            ("xray", "traces of the authorizer", {"trace": _traces(self.authorizer_calls)}),
        ]

    def bill(self, *, free_tier: bool = False) -> list[Line]:
        """Return the bill; prices that share a free quantity take from it in turn."""
        left = {name: price.free if free_tier else 0 for name, price in PRICES.items()}
        lines = []
        for service, what, name, amount in self.amounts():
            source = PRICES[name].shares or name
            free = min(amount, left[source])
            left[source] -= free
            lines.append(Line(service, what, name, amount, PRICES[name].usd(amount - free)))
        return lines


def _traces(calls: float) -> float:
    """Return how many of a function's calls are traced: the first of each second, and a twentieth of the others."""
    per_second = calls / _SECONDS
    first = 1 - math.exp(-per_second)
    return (first + 0.05 * (per_second - first)) * _SECONDS


@click.command("cost")
@click.option("--calls", type=click.IntRange(1, 10**12), default=10**6, show_default=True, help="API calls a month.")
@click.option("--free-tier", is_flag=True, help="Subtract AWS's free tier, as if nothing else used it.")
@common
def cost(terminal: Terminal, calls: int, free_tier: bool) -> None:
    """Estimate the monthly cost of a stage on AWS, and compare it with containers.

    Makes no call to AWS. The prices are those of tokenctl/prices.py: check them.
    """
    month = Month(calls)
    lines = month.bill(free_tier=free_tier)
    facts = {
        "prices": {"asOf": AS_OF.isoformat(), "region": REGION},
        "traffic": {"calls": calls, "callsPerSecond": round(month.per_second, 6), "memoryMb": MEMORY_MB},
        "lines": [{**asdict(line), **_price(line.price)} for line in lines],
        "totalUsd": round(sum(line.usd for line in lines), 2),
        "options": [
            {"name": name, "what": what, "usd": round(sum(PRICES[price].usd(of) for price, of in amounts.items()), 2)}
            for name, what, amounts in month.options()
        ],
        "containers": {
            "tasks": TASKS,
            "vcpus": TASK_VCPUS,
            "gb": TASK_GB,
            "totalUsd": round(CONTAINERS_USD, 2),
        },
    }
    terminal.show(facts, lambda console: _show(console, lines, facts))


def _price(name: str) -> dict[str, Any]:
    price = PRICES[name]
    return {"unit": price.unit, "usdForPer": price.dollars, "per": price.per, "page": price.page}


def _show(console: Console, lines: Sequence[Line], facts: dict[str, Any]) -> None:
    rows: list[Sequence[str | Text]] = []
    for service, those in groupby(lines, lambda line: line.service):
        known = list(those)
        rows.append((plain(service, "bold"), "", "", plain(_dollars(sum(line.usd for line in known)), "bold")))
        for line in known:
            price = PRICES[line.price]
            per = "" if price.per == 1 else f"{price.per:,} "
            of = f"{price.dollars:.10f}".rstrip("0").rstrip(".")
            rows.append((f"  {line.what}", f"{line.quantity:>12,.2f}", f"{of} / {per}{price.unit}", _dollars(line.usd)))
    rows.append(("together", "", "", _dollars(facts["totalUsd"])))
    containers = f"{TASKS} containers of {TASK_VCPUS} vCPU and {TASK_GB} GB"
    rows.append((containers, "", "", _dollars(facts["containers"]["totalUsd"])))
    console.print(table(("", "quantity", "price", "USD a month"), rows))
    options = [(each["name"], each["what"], _dollars(each["usd"])) for each in facts["options"]]
    console.print("", table(("options that are off", "", "USD a month"), options), sep="\n")
    console.print("\nThe containers are without load balancer, logs and data.")
    console.print(f"Prices of {REGION} as of {AS_OF}, not checked with AWS: tokenctl/prices.py names the pages.")


def _dollars(usd: float) -> str:
    return f"{usd:>11,.2f}"
