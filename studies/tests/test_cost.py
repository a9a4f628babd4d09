"""docs/scale.md: its tables and its figures are what `tokenctl cost` says now."""

from __future__ import annotations

import re

import pytest

from studies import cost, page
from tokenctl.cost import CONTAINERS_USD, REFUSED, TASK_GB, TASKS, Month
from tokenctl.prices import HOURS, PRICES

PAGE = cost.PAGE.read_text("utf-8")


class TestThePage:
    def test_its_tables_are_as_they_would_be_made_now(self) -> None:
        assert cost.filled(PAGE) == PAGE, "docs/scale.md is old: .venv/bin/python -m studies.cost makes it anew"

    def test_it_shows_every_table_once(self) -> None:
        assert sorted(page.names(PAGE, "cost")) == sorted(cost.TABLES)

    def test_the_page_repeats_the_numbers_of_the_template(self) -> None:
        assert f"takes {cost.stage()['burst']} calls at the same moment" in PAGE
        assert f"`ForwarderConcurrency` ({cost.stage()['forwarders']})" in PAGE
        assert "answer for 60 seconds (`AUTHORIZER_TTL_SECONDS`)" in PAGE

    def test_its_usual_traffic_is_the_commands(self) -> None:
        tokens, refused = Month(1_000).tokens, 1_000 * REFUSED
        said = f"1,000 calls are {tokens:.0f} issued tokens, {tokens:.0f} uses and {refused:.0f} refusals"
        assert said in PAGE.replace("\n", " ")

    def test_the_quotas_that_it_lists_suffice(self) -> None:
        made = cost.at_rate(10_000)
        asked = re.search(r"table to ([\d,]+) write units, of each index to ([\d,]+)", PAGE)
        assert asked is not None
        table, index = (int(number.replace(",", "")) for number in asked.groups())
        assert (made.write_units - 2 * made.tokens) / HOURS / 3600 < table
        assert made.tokens / HOURS / 3600 < index

    def test_its_sum_for_the_containers_is_right(self) -> None:
        vcpu, gb = PRICES["fargate-vcpu-hour"].usd(1), PRICES["fargate-gb-hour"].usd(1)
        said = f"{TASKS} x ({vcpu} + {TASK_GB} x {gb}) USD an hour x {HOURS} hours = {CONTAINERS_USD:.2f} USD"
        assert said in PAGE.replace("\N{MULTIPLICATION SIGN}", "x")

    def test_where_the_two_meet_they_cost_the_same(self) -> None:
        for services in ((), ("API Gateway", "Lambda")):
            month = Month(cost.meeting_point(*services))
            assert cost.total(month, *services) == pytest.approx(CONTAINERS_USD, rel=1e-3)

    def test_the_limits_come_in_the_order_in_which_they_are_met(self) -> None:
        met = [limit.calls for limit in cost.limits()]
        assert met == sorted(met)
        assert met[0] < 1_000 < met[-1]
