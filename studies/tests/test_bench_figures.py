"""The figures of the service, when the guard believes them, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from studies import page
from studies.bench import guard, report
from studies.bench.box import build, figures
from studies.bench.box import variants as of
from studies.bench.box.build import Built
from studies.bench.box.figures import Judged
from studies.bench.box.function import Spent
from studies.bench.box.instructions import Counts
from studies.bench.box.measure import Run, Sample, Setting
from studies.context import context

PAGE = report.PAGE.read_text("utf-8")


def sample(cpu_ms: float) -> Sample:
    each = Spent(1.0, cpu_ms)
    return Sample(each, each, {"use": [each] * 3, "issue": [each] * 3}, peak_mb=30.0)


def results(*, limited: bool = True, init: float = 0.5) -> dict[str, Any]:
    """Results of one run of one variant, in which `init-botocore` has the given value."""
    run = Run(Setting(128, 3, limited), (of.SERVICE,), [{"ours": sample(2.0)}])
    [figure] = (each for each in figures.FIGURES if each.name == "init-botocore")
    taken = {**context("command", ()), "engine": "an engine", "limited": limited}
    return report.results(taken, [run], [Judged(figure, init, init, init)], {"ours": Built(Path(), 2_000_000, b"")})


def values(*measured: float) -> list[guard.Value]:
    return [guard.Value(f"value-{place}", "x / y", value, limit=1.0) for place, value in enumerate(measured)]


def judged(rounds: Sequence[dict[str, Sample]]) -> dict[str, Judged]:
    return {each.figure.name: each for each in figures.judge(rounds, 2.1)}


def test_a_ratio_is_taken_within_a_round_and_the_median_of_the_rounds_counts() -> None:
    found = judged(
        [
            {variant.name: sample(cpu) for variant in of.GUARDED} | {"ours": sample(cpu * ratio)}
            for cpu, ratio in ((1.0, 0.3), (50.0, 0.4), (7.0, 0.9))
        ]
    )
    use = found["use-botocore"]
    assert [use.least, use.value, use.most] == pytest.approx([0.3, 0.4, 0.9])
    assert [found[name].value for name in ("archive", "peak", "init-authorizer")] == [2.1, 30.0, 1.0]
    assert set(guard.WIDE_LIMITS) <= set(found)


def test_a_start_is_a_whole_processor_until_the_first_event_and_a_share_of_it_then() -> None:
    measured = {variant.name: sample(10.0) for variant in of.GUARDED} | {"ours": sample(1.0)}
    measured["chalice-pynamodb"] = replace(measured["chalice-pynamodb"], first=Spent(1.0, 20.0))
    share = 128 / 1769
    assert judged([measured])["start"].value == pytest.approx((1.0 + 1.0 / share) / (10.0 + 20.0 / share))


def test_the_guard_measures_three_times_before_it_believes_that_a_limit_is_broken() -> None:
    for batches, believed in (
        ([values(0.9, 1.0)], ["ok", "ok"]),
        ([values(0.5, 1.3), values(0.5, 1.1), values(0.5, 0.9)], ["ok", "ok"]),
        ([values(0.5, 1.3), values(0.5, 1.1), values(0.5, 1.2), values(0.5, 0.9)], ["ok", "BROKEN"]),
    ):
        left = iter(batches)
        assert [str(value).split()[0] for value in guard.believed(lambda left=left: next(left))] == believed


def counts(ours: float, empty: float) -> Counts:
    init = {"ours": ours, "empty": empty, "authorizer": 3.0, "bare-authorizer": 2.0}
    return Counts(init, use={"ours": 6.0, "floor": 2.0}, issue={"ours": 8.0, "floor": 2.0})


def test_the_least_count_of_each_process_decides() -> None:
    values = guard.by_instructions([counts(30.0, 10.0), counts(25.0, 12.0)], [30.0, 29.5], 2.1)
    assert {value.name: value.value for value in values} == {
        "init": 2.5, "init-authorizer": 1.5, "use": 3.0, "issue": 4.0, "peak": 29.5, "archive": 2.1,
    }  # fmt: skip


def test_limits_are_wider_on_a_python_that_is_not_deployed() -> None:
    [deployed, other] = (
        {value.name: value.limit for value in guard.by_instructions([counts(30.0, 10.0)], [30.0], 2.1, python=python)}
        for python in (guard.DEPLOYED, "3.9")
    )
    assert deployed == guard.LIMITS
    assert other == {name: limit * 1.1 for name, limit in guard.LIMITS.items()}


def test_a_processor_time_breaks_its_limit_only_if_every_round_does() -> None:
    figure = replace(figures.FIGURES[0], name="use-floor")
    limit = guard.WIDE_LIMITS["use-floor"]
    [noisy] = guard.by_processor_time([Judged(figure, limit * 2, limit * 0.9, limit * 3)])
    [slow] = guard.by_processor_time([Judged(figure, limit * 2, limit * 1.1, limit * 3)])
    assert (noisy.holds, slow.holds) == (True, False)


def test_the_page_shows_every_limit_of_the_guard() -> None:
    rows = [line.split("|") for line in PAGE.partition("<!--")[0].splitlines() if line.startswith("| ")]
    assert [float(row[4].removesuffix(" MB ")) for row in rows[1:]] == list(guard.LIMITS.values())


@pytest.mark.parametrize(("broken", "code"), [(0.9, 0), (1.2, 1)])
def test_without_valgrind_the_guard_warns_and_a_broken_limit_ends_it_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: float, code: int
) -> None:
    choices: list[bool] = []

    def measure(_: Path, *, counted: bool) -> list[guard.Value]:
        choices.append(counted)
        return values(0.9, broken)

    monkeypatch.setattr("sys.argv", ["guard"])
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(build, "our_package", lambda: Path("x.zip"))
    monkeypatch.setattr(guard, "measured", measure)
    assert (guard.main(), choices) == (code, [False])
    said = capsys.readouterr().err
    assert "!!! INSTRUCTIONS WERE NOT COUNTED: valgrind is not installed" in said
    assert ("larger than allowed: value-1" in said) == bool(code)


def test_the_99th_percentile_is_one_of_the_calls_that_were_made() -> None:
    assert report.quantiles([float(n) for n in range(1, 201)]) == {"p50": 100.0, "p99": 198.0}
    assert report.quantiles([3.0]) == {"p50": 3.0, "p99": 3.0}


def test_the_page_has_a_place_for_every_table() -> None:
    tables = report.tables(results())
    assert sorted(page.names(PAGE, "bench")) == sorted(tables)
    filled = page.filled(PAGE, "bench", tables)
    assert page.filled(filled, "bench", tables) == filled
    assert "| token service | use | 2 (2 to 2) | 1 / 1 |" in filled


def test_a_value_above_its_bar_is_marked() -> None:
    assert report.tables(results(init=0.3))["figures"].endswith("| stretch |")
    assert report.tables(results(init=0.9))["figures"].endswith("| **above the bar** |")


def test_meaningless_times_are_left_out() -> None:
    tables = report.tables(results(limited=False))
    assert "nothing was limited" in tables["taken"]
    assert "| init ms |" not in tables["cold"]
    assert "p99" not in tables["warm"]


def test_results_are_written_with_their_tables_and_their_picture(tmp_path: Path) -> None:
    report.write(results(), tmp_path, publish=False)
    assert {path.name for path in tmp_path.iterdir()} == {f"lambda_box.{kind}" for kind in ("json", "md", "svg")}
