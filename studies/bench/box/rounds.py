"""Alternating rounds: in each, a fresh process of every variant.

The speed of a machine drifts, and on a shared one it jumps. So all are started in turn, every other round in the
opposite order; then they live side by side and are called in turn, and ratios are taken within a round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from studies.bench.box.build import Built
from studies.bench.box.measure import NOT_YET_WARM, Box, Life, Sample, Setting
from studies.bench.box.runtime_api import FunctionError
from studies.bench.box.variants import Variant

_TRIES = 3

Round = dict[str, Sample]
"""The sample of each variant, by its name."""


@dataclass
class Run:
    """The rounds of one setting.

    Attributes:
        repeated: rounds that were repeated because a process failed: on a busy machine calls time out.
    """

    setting: Setting
    variants: Sequence[Variant]
    rounds: list[Round] = field(default_factory=list)
    repeated: int = 0

    def samples(self, variant: Variant) -> list[Sample]:
        return [each[variant.name] for each in self.rounds]


def add_rounds(
    run: Run, box: Box, built: Mapping[str, Built], rounds: int, progress: Callable[[str], object] = lambda _: None
) -> None:
    """Add rounds to a run.

    Args:
        built: by the archive's name.
        progress: is called with a text before each step.
    """
    for _ in range(rounds):
        for tries_left in reversed(range(_TRIES)):
            try:
                run.rounds.append(_round(run, box, built, progress))
                break
            except FunctionError:
                if not tries_left:
                    raise
                run.repeated += 1


def _round(run: Run, box: Box, built: Mapping[str, Built], progress: Callable[[str], object]) -> Round:
    nth, setting = len(run.rounds), run.setting
    with ExitStack() as living:
        lives: dict[str, Life] = {}
        for variant in run.variants if nth % 2 == 0 else reversed(run.variants):
            progress(f"round {nth + 1}: start of {variant.title}, {setting.memory_mb} MB")
            lives[variant.name] = living.enter_context(box.started(variant, built[variant.archive.name], setting))
        progress(f"round {nth + 1}: warm calls, {setting.memory_mb} MB")
        for step in range(NOT_YET_WARM + setting.calls):
            for life in lives.values() if step % 2 == 0 else reversed(lives.values()):
                life.step()
        return {name: life.end() for name, life in lives.items()}
