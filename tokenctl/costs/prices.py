"""The dated table of prices, and what a quantity costs by it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

TABLE: Final = Path(__file__).resolve().with_name("prices.toml")


@dataclass(frozen=True, slots=True)
class Price:
    """What one thing costs.

    Attributes:
        page: where AWS tells it.
        unit, per: dollars are for so many of these.
        tiers: up to which quantity a month, and dollars; the last one has no end.
        free: what costs nothing in the free tier, a month.
    """

    page: str
    unit: str
    per: int
    tiers: tuple[tuple[float, float], ...]
    free: float

    @property
    def first_usd(self) -> float:
        """Dollars for `per` in the first tier."""
        return self.tiers[0][1]

    def usd(self, quantity: float, *, free_tier: bool = False) -> float:
        """Dollars for that much in one month."""
        charged = max(0.0, quantity - self.free) if free_tier else quantity
        total, below = 0.0, 0.0
        for upto, dollars in self.tiers:
            within = max(0.0, min(charged, upto) - below)
            total += within / self.per * dollars
            below = upto
        return total


@dataclass(frozen=True, slots=True)
class Prices:
    """All prices of one Region on one day."""

    as_of: date
    region: str
    hours: int
    by_name: Mapping[str, Price]

    def __getitem__(self, name: str) -> Price:
        return self.by_name[name]


def load(path: Path = TABLE) -> Prices:
    """Read the table."""
    told = tomllib.loads(path.read_text("utf-8"))
    as_of, region, hours = told.pop("as_of"), told.pop("region"), told.pop("hours")
    return Prices(
        as_of,
        region,
        hours,
        {
            name: Price(
                page=each["page"],
                unit=each["unit"],
                per=each["per"],
                tiers=tuple((upto or float("inf"), dollars) for upto, dollars in each["usd"]),
                free=each.get("free", 0),
            )
            for name, each in told.items()
        },
    )
