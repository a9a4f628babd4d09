"""`tokenctl cost`: the cost of a month, by service, beside the containers that this design replaces."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from itertools import groupby
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Column, Table

from tokenctl.costs import prices, stage_facts
from tokenctl.costs.bill import TASK_GB, TASK_VCPUS, TASKS, Bill, Tariff
from tokenctl.costs.month import Traffic
from tokenctl.costs.options import priced_options
from tokenctl.deployment import LOCAL_STAGE
from tokenctl.errors import DeploymentError
from tokenctl.terminal import Terminal, common

DEFAULT_CALLS: Final = 1_000_000
_DEFAULT_STAGE: Final = "prod"  # the local stage costs nothing
_PLACES: Final = 6
_WHOLE_FROM: Final = 1_000


def _finite(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter("not a finite number")
    return value


def _number(
    name: str, least: float, most: float | None, default: float | None, text: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    kind = click.FloatRange(least, most)
    return click.option(name, type=kind, default=default, callback=_finite, show_default=default is not None, help=text)


@click.command("cost")
@_number("--calls", 1, 1e12, DEFAULT_CALLS, "API calls a month.")
@click.option("--memory", type=click.IntRange(128, 10_240), help="MB of each function. Default: as configured.")
@_number("--duration-ms", 0.1, 29_000, None, "Milliseconds of a warm call. Default: the measured median.")
@_number("--cache-hit", 0, 1, None, "Share of calls whose credentials the gateway has cached. Default: from --clients.")
@click.option("--clients", type=click.IntRange(1), default=3, show_default=True, help="Number of client applications.")
@click.option("--uses", type=click.IntRange(1, 100), default=1, show_default=True, help="Uses of each token.")
@_number("--refused", 0, 0.99, 0.05, "Share of the calls that are refused uses.")
@_number("--log-bytes", 0, 256_000, None, "Bytes that a call logs. Default: the size of its lines.")
@_number("--batch", 1, 10_000, 1, "Calls whose log lines reach the forwarder together; 1 is the most expensive.")
@_number("--looks", 0, 100_000, 100, "How often somebody opens the dashboard: its log queries are charged.")
@_number("--deployments", 0, 10_000, 0, "Pipeline runs a month.")
@click.option("--free-tier", is_flag=True, help="Subtract AWS's free tier, as if nothing else used it.")
@common
def cost(terminal: Terminal, /, **options: Any) -> None:
    """Estimate the monthly cost on AWS, and compare it with containers.

    Makes no call to AWS. The prices are those of tokenctl/costs/prices.toml: check them. STAGE or --stage chooses the
    template (default: prod).
    """
    tariff = tariff_of(_DEFAULT_STAGE if terminal.stage == LOCAL_STAGE else terminal.stage, options)
    traffic = Traffic(
        calls=options["calls"],
        memory_mb=options["memory"] or tariff.stage.memory_mb,
        duration_ms=options["duration_ms"],
        uses_per_token=options["uses"],
        refused=options["refused"],
        clients=options["clients"],
        cache_hit=options["cache_hit"],
        calls_per_batch=options["batch"],
        log_bytes=options["log_bytes"],
        looks=options["looks"],
        deployments=options["deployments"],
    )
    estimate = facts(tariff, traffic)
    terminal.show(estimate, lambda console: show(console, estimate))


def tariff_of(stage: str, options: dict[str, Any]) -> Tariff:
    """Read the prices, the stage's template and settings, and the benchmark's results.

    Raises:
        DeploymentError: one of them can't be read.
    """
    try:
        table = prices.load()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeploymentError(f"{prices.TABLE.name} can't be read: {error}") from None
    known = stage_facts.stage(stage)
    # With --duration-ms, only the start-up time is still taken from the results, and memory hardly changes it.
    memory = known.memory_mb if options.get("duration_ms") else options.get("memory") or known.memory_mb
    measured = stage_facts.measured(memory)
    rate = stage_facts.events_per_cpu_second()
    return Tariff(table, known, measured, rate, bool(options.get("free_tier")))


def facts(tariff: Tariff, traffic: Traffic) -> dict[str, Any]:
    """Return the bill and its comparison, as `--json` prints it."""
    bill = tariff.bill(traffic)
    return {
        "prices": {"asOf": tariff.prices.as_of.isoformat(), "region": tariff.prices.region, "checked": False},
        "month": {"hours": tariff.prices.hours, "callsPerSecond": _round(bill.month.calls_per_second)},
        "traffic": _traffic(tariff, bill),
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
            "whole": _meet(tariff, traffic, whole=True),
            "compute": _meet(tariff, traffic, whole=False),
        },
    }


def show(console: Console, estimate: dict[str, Any]) -> None:
    """Print it for a person."""
    table = Table(box=None, pad_edge=False)
    table.add_column("", overflow="fold")
    table.add_column("quantity", justify="right", no_wrap=True)
    table.add_column("price", overflow="fold")
    table.add_column("USD a month", justify="right", no_wrap=True)
    for service, lines in groupby(estimate["lines"], lambda line: str(line["service"])):
        known = list(lines)
        table.add_row(f"[bold]{service}[/]", "", "", f"[bold]{sum(line['usd'] for line in known):,.2f}[/]")
        for line in known:
            table.add_row(f"  {line['what']}", _amount(line["quantity"]), _price(line), f"{line['usd']:,.2f}")
    containers = estimate["containers"]
    table.add_row()
    table.add_row("[bold]together[/]", "", "", f"[bold]{estimate['totalUsd']:,.2f}[/]")
    table.add_row("  gateway, functions alone", "", "", f"{estimate['computeUsd']:,.2f}")
    table.add_row("[bold]containers[/]", "", "", f"[bold]{containers['totalUsd']:,.2f}[/]")
    console.print(table)
    more = Table("Options that are off", "", Column("USD a month", justify="right"), box=None, pad_edge=False)
    for option in estimate["options"]:
        more.add_row(f"  {option['name']}", option["what"], f"{option['usd']:,.2f}")
    console.print()
    console.print(more)
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


def _traffic(tariff: Tariff, bill: Bill) -> dict[str, Any]:
    month, traffic = bill.month, bill.month.traffic
    return {
        "stage": tariff.stage.name,
        "calls": traffic.calls,
        "memoryMb": traffic.memory_mb,
        "durationMs": _round(month.call_ms),
        "durationFrom": "--duration-ms" if traffic.duration_ms else "studies/bench/results/lambda_box.json, medians",
        "cacheHit": _round(1 - month.authorizer_calls / traffic.calls),
        "usesPerToken": traffic.uses_per_token,
        "refused": traffic.refused,
        "logBytesPerCall": _round(month.logged_bytes / traffic.calls),
        "callsPerBatch": traffic.calls_per_batch,
        "looks": traffic.looks,
        "customMetrics": len(month.values_of_metrics()),
        "freeTier": tariff.free_tier,
    }


def _line(tariff: Tariff, quantity: Any, usd: float) -> dict[str, Any]:
    price = tariff.prices[quantity.price]
    return {
        "service": quantity.service,
        "what": quantity.what,
        "quantity": _round(quantity.amount),
        "unit": price.unit,
        "usdForPer": price.first_usd,
        "per": price.per,
        "usd": round(usd, 4),
        "page": price.page,
    }


def _meet(tariff: Tariff, traffic: Traffic, *, whole: bool) -> dict[str, float] | None:
    calls = tariff.meeting_point(traffic, lambda bill: bill.total if whole else bill.compute)
    if calls is None:
        return None
    return {"calls": round(calls), "callsPerSecond": _round(tariff.per_second(calls))}


def _at(meeting: dict[str, float] | None) -> str:
    if meeting is None:
        return "no number of calls: containers are always cheaper"
    return (
        f"{meeting['calls'] / 1e6:,.1f} million calls a month: {meeting['callsPerSecond']:,.1f} a second, day and night"
    )


def _amount(quantity: float) -> str:
    return f"{quantity:,.0f}" if quantity >= _WHOLE_FROM else f"{quantity:,.2f}"


def _round(value: float) -> float:
    return round(value, _PLACES)
