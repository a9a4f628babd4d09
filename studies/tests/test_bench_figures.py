"""The figures of the service, when the guard believes them, and what is made of them."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from studies.bench import guard
from studies.bench.box import figures, results
from studies.bench.box import variants as of
from studies.bench.box.build import Built
from studies.bench.box.figures import Figure, Judged
from studies.bench.box.function import Spent
from studies.bench.box.measure import Sample, Setting
from studies.bench.box.rounds import Run, go_on
from studies.bench.box.runtime_api import FunctionError
from studies.bench.report import tables, write

ROOT = Path(__file__).resolve().parents[2]
SETTING = Setting(128, tls=True, calls=3, limited=True)
PAGE = (ROOT / "docs" / "performance.md").read_text("utf-8")
KEPT: dict[str, Any] = json.loads((ROOT / "studies" / "bench" / "results" / "lambda_box.json").read_text("utf-8"))


def sample(cpu_ms: float, wall_ms: float = 1.0) -> Sample:
    each = Spent(wall_ms, cpu_ms)
    return Sample(each, each, {"use": [each] * 3, "issue": [each] * 3}, peak_mb=30.0)


def judged_as(*values: float) -> list[Judged]:
    figure = Figure("x", "x / y", lambda *_: 0.0, bar=1.0, stretch=0.5)
    return [Judged(figure, value, value, value) for value in values]


class Box:
    """Starts what costs nothing, and remembers what it was asked.

    Attributes:
        asked: `+` a start, `-` an end, and each warm call.
    """

    def __init__(self, fails: int = 0) -> None:
        self.asked: list[str] = []
        self._fails = fails

    @contextmanager
    def started(self, variant: of.Variant, built: Built, setting: Setting) -> Iterator[Any]:
        if self._fails:
            self._fails -= 1
            raise FunctionError("busy")
        self.asked.append("+" + variant.name)
        yield SimpleNamespace(step=lambda: self.asked.append(variant.name), end=lambda: sample(1.0))
        self.asked.append("-" + variant.name)


def test_every_other_round_goes_the_other_way() -> None:
    box, run = Box(), Run(SETTING, (of.EMPTY, of.FLOOR))
    nothing = Built(Path(), 0, b"")
    go_on(run, box, {"empty": nothing, "floor": nothing}, 2)  # type: ignore[arg-type]
    go_on(run, box, {"empty": nothing, "floor": nothing}, 1)  # type: ignore[arg-type]
    starts = [name for name in box.asked if name.startswith("+")]
    assert starts == ["+empty", "+floor", "+floor", "+empty", "+empty", "+floor"]
    assert len(run.samples(of.FLOOR)) == 3


def test_in_a_round_all_live_side_by_side_and_are_called_in_turn() -> None:
    box, run = Box(), Run(replace(SETTING, calls=1), (of.EMPTY, of.FLOOR))
    nothing = Built(Path(), 0, b"")
    go_on(run, box, {"empty": nothing, "floor": nothing}, 1)  # type: ignore[arg-type]
    calls = ["empty", "floor", "floor", "empty", "empty", "floor"]
    assert box.asked == ["+empty", "+floor", *calls, "-floor", "-empty"]


def test_a_round_in_which_a_process_failed_is_begun_anew_and_told_of() -> None:
    built = {"empty": Built(Path(), 0, b"")}
    run = Run(SETTING, (of.EMPTY,))
    go_on(run, Box(fails=2), built, 1)  # type: ignore[arg-type]
    assert (len(run.rounds), run.repeated) == (1, 2)
    with pytest.raises(FunctionError):
        go_on(run, Box(fails=3), built, 1)  # type: ignore[arg-type]


def test_a_ratio_is_taken_within_a_round_and_the_median_of_the_rounds_counts() -> None:
    rounds = [
        {variant.name: sample(cpu) for variant in figures.NEEDED} | {"ours": sample(cpu * ratio)}
        for cpu, ratio in ((1.0, 0.3), (50.0, 0.4), (7.0, 0.9))
    ]
    told = {each.figure.name: each for each in figures.judge(rounds, {"ours": 4.2})}
    assert told["use-botocore"].value == pytest.approx(0.4)
    assert (told["use-botocore"].least, told["use-botocore"].most) == (pytest.approx(0.3), pytest.approx(0.9))
    assert (told["archive"].value, told["peak"].value) == (4.2, 30.0)
    assert told["init-authorizer"].value == 1.0


def test_a_start_is_a_whole_processor_until_the_first_event_and_a_share_of_it_then() -> None:
    measured = {variant.name: sample(cpu_ms=10.0) for variant in figures.NEEDED}
    measured["ours"] = sample(cpu_ms=1.0, wall_ms=500.0)
    measured["chalice-pynamodb"] = replace(measured["chalice-pynamodb"], first=Spent(1.0, 20.0))
    told = {each.figure.name: each for each in figures.judge([measured], {"ours": 4.2})}
    share = 128 / 1769
    assert told["start"].value == pytest.approx((1.0 + 1.0 / share) / (10.0 + 20.0 / share))


def test_the_guard_is_content_with_few_rounds_where_every_bar_holds() -> None:
    asked: list[int] = []

    def measure(rounds: int) -> Sequence[Judged]:
        asked.append(rounds)
        return judged_as(0.9, 1.0)

    assert all(each.holds for each in guard.believed(measure, (3, 3, 6)))
    assert asked == [3]


def test_the_guard_looks_again_before_it_believes_that_a_bar_is_broken() -> None:
    values = iter([1.3, 1.1, 0.9])
    assert all(each.holds for each in guard.believed(lambda _: judged_as(0.5, next(values)), (3, 3, 6)))
    values = iter([1.3, 1.1, 1.2])
    told = guard.believed(lambda _: judged_as(0.5, next(values)), (3, 3, 6))
    assert [each.holds for each in told] == [True, False]
    assert [line[:6] for line in guard.lines(told)] == ["ok    ", "BROKEN"]


def test_the_guard_ends_with_an_error_that_names_what_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["guard", "--package", "x.zip"])
    monkeypatch.setattr(guard, "measured", lambda *_: judged_as(0.9))
    assert guard.main() == 0
    broken = judged_as(0.9, 1.2)
    broken[1] = replace(broken[1], figure=replace(broken[1].figure, name="use-floor"))
    monkeypatch.setattr(guard, "measured", lambda *_: broken)
    assert guard.main() == 1
    assert "larger than it may be: use-floor" in " ".join(capsys.readouterr().err.split())


def test_the_99th_percentile_is_one_of_the_calls_that_were_made() -> None:
    assert results._quantiles([float(n) for n in range(1, 201)]) == {"p50": 100.0, "p90": 180.0, "p99": 198.0}
    assert results._quantiles([3.0]) == {"p50": 3.0, "p90": 3.0, "p99": 3.0}


def test_the_page_holds_the_tables_of_the_kept_results() -> None:
    assert write.filled(PAGE, KEPT) == PAGE
    assert set(re.findall(r"<!-- bench:(\w+) -->", PAGE)) == set(tables.TABLES)


def test_the_kept_figures_are_those_that_the_guard_watches_with_the_same_bars() -> None:
    watched = [(each.name, each.bar, each.stretch) for each in figures.FIGURES]
    assert [(each["name"], each["bar"], each["stretch"]) for each in KEPT["figures"]] == watched


def test_every_plot_of_the_page_is_there() -> None:
    plots = re.findall(r"\]\((\.\./studies/bench/results/[a-z_]+\.png)\)", PAGE)
    assert len(plots) == 4
    assert all((ROOT / "docs" / path).is_file() for path in plots)


def test_a_broken_bar_is_told_in_the_table() -> None:
    broken = copy.deepcopy(KEPT)
    broken["figures"][0]["value"] = broken["figures"][0]["bar"] * 2
    assert tables.figures(broken).splitlines()[2].endswith("| **bar broken** |")


def test_times_that_mean_nothing_are_not_told() -> None:
    unlimited = copy.deepcopy(KEPT)
    unlimited["taken"]["limited"] = False
    assert "nothing was limited" in tables.taken(unlimited)
    assert "| init ms |" not in tables.cold(unlimited)
    assert "p99" not in tables.warm(unlimited)
