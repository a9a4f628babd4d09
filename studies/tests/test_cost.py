"""docs/scale.md: its tables and its figures are what `tokenctl cost` says now."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from chalicelib.tokens import Reason
from studies import cost
from tokenctl.costs import bill
from tokenctl.costs.bill import Tariff
from tokenctl.costs.month import Traffic

PAGE = cost.PAGE.read_text("utf-8")


@pytest.fixture(scope="module")
def tariff() -> Tariff:
    return cost.tariff()


class TestThePage:
    def test_its_tables_are_as_they_would_be_made_now(self, tariff: Tariff) -> None:
        page = cost.filled(PAGE, tariff)
        assert page == PAGE, "docs/scale.md is old: .venv/bin/python -m studies.cost makes it anew"

    def test_it_shows_every_table_once(self) -> None:
        assert sorted(re.findall(r"<!-- cost:(\w+) -->", PAGE)) == sorted(cost.TABLES)

    def test_its_links_lead_somewhere(self) -> None:
        named = re.findall(r"\]\(([^)#]+)(?:#([\w-]+))?\)", PAGE)
        for name, _ in named:
            assert (cost.PAGE.parent / name).exists(), name
        titles = {title.lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)", PAGE, re.MULTILINE)}
        assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= titles

    def test_its_figures_are_drawn(self, tariff: Tariff, tmp_path: Path) -> None:
        cost.draw(tariff, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"cost.svg", "scale.svg"}

    def test_the_page_repeats_the_numbers_of_the_template(self, tariff: Tariff) -> None:
        assert f"takes {tariff.stage.burst_limit} calls at the same moment" in PAGE
        assert f"`ForwarderConcurrency` ({tariff.stage.forwarders})" in PAGE
        assert "answer for 60 seconds (`AUTHORIZER_TTL_SECONDS`)" in PAGE

    def test_its_usual_traffic_is_the_commands(self, tariff: Tariff) -> None:
        made = tariff.bill(Traffic(1_000, 128)).month
        kinds: dict[str, float] = defaultdict(float)
        for name, kind in zip(["issued tokens", "uses", *["refusals"] * len(Reason)], made._kinds, strict=True):
            kinds[name] += kind.calls
        said = re.search(r"1,000 calls are (\d+) (issued tokens), (\d+) (uses) and (\d+) (refusals)", PAGE)
        assert said is not None
        assert {said[2]: said[1], said[4]: said[3], said[6]: said[5]} == {n: f"{k:.0f}" for n, k in kinds.items()}

    def test_the_quotas_that_it_lists_suffice(self, tariff: Tariff) -> None:
        made = cost.at_rate(tariff, 10_000).month
        seconds = tariff.prices.hours * 3600
        asked = re.search(r"table to ([\d,]+) write units, of each index to ([\d,]+)", PAGE)
        assert asked is not None
        table, index = (int(number.replace(",", "")) for number in asked.groups())
        assert (made.write_units - 2 * made.tokens) / seconds < table
        assert made.tokens / seconds < index

    def test_its_sum_for_the_containers_is_right(self, tariff: Tariff) -> None:
        vcpu, gb = tariff.prices["fargate-vcpu-hour"].usd(1), tariff.prices["fargate-gb-hour"].usd(1)
        hour = f"{bill.TASKS} x ({vcpu} + {bill.TASK_GB} x {gb}) USD an hour"
        said = f"{hour} x {tariff.prices.hours} hours = {tariff.containers():.2f} USD"
        assert said in PAGE.replace("\N{MULTIPLICATION SIGN}", "x")

    def test_the_limits_come_in_the_order_in_which_they_are_met(self, tariff: Tariff) -> None:
        met = [limit.calls for limit in cost.limits(tariff)]
        assert met == sorted(met)
        assert met[0] < 1_000 < met[-1]
