"""Fills the tables of docs/scale.md and draws them: `.venv/bin/python -m studies.cost`, seconds.

The page holds a table between two comments, `<!-- cost:rates -->` and `<!-- /cost -->`; what is between is replaced.
Every figure comes from `tokenctl cost`: its prices, the code's own log lines, the template, and measurements.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenctl.costs import prices, stage_facts
from tokenctl.costs.bill import Bill, Tariff
from tokenctl.costs.month import BATCH_CPU_MS, WHOLE_PROCESSOR_MB, Traffic

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "scale.md"
OUT: Final = ROOT / "out" / "cost"
RATES: Final = (1, 10, 100, 1_000, 10_000)
STAGE: Final = "prod"
_MARKED: Final = re.compile(r"(<!-- cost:([a-z]+) -->\n).*?(<!-- /cost -->)", re.DOTALL)

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


def tariff() -> Tariff:
    """Prices, template and measurements as they are now."""
    known = stage_facts.stage(STAGE)
    measured = stage_facts.measured(known.memory_mb)
    return Tariff(prices.load(), known, measured, stage_facts.events_per_cpu_second())


def at_rate(with_: Tariff, rate: float, calls_per_batch: float = 1) -> Bill:
    """The bill of a month with so many calls in every second."""
    calls = rate * with_.prices.hours * 3600
    return with_.bill(Traffic(calls, with_.stage.memory_mb, calls_per_batch=calls_per_batch))


def rates(with_: Tariff) -> str:
    """What each resource needs at each rate."""
    bills = [at_rate(with_, rate) for rate in RATES]
    together = [at_rate(with_, rate, TOGETHER) for rate in RATES]
    rows: list[tuple[str, Callable[[int], str]]] = [
        ("calls a month, millions", lambda n: _number(bills[n].month.traffic.calls / 1e6)),
        ("REST function: calls at once, on average", lambda n: _number(RATES[n] * bills[n].month.call_ms / 1000)),
        ("concurrency that Lambda asks for that rate", lambda n: _number(RATES[n] / CALLS_PER_CONCURRENCY)),
        ("authorizer: calls a second", lambda n: _number(_per_second(bills[n], bills[n].month.authorizer_calls))),
        ("DynamoDB: write units a second", lambda n: _number(_per_second(bills[n], bills[n].month.write_units))),
        ("partitions of the table, at least", lambda n: _number(_partitions(bills[n]))),
        ("log lines to Splunk a second", lambda n: _number(_per_second(bills[n], bills[n].month.events))),
        ("logs in GB a day, access log included", lambda n: _number(_logged_gb_a_day(bills[n]))),
        ("forwarders at work, one call a batch", lambda n: _number(_forwarders(bills[n]))),
        (f"forwarders at work, {TOGETHER} calls a batch", lambda n: _number(_forwarders(together[n]))),
        (
            f"calls a batch, at least, for {with_.stage.forwarders} forwarders",
            lambda n: _calls_a_batch(with_, RATES[n]),
        ),
        ("traces a second", lambda n: _number(_traces(bills[n]))),
        (f"USD a month, {TOGETHER} calls a batch", lambda n: f"{together[n].total:,.0f}"),
    ]
    head = ["calls a second", *(f"{rate:,}" for rate in RATES)]
    return _table(head, [[title, *(cell(n) for n in range(len(RATES)))] for title, cell in rows])


def limits(with_: Tariff) -> Sequence[Limit]:
    """What ends growth, the first limit first."""
    month = at_rate(with_, 1_000).month
    units = month.write_units / month.traffic.calls
    tokens = month.tokens / month.traffic.calls
    known = with_.stage
    forwarders = known.forwarders * 1000 / (month.batch_ms * month.batches / month.traffic.calls)
    found = [
        Limit("log forwarders, one call a batch", forwarders, True, "see [the forwarder](#the-log-forwarder)"),
        Limit("rate of the stage", known.rate_limit, True, "`ThrottlingRateLimit` in the template"),
        Limit(
            "one token that everybody asks for", PARTITION_UNITS, False, "nothing: it is one item, and its callers wait"
        ),
        Limit("a new table's first write units", NEW_TABLE_UNITS / units, False, "warm throughput, before the rush"),
        Limit("all tokens for one node, or one user", PARTITION_UNITS / tokens, False, "see [hot keys](#hot-keys)"),
        Limit("the gateway's rate of the account", GATEWAY_CALLS, False, "*Throttle rate* of API Gateway"),
        Limit("Lambda's calls by concurrency", _lambda_calls(month), False, "*Concurrent executions* of Lambda"),
        Limit("a table's write units", TABLE_UNITS / units, False, "*Table-level write throughput* of DynamoDB"),
        Limit("calls at once", CONCURRENCY * 1000 / month.call_ms, False, "*Concurrent executions* of Lambda"),
    ]
    return sorted(found, key=lambda limit: limit.calls)


def limits_table(with_: Tariff) -> str:
    """The limits as the page shows them."""
    rows = [[limit.title, _number(limit.calls), "ours" if limit.ours else "AWS", limit.cure] for limit in limits(with_)]
    return _table(["limit", "calls a second", "whose", "what to do"], rows)


def forwarder(with_: Tariff) -> str:
    """How quick one forwarder is."""
    stretch = WHOLE_PROCESSOR_MB / with_.stage.memory_mb
    base_ms, call_ms = _batch_ms(with_)
    rows = [
        ["events a second of a whole processor", _number(with_.events_per_second)],
        [f"events a second at {with_.stage.memory_mb} MB", _number(with_.events_per_second / stretch)],
        [f"a batch at {with_.stage.memory_mb} MB, Splunk's answer included", f"{base_ms:.0f} ms"],
        ["each call in it", f"{call_ms:.2f} ms more"],
    ]
    return _table(["", ""], rows)


def _batch_ms(with_: Tariff) -> tuple[float, float]:
    """Milliseconds of a batch, and of each call in it."""
    month = at_rate(with_, 1_000).month
    base_ms = BATCH_CPU_MS * WHOLE_PROCESSOR_MB / with_.stage.memory_mb + month.traffic.splunk_ms
    return base_ms, month.batch_ms - base_ms


def _calls_a_batch(with_: Tariff, rate: float) -> str:
    """How many calls' lines must come together, so that the forwarders that are allowed keep up."""
    base_ms, call_ms = _batch_ms(with_)
    left = with_.stage.forwarders - rate * call_ms / 1000
    return f"{max(1, math.ceil(rate * base_ms / 1000 / left)):,}" if left > 0 else "never"


