"""Fills the tables of docs/scale.md: `.venv/bin/python -m studies.cost`, seconds.

Every figure comes from `tokenctl cost`, its limits from the template, and quotas from AWS's pages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from deploy.resources import stage_template
from dev.engine import ROOT
from studies import page
from tokenctl import cost
from tokenctl.cost import Month
from tokenctl.prices import HOURS

PAGE: Final = ROOT / "docs" / "scale.md"
RATES: Final = (1, 10, 100, 1_000, 10_000)
STAGE: Final = "prod"
SECONDS: Final = HOURS * 3600

# AWS's default quotas of an account and Region.
# Sources: the developer guides' pages of quotas of Lambda, API Gateway, DynamoDB and Systems Manager.
CONCURRENCY: Final = 1_000
CALLS_PER_CONCURRENCY: Final = 10  # synchronous and on demand: so many a second for each unit of concurrency
GATEWAY_CALLS: Final = 10_000
NEW_TABLE_UNITS: Final = 4_000
TABLE_UNITS: Final = 40_000
PARTITION_UNITS: Final = 1_000
TOGETHER: Final = 100  # calls whose lines come in one batch, for the larger of the two cases


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
    return Month(rate * SECONDS, calls_per_batch)


def total(month: Month, *services: str) -> float:
    """What a month costs, or some services of it."""
    return sum(line.usd for line in month.bill() if not services or line.service in services)


def rates() -> str:
    """What each resource needs at each rate."""
    months, together = [at_rate(rate) for rate in RATES], [at_rate(rate, TOGETHER) for rate in RATES]
    forwarders = stage()["forwarders"]
    rows: list[tuple[str, Sequence[float]]] = [
        ("calls a month, millions", [month.calls / 1e6 for month in months]),
        ("REST function: calls at once, on average", [rate * cost.CALL_MS / 1000 for rate in RATES]),
        ("concurrency that Lambda asks for that rate", [rate / CALLS_PER_CONCURRENCY for rate in RATES]),
        ("authorizer: calls a second", [month.authorizer_calls / SECONDS for month in months]),
        ("DynamoDB: write units a second", [month.write_units / SECONDS for month in months]),
        ("partitions of the table, at least", [math.ceil(_table_units(month) / PARTITION_UNITS) for month in months]),
        ("log lines to Splunk a second", [month.events / SECONDS for month in months]),
        ("logs in GB a day, access log included", [month.stored_gb_a_day / cost.STORED_SHARE for month in months]),
        ("forwarders at work, one call a batch", [_forwarders(month) for month in months]),
        (f"forwarders at work, {TOGETHER} calls a batch", [_forwarders(month) for month in together]),
        ("traces a second", [month.traces / SECONDS for month in months]),
    ]
    cells = [[title, *map(_number, values)] for title, values in rows]
    needed = f"calls a batch, at least, for {forwarders} forwarders"
    cells.insert(-1, [needed, *(_calls_a_batch(forwarders, rate) for rate in RATES)])
    cells.append([f"USD a month, {TOGETHER} calls a batch", *(f"{total(month):,.0f}" for month in together)])
    return page.table(["calls a second", *(f"{rate:,}" for rate in RATES)], cells)


def limits() -> str:
    """What ends growth, the first limit first: at how many calls a second, whose it is, and what to do."""
    month, known = at_rate(1_000), stage()
    units, tokens = month.write_units / month.calls, month.tokens / month.calls
    forwarders = known["forwarders"] * 1000 / (month.batch_ms * month.batches / month.calls)
    # REST and authorizer together may be called so often; the forwarder's calls are not counted so.
    lambda_calls = CONCURRENCY * CALLS_PER_CONCURRENCY / (1 + month.authorizer_calls / month.calls)
    rows = [
        ("log forwarders, one call a batch", forwarders, "ours", "see [the forwarder](#the-log-forwarder)"),
        ("rate of the stage", known["rate"], "ours", "`ThrottlingRateLimit` in the template"),
        ("one token that everybody asks for", PARTITION_UNITS, "AWS", "nothing: it is one item, and its callers wait"),
        ("a new table's first write units", NEW_TABLE_UNITS / units, "AWS", "warm throughput, before the rush"),
        ("all tokens for one node, or one user", PARTITION_UNITS / tokens, "AWS", "see [hot keys](#hot-keys)"),
        ("the gateway's rate of the account", GATEWAY_CALLS, "AWS", "*Throttle rate* of API Gateway"),
        ("Lambda's calls by concurrency", lambda_calls, "AWS", "*Concurrent executions* of Lambda"),
        ("a table's write units", TABLE_UNITS / units, "AWS", "*Table-level write throughput* of DynamoDB"),
        ("calls at once", CONCURRENCY * 1000 / cost.CALL_MS, "AWS", "*Concurrent executions* of Lambda"),
    ]
    ordered = sorted(rows, key=lambda row: row[1])
    cells = [(title, _number(calls), whose, cure) for title, calls, whose, cure in ordered]
    return page.table(["limit", "calls a second", "whose", "what to do"], cells)


def monthly() -> str:
    """The bill by service, for several numbers of calls."""
    counts = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
    months = list(map(Month, counts))
    services = list(dict.fromkeys(line.service for line in months[0].bill()))
    rows = [[service, *(f"{total(month, service):,.2f}" for month in months)] for service in services]
    rows.append(["**together**", *(f"**{total(month):,.2f}**" for month in months)])
    rows.append(["containers", *(f"{cost.CONTAINERS_USD:,.2f}" for _ in months)])
    return page.table(["USD, calls a month", *(f"{count:,}" for count in counts)], rows)


def filled(text: str) -> str:
    """The page with every table as it is now."""
    return page.filled(text, "cost", {"rates": rates(), "limits": limits(), "monthly": monthly()})


def _calls_a_batch(forwarders: int, rate: float) -> str:
    """How many calls' lines must come together, so that the forwarders that are allowed keep up."""
    left = forwarders - rate * cost.CALL_LINES * cost.EVENT_MS / 1000
    return f"{max(1, math.ceil(rate * cost.BATCH_MS / 1000 / left)):,}" if left > 0 else "never"


def _table_units(month: Month) -> float:
    """Write units a second, without those of the two indexes."""
    return (month.write_units - 2 * month.tokens) / SECONDS


def _forwarders(month: Month) -> float:
    return month.batches / SECONDS * month.batch_ms / 1000


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8")), "utf-8")
