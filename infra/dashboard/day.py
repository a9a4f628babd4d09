"""An invented day in figures.

Office hours; somebody who tries tokens that are not theirs in the afternoon; a quarter of an hour without Splunk in the
morning.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from chalicelib.tokens import MISMATCHES, Reason
from infra.dashboard.definition import STEP, Series, UnknownPart, reasons

STEPS: Final = 86_400 // STEP

_SEED: Final = 123
_OUTAGE: Final = 130  # the step that begins at 10:50
_CALLS: Final = 390  # in five minutes, when most are made


def _near(hour: float, at: float, width: float) -> float:
    return math.exp(-(((hour - at) / width) ** 2))


def _load(hour: float) -> float:
    return 0.03 + _near(hour, 10.2, 1.8) + 0.85 * _near(hour, 15, 2)


def _refused(hour: float, reason: str) -> float:
    usual = {Reason.EXPIRED: 6.0, Reason.EXHAUSTED: 4.0, Reason.NOT_FOUND: 1.6}.get(Reason(reason), 0.4)
    probed = {Reason.USER: 20 * _near(hour, 14.2, 0.3), Reason.LOCKED: 32 * _near(hour, 14.7, 0.4)}
    guessed = 4 * _near(hour, 14.2, 0.3) if reason in MISMATCHES else 0
    return usual * _load(hour) + probed.get(Reason(reason), guessed)


# Each metric that is counted: how many in five minutes around an hour of the day.
_COUNTS: Final[Mapping[str, Callable[[float], float]]] = {
    "TokensIssued": lambda hour: 150 * _load(hour),
    "TokensUsed": lambda hour: 112 * _load(hour),
    "Count": lambda hour: _CALLS * _load(hour) + sum(_refused(hour, reason) for reason in reasons()),
    "5XXError": lambda hour: 2.5 * _near(hour, 16.3, 0.1),
    "AuthRefused": lambda hour: 0.6 * _load(hour) + 24 * _near(hour, 8.2, 0.25),
    "EventsDelivered": lambda hour: 7 * _CALLS * _load(hour),
    **dict.fromkeys(
        ("AuthFailed", "Errors", "Throttles", "EventsFailed", "EventsSetAside", "RequestsRetried"), lambda _: 0
    ),
}
# What is otherwise while Splunk is away, and in the quarter of an hour after.
_AWAY: Final[Mapping[str, Sequence[float | None]]] = {
    "EventsDelivered": (0, 0, 0, 6_180, 4_310, 2_790),
    "EventsFailed": (4_210, 7_930, 7_760, 610, 0, 0),
    "RequestsRetried": (212, 391, 376, 28, 0, 0),
    "DeliveryDelayMax": (None, None, None, 417_000, 268_000, 31_000),
    "DeliveryDelayMean": (None, None, None, 174_000, 63_000, 4_900),
}
# Each metric that is measured, with its statistic: milliseconds, how far they scatter, what a cold start adds.
_TIMES: Final[Mapping[tuple[str, str], tuple[float, float, float]]] = {
    ("Latency", "p50"): (15, 0.8, 0),
    ("Latency", "p99"): (52, 4, 190),
    ("Duration", "p50"): (3.9, 0.2, 0),
    ("Duration", "p99"): (22, 1.5, 25),
    ("StoreLatency", "Average"): (4.4, 0.07, 0),
    ("DeliveryDelayMax", "Maximum"): (5_200, 700, 0),
    ("DeliveryDelayMean", "Average"): (2_600, 200, 0),
}


def values(series: Series) -> list[float | None]:
    """What a metric had in each five minutes of the day; None: nothing.

    Raises:
        UnknownPart: the day knows no such metric.
    """
    dice = random.Random(f"{_SEED} {series.name} {series.dimensions} {series.stat}")  # noqa: S311 - no secret
    dimensions = dict(series.dimensions)
    pace = 0.6 + 0.9 * dice.random() if "Operation" in dimensions else 1.0
    made: list[float | None] = []
    for step in range(STEPS):
        hour = (step + 0.5) * 24 / STEPS
        if "Reason" in dimensions:
            made.append(_count(dice, _refused(hour, dimensions["Reason"])))
        elif series.name in _COUNTS and series.stat == "Sum":
            made.append(_count(dice, _COUNTS[series.name](hour)))
        elif (series.name, series.stat) in _TIMES:
            made.append(pace * _time(dice, hour, *_TIMES[series.name, series.stat]))
        else:
            raise UnknownPart(f"{series.name}, {series.stat}: there is no generated data")
    away = _AWAY.get(series.name, ())
    made[_OUTAGE : _OUTAGE + len(away)] = away
    return made


def _count(dice: random.Random, mean: float) -> float:
    return max(0, round(dice.gauss(mean, math.sqrt(mean))))


def _time(dice: random.Random, hour: float, usual: float, scatter: float, cold: float) -> float:
    # Where calls are few, a cold start is among the slowest.
    return usual + dice.gauss(0, scatter) + cold * (0.8 + 0.2 * dice.random()) * math.exp(-_CALLS * _load(hour) / 60)
