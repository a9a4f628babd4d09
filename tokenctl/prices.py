"""AWS's prices in US dollars without tax, as remembered on a day: check each on the page that it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
        tiers: upper limit a month, and dollars; the last one has no limit.
        free: quantity of the free tier, a month.
        shares: the price whose free quantity it shares; empty for its own.
    """

    page: str
    unit: str
    per: int
    tiers: Sequence[tuple[float, float]]
    free: float = 0
    shares: str = ""

    def usd(self, amount: float) -> float:
        """Return the dollars for a quantity in one month, of which nothing is free."""
        total, below = 0.0, 0.0
        for upto, dollars in self.tiers:
            total += max(0.0, min(amount, upto) - below) / self.per * dollars
            below = upto
        return total


_ANY: Final = float("inf")
_LOGS: Final = "Amazon CloudWatch pricing, logs"
_DYNAMODB: Final = "Amazon DynamoDB pricing, on-demand, Standard table class"
_ENDPOINTS: Final = "AWS PrivateLink pricing, interface endpoints"
_FIREWALL: Final = "AWS WAF pricing, web ACLs, rules, requests"
_SNAPSHOTS: Final = "AWS Lambda pricing, SnapStart for Python and .NET"
_FARGATE: Final = "AWS Fargate pricing, Linux/x86"

PRICES: Final[Mapping[str, Price]] = MappingProxyType(
    {
        "gateway-request": Price(
            "Amazon API Gateway pricing, REST APIs",
            "requests",
            1_000_000,
            [(333e6, 3.50), (1e9, 2.80), (20e9, 2.38), (_ANY, 1.51)],
            free=1e6,
        ),
        "lambda-request": Price("AWS Lambda pricing", "requests", 1_000_000, [(_ANY, 0.20)], free=1e6),
        "lambda-gb-second": Price(
            "AWS Lambda pricing, x86; the init phase is billed since August 2025",
            "GB-second",
            1,
            [(6e9, 0.0000166667), (15e9, 0.000015), (_ANY, 0.0000133334)],
            free=400_000,
        ),
        "dynamodb-write": Price(_DYNAMODB, "write units", 1_000_000, [(_ANY, 0.625)]),
        "dynamodb-read": Price(_DYNAMODB, "read units", 1_000_000, [(_ANY, 0.125)]),
        "dynamodb-storage": Price("Amazon DynamoDB pricing, data storage", "GB-month", 1, [(_ANY, 0.25)], free=25),
        "dynamodb-recovery": Price(
            "Amazon DynamoDB pricing, continuous backups (point-in-time recovery)", "GB-month", 1, [(_ANY, 0.20)]
        ),
        "s3-request": Price(
            "Amazon S3 pricing, Standard, PUT, COPY, POST, LIST requests", "requests", 1_000, [(_ANY, 0.005)]
        ),
        "logs-from-lambda": Price(
            f"{_LOGS} of AWS Lambda (vended, Standard class)",
            "GB",
            1,
            [(10_000, 0.50), (30_000, 0.25), (50_000, 0.10), (_ANY, 0.05)],
            free=5,
        ),
        "logs": Price(f"{_LOGS}, collect (Standard class)", "GB", 1, [(_ANY, 0.50)], shares="logs-from-lambda"),
        "logs-kept": Price(f"{_LOGS}, store; compressed", "GB-month", 1, [(_ANY, 0.03)], shares="logs-from-lambda"),
        "metric": Price(
            "Amazon CloudWatch pricing, custom metrics",
            "metric-month",
            1,
            [(10_000, 0.30), (250_000, 0.10), (1e6, 0.05), (_ANY, 0.02)],
            free=10,
        ),
        "alarm": Price(
            "Amazon CloudWatch pricing, alarms of standard resolution, by the metrics that each lists",
            "alarm-metric-month",
            1,
            [(_ANY, 0.10)],
            free=10,
        ),
        "dashboard": Price("Amazon CloudWatch pricing, dashboards", "dashboard-month", 1, [(_ANY, 3.00)], free=3),
        "trace": Price("AWS X-Ray pricing, traces recorded", "traces", 1_000_000, [(_ANY, 5.00)], free=100_000),
        "kms-request": Price("AWS KMS pricing, symmetric keys", "requests", 10_000, [(_ANY, 0.03)], free=20_000),
        "transfer": Price(
            "Amazon EC2 On-Demand pricing, data transfer out to the internet",
            "GB",
            1,
            [(10_240, 0.09), (51_200, 0.085), (153_600, 0.07), (_ANY, 0.05)],
            free=100,
        ),
        # Of options.
        "kms-key": Price("AWS KMS pricing, customer managed keys", "key-month", 1, [(_ANY, 1.00)]),
        "endpoint-hour": Price(_ENDPOINTS, "endpoint-hour", 1, [(_ANY, 0.01)]),
        "endpoint-data": Price(_ENDPOINTS, "GB", 1, [(1e6, 0.01), (5e6, 0.006), (_ANY, 0.004)]),
        "nat-hour": Price("Amazon VPC pricing, NAT gateways", "gateway-hour", 1, [(_ANY, 0.045)]),
        "nat-data": Price("Amazon VPC pricing, NAT gateways", "GB", 1, [(_ANY, 0.045)]),
        "firewall": Price(_FIREWALL, "web ACL-month", 1, [(_ANY, 5.00)]),
        "firewall-rule": Price(_FIREWALL, "rule-month", 1, [(_ANY, 1.00)]),
        "firewall-request": Price(_FIREWALL, "requests", 1_000_000, [(_ANY, 0.60)]),
        "snapshot-kept": Price(f"{_SNAPSHOTS}, cache", "GB-second", 1, [(_ANY, 0.0000015046)]),
        "snapshot-restored": Price(f"{_SNAPSHOTS}, restore", "GB", 1, [(_ANY, 0.0001397998)]),
        "fargate-vcpu-hour": Price(_FARGATE, "vCPU-hour", 1, [(_ANY, 0.04048)]),
        "fargate-gb-hour": Price(_FARGATE, "GB-hour", 1, [(_ANY, 0.004445)]),
    }
)
