"""The figures of the service, when the guard believes them, and what is made of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from studies.bench import guard, report
from studies.bench.box import build, figures, instructions
from studies.bench.box import results as measured
from studies.bench.box import variants as of
from studies.bench.box.build import Built
from studies.bench.box.figures import Judged
from studies.bench.box.function import Spent
from studies.bench.box.instructions import Counts
from studies.bench.box.measure import Sample, Setting
from studies.bench.box.rounds import Run, add_rounds
from studies.bench.box.runtime_api import FunctionError

SETTING = Setting(128, tls=True, calls=3, limited=True)
PAGE = report.PAGE.read_text("utf-8")


def results(*, limited: bool = True, init: float = 0.5) -> dict[str, Any]:
    """Results of one run of one variant, in which `init-botocore` has the given value."""
    run = Run(SETTING, (of.SERVICE,), [{"ours": sample(2.0)}])
    [figure] = (each for each in figures.FIGURES if each.name == "init-botocore")
    return {
        "taken": measured.taken("command", "an engine", limited=limited),
        "figures": measured.of_figures([Judged(figure, init, init, init)]),
        "runs": [measured.of_run(run, {"ours": Built(Path(), 2_000_000, b"")})],
    }


def sample(cpu_ms: float, wall_ms: float = 1.0) -> Sample:
    each = Spent(wall_ms, cpu_ms)
    return Sample(each, each, {"use": [each] * 3, "issue": [each] * 3}, peak_mb=30.0)


def values(*measured: float) -> list[guard.Value]:
    return [guard.Value(f"value-{place}", "x / y", value, limit=1.0) for place, value in enumerate(measured)]


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
    add_rounds(run, box, {"empty": nothing, "floor": nothing}, 2)
    add_rounds(run, box, {"empty": nothing, "floor": nothing}, 1)
    starts = [name for name in box.asked if name.startswith("+")]
    assert starts == ["+empty", "+floor", "+floor", "+empty", "+empty", "+floor"]
    assert len(run.samples(of.FLOOR)) == 3


def test_in_a_round_all_live_side_by_side_and_are_called_in_turn() -> None:
    box, run = Box(), Run(replace(SETTING, calls=1), (of.EMPTY, of.FLOOR))
    nothing = Built(Path(), 0, b"")
    add_rounds(run, box, {"empty": nothing, "floor": nothing}, 1)
    calls = ["empty", "floor", "floor", "empty", "empty", "floor"]
    assert box.asked == ["+empty", "+floor", *calls, "-floor", "-empty"]


def test_a_round_with_a_failed_process_is_repeated_and_reported() -> None:
    built = {"empty": Built(Path(), 0, b"")}
    run = Run(SETTING, (of.EMPTY,))
    add_rounds(run, Box(fails=2), built, 1)
    assert (len(run.rounds), run.repeated) == (1, 2)
    with pytest.raises(FunctionError):
        add_rounds(run, Box(fails=3), built, 1)


def test_a_ratio_is_taken_within_a_round_and_the_median_of_the_rounds_counts() -> None:
    rounds = [
        {variant.name: sample(cpu) for variant in figures.NEEDED} | {"ours": sample(cpu * ratio)}
        for cpu, ratio in ((1.0, 0.3), (50.0, 0.4), (7.0, 0.9))
    ]
    judged = {each.figure.name: each for each in figures.judge(rounds, {"ours": 4.2})}
    assert judged["use-botocore"].value == pytest.approx(0.4)
    assert (judged["use-botocore"].least, judged["use-botocore"].most) == (pytest.approx(0.3), pytest.approx(0.9))
    assert (judged["archive"].value, judged["peak"].value) == (4.2, 30.0)
    assert judged["init-authorizer"].value == 1.0


def test_a_start_is_a_whole_processor_until_the_first_event_and_a_share_of_it_then() -> None:
    measured = {variant.name: sample(cpu_ms=10.0) for variant in figures.NEEDED}
    measured["ours"] = sample(cpu_ms=1.0, wall_ms=500.0)
    measured["chalice-pynamodb"] = replace(measured["chalice-pynamodb"], first=Spent(1.0, 20.0))
    judged = {each.figure.name: each for each in figures.judge([measured], {"ours": 4.2})}
    share = 128 / 1769
    assert judged["start"].value == pytest.approx((1.0 + 1.0 / share) / (10.0 + 20.0 / share))


def test_the_guard_measures_once_if_every_limit_holds() -> None:
    batches = iter([values(0.9, 1.0)])
    assert all(value.holds for value in guard.believed(lambda: next(batches)))


def test_the_guard_measures_three_times_before_it_believes_that_a_limit_is_broken() -> None:
    batches = iter([values(0.5, 1.3), values(0.5, 1.1), values(0.5, 0.9)])
    assert all(value.holds for value in guard.believed(lambda: next(batches)))
    batches = iter([values(0.5, 1.3), values(0.5, 1.1), values(0.5, 1.2), values(0.5, 0.9)])
    assert [str(value)[:6] for value in guard.believed(lambda: next(batches))] == ["ok    ", "BROKEN"]


def test_the_least_count_of_each_process_decides() -> None:
    def counts(ours: float, empty: float) -> Counts:
        init = {"ours": ours, "empty": empty, "authorizer": 3.0, "bare-authorizer": 2.0}
        return Counts(init, use={"ours": 6.0, "floor": 2.0}, issue={"ours": 8.0, "floor": 2.0})

    values = guard.by_instructions([counts(30.0, 10.0), counts(25.0, 12.0)], [30.0, 29.5], 2.1)
    assert {value.name: value.value for value in values} == {
        "init": 2.5, "init-authorizer": 1.5, "use": 3.0, "issue": 4.0, "peak": 29.5, "archive": 2.1,
    }  # fmt: skip


def test_a_processor_time_breaks_its_limit_only_if_every_round_does() -> None:
    figure = replace(figures.FIGURES[0], name="use-floor")
    limit = guard.WIDE_LIMITS["use-floor"]
    [noisy] = guard.by_processor_time([Judged(figure, limit * 2, limit * 0.9, limit * 3)])
    [slow] = guard.by_processor_time([Judged(figure, limit * 2, limit * 1.1, limit * 3)])
    assert (noisy.holds, slow.holds) == (True, False)


def test_the_page_shows_every_limit_of_the_guard() -> None:
    rows = [line.split("|") for line in PAGE.partition("<!--")[0].splitlines() if line.startswith("| ")]
    limits = [float(row[4].removesuffix(" MB ")) for row in rows[1:]]
    assert limits == list(guard.LIMITS.values())


def test_every_limit_belongs_to_a_figure() -> None:
    assert set(guard.WIDE_LIMITS) <= {figure.name for figure in figures.FIGURES}


@pytest.mark.parametrize(("broken", "code"), [(0.9, 0), (1.2, 1)])
def test_the_guard_names_a_broken_limit_and_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: float, code: int
) -> None:
    monkeypatch.setattr("sys.argv", ["guard"])
    monkeypatch.setattr(build, "our_package", lambda: Path("x.zip"))
    monkeypatch.setattr(guard, "measured", lambda *_, **__: values(0.9, broken))
    assert guard.main() == code
    assert ("larger than allowed: value-1" in capsys.readouterr().err) == bool(code)


def test_the_guard_says_loudly_that_instructions_were_not_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    choices: list[bool] = []
    monkeypatch.setattr("sys.argv", ["guard"])
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(build, "our_package", lambda: Path("x.zip"))

    def measure(_: Path, *, counted: bool) -> list[guard.Value]:
        choices.append(counted)
        return values(0.9)

    monkeypatch.setattr(guard, "measured", measure)
    assert guard.main() == 0
    assert choices == [False]
    assert "!!! INSTRUCTIONS WERE NOT COUNTED: valgrind is not installed" in capsys.readouterr().err


def test_the_instructions_are_the_sum_of_valgrinds_report() -> None:
    assert instructions._instructions("events: Ir\nsummary: 12345\n\nfn=(1) main\n1 5\n") == 12_345
    assert instructions._instructions("events: Ir\nfn=(1) main\n1 5\n\ntotals: 5\n") == 5
    with pytest.raises(FunctionError):
        instructions._instructions("events: Ir\n")


def test_the_99th_percentile_is_one_of_the_calls_that_were_made() -> None:
    assert measured._quantiles([float(n) for n in range(1, 201)]) == {"p50": 100.0, "p99": 198.0}
    assert measured._quantiles([3.0]) == {"p50": 3.0, "p99": 3.0}


def test_the_page_has_a_place_for_every_table() -> None:
    assert sorted(re.findall(r"<!-- bench:(\w+) -->", PAGE)) == sorted(report.TABLES)
    filled = report.filled(PAGE, results())
    assert report.filled(filled, results()) == filled
    assert "| token service | use | 2 (2 to 2) | 1 / 1 |" in filled


def test_a_value_above_its_bar_is_marked() -> None:
    assert report.figures(results(init=0.3)).endswith("| stretch |")
    assert report.figures(results(init=0.9)).endswith("| **above the bar** |")


def test_meaningless_times_are_left_out() -> None:
    facts = results(limited=False)
    assert "nothing was limited" in report.taken(facts)
    assert "| init ms |" not in report.cold(facts)
    assert "p99" not in report.warm(facts)


def test_the_published_durations_are_those_of_our_functions() -> None:
    facts = results()
    facts["runs"][0]["rows"].append(facts["runs"][0]["rows"][0] | {"name": "authorizer", "warm": _AUTHORIZE})
    [run] = report.for_cost(facts)["runs"]
    ours, authorizer = ({row["name"]: row for row in run["rows"]}[name] for name in ("ours", "authorizer"))
    assert ours["init_ms"]["median"] == ours["warm"]["issue"]["wall_ms"]["p50"] == 1.0
    assert authorizer["warm"]["authorize"]["wall_ms"]["p50"] == 3.0


_AUTHORIZE = {"authorize": {"cpu_ms": {}, "wall_ms": {"p50": 3.0, "p99": 4.0}}}


def test_the_results_are_drawn(tmp_path: Path) -> None:
    report.draw(results(), tmp_path)
    assert (tmp_path / "lambda_box.svg").read_text("utf-8").count("<svg") == 1
