"""Fills the tables of docs/scale.md: `.venv/bin/python -m studies.cost`, seconds.

Every figure comes from `tokenctl cost`, its limits from the template, and quotas from AWS's pages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dev.engine import ROOT
from studies import page
from tokenctl import cost
from tokenctl.cost import Month
from tokenctl.prices import HOURS
from tokenctl.resources import stage_template

PAGE: Final = ROOT / "docs" / "scale.md"
RATES: Final = (1, 10, 100, 1_000, 10_000)
STAGE: Final = "prod"

# AWS's default quotas of an account and Region.
# Sources: the developer guides' pages of quotas of Lambda, API Gateway, DynamoDB and Systems Manager.
CONCURRENCY: Final = 1_000
CALLS_PER_CONCURRENCY: Final = 10  # synchronous and on demand: so many a second for each unit of concurrency
GATEWAY_CALLS: Final = 10_000
NEW_TABLE_UNITS: Final = 4_000
TABLE_UNITS: Final = 40_000
PARTITION_UNITS: Final = 1_000
PARAMETER_READS: Final = 40
TOGETHER: Final = 100  # calls whose lines come in one batch, for the larger of the two cases


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that ends growth: at how many calls a second, and what to do."""

    title: str
    calls: float
    ours: bool
    cure: str


def stage() -> dict[str, int]:
    """The limits that the template sets."""
    template = stage_template(STAGE)
    [gateway] = template["Resources"]["RestAPI"]["Properties"]["MethodSettings"]
    return {
        "rate": gateway["ThrottlingRateLimit"],
        "burst": gateway["ThrottlingBurstLimit"],
        "forwarders": template["Parameters"]["ForwarderConcurrency"]["Default"],
    }


def at_rate(rate: float, calls_per_batch: float = 1) -> Month:
    """A month with so many calls in every second."""
    return Month(rate * HOURS * 3600, calls_per_batch)


def total(month: Month, *services: str) -> float:
    """What a month costs, or some services of it."""
    return sum(line.usd for line in month.bill() if not services or line.service in services)


def rates() -> str:
    """What each resource needs at each rate."""
    months = [(rate, at_rate(rate)) for rate in RATES]
    together = [at_rate(rate, TOGETHER) for rate in RATES]
    seconds, forwarders = HOURS * 3600, stage()["forwarders"]
    rows: list[tuple[str, Sequence[float]]] = [
        ("calls a month, millions", [month.calls / 1e6 for _, month in months]),
        ("REST function: calls at once, on average", [rate * cost.CALL_MS / 1000 for rate in RATES]),
        ("concurrency that Lambda asks for that rate", [rate / CALLS_PER_CONCURRENCY for rate in RATES]),
        ("authorizer: calls a second", [month.authorizer_calls / seconds for _, month in months]),
        ("DynamoDB: write units a second", [month.write_units / seconds for _, month in months]),
        ("partitions of the table, at least", [_partitions(month) for _, month in months]),
        ("log lines to Splunk a second", [month.events / seconds for _, month in months]),
        ("logs in GB a day, access log included", [_logged_gb_a_day(month) for _, month in months]),
        ("forwarders at work, one call a batch", [_forwarders(month) for _, month in months]),
        (f"forwarders at work, {TOGETHER} calls a batch", list(map(_forwarders, together))),
        ("traces a second", [month.traces / seconds for _, month in months]),
    ]
    cells = [[title, *map(_number, values)] for title, values in rows]
    needed = f"calls a batch, at least, for {forwarders} forwarders"
    cells.insert(-1, [needed, *(_calls_a_batch(forwarders, rate) for rate in RATES)])
    cells.append([f"USD a month, {TOGETHER} calls a batch", *(f"{total(month):,.0f}" for month in together)])
    return page.table(["calls a second", *(f"{rate:,}" for rate in RATES)], cells)


def limits() -> Sequence[Limit]:
    """What ends growth, the first limit first."""
    month, known = at_rate(1_000), stage()
    units, tokens = month.write_units / month.calls, month.tokens / month.calls
    forwarders = known["forwarders"] * 1000 / (month.batch_ms * month.batches / month.calls)
    # REST and authorizer together may be called so often; the forwarder's calls are not counted so.
    lambda_calls = CONCURRENCY * CALLS_PER_CONCURRENCY / (1 + month.authorizer_calls / month.calls)
    found = [
        Limit("log forwarders, one call a batch", forwarders, True, "see [the forwarder](#the-log-forwarder)"),
        Limit("rate of the stage", known["rate"], True, "`ThrottlingRateLimit` in the template"),
        Limit(
            "one token that everybody asks for", PARTITION_UNITS, False, "nothing: it is one item, and its callers wait"
        ),
        Limit("a new table's first write units", NEW_TABLE_UNITS / units, False, "warm throughput, before the rush"),
        Limit("all tokens for one node, or one user", PARTITION_UNITS / tokens, False, "see [hot keys](#hot-keys)"),
        Limit("the gateway's rate of the account", GATEWAY_CALLS, False, "*Throttle rate* of API Gateway"),
        Limit("Lambda's calls by concurrency", lambda_calls, False, "*Concurrent executions* of Lambda"),
        Limit("a table's write units", TABLE_UNITS / units, False, "*Table-level write throughput* of DynamoDB"),
        Limit("calls at once", CONCURRENCY * 1000 / cost.CALL_MS, False, "*Concurrent executions* of Lambda"),
    ]
    return sorted(found, key=lambda limit: limit.calls)


