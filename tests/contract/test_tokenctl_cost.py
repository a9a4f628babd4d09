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
from chalicelib.tokens import Action, Document, Reason, Terms
from tests.support import log_lines as lines
from tests.support.api import NODE, Api
from tests.support.meter import Meter, item_bytes
from tests.support.store_engines import StoreEngine
from tokenctl import cost
from tokenctl.__main__ import cli
from tokenctl.cost import Month
from tokenctl.deployment import CONFIG, stage_environ
from tokenctl.prices import PRICES
from tokenctl.resources import of_type, overlaid, stage_template
from tokenctl.terminal import Terminal

RESULTS = CONFIG.parents[1] / "studies" / "bench" / "results"
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
    def test_it_calls_neither_aws_nor_a_running_service(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def connect(*_: object) -> None:
            pytest.fail("it opened a connection")

        monkeypatch.setattr("socket.socket.connect", connect)
        assert run().exit_code == 0

    def test_a_person_reads_the_same_as_a_program(self) -> None:
        facts, seen = bill(), run().output
        for line in facts["lines"] + facts["options"]:
            assert line["what"] in seen
        for amount in (
            facts["totalUsd"],
            facts["containers"]["totalUsd"],
            *(option["usd"] for option in facts["options"]),
        ):
            assert f"{amount:,.2f}" in seen
        assert facts["totalUsd"] == pytest.approx(sum(line["usd"] for line in facts["lines"]), abs=0.01)
        assert "not checked with AWS" in seen
        assert max(map(len, seen.splitlines())) <= 110

    def test_requests_cost_their_price(self) -> None:
        [requests] = [line for line in bill("--calls", "2000000")["lines"] if line["what"] == "REST requests"]
        assert (requests["quantity"], requests["usd"]) == (2_000_000, 7.0)
        assert requests["page"].startswith("Amazon API Gateway")

    @pytest.mark.parametrize("wrong", ["0", "nan"])
    def test_a_wrong_number_of_calls_is_refused_by_name(self, wrong: str) -> None:
        ended = run("--calls", wrong)
        assert ended.exit_code == 2
        assert "--calls" in ended.output

    def test_a_quiet_month_costs_what_was_promised(self) -> None:
        assert bill("--calls", "100000")["totalUsd"] <= 7.50
        assert bill("--calls", "100000", "--free-tier")["totalUsd"] <= 0.60

    def test_the_free_tier_is_taken_off_once_and_never_below_nothing(self) -> None:
        full, free = ({line.price: line.usd for line in Month(1e6).bill(free_tier=free)} for free in (False, True))
        assert free["gateway-request"] == free["dashboard"] == free["logs-from-lambda"] == 0
        assert free["alarm"] == pytest.approx(0.40)
        assert free.keys() == full.keys()
        assert all(0 <= free[name] <= full[name] for name in full)
        # Logs share five gigabytes, of which a million calls leave nothing to a hundred million.
        many = {line.price: line.usd for line in Month(1e8).bill(free_tier=True)}
        assert many["logs"] == pytest.approx(cost.ACCESS_BYTES / 1e9 * 1e8 * 0.50)


class TestThePrices:
    def test_tiers_rise_and_the_last_has_no_end(self) -> None:
        for name, price in PRICES.items():
            ends, dollars = zip(*price.tiers, strict=True)
            assert sorted(ends) == list(ends), name
            assert ends[-1] == math.inf, name
            assert sorted(dollars, reverse=True) == list(dollars), name

    def test_tiers_are_filled_one_after_the_other(self) -> None:
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

    def test_four_containers_cost_142_dollars(self) -> None:
        assert round(cost.CONTAINERS_USD, 2) == 142.19


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

    def test_traces_are_nearly_all_of_few_calls_and_a_twentieth_of_many(self) -> None:
        assert Month(1_000).traces / 1_000 == pytest.approx(1, abs=0.001)
        assert Month(1e12).traces / 1e12 == pytest.approx(0.05, abs=0.001)

    def test_each_busy_client_calls_the_authorizer_once_in_its_ttl(self) -> None:
        month = Month(1e10)
        assert month.authorizer_calls / month.calls * month.per_second == pytest.approx(cost.CLIENTS / 60, rel=0.01)


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

    def test_the_gateway_has_no_metrics_of_methods_which_would_be_charged(self) -> None:
        [settings] = stage_template("prod")["Resources"]["RestAPI"]["Properties"]["MethodSettings"]
        assert settings["MetricsEnabled"] is False

    @pytest.mark.parametrize("stage", ["dev", "test", "prod"])
    def test_the_rest_function_alone_is_traced(self, stage: str) -> None:
        functions = json.loads(CONFIG.read_text("utf-8"))["stages"][stage]["lambda_functions"]
        assert [name for name, settings in functions.items() if settings.get("xray")] == ["api_handler"]

    def test_lambda_writes_nothing_of_a_forwarder_that_succeeds(self) -> None:
        resources = stage_template("prod")["Resources"]
        levels = {
            name: resources[name]["Properties"].get("LoggingConfig", {}).get("SystemLogLevel")
            for name in ("APIHandler", "BasicAuth", "ForwardLogs", "Redrive")
        }
        assert levels == {"APIHandler": None, "BasicAuth": None, "ForwardLogs": "WARN", "Redrive": None}

    def test_durations_are_those_of_the_benchmarks(self) -> None:
        runs = json.loads((RESULTS / "lambda_box.json").read_text("utf-8"))["runs"]
        [rows] = [run["rows"] for run in runs if run["memory_mb"] == cost.MEMORY_MB]
        ours, authorizer = ({row["name"]: row for row in rows}[name] for name in ("ours", "authorizer"))
        warm = [kind["wall_ms"]["p50"] for kind in ours["warm"].values()]
        assert mean(warm) <= cost.CALL_MS <= max(warm) + 2
        assert cost.AUTHORIZER_MS - 2 <= authorizer["warm"]["authorize"]["wall_ms"]["p50"] <= cost.AUTHORIZER_MS
        assert pytest.approx(ours["init_ms"]["median"], rel=0.2) == cost.START_MS
        [forwarder] = json.loads((RESULTS / "forwarder.json").read_text("utf-8"))["events_per_cpu_second"][:1]
        assert pytest.approx(forwarder["median"], rel=0.2) == cost.EVENTS_PER_CPU_SECOND

    def test_lines_and_bytes_are_those_of_the_code(self) -> None:
        traced = [*lines.PLATFORM, lines.TRACED]
        refusals = [lines.of_refusal("prod", reason) for reason in Reason]
        issue, use, refusal = (
            mean(lines.size([*written, *traced]) for written in kind)
            for kind in ([lines.of_issue("prod")], [lines.of_use("prod")], refusals)
        )
        mean_bytes = (issue + use) / 2 * (1 - cost.REFUSED) + refusal * cost.REFUSED
        assert pytest.approx(mean_bytes, rel=0.05) == cost.CALL_BYTES
        assert len([*lines.PLATFORM, *lines.of_use("prod")]) == cost.CALL_LINES
        for written, count, size in (
            (lines.of_authorizer("prod"), cost.AUTHORIZER_LINES, cost.AUTHORIZER_BYTES),
            (lines.of_redrive("prod"), cost.REDRIVE_LINES, cost.REDRIVE_BYTES),
        ):
            whole = [*lines.PLATFORM, *written]
            assert (len(whole), pytest.approx(lines.size(whole), rel=0.05)) == (count, size)
        assert pytest.approx(lines.size(lines.of_forwarder("prod", 7)), rel=0.05) == cost.BATCH_BYTES
        assert pytest.approx(lines.size([lines.ACCESS]), rel=0.05) == cost.ACCESS_BYTES

    def test_metrics_are_those_of_usual_calls(self) -> None:
        usual = (lines.of_issue, lines.of_use, lines.of_authorizer, lines.of_redrive)
        written = [line for of in usual for line in of("prod")] + list(lines.of_refusal("prod", Reason.EXHAUSTED))
        assert len(set(lines.series(written))) == cost.METRICS

    def test_a_line_of_the_access_log_has_the_members_of_the_template(self) -> None:
        form = stage_template("prod")["Resources"]["RestAPI"]["Properties"]["AccessLogSetting"]["Format"]
        assert list(json.loads(lines.ACCESS)) == list(json.loads(form))


class TestTheLines:
    """What the sample lines stand for is what the service writes."""

    @pytest.fixture
    def written(self, api: Api, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, ...]]:
        """The lines of each kind of call; the authorizer's are by themselves."""
        client = api.client()
        found: dict[str, tuple[str, ...]] = {}

        def note(name: str) -> None:
            known = tuple(each for each in capsys.readouterr().out.splitlines() if each.startswith("{"))
            first = [each for each in known if '"find_client"' in each]
            found["authorizer"] = tuple(first)
            found[name] = tuple(each for each in known if each not in first)

        capsys.readouterr()
        issued = api.issue(client, user=USER)
        note("issue")
        api.use(client, issued["token"], **USE)
        note("use")
        api.use(client, issued["token"], **USE)
        note("exhausted")
        api.use(client, issued["token"], **{**USE, "user": "somebody.else@example.org"})
        note("mismatch")
        return found

    @pytest.mark.parametrize(
        ("kind", "sample"),
        [
            ("issue", lines.of_issue("prod")),
            ("use", lines.of_use("prod")),
            ("exhausted", lines.of_refusal("prod", Reason.EXHAUSTED)),
            ("mismatch", lines.of_refusal("prod", Reason.USER)),
            ("authorizer", lines.of_authorizer("prod")),
        ],
    )
    def test_the_sample_of_a_call_is_what_it_writes(
        self, written: dict[str, tuple[str, ...]], kind: str, sample: tuple[str, ...]
    ) -> None:
        def shapes(those: tuple[str, ...]) -> list[list[str]]:
            return sorted(sorted(json.loads(each)) for each in those)

        def metrics(those: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
            return sorted((name, tuple(key for key, _ in dimensions)) for name, dimensions in lines.series(those))

        assert shapes(sample) == shapes(written[kind])
        assert metrics(sample) == metrics(written[kind])
        assert lines.size(sample) == pytest.approx(lines.size(written[kind]), rel=0.1)


class TestTheUnits:
    """DynamoDB's units and sizes, as both engines tell them."""

    @pytest.fixture
    def metered(self, store_engine: StoreEngine) -> Any:
        with Meter(store_engine.environ) as meter:
            through = {**store_engine.environ, "AWS_ENDPOINT_URL": meter.url}
            yield meter, replace(store_engine, environ=through), store_engine.dynamodb()

    def test_issues_uses_and_mismatches_consume_what_is_reckoned(self, metered: tuple[Meter, StoreEngine, Any]) -> None:
        meter, engine, past_it = metered
        store, instant = engine.token_store(), instants.now()
        terms = Terms(Document(NODE), instant + tokens.KEPT_AFTER_EXPIRY, 100, frozenset({Action.DOWNLOAD}), user=USER)
        secret, token = tokens.new_token("records", terms, instant)
        store.find(token.id)
        meter.read()
        store.add([(secret, token)])
        assert meter.read()["total"] == cost.ISSUE_UNITS
        sizes, units = [self.size(past_it, engine, token.id)], []
        for _ in range(4):
            address = addresses.parse_address(USE["ipAddress"])
            store.claim(
                tokens.new_use(secret, "records", user=USER, address=address, action=Action.DOWNLOAD), instant, None
            )
            units.append(meter.read()["total"])
            sizes.append(self.size(past_it, engine, token.id))
        # A number of seconds may end in zeros, which are not kept.
        assert sizes[0] == pytest.approx(cost.TOKEN_BYTES, abs=8)
        assert (sizes[-1] - sizes[0]) / 4 == pytest.approx(cost.CLAIM_BYTES, abs=3)
        assert units[0] == cost.USE_UNITS
        assert units == [math.ceil(size / 1024) for size in sizes[1:]], "a later use may cost more"
        store.count_mismatch(token.id, instant)
        assert meter.read()["total"] == math.ceil(sizes[-1] / 1024)

    def test_the_authorizers_read_is_one_unit(self, metered: tuple[Meter, StoreEngine, Any]) -> None:
        meter, engine, _ = metered
        store = engine.client_store()
        meter.read()
        store.find("nobody")
        assert meter.read()["total"] == 1

    @staticmethod
    def size(dynamodb: Any, engine: StoreEngine, token_id: str) -> int:
        key = {"id": {"S": token_id}}
        answer = dynamodb.get_item(TableName=engine.token_table, Key=key, ConsistentRead=True)
        return item_bytes(answer["Item"])
