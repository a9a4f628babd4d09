"""A month's bill, the cost of containers, and the number of calls at which both are equal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tokenctl.costs.month import SECONDS_AN_HOUR, Month, Quantity, Traffic
from tokenctl.costs.prices import Prices
from tokenctl.costs.stage_facts import Measured, Stage

# The design that this one replaces: tasks on Fargate, day and night.
TASKS: Final = 4
TASK_VCPUS: Final = 1
TASK_GB: Final = 2
# What of ours does the containers' work; the rest of the bill a container service would have in one form or another.
COMPUTE: Final = frozenset({"API Gateway", "Lambda"})
_MOST_CALLS: Final = 1e12
_CLOSE_ENOUGH: Final = 1.0001


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the bill; `usd` is its share where several lines share a price's tiers."""

    quantity: Quantity
    usd: float


@dataclass(frozen=True, slots=True)
class Bill:
    """The cost of a month of traffic."""

    month: Month
    lines: Sequence[Line]

    @property
    def total(self) -> float:
        return sum(line.usd for line in self.lines)

    @property
    def compute(self) -> float:
        """Gateway and functions alone."""
        return sum(line.usd for line in self.lines if line.quantity.service in COMPUTE)


@dataclass(frozen=True, slots=True)
class Tariff:
    """What a bill depends on besides the traffic."""

    prices: Prices
    stage: Stage
    measured: Measured
    events_per_second: float
    free_tier: bool = False

    def bill(self, traffic: Traffic) -> Bill:
        """Return the bill of one month."""
        month = Month(traffic, self.stage, self.measured, self.events_per_second, self.prices.hours)
        quantities = month.quantities()
        amounts: dict[str, float] = defaultdict(float)
        for quantity in quantities:
            amounts[quantity.price] += quantity.amount
        charged = self._charged(amounts) if self.free_tier else amounts
        usd = {name: self.prices[name].usd(amount) for name, amount in charged.items()}
        shares = [quantity.amount / (amounts[quantity.price] or 1) for quantity in quantities]
        lines = [Line(item, usd[item.price] * share) for item, share in zip(quantities, shares, strict=True)]
        return Bill(month, lines)

    def _charged(self, amounts: Mapping[str, float]) -> dict[str, float]:
        """What is left of each amount after the free tier; prices that share a free quantity take from it in turn."""
        left = {name: price.free for name, price in self.prices.by_name.items()}
        charged = {}
        for name, amount in amounts.items():
            source = self.prices[name].shares or name
            free = min(amount, left[source])
            left[source] -= free
            charged[name] = amount - free
        return charged

    def containers(self) -> float:
        """Dollars a month for the tasks; their load balancer, logs and data are not in it."""
        hour = TASK_VCPUS * self.prices["fargate-vcpu-hour"].usd(1) + TASK_GB * self.prices["fargate-gb-hour"].usd(1)
        return TASKS * hour * self.prices.hours

    def meeting_point(self, traffic: Traffic, of: Callable[[Bill], float]) -> float | None:
        """Return the calls a month at which that part of the bill costs as much as the containers.

        None means it always costs more.
        """
        containers = self.containers()

        def costs_more(calls: float) -> bool:
            return of(self.bill(replace(traffic, calls=calls))) > containers

        least, most = 1.0, _MOST_CALLS
        if costs_more(least):
            return None
        while most / least > _CLOSE_ENOUGH:
            middle = (least * most) ** 0.5
            least, most = (least, middle) if costs_more(middle) else (middle, most)
        return least

    def per_second(self, calls: float) -> float:
        """A month's calls as calls a second, spread evenly."""
        return calls / self.prices.hours / SECONDS_AN_HOUR
