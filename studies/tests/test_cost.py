"""docs/scale.md: its tables and its figures are what `tokenctl cost` says now."""

from __future__ import annotations

import re

import pytest

from studies import cost
from tokenctl.cost import BATCH_MS, CALL_LINES, CONTAINERS_USD, EVENT_MS, REFUSED, TASK_GB, TASKS, Month
from tokenctl.prices import HOURS, PRICES

PAGE = cost.PAGE.read_text("utf-8")
TEXT = PAGE.replace("\N{MULTIPLICATION SIGN}", "x").replace("\n", " ")


def test_its_tables_are_as_they_would_be_made_now() -> None:
    assert cost.filled(PAGE) == PAGE, "docs/scale.md is old: .venv/bin/python -m studies.cost makes it anew"


def test_its_sentences_repeat_the_figures_of_the_template_and_of_the_command() -> None:
    tokens, refused = Month(1_000).tokens, 1_000 * REFUSED
    vcpu, gb = PRICES["fargate-vcpu-hour"].usd(1), PRICES["fargate-gb-hour"].usd(1)
    watching = [line.usd for line in Month(1e6).bill() if line.price in ("metric", "alarm", "dashboard", "trace")]
    for said in (
        f"takes {cost.stage()['burst']} calls at the same moment",
        f"`ForwarderConcurrency` ({cost.stage()['forwarders']})",
        "answer for 60 seconds (`AUTHORIZER_TTL_SECONDS`)",
        f"1,000 calls are {tokens:.0f} issued tokens, {tokens:.0f} uses and {refused:.0f} refusals",
        f"{TASKS} x ({vcpu} + {TASK_GB} x {gb}) USD an hour x {HOURS} hours = {CONTAINERS_USD:.2f} USD",
        f"128 MB needs {BATCH_MS:.0f} ms for a batch, and {CALL_LINES * EVENT_MS:.2f} ms more for each call",
        f"{sum(watching):.2f} of {cost.total(Month(1e6)):.2f} USD",
    ):
        assert said in TEXT


def test_the_quotas_that_it_lists_suffice() -> None:
    made = cost.at_rate(10_000)
    asked = re.search(r"table to ([\d,]+) write units, of each index to ([\d,]+)", PAGE)
    assert asked is not None
    table, index = (int(number.replace(",", "")) for number in asked.groups())
    assert (made.write_units - 2 * made.tokens) / cost.SECONDS < table
    assert made.tokens / cost.SECONDS < index


@pytest.mark.parametrize(("said", "services"), [("together", ()), ("Lambda alone", ("API Gateway", "Lambda"))])
def test_where_the_two_meet_they_cost_the_same(said: str, services: tuple[str, ...]) -> None:
    millions = re.search(rf"{said}, from ([\d.]+) million calls a month", TEXT)
    assert millions is not None
    assert cost.total(Month(float(millions[1]) * 1e6), *services) == pytest.approx(CONTAINERS_USD, rel=5e-3)