def observed(with_: Tariff) -> str:
    """What watching costs in a month of a million calls, and who looks at it."""
    lines = with_.bill(Traffic(1_000_000, with_.stage.memory_mb)).lines
    chosen = [
        line for line in lines if line.quantity.price in ("metric", "alarm", "dashboard", "logs-scanned", "trace")
    ]
    rows = [[line.quantity.what, _number(line.quantity.amount), f"{line.usd:.2f}"] for line in chosen]
    rows.append(["together", "", f"**{sum(line.usd for line in chosen):.2f}**"])
    return _table(["", "metered", "USD"], rows)


def monthly(with_: Tariff) -> str:
    """The bill by service, for several numbers of calls."""
    counts = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
    bills = [with_.bill(Traffic(count, with_.stage.memory_mb)) for count in counts]
    services = list(dict.fromkeys(line.quantity.service for line in bills[0].lines))
    rows = [[service, *(f"{_of(bill, service):,.2f}" for bill in bills)] for service in services]
    rows.append(["**together**", *(f"**{bill.total:,.2f}**" for bill in bills)])
    rows.append(["containers", *(f"{with_.containers():,.2f}" for _ in bills)])
    return _table(["USD, calls a month", *(f"{count:,}" for count in counts)], rows)


def meeting(with_: Tariff) -> str:
    """Where ours costs as much as the containers."""
    traffic = Traffic(1, with_.stage.memory_mb)
    rows = []
    for title, of in _PARTS.items():
        calls = with_.meeting_point(traffic, of)
        assert calls is not None, "the containers are cheaper from the first call on"
        rows.append([title, f"{calls / 1e6:,.1f} million", f"{with_.per_second(calls):,.1f}"])
    return _table(["", "calls a month", "calls a second, day and night"], rows)