def limits_table() -> str:
    """The limits as the page shows them."""
    rows = [[limit.title, _number(limit.calls), "ours" if limit.ours else "AWS", limit.cure] for limit in limits()]
    return page.table(["limit", "calls a second", "whose", "what to do"], rows)


def forwarder() -> str:
    """How quick one forwarder is."""
    stretch = cost.WHOLE_PROCESSOR_MB / cost.MEMORY_MB
    rows = [
        ["events a second of a whole processor", _number(cost.EVENTS_PER_CPU_SECOND)],
        [f"events a second at {cost.MEMORY_MB} MB", _number(cost.EVENTS_PER_CPU_SECOND / stretch)],
        [f"a batch at {cost.MEMORY_MB} MB, Splunk's answer included", f"{cost.BATCH_MS:.0f} ms"],
        ["each call in it", f"{cost.CALL_LINES * cost.EVENT_MS:.2f} ms more"],
    ]
    return page.table(["", ""], rows)


def _calls_a_batch(forwarders: int, rate: float) -> str:
    """How many calls' lines must come together, so that the forwarders that are allowed keep up."""
    left = forwarders - rate * cost.CALL_LINES * cost.EVENT_MS / 1000
    return f"{max(1, math.ceil(rate * cost.BATCH_MS / 1000 / left)):,}" if left > 0 else "never"


def observed() -> str:
    """What watching costs in a month of a million calls."""
    chosen = [line for line in Month(1e6).bill() if line.price in ("metric", "alarm", "dashboard", "trace")]
    rows = [[line.what, _number(line.quantity), f"{line.usd:.2f}"] for line in chosen]
    rows.append(["together", "", f"**{sum(line.usd for line in chosen):.2f}**"])
    return page.table(["", "metered", "USD"], rows)


def monthly() -> str:
    """The bill by service, for several numbers of calls."""
    counts = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
    months = list(map(Month, counts))
    services = list(dict.fromkeys(line.service for line in months[0].bill()))
    rows = [[service, *(f"{total(month, service):,.2f}" for month in months)] for service in services]
    rows.append(["**together**", *(f"**{total(month):,.2f}**" for month in months)])
    rows.append(["containers", *(f"{cost.CONTAINERS_USD:,.2f}" for _ in months)])
    return page.table(["USD, calls a month", *(f"{count:,}" for count in counts)], rows)


def meeting_point(*services: str) -> float:
    """The calls a month at which ours, or some services of it, cost as much as the containers."""
    least, most = 1.0, 1e12
    while most / least > 1.0001:
        middle = (least * most) ** 0.5
        is_dearer = total(Month(middle), *services) > cost.CONTAINERS_USD
        least, most = (least, middle) if is_dearer else (middle, most)
    return least


def meeting() -> str:
    """Where ours costs as much as the containers."""
    rows = []
    for title, services in _PARTS.items():
        calls = meeting_point(*services)
        rows.append([title, f"{calls / 1e6:,.1f} million", f"{calls / HOURS / 3600:,.1f}"])
    return page.table(["", "calls a month", "calls a second, day and night"], rows)


_COMPUTE: Final = ("API Gateway", "Lambda")
_PARTS: Final[Mapping[str, Sequence[str]]] = {
    "everything, against the tasks alone": (),
    "gateway and functions, against the tasks": _COMPUTE,
}
TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "rates": rates,
    "limits": limits_table,
    "forwarder": forwarder,
    "observed": observed,
    "monthly": monthly,
    "meeting": meeting,
}


def filled(text: str) -> str:
    """The page with every table as it is now."""
    return page.filled(text, "cost", {name: made() for name, made in TABLES.items()})


def _partitions(month: Month) -> int:
    return math.ceil((month.write_units - 2 * month.tokens) / HOURS / 3600 / PARTITION_UNITS)


def _forwarders(month: Month) -> float:
    return month.batches / HOURS / 3600 * month.batch_ms / 1000


def _logged_gb_a_day(month: Month) -> float:
    return (month.logged_bytes + month.forwarder_bytes + month.access_bytes) / HOURS * 24 / 1e9


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def main() -> None:
    """Fill the page."""
    PAGE.write_text(filled(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
