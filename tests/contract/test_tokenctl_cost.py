"""`tokenctl cost`: every figure is what it comes from, and adds up."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from statistics import mean
from typing import Any

import pytest
from click.testing import CliRunner, Result

from chalicelib import addresses, instants, tokens
from chalicelib.settings import Settings
from chalicelib.tokens import MISMATCHES, Action, Document, Reason, Terms
from deploy.resources import of_type, overlaid, stage_template
from tests.support import log_lines as lines
from tests.support.api import NODE, Api
from tests.support.meter import Meter, item_bytes
from tests.support.store_engines import StoreEngine
from tokenctl import cost
from tokenctl.__main__ import cli
from tokenctl.cost import Month
from tokenctl.deployment import CONFIG, stage_environ
from tokenctl.prices import PRICES
from tokenctl.terminal import Terminal

PERFORMANCE = CONFIG.parents[1] / "docs" / "performance.md"
FORWARDER = CONFIG.parents[1] / "studies" / "bench" / "results" / "forwarder.json"
USER = "ada.lovelace@example.org"
USE = {"user": USER, "ipAddress": "192.0.2.77", "action": "download"}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["cost", *arguments], obj=Terminal())


def bill(*arguments: str) -> dict[str, Any]:
    ended = run("--json", *arguments)
    assert ended.exit_code == 0, ended.output
    facts: dict[str, Any] = json.loads(ended.stdout)
    return facts


class TestTheCommand:
    def test_a_person_reads_the_same_as_a_program_without_a_call_to_aws(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it opened a connection"))
        facts, seen = bill(), run().output
        for line in facts["lines"] + facts["options"]:
            assert line["what"] in seen
        dollars = [facts["totalUsd"], facts["containers"]["totalUsd"], *(each["usd"] for each in facts["options"])]
        assert all(f"{amount:,.2f}" in seen for amount in dollars)
        assert facts["totalUsd"] == pytest.approx(sum(line["usd"] for line in facts["lines"]), abs=0.01)
        assert "not checked with AWS" in seen
        assert max(map(len, seen.splitlines())) <= 110

    def test_a_wrong_number_of_calls_is_refused_by_name(self) -> None:
        ended = run("--calls", "0")
        assert ended.exit_code == 2
        assert "--calls" in ended.output

    def test_a_quiet_month_costs_what_the_decision_says(self) -> None:
        assert bill("--calls", "100000")["totalUsd"] == 7.21
        assert bill("--calls", "100000", "--free-tier")["totalUsd"] == 0.58

    def test_the_free_tier_is_taken_off_once_and_never_below_nothing(self) -> None:
        full, free = ({line.price: line.usd for line in Month(1e6).bill(free_tier=free)} for free in (False, True))
        assert free["gateway-request"] == free["dashboard"] == free["logs-from-lambda"] == 0
        assert free["alarm"] == pytest.approx(0.40)
        assert all(0 <= free[name] <= full[name] for name in full)
        # Logs share five gigabytes, of which a million calls leave nothing to a hundred million.
        many = {line.price: line.usd for line in Month(1e8).bill(free_tier=True)}
        assert many["logs"] == pytest.approx(cost.ACCESS_BYTES / 1e9 * 1e8 * 0.50)


class TestThePrices:
    def test_what_is_above_a_limit_costs_less(self) -> None:
        price = PRICES["gateway-request"]
        assert price.usd(333e6) == pytest.approx(333 * 3.50)
        assert price.usd(1_100e6) == pytest.approx(333 * 3.50 + 667 * 2.80 + 100 * 2.38)
        assert price.usd(0) == 0

    def test_each_is_used_and_has_one_line_of_the_bill(self) -> None:
        containers = {"fargate-vcpu-hour", "fargate-gb-hour"}
        month = Month(1e6)
        of_options = {price for *_, amounts in month.options() for price in amounts}
        billed = [price for *_, price, _ in month.amounts()]
        assert len(set(billed)) == len(billed)
        assert {*billed, *of_options} == PRICES.keys() - containers


class TestTheMonth:
    def test_each_option_that_costs_something_has_its_price(self) -> None:
        parameters = {name for name, *_ in Month(1e6).options()} - {"snap_start", "xray"}
        assert parameters <= overlaid(stage_template("prod"), "options")["Parameters"].keys()
        dollars = {option["what"]: option["usd"] for option in bill("--calls", "1000000")["options"]}
        assert dollars["a KMS key of your own"] == 1.00
        assert dollars["a VPC: endpoint for SSM in 2 zones"] == pytest.approx(2 * 720 * 0.01, abs=0.02)
        assert dollars["AWS WAF with 4 rules"] == pytest.approx(5 + 4 * 1.00 + 0.60)

    def test_more_calls_never_cost_less(self) -> None:
        totals = [sum(line.usd for line in Month(10.0**power).bill()) for power in range(13)]
        assert totals == sorted(totals)

    def test_few_calls_are_traced_and_each_busy_client_calls_the_authorizer_once_in_its_ttl(self) -> None:
        assert Month(1_000).traces / 1_000 == pytest.approx(1, abs=0.001)
        busy = Month(1e12)
        assert busy.traces / busy.calls == pytest.approx(0.05, abs=0.001)
        assert busy.authorizer_calls / busy.calls * busy.per_second == pytest.approx(cost.CLIENTS / 60, rel=0.01)


class TestTheRepository:
    """The figures are what they come from."""

    def test_the_settings_are_those_of_prod(self) -> None:
        template, config = stage_template("prod"), json.loads(CONFIG.read_text("utf-8"))
        settings = Settings.from_environ({"STAGE": "prod", **stage_environ("prod")})
        alarms = of_type(template, "AWS::CloudWatch::Alarm").values()
        assert config["lambda_memory_size"] == cost.MEMORY_MB
        assert settings.authorizer_ttl_seconds == cost.TTL_SECONDS
        assert 720 * 60 / settings.splunk.redrive_minutes == cost.REDRIVES
        assert template["Mappings"]["Stages"]["prod"]["LogDays"] == cost.LOG_DAYS
        assert len(alarms) == cost.ALARMS
        assert json.dumps(list(alarms)).count('"MetricName"') == cost.ALARM_METRICS

    def test_nothing_else_is_on_that_would_be_charged(self) -> None:
        resources = stage_template("prod")["Resources"]
        gateway = resources["RestAPI"]["Properties"]
        [methods] = gateway["MethodSettings"]
        assert methods["MetricsEnabled"] is False
        assert list(json.loads(lines.ACCESS)) == list(json.loads(gateway["AccessLogSetting"]["Format"]))
        # Of a forwarder that succeeds Lambda writes nothing.
        assert resources["ForwardLogs"]["Properties"]["LoggingConfig"]["SystemLogLevel"] == "WARN"
        stages = json.loads(CONFIG.read_text("utf-8"))["stages"].values()
        functions = [each for stage in stages for each in stage.get("lambda_functions", {}).items()]
        assert {name for name, settings in functions if settings.get("xray")} == {"api_handler"}

    def test_durations_are_those_of_the_benchmarks(self) -> None:
        rows = [line.strip("| ").split(" | ") for line in PERFORMANCE.read_text("utf-8").splitlines()]
        starts = {
            row[0]: float(row[1].split()[0]) for row in rows if len(row) == 7 and row[0].startswith("token service")
        }
        medians = {tuple(row[:2]): float(row[3].split(" / ")[0]) for row in rows if len(row) == 4 and " / " in row[3]}
        warm = [medians["token service", kind] for kind in ("use", "issue")]
        assert mean(warm) <= cost.CALL_MS <= max(warm) + 2
        assert cost.AUTHORIZER_MS - 2 <= medians["token service, authorizer", "authorize"] <= cost.AUTHORIZER_MS
        assert pytest.approx(starts["token service"], rel=0.2) == cost.START_MS
        [forwarder] = json.loads(FORWARDER.read_text("utf-8"))["events_per_cpu_second"][:1]
        assert pytest.approx(forwarder["median"], rel=0.2) == cost.EVENTS_PER_CPU_SECOND


def test_lines_and_metrics_are_those_of_the_service(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    def written() -> tuple[list[str], list[str]]:
        """The lines of the REST function since the last look, and those of the authorizer."""
        found = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
        of_authorizer = [line for line in found if '"find_client"' in line]
        return [line for line in found if line not in of_authorizer], of_authorizer

    client = api.client()
    written()
    token = api.issue(client, user=USER)["token"]
    calls, authorizer = [written()[0]], []
    for user in (USER, USER, "somebody.else@example.org"):
        api.use(client, token, **{**USE, "user": user})
        of_call, authorizer = written()
        calls.append(of_call)
    issue, use, exhausted, mismatch = (lines.size([*call, *lines.PLATFORM, lines.TRACED]) for call in calls)
    share = len(MISMATCHES) / len(Reason)
    refusal = mismatch * share + exhausted * (1 - share)
    mean_bytes = (issue + use) / 2 * (1 - cost.REFUSED) + refusal * cost.REFUSED
    assert pytest.approx(mean_bytes, rel=0.05) == cost.CALL_BYTES
    assert len([*lines.PLATFORM, *calls[1]]) == cost.CALL_LINES
    redrive = lines.of_redrive("local")
    for those, count, size in (
        (authorizer, cost.AUTHORIZER_LINES, cost.AUTHORIZER_BYTES),
        (redrive, cost.REDRIVE_LINES, cost.REDRIVE_BYTES),
    ):
        whole = [*lines.PLATFORM, *those]
        assert (len(whole), pytest.approx(lines.size(whole), rel=0.05)) == (count, size)
    assert pytest.approx(lines.size(lines.of_forwarder("prod", 7)), rel=0.05) == cost.BATCH_BYTES
    assert pytest.approx(lines.size([lines.ACCESS]), rel=0.05) == cost.ACCESS_BYTES
    usual = [*calls[0], *calls[1], *calls[2], *authorizer, *redrive]
    assert len(set(lines.series(usual))) == cost.METRICS


def test_units_and_sizes_are_those_of_both_engines(store_engine: StoreEngine) -> None:
    instant, dynamodb = instants.now(), store_engine.dynamodb()
    terms = Terms(Document(NODE), instant + tokens.KEPT_AFTER_EXPIRY, 100, frozenset({Action.DOWNLOAD}), user=USER)
    secret, token = tokens.new_token("records", terms, instant)
    address = addresses.parse_address(USE["ipAddress"])

    def stored_bytes() -> int:
        key = {"id": {"S": token.id}}
        return item_bytes(dynamodb.get_item(TableName=store_engine.token_table, Key=key, ConsistentRead=True)["Item"])

    with Meter(store_engine.environ) as meter:
        metered = replace(store_engine, environ={**store_engine.environ, "AWS_ENDPOINT_URL": meter.url})
        store, client_store = metered.token_store(), metered.client_store()
        store.find(token.id)  # describes the table
        client_store.find("nobody")
        meter.read()
        client_store.find("nobody")
        assert meter.read()["total"] == 1, "of the authorizer"
        store.add([(secret, token)])
        assert meter.read()["total"] == cost.ISSUE_UNITS
        sizes, units = [stored_bytes()], []
        for _ in range(4):
            use = tokens.new_use(secret, "records", user=USER, address=address, action=Action.DOWNLOAD)
            store.claim(use, instant, None)
            units.append(meter.read()["total"])
            sizes.append(stored_bytes())
        store.count_mismatch(token.id, instant)
        assert meter.read()["total"] == math.ceil(sizes[-1] / 1024)
    # A number of seconds may end in zeros, which are not kept.
    assert sizes[0] == pytest.approx(cost.TOKEN_BYTES, abs=8)
    assert (sizes[-1] - sizes[0]) / 4 == pytest.approx(cost.CLAIM_BYTES, abs=3)
    assert units[0] == cost.USE_UNITS
    assert units == [math.ceil(size / 1024) for size in sizes[1:]], "a later use may cost more"
