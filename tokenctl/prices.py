"""AWS's prices in US dollars without tax, as remembered on a day: check each on the page that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType
from typing import Final

AS_OF: Final = date(2026, 11, 21)
# The Region and the month whose Fargate prices make the container design's 142.19 dollars.
REGION: Final = "us-east-1"
HOURS: Final = 720
"""Of a month."""


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one thing.

    Attributes:
        page: AWS's page of the price.
        unit, per: dollars are for `per` of `unit`.
        dollars: of what no limit of `above` exceeds.
        above: rising limits a month, and the dollars for what is above each.
        free: quantity of the free tier, a month.
        shares: the price whose free quantity it shares; empty for its own.
    """

    page: str
    unit: str
    per: int
    dollars: float
    above: Mapping[float, float] = field(default_factory=dict)
    free: float = 0
    shares: str = ""

    def usd(self, amount: float) -> float:
        """Return the dollars for a quantity in one month, of which nothing is free."""
        total, dearer = amount * self.dollars, self.dollars
        for limit, dollars in self.above.items():
            total -= max(0.0, amount - limit) * (dearer - dollars)
            dearer = dollars
        return total / self.per


_MILLION: Final = 1_000_000
_DYNAMODB: Final = "Amazon DynamoDB pricing"
_CLOUDWATCH: Final = "Amazon CloudWatch pricing"
_ENDPOINTS: Final = "AWS PrivateLink pricing, interface endpoints"
_NAT: Final = "Amazon VPC pricing, NAT gateways"
_FIREWALL: Final = "AWS WAF pricing"
_SNAPSHOTS: Final = "AWS Lambda pricing, SnapStart for Python and .NET"
_FARGATE: Final = "AWS Fargate pricing, Linux/x86"

PRICES: Final[Mapping[str, Price]] = MappingProxyType(
    {
        "gateway-request": Price(
            "Amazon API Gateway pricing, REST APIs",
            "requests",
            _MILLION,
            3.50,
            {333e6: 2.80, 1e9: 2.38, 20e9: 1.51},
            1e6,
        ),
        "lambda-request": Price("AWS Lambda pricing", "requests", _MILLION, 0.20, free=1e6),
        # The init phase is billed since August 2025.
        "lambda-gb-second": Price(
            "AWS Lambda pricing, x86", "GB-second", 1, 0.0000166667, {6e9: 0.000015, 15e9: 0.0000133334}, free=4e5
        ),
        "dynamodb-write": Price(f"{_DYNAMODB}, on-demand, Standard table class", "write units", _MILLION, 0.625),
        "dynamodb-read": Price(f"{_DYNAMODB}, on-demand, Standard table class", "read units", _MILLION, 0.125),
        "dynamodb-storage": Price(f"{_DYNAMODB}, data storage", "GB-month", 1, 0.25, free=25),
        "dynamodb-recovery": Price(f"{_DYNAMODB}, continuous backups", "GB-month", 1, 0.20),
        "s3-request": Price("Amazon S3 pricing, Standard, PUT, COPY, POST, LIST requests", "requests", 1_000, 0.005),
        "logs-from-lambda": Price(
            f"{_CLOUDWATCH}, vended logs, Standard class", "GB", 1, 0.50, {1e4: 0.25, 3e4: 0.10, 5e4: 0.05}, free=5
        ),
        "logs": Price(f"{_CLOUDWATCH}, logs, collect, Standard class", "GB", 1, 0.50, shares="logs-from-lambda"),
        "logs-kept": Price(f"{_CLOUDWATCH}, logs, store, compressed", "GB-month", 1, 0.03, shares="logs-from-lambda"),
        "metric": Price(f"{_CLOUDWATCH}, custom metrics, up to 10,000", "metric-month", 1, 0.30, free=10),
        # By the metrics that each lists.
        "alarm": Price(f"{_CLOUDWATCH}, alarms of standard resolution", "alarm-metric-month", 1, 0.10, free=10),
        "dashboard": Price(f"{_CLOUDWATCH}, dashboards", "dashboard-month", 1, 3.00, free=3),
        "trace": Price("AWS X-Ray pricing, traces recorded", "traces", _MILLION, 5.00, free=100_000),
        "kms-request": Price("AWS KMS pricing, symmetric keys", "requests", 10_000, 0.03, free=20_000),
        "transfer": Price(
            "Amazon EC2 On-Demand pricing, data transfer out",
            "GB",
            1,
            0.09,
            {10_240: 0.085, 51_200: 0.07, 153_600: 0.05},
            100,
        ),
        # Of options.
        "kms-key": Price("AWS KMS pricing, customer managed keys", "key-month", 1, 1.00),
        "endpoint-hour": Price(_ENDPOINTS, "endpoint-hour", 1, 0.01),
        "endpoint-data": Price(f"{_ENDPOINTS}, up to 1 PB", "GB", 1, 0.01),
        "nat-hour": Price(_NAT, "gateway-hour", 1, 0.045),
        "nat-data": Price(_NAT, "GB", 1, 0.045),
        "firewall": Price(f"{_FIREWALL}, web ACLs", "web ACL-month", 1, 5.00),
        "firewall-rule": Price(f"{_FIREWALL}, rules", "rule-month", 1, 1.00),
        "firewall-request": Price(f"{_FIREWALL}, requests", "requests", _MILLION, 0.60),
        "snapshot-kept": Price(f"{_SNAPSHOTS}, cache", "GB-second", 1, 0.0000015046),
        "snapshot-restored": Price(f"{_SNAPSHOTS}, restore", "GB", 1, 0.0001397998),
        "fargate-vcpu-hour": Price(_FARGATE, "vCPU-hour", 1, 0.04048),
        "fargate-gb-hour": Price(_FARGATE, "GB-hour", 1, 0.004445),
    }
)
