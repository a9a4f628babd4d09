"""The dated table of prices."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import msgspec

TABLE: Final = Path(__file__).resolve().with_name("prices.toml")


class Price(msgspec.Struct, frozen=True):
    """The price of one thing.

    Attributes:
        page: AWS's page of the price.
        unit, per: dollars are for `per` of `unit`.
        tiers: upper limit a month, and dollars; the last one has no limit, 0.
        free: quantity of the free tier, a month.
        shares: the price whose free quantity it shares; empty for its own.
    """

    page: str
    unit: str
    per: int
    tiers: list[tuple[float, float]] = msgspec.field(name="usd")
    free: float = 0
    shares: str = ""

    def usd(self, charged: float) -> float:
        """Return the dollars for a quantity in one month, of which nothing is free."""
        total, below = 0.0, 0.0
        for upto, dollars in self.tiers:
            within = max(0.0, min(charged, upto or charged) - below)
            total += within / self.per * dollars
            below = upto
        return total


@dataclass(frozen=True, slots=True)
class Prices:
    """All prices of a Region on a day."""

    as_of: date
    region: str
    hours: int
    by_name: Mapping[str, Price]

    def __getitem__(self, name: str) -> Price:
        return self.by_name[name]


def load(path: Path = TABLE) -> Prices:
    """Read the table."""
    table = tomllib.loads(path.read_text("utf-8"))
    as_of, region, hours = table.pop("as_of"), table.pop("region"), table.pop("hours")
    return Prices(as_of, region, hours, msgspec.convert(table, dict[str, Price]))
