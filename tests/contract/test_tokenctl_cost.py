"""`tokenctl cost`: every figure comes from where it says, and adds up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from chalicelib import instants, tokens
from chalicelib.tokens import Action, Document, Reason, Terms
from tests.support.api import NODE, Api
from tests.support.meter import Meter, item_bytes
from tests.support.store_engines import StoreEngine
from tokenctl.__main__ import cli
from tokenctl.costs import bill, lines, month, options, prices, stage_facts
from tokenctl.costs.bill import Bill, Tariff
from tokenctl.costs.month import Traffic
from tokenctl.errors import DeploymentError
from tokenctl.resources import read_template
from tokenctl.terminal import Terminal

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = read_template(ROOT / "deploy" / "resources.yaml")
USER = "ada.lovelace@example.org"
USE = {"user": USER, "ipAddress": "192.0.2.77", "action": "download"}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["cost", *arguments], obj=Terminal())


def cost(*arguments: str) -> dict[str, Any]:
    ended = run("--json", *arguments)
    assert ended.exit_code == 0, ended.output
    facts: dict[str, Any] = json.loads(ended.stdout)
    return facts


def line(facts: dict[str, Any], what: str) -> dict[str, Any]:
    [found] = [each for each in facts["lines"] if each["what"] == what]
    return dict(found)


@pytest.fixture
def tariff() -> Tariff:
    known = stage_facts.stage("prod")
    measured = stage_facts.measured(known.memory_mb)
    return Tariff(prices.load(), known, measured, stage_facts.events_per_cpu_second())


FREE = {
    *("TlsPolicy", "EndpointAccessMode", "SecurityGroupIds", "AllowedRanges", "DomainName", "CertificateArn"),
    *("TruststoreUri", "ApiConcurrency", "AuthorizerConcurrency", "ClientRate", "ClientBurst", "WebFirewallRate"),
    *("Boundary", "SplunkLayerArn", "SplunkCaBundle", "SplunkClientCertificate"),
    "BackupVaultArn",  # cents
}


def test_exactly_the_options_that_cost_something_have_a_price(tariff: Tariff) -> None:
    priced = {option.name for option in options.priced_options(tariff, Traffic(1e6, 128))}
    settings = {"snap_start", "xray"}  # of .chalice/config.json
    assert settings < priced
    assert priced - settings == read_template(ROOT / "deploy" / "options.yaml")["Parameters"].keys() - FREE


class TestTheCommand:
    def test_it_calls_neither_aws_nor_a_running_service(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def connect(*_: object) -> None:
            pytest.fail("it opened a connection")

        monkeypatch.setattr("socket.socket.connect", connect)
        assert run().exit_code == 0

    def test_a_person_reads_the_same_as_a_program(self) -> None:
        facts, seen = cost(), run().output
        for each in facts["lines"]:
            assert each["what"] in seen
        for amount in (facts["totalUsd"], facts["computeUsd"], facts["containers"]["totalUsd"]):
            assert f"{amount:,.2f}" in seen
        assert facts["totalUsd"] == pytest.approx(sum(each["usd"] for each in facts["lines"]), abs=0.01)
        assert facts["computeUsd"] < facts["totalUsd"]
        assert "not checked with AWS" in seen
        assert max(map(len, seen.splitlines())) <= 110

    def test_requests_cost_their_price(self) -> None:
        facts = cost("--calls", "2000000")
        requests = line(facts, "REST requests")
        assert (requests["quantity"], requests["usd"]) == (2_000_000, 7.0)
        assert requests["page"].startswith("Amazon API Gateway")

    def test_the_duration_is_what_the_benchmark_measured(self) -> None:
        box = json.loads((ROOT / "studies" / "bench" / "results" / "lambda_box.json").read_text("utf-8"))
        [run_128] = [each for each in box["runs"] if each["memory_mb"] == 128 and each["tls"]]
        [ours] = [row for row in run_128["rows"] if row["name"] == "ours"]
        medians = [kind["wall_ms"]["p50"] for kind in ours["warm"].values()]
        # A twentieth are refusals, some of them with two writes.
        assert min(medians) <= cost()["traffic"]["durationMs"] <= max(medians) * 1.05

    def test_a_size_that_was_not_measured_is_refused_with_what_was(self) -> None:
        refused = run("--memory", "192").exception
        assert isinstance(refused, DeploymentError)
        assert str(refused).startswith("no duration was measured at 192 MB, only at 128,")

    @pytest.mark.parametrize(
        "wrong",
        [("--calls", "0"), ("--calls", "nan"), ("--memory", "64"), ("--looks", "-1"), ("--uses", "101")],
        ids=" ".join,
    )
    def test_a_wrong_value_is_refused_by_name(self, wrong: tuple[str, str]) -> None:
        ended = run(*wrong)
        assert ended.exit_code == 2
        assert wrong[0] in ended.output

    def test_the_stage_decides_how_long_logs_are_kept(self) -> None:
        prod, dev = (cost("--stage", stage)["lines"] for stage in ("prod", "dev"))
        assert any(each["what"] == "logs kept 90 days" for each in prod)
        assert any(each["what"] == "logs kept 14 days" for each in dev)

    def test_the_free_tier_is_taken_off_once_and_never_below_nothing(self) -> None:
        full, free = cost("--calls", "100000"), cost("--calls", "100000", "--free-tier")
        assert line(free, "REST requests")["usd"] == line(free, "dashboard")["usd"] == 0
        assert all(0 <= less["usd"] <= more["usd"] for less, more in zip(free["lines"], full["lines"], strict=True))
        metrics = [each for each in full["lines"] if each["unit"] == "metric-month"]
        spared = sum(each["usd"] for each in metrics) - sum(
            each["usd"] for each in free["lines"] if each["unit"] == "metric-month"
        )
        assert spared == pytest.approx(min(10, sum(each["quantity"] for each in metrics)) * 0.30, abs=0.001)

    def test_a_quiet_month_costs_what_was_promised(self) -> None:
        assert cost("--calls", "100000")["totalUsd"] <= 7.50
        assert cost("--calls", "100000", "--free-tier")["totalUsd"] <= 0.60

    def test_whoever_looks_at_the_dashboard_pays_for_its_log_queries(self) -> None:
        never, often = (
            line(cost("--looks", looks), "log queries of the dashboard")["quantity"] for looks in ("0", "200")
        )
        once = line(cost("--looks", "1"), "log queries of the dashboard")["quantity"]
        assert (never, often) == (0, pytest.approx(200 * once, rel=1e-3))


class TestThePrices:
    def test_tiers_rise_and_the_last_has_no_end(self) -> None:
        for name, price in prices.load().by_name.items():
            *ends, last = (upto for upto, _ in price.tiers)
            assert (ends, last) == (sorted(ends), 0), name
            dollars = [usd for _, usd in price.tiers]
            assert dollars == sorted(dollars, reverse=True), name

    def test_four_containers_cost_142_dollars(self, tariff: Tariff) -> None:
        assert (bill.TASKS, bill.TASK_VCPUS, bill.TASK_GB) == (4, 1, 2)
        assert round(tariff.containers(), 2) == 142.19

    def test_each_is_used(self, tariff: Tariff) -> None:
        names: set[str] = set()

        class Noting(dict[str, prices.Price]):
            def __getitem__(self, name: str) -> prices.Price:
                names.add(name)
                return super().__getitem__(name)

        noting = replace(tariff, prices=replace(tariff.prices, by_name=Noting(tariff.prices.by_name)))
        noting.bill(Traffic(1e6, 128))
        noting.containers()
        options.priced_options(noting, Traffic(1e6, 128))
        assert names == set(tariff.prices.by_name)

    def test_tiers_are_filled_one_after_the_other(self) -> None:
        price = prices.load()["gateway-request"]
        assert price.usd(333e6) == pytest.approx(333 * 3.50)
        assert price.usd(1_100e6) == pytest.approx(333 * 3.50 + 667 * 2.80 + 100 * 2.38)
        assert price.usd(0) == 0

    def test_logs_share_the_five_free_gigabytes(self, tariff: Tariff) -> None:
        free = replace(tariff, free_tier=True)
        amounts = {"logs-from-lambda": 3.0, "logs": 1.5, "logs-scanned": 4.0, "alarm": 14.0}
        assert free._charged(amounts) == {"logs-from-lambda": 0, "logs": 0, "logs-scanned": 3.5, "alarm": 4}

    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            (("region =", "place ="), "'region'"),
            (("usd =", "eur ="), "missing required field `usd`"),
            (("=", ""), "Expected '='"),
        ],
    )
    def test_a_table_that_is_broken_ends_the_command_with_one_line(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: tuple[str, str], words: str
    ) -> None:
        broken = tmp_path / "prices.toml"
        broken.write_text(prices.TABLE.read_text("utf-8").replace(*changed))
        monkeypatch.setattr(prices.load, "__defaults__", (broken,))
        assert str(run().exception).startswith("prices.toml can't be read: ")
        assert words in str(run().exception)


class TestTheOptions:
    def test_each_costs_more_than_nothing_and_is_shown(self) -> None:
        facts, seen = cost(), run().output
        assert len(facts["options"]) >= 7
        for option in facts["options"]:
            assert option["usd"] > 0
            assert option["page"]
            assert option["what"] in seen
            assert f"{option['usd']:,.2f}" in seen

    def test_a_firewall_is_charged_by_its_rules_and_by_the_call_and_a_snapshot_by_the_start(
        self, tariff: Tariff
    ) -> None:
        """A version of 128 MB costs 0.49 dollars for 30 days."""
        quiet, busy = (
            {each.name: each.usd for each in options.priced_options(tariff, Traffic(calls, 128, cold=0.01))}
            for calls in (0.001, 1e7)
        )
        few, many = quiet["WebFirewall"], busy["WebFirewall"]
        assert (few, many) == (pytest.approx(5 + options.FIREWALL_RULES), pytest.approx(few + 6))
        starts = (1e7 + tariff.bill(Traffic(1e7, 128)).month.authorizer_calls) * 0.01
        assert quiet["snap_start"] == pytest.approx(2 * 0.49, abs=0.01)
        assert busy["snap_start"] - quiet["snap_start"] == pytest.approx(starts * 0.125 * 0.0001397998, rel=0.01)


def amount(tariff: Tariff, calls: float, price: str) -> float:
    """How much of a price a month of calls takes."""
    quantities = tariff.bill(Traffic(calls, 128)).month.quantities()
    return sum(each.amount for each in quantities if each.price == price)


class TestTheMonth:
    def test_where_the_two_meet_they_cost_the_same(self, tariff: Tariff) -> None:
        parts: list[Callable[[Bill], float]] = [lambda whole: whole.total, lambda whole: whole.compute]
        for part in parts:
            calls = tariff.meeting_point(Traffic(1, 128), part)
            assert calls is not None
            assert part(tariff.bill(Traffic(calls, 128))) == pytest.approx(tariff.containers(), rel=1e-3)
        assert tariff.meeting_point(Traffic(1, 128), lambda _: 1e6) is None, "ours is always dearer"

    def test_more_calls_never_cost_less(self, tariff: Tariff) -> None:
        totals = [tariff.bill(Traffic(10.0**power, 128)).total for power in range(13)]
        assert totals == sorted(totals)

    def test_a_metric_costs_no_more_than_its_price_and_a_rare_one_less(self, tariff: Tariff) -> None:
        known = len(tariff.bill(Traffic(1, 128)).month.values_of_metrics())
        assert amount(tariff, 100, "metric") < amount(tariff, 1e9, "metric") <= known

    def test_traces_are_nearly_all_of_few_calls_and_a_twentieth_of_many(self, tariff: Tariff) -> None:
        traced = replace(tariff, stage=replace(tariff.stage, traced=frozenset({"api_handler"})))
        assert amount(traced, 1_000, "trace") / 1_000 == pytest.approx(1, abs=0.001)
        assert amount(traced, 1e12, "trace") / 1e12 == pytest.approx(0.05, abs=0.001)

    def test_each_busy_client_calls_the_authorizer_once_in_its_ttl(self, tariff: Tariff) -> None:
        calls = 1_000 * tariff.prices.hours * 3600
        asked = tariff.bill(Traffic(calls, 128, clients=7)).month.authorizer_calls
        assert asked / (tariff.prices.hours * 3600) == pytest.approx(7 / 60, rel=0.01)

    def test_later_uses_of_a_token_cost_more(self, tariff: Tariff) -> None:
        months = [tariff.bill(Traffic(1e6, 128, uses_per_token=uses, refused=0)).month for uses in (1, 50, 100)]
        units = [month.write_units for month in months]
        assert units == sorted(units)
        assert [sum(kind.calls for kind in month._kinds) for month in months] == [pytest.approx(1e6)] * 3

    def test_the_redrive_costs_little_and_more_where_it_runs_more_often(self, tariff: Tariff) -> None:
        def of(minutes: int) -> float:
            stage = replace(tariff.stage, redrive_minutes=minutes, traced=frozenset())
            lines_ = replace(tariff, stage=stage).bill(Traffic(1e6, 128)).lines
            return sum(line.usd for line in lines_ if "redrive" in line.quantity.what)

        assert tariff.stage.redrive_minutes == 15
        assert tariff.bill(Traffic(1e6, 128)).month.redrives == 720 * 4
        assert 0 < of(60) < of(15) < of(1) < 1


class TestTheRepositoryIsRead:
    def test_every_metric_of_every_alarm_is_counted(self, tariff: Tariff) -> None:
        alarms = [each["Properties"] for each in TEMPLATE["Resources"].values() if "AlarmName" in each["Properties"]]
        listed = json.dumps(alarms).count('"MetricName"')
        for stage in (stage_facts.stage("dev"), tariff.stage):
            assert (stage.alarms, stage.alarm_metrics) == (len(alarms), listed)
        assert listed > len(alarms) >= 10

    def test_every_log_query_of_the_dashboard_is_counted(self, tariff: Tariff) -> None:
        assert len(tariff.stage.queried) == (ROOT / "deploy/dashboard.json").read_text("utf-8").count("SOURCE") >= 5
        month_ = tariff.bill(Traffic(1e6, 128)).month
        assert month_.bytes_of_functions.keys() >= set(tariff.stage.queried)

    def test_the_gateway_has_no_metrics_of_methods_which_would_be_charged(self) -> None:
        [settings] = TEMPLATE["Resources"]["RestAPI"]["Properties"]["MethodSettings"]
        assert settings["MetricsEnabled"] is False

    def test_the_rest_function_is_traced_and_no_forwarder(self, tariff: Tariff) -> None:
        config = json.loads((ROOT / ".chalice" / "config.json").read_text("utf-8"))
        for stage in ("dev", "test", "prod"):
            assert stage_facts.stage(stage).traced == {"api_handler"} < set(config["stages"][stage]["lambda_functions"])
        assert tariff.stage.memory_mb == config["lambda_memory_size"]

    def test_lambda_writes_nothing_of_a_forwarder_that_succeeds(self, tariff: Tariff) -> None:
        assert tariff.stage.quiet == {"forward_logs"}
        month_ = tariff.bill(Traffic(1e6, 128)).month
        assert month_.forwarder_bytes / month_.batches == lines.size(lines.of_forwarder("prod", 7)) < 200

    def test_an_unknown_stage_is_refused(self) -> None:
        assert (
            str(run("--stage", "moon").exception)
            == "deploy/resources.yaml has no stage 'moon'; it has: dev, prod, test"
        )

    def test_a_line_of_the_access_log_has_the_members_of_the_template(self) -> None:
        form = TEMPLATE["Resources"]["RestAPI"]["Properties"]["AccessLogSetting"]["Format"]
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
        assert meter.read()["total"] == month.ISSUE_UNITS
        sizes, units = [self.size(past_it, engine, token.id)], []
        for _ in range(4):
            address = tokens.parse_address(USE["ipAddress"])
            store.claim(
                tokens.new_use(secret, "records", user=USER, address=address, action=Action.DOWNLOAD), instant, None
            )
            units.append(meter.read()["total"])
            sizes.append(self.size(past_it, engine, token.id))
        # A number of seconds may end in zeros, which are not kept.
        assert sizes[0] == pytest.approx(month.TOKEN_BYTES, abs=8)
        assert (sizes[-1] - sizes[0]) / 4 == pytest.approx(month.CLAIM_BYTES, abs=3)
        assert units == [month._units(size) for size in sizes[1:]]
        store.count_mismatch(token.id, instant)
        assert meter.read()["total"] == month._units(sizes[-1])

    def test_the_authorizers_read_is_one_unit(self, metered: tuple[Meter, StoreEngine, Any]) -> None:
        meter, engine, _ = metered
        store = engine.client_store()
        meter.read()
        store.find("nobody")
        assert meter.read()["total"] == month.READ_UNITS

    @staticmethod
    def size(dynamodb: Any, engine: StoreEngine, token_id: str) -> int:
        key = {"id": {"S": token_id}}
        answer = dynamodb.get_item(TableName=engine.token_table, Key=key, ConsistentRead=True)
        return item_bytes(answer["Item"])
