"""Counts the instructions that a function executes, with valgrind's callgrind.

Two counts of the same start differ by less than a thousandth, even on a busy machine. Processor times of the same
start differ by 20 to 50 %.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from studies.bench.box import events
from studies.bench.box import variants as of
from studies.bench.box.function import FunctionError
from studies.bench.box.measure import Box, Setting
from studies.bench.box.variants import Variant

COUNTED: Final = (of.EMPTY, of.SERVICE, of.BARE_AUTHORIZER, of.AUTHORIZER, of.FLOOR)
_SETTING: Final = Setting(memory_mb=128, calls=0, limited=False)
_FEW: Final = 2  # issues and uses after which nothing is loaded late
_CALLS: Final = 40  # so many that a garbage collection in between counts little
_AT_ONCE: Final = 2


@dataclass(frozen=True)
class Counts:
    """Instructions in millions.

    Attributes:
        init: until the function asks for its first event, by variant.
        use: of a warm use, by variant.
        issue: of a warm issue, by variant.
    """

    init: Mapping[str, float]
    use: Mapping[str, float]
    issue: Mapping[str, float]


def count(box: Box) -> Counts:
    """Count each variant of `COUNTED` once, two processes at a time.

    A warm call is the difference of two processes, one of which makes more calls of that kind.

    Raises:
        FunctionError: a process failed.
    """

    def millions(process: tuple[Variant, int, int]) -> float:
        variant, issues, uses = process
        report = box.folder / f"callgrind-{variant.name}-{issues}-{uses}"
        under = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={report}")
        with box.function(variant, _SETTING, under) as function:
            function.init()
            tokens = [json.loads(function.call(events.issue())[0]["body"])["token"] for _ in range(issues)]
            for token in tokens[:uses]:
                function.call(events.use(token))
            function.end()
        return _instructions(report.read_text("utf-8", "replace")) / 1e6

    few, many = _FEW, _FEW + _CALLS
    warm = (of.SERVICE, of.FLOOR)
    processes = [(variant, 0, 0) for variant in COUNTED if variant is not of.FLOOR]
    processes += [(variant, *calls) for variant in warm for calls in ((few, few), (many, few), (many, many))]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        names = [(variant.name, issues, uses) for variant, issues, uses in processes]
        counted = dict(zip(names, pool.map(millions, processes), strict=True))

    def call(name: str, more: tuple[int, int], less: tuple[int, int]) -> float:
        return (counted[name, *more] - counted[name, *less]) / _CALLS

    return Counts(
        init={name: total for (name, issues, _), total in counted.items() if not issues},
        use={variant.name: call(variant.name, (many, many), (many, few)) for variant in warm},
        issue={variant.name: call(variant.name, (many, few), (few, few)) for variant in warm},
    )


def _instructions(report: str) -> int:
    """The sum of a report.

    Source: Valgrind manual, "Callgrind Format Specification".
    """
    for line in report.splitlines():
        name, _, value = line.partition(": ")
        if name in ("summary", "totals"):
            return int(value)
    raise FunctionError("valgrind's report has no sum")
