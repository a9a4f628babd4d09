"""What each option of a stage would cost more in a month: parameters of the template, and traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tokenctl.costs.bill import Tariff
from tokenctl.costs.month import GB, SECONDS_AN_HOUR, SENT_SHRUNK, Traffic

ZONES: Final = 2
FIREWALL_RULES: Final = 4
SNAPSHOTS: Final = 2  # of the REST function and the authorizer; a deployment deletes the versions before
LOG_DAYS: Final = 400  # the 12 months at hand that US federal agencies need, and some


@dataclass(frozen=True, slots=True)
class Option:
    """An option that is off, and its price.

    Attributes:
        name: of the parameter; of traces and snapshots, the setting in `.chalice/config.json`.
        page: AWS's page of the price.
    """

    name: str
    what: str
    usd: float
    page: str


def priced_options(tariff: Tariff, traffic: Traffic) -> Sequence[Option]:
    """Return the options that cost something, at this traffic and before any free tier of their own."""
    month = tariff.bill(traffic).month
    hours, sent_gb = tariff.prices.hours, month.logged_bytes * SENT_SHRUNK / GB

    def priced(name: str, what: str, amounts: Mapping[str, float]) -> Option:
        usd = sum(tariff.prices[price].usd(amount) for price, amount in amounts.items())
        return Option(name, what, usd, tariff.prices[next(iter(amounts))].page)

    def changed(name: str, what: str, price: str, other: Tariff) -> Option:
        usd = other.bill(traffic).total - tariff.bill(traffic).total
        return Option(name, what, usd, tariff.prices[price].page)

    endpoint = {"endpoint-hour": ZONES * hours, "endpoint-data": sent_gb}
    nat = {"nat-hour": ZONES * hours, "nat-data": sent_gb}
    firewall = {"firewall": 1, "firewall-rule": FIREWALL_RULES, "firewall-request": traffic.calls}
    memory_gb, starts = traffic.memory_mb / 1024, (traffic.calls + month.authorizer_calls) * traffic.cold
    kept, restored = SNAPSHOTS * memory_gb * hours * SECONDS_AN_HOUR, starts * memory_gb
    longer = replace(tariff, stage=replace(tariff.stage, log_days=LOG_DAYS))
    traced = replace(tariff, stage=replace(tariff.stage, traced=tariff.stage.traced | {"basic_auth"}))
    return [
        priced("KeyArn", "a KMS key of your own", {"kms-key": 1}),
        priced("SubnetIds", f"a VPC: endpoint for SSM in {ZONES} zones", endpoint),
        priced("SubnetIds", f"a VPC: NAT gateways in {ZONES} zones, if Splunk needs them", nat),
        priced("ApiEndpointIds", f"a private API: endpoint in {ZONES} zones", {"endpoint-hour": ZONES * hours}),
        priced("WebFirewall", f"AWS WAF with {FIREWALL_RULES} rules", firewall),
        changed("LogDays", f"logs kept for {LOG_DAYS} days", "logs-kept", longer),
        priced("snap_start", "starts from snapshots", {"snapshot-kept": kept, "snapshot-restored": restored}),
        changed("xray", "traces of the authorizer", "trace", traced),
    ]
