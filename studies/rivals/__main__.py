"""How others count the uses of a link, and ours, on DynamoDB Local: `make scoreboard`, two minutes.

Each rival is restated in our words from its source, as its way to count alone. In a race, whoever has read waits until
another one has read, as callers do on a busy machine: so each race shows a counter that reads, then writes. Ends with 1
if a counter that is known to be wrong is not caught in each race, or if an exact one grants too much.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.progress import Progress

from dev.engine import ROOT
from studies import page, picture
from studies.context import context
from studies.rivals import counters
from studies.rivals.counters import Rival
from tests.support.store_engines import DYNAMODB_LOCAL, OPEN

RACERS: Final = 32
MEETING_SECONDS: Final = 60  # at most; then a racer failed, and the others do not wait for ever
PAGE: Final = ROOT / "docs" / "reliability.md"
PICTURE: Final = ROOT / "docs" / "images" / "scoreboard.svg"


@dataclass
class Score:
    """What one rival did.

    Attributes:
        granted: uses granted in each race for one use.
        lost: callers without an answer whose repetition got no use.
        requests, seconds: of each use by one caller alone.
    """

    name: str
    exact: bool
    granted: list[int] = field(default_factory=list)
    lost: int = 0
    requests: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def extra(self) -> int:
        """Uses granted beyond the one, in all races."""
        return sum(self.granted) - len(self.granted)

    @property
    def caught(self) -> int:
        """Races in which more than one use was granted."""
        return sum(uses > 1 for uses in self.granted)

    @property
    def milliseconds(self) -> float:
        return statistics.median(self.seconds) * 1000

    def verdict(self) -> str | None:
        """What the study fails with; None if the races showed what is known."""
        if self.exact:
            return f"{self.name} granted {self.extra} uses too many" if self.extra else None
        missed = len(self.granted) - self.caught
        return (
            f"{self.name} counts wrongly, and {missed} of {len(self.granted)} races did not show it" if missed else None
        )


def run(rivals: Sequence[Rival], races: int, advance: Callable[[], object]) -> list[Score]:
    """Race for links, lose answers, and measure uses by one caller; the rivals take turns."""
    scores = [Score(rival.name, rival.exact) for rival in rivals]
    start, pair = threading.Barrier(RACERS), threading.Barrier(2)

    def racer(rival: Rival, link: str, number: int) -> bool:
        start.wait()
        return rival.use(link, f"key-{number}")

    with ThreadPoolExecutor(RACERS) as pool:
        for _ in range(races):
            for rival, score in zip(rivals, scores, strict=True):
                rival.meet = lambda: pair.wait(MEETING_SECONDS)
                score.granted.append(sum(pool.map(racer, [rival] * RACERS, [rival.issue()] * RACERS, range(RACERS))))
                rival.meet = lambda: None
                link, before, started = rival.issue(), rival.requests, time.perf_counter()
                rival.use(link, "key")
                score.seconds.append(time.perf_counter() - started)
                score.requests += rival.requests - before
                score.lost += not rival.use(link, "key")  # nobody saw the answer to the first
                advance()
    return scores


def main() -> int:
    """Run, show progress, fill the page and draw the picture; 1 where the races did not show what is known."""
    parser = argparse.ArgumentParser(prog="python -m studies.rivals", description=__doc__)
    parser.add_argument("--races", type=int, default=100)
    parser.add_argument("--publish", action="store_true", help="fill docs/reliability.md and its picture")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="rivals-") as scratch,
        OPEN[DYNAMODB_LOCAL](Path(scratch)) as engine,
        Progress() as progress,
    ):
        task = progress.add_task("races", total=options.races * len(counters.ALL))
        scores = run([rival(engine) for rival in counters.ALL], options.races, lambda: progress.advance(task))
    report = context("make scoreboard", ())
    text = _as_markdown(report, scores, options.races)
    print(text)
    if options.publish:
        PAGE.write_text(page.filled(PAGE.read_text("utf-8"), "rivals", {"scoreboard": text}), "utf-8")
        PICTURE.write_text(_drawn(scores, options.races), "utf-8")
    failures = [verdict for each in scores if (verdict := each.verdict())]
    print(*failures, sep="\n", file=sys.stderr)
    return 1 if failures else 0


def _as_markdown(report: dict[str, str], scores: list[Score], races: int) -> str:
    heads = ("", "granted too often", f"races with that, of {races}", f"answers lost, of {races}")
    lines = [
        (each.name, each.extra, each.caught, each.lost, each.requests // races, f"{each.milliseconds:.1f}")
        for each in scores
    ]
    table = page.table((*heads, "requests a use", "ms a use"), lines)
    return f"`{report['command']}`, {report['date']}, {report['versions']}\n\n{table}"


def _drawn(scores: list[Score], races: int) -> str:
    return picture.bars(
        "How others count uses, and the token service",
        [each.name for each in scores],
        {
            ("granted too often", f"in {races} races of {RACERS}"): [each.extra for each in scores],
            ("lost with the answer", f"of {races} uses"): [each.lost for each in scores],
            ("requests", "for a use"): [each.requests / races for each in scores],
            ("milliseconds", "for a use, DynamoDB Local"): [each.milliseconds for each in scores],
        },
    )


if __name__ == "__main__":
    sys.exit(main())
