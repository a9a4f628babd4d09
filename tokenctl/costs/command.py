"""`tokenctl cost`: the cost of a month, by service, beside the containers that this design replaces."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Column, Table

from tokenctl.costs import prices, stage_facts
from tokenctl.costs.bill import TASK_GB, TASK_VCPUS, TASKS, Tariff
from tokenctl.costs.month import Traffic
from tokenctl.costs.options import priced_options
from tokenctl.deployment import LOCAL_STAGE
from tokenctl.errors import DeploymentError
from tokenctl.terminal import Terminal, common

_DEFAULT_STAGE: Final = "prod"  # the local stage costs nothing
_PLACES: Final = 6
_WHOLE_FROM: Final = 1_000


@click.command("cost")
@click.option("--calls", type=click.IntRange(1, 10**12), default=10**6, show_default=True, help="API calls a month.")
@click.option("--memory", type=click.IntRange(128, 10_240), help="MB of each function. Default: as configured.")
@click.option("--clients", type=click.IntRange(1), default=3, show_default=True, help="Number of client applications.")
@click.option("--uses", type=click.IntRange(1, 100), default=1, show_default=True, help="Uses of each token.")
@click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="Calls whose log lines reach the forwarder together; 1 is the most expensive.",
)
@click.option(
    "--looks",
    type=click.IntRange(0, 100_000),
    default=100,
    show_default=True,
    help="How often somebody opens the dashboard: its log queries are charged.",
)
@click.option("--free-tier", is_flag=True, help="Subtract AWS's free tier, as if nothing else used it.")
@common
def cost(  # noqa: PLR0917 - click passes them by name
    terminal: Terminal,
    calls: int,
    memory: int | None,
    clients: int,
    uses: int,
    batch: int,
    looks: int,
    free_tier: bool,
) -> None:
    """Estimate the monthly cost on AWS, and compare it with containers.

    Makes no call to AWS. The prices are those of tokenctl/costs/prices.toml: check them. STAGE or --stage chooses the
    template (default: prod).
    """
    try:
        known_prices = prices.load()
    except (OSError, ValueError, KeyError) as error:
        raise DeploymentError(f"{prices.TABLE.name} can't be read: {error}") from None
    stage = stage_facts.stage(_DEFAULT_STAGE if terminal.stage == LOCAL_STAGE else terminal.stage)
    traffic = Traffic(
        calls, memory or stage.memory_mb, uses_per_token=uses, clients=clients, calls_per_batch=batch, looks=looks
    )
    measured, rate = stage_facts.measured(traffic.memory_mb), stage_facts.events_per_cpu_second()
    estimate = facts(Tariff(known_prices, stage, measured, rate, free_tier), traffic)
    terminal.show(estimate, lambda console: show(console, estimate))


def facts(tariff: Tariff, traffic: Traffic) -> dict[str, Any]:
    """Return the bill and its comparison, as `--json` prints it."""
    bill = tariff.bill(traffic)
    month = bill.month
    return {
        "prices": {"asOf": tariff.prices.as_of.isoformat(), "region": tariff.prices.region},
        "traffic": {
            "stage": tariff.stage.name,
            "calls": traffic.calls,
            "callsPerSecond": round(month.calls_per_second, _PLACES),
            "memoryMb": traffic.memory_mb,
            "durationMs": round(month.call_ms, _PLACES),
            "cacheHit": round(1 - month.authorizer_calls / traffic.calls, _PLACES),
            "logBytesPerCall": round(month.logged_bytes / traffic.calls, _PLACES),
        },
        "lines": [_line(tariff, line.quantity, line.usd) for line in bill.lines],
        "totalUsd": round(bill.total, 2),
        "computeUsd": round(bill.compute, 2),
        "options": [{**asdict(option), "usd": round(option.usd, 2)} for option in priced_options(tariff, traffic)],
        "containers": {
            "tasks": TASKS,
            "vcpus": TASK_VCPUS,
            "gb": TASK_GB,
            "totalUsd": round(tariff.containers(), 2),
        },
        "meet": {
            "whole": _meet(tariff, tariff.meeting_point(traffic, lambda bill: bill.total)),
            "compute": _meet(tariff, tariff.meeting_point(traffic, lambda bill: bill.compute)),
        },
    }


def _line(tariff: Tariff, quantity: Any, usd: float) -> dict[str, Any]:
    price = tariff.prices[quantity.price]
    return {
        "service": quantity.service,
        "what": quantity.what,
        "quantity": round(quantity.amount, _PLACES),
        "unit": price.unit,
        "usdForPer": price.tiers[0][1],
        "per": price.per,
        "usd": round(usd, 4),
        "page": price.page,
    }


def _meet(tariff: Tariff, calls: float | None) -> dict[str, float] | None:
    if calls is None:
        return None
    return {"calls": round(calls), "callsPerSecond": round(tariff.per_second(calls), _PLACES)}


def show(console: Console, estimate: dict[str, Any]) -> None:
    """Print it for a person."""
    quantity, usd = (Column(name, justify="right", no_wrap=True) for name in ("quantity", "USD a month"))
    table = Table(Column(overflow="fold"), quantity, Column("price", overflow="fold"), usd, box=None, pad_edge=False)
    for service, lines in groupby(estimate["lines"], lambda line: str(line["service"])):
        known = list(lines)
        table.add_row(f"[bold]{service}[/]", "", "", f"[bold]{sum(line['usd'] for line in known):,.2f}[/]")
        for line in known:
            amount = f"{line['quantity']:,.{0 if line['quantity'] >= _WHOLE_FROM else 2}f}"
            table.add_row(f"  {line['what']}", amount, _price(line), f"{line['usd']:,.2f}")
    containers = estimate["containers"]
    table.add_row()
    table.add_row("[bold]together[/]", "", "", f"[bold]{estimate['totalUsd']:,.2f}[/]")
    table.add_row("  gateway, functions alone", "", "", f"{estimate['computeUsd']:,.2f}")
    table.add_row("[bold]containers[/]", "", "", f"[bold]{containers['totalUsd']:,.2f}[/]")
    more = Table("Options that are off", "", Column("USD a month", justify="right"), box=None, pad_edge=False)
    for option in estimate["options"]:
        more.add_row(f"  {option['name']}", option["what"], f"{option['usd']:,.2f}")
    console.print(table, "", more, sep="\n")
    tasks = f"{containers['tasks']} tasks of {containers['vcpus']} vCPU and {containers['gb']} GB"
    console.print(f"\nThe containers are {tasks}, without load balancer, logs and data. They cost as much")
    console.print(f"  as all of this at            {_at(estimate['meet']['whole'])}")
    console.print(f"  as gateway and functions at  {_at(estimate['meet']['compute'])}")
    region, as_of = estimate["prices"]["region"], estimate["prices"]["asOf"]
    console.print(
        f"\nPrices of {region} as of {as_of}, not checked with AWS: tokenctl/costs/prices.toml names the pages."
    )


def _price(line: dict[str, Any]) -> str:
    per = {1: "", 1_000_000: "million "}.get(line["per"], f"{line['per']:,} ")
    dollars = f"{line['usdForPer']:.10f}".rstrip("0").rstrip(".")
    return f"{dollars} / {per}{line['unit']}"


def _at(meeting: dict[str, float] | None) -> str:
    if meeting is None:
        return "no number of calls: containers are always cheaper"
    millions, rate = meeting["calls"] / 1e6, meeting["callsPerSecond"]
    return f"{millions:,.1f} million calls a month: {rate:,.1f} a second, day and night"