_PARTS: Final[Mapping[str, Callable[[Bill], float]]] = {
    "everything, against the tasks alone": lambda bill: bill.total,
    "gateway and functions, against the tasks": lambda bill: bill.compute,
}
TABLES: Final[Mapping[str, Callable[[Tariff], str]]] = {
    "rates": rates,
    "limits": limits_table,
    "forwarder": forwarder,
    "observed": observed,
    "monthly": monthly,
    "meeting": meeting,
}


def filled(page: str, with_: Tariff) -> str:
    """The page with every table as it is now.

    Raises:
        KeyError: it marks a table that there is not.
    """
    return _MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found[2]](with_)}\n\n{found[3]}", page)


def draw(with_: Tariff, folder: Path) -> None:
    """Draw the month's bill over its calls, and the limits of growth."""
    from studies import plots  # noqa: PLC0415 - the tables need no charts

    counts = [10 ** (3 + step / 10) for step in range(61)]
    bills = [with_.bill(Traffic(count, with_.stage.memory_mb)) for count in counts]
    series = {
        "everything": (counts, [bill.total for bill in bills]),
        "gateway and functions": (counts, [bill.compute for bill in bills]),
        "logs, metrics, alarms, traces": (counts, [_of(bill, "CloudWatch") + _of(bill, "X-Ray") for bill in bills]),
        "four containers": (counts, [with_.containers()] * len(counts)),
    }
    plots.lines(folder / "cost.svg", "What a month costs", ("calls a month", "USD a month"), series)
    known = {("ours: " if limit.ours else "AWS: ") + limit.title: limit.calls for limit in limits(with_)}
    plots.bars(folder / "scale.svg", {"What ends growth first, calls a second": known}, ours="ours", log=True)


def _of(bill: Bill, service: str) -> float:
    return sum(line.usd for line in bill.lines if line.quantity.service == service)


def _per_second(bill: Bill, amount: float) -> float:
    return amount / bill.month.traffic.calls * bill.month.calls_per_second


def _partitions(bill: Bill) -> int:
    return math.ceil(_per_second(bill, bill.month.write_units - 2 * bill.month.tokens) / PARTITION_UNITS)


def _forwarders(bill: Bill) -> float:
    return _per_second(bill, bill.month.batches) * bill.month.batch_ms / 1000


def _logged_gb_a_day(bill: Bill) -> float:
    month = bill.month
    return _per_second(bill, month.logged_bytes + month.forwarder_bytes + month.access_bytes) * 86_400 / 1e9


def _traces(bill: Bill) -> float:
    return _per_second(bill, sum(line.quantity.amount for line in bill.lines if line.quantity.price == "trace"))


def _lambda_calls(month: Any) -> float:
    """REST and authorizer together may be called so often; the forwarder's calls are not counted so."""
    return CONCURRENCY * CALLS_PER_CONCURRENCY / (1 + month.authorizer_calls / month.traffic.calls)


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown; columns of numbers stand to the right."""
    numbers = [all(re.match(r"[*\d]|never|$", row[place]) for row in rows) for place in range(len(head))]
    lines = [head, ["---:" if right else "---" for right in numbers], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Fill the page and draw its pictures."""
    with_ = tariff()
    PAGE.write_text(filled(PAGE.read_text("utf-8"), with_), "utf-8")
    draw(with_, OUT)


if __name__ == "__main__":
    main()
