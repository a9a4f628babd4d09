"""The log lines that a call leaves behind, made by the code that writes them, and the metrics in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from chalicelib import __version__
from chalicelib.audit import Audit
from chalicelib.log_names import Metric
from chalicelib.splunk.ledger import Ledger

Lines = tuple[str, ...]
Series = tuple[str, tuple[tuple[str, str], ...]]
"""A metric as CloudWatch charges it: its name, and its dimensions with their values."""

_UUID: Final = "f2f42052-6e24-4c54-bc15-1e0bb6dce9f7"
_MEMORY: Final = "Max Memory Used: 64 MB\t\n"
# What Lambda itself writes for each invocation, and what active tracing adds.
# Source: AWS Lambda developer guide, "Working with Lambda function logs in Python".
PLATFORM: Final[Lines] = (
    f"START RequestId: {_UUID} Version: 12\n",
    f"END RequestId: {_UUID}\n",
    f"REPORT RequestId: {_UUID}\tDuration: 9.87 ms\tBilled Duration: 10 ms\tMemory Size: 128 MB\t{_MEMORY}",
)
TRACED: Final = "XRAY TraceId: 1-5759e988-bd862e3fe1be46a994272793\tSegmentId: 3fe1be46a9942727\tSampled: true\t\n"


def access(**members: str) -> str:
    """A line of the access log in the format of deploy/resources.yaml, of a usual call but for `members`."""
    usual = {
        "event": "access",
        "requestId": _UUID,
        "extendedRequestId": "JKJaXmPLvHcESHA=",
        "lambdaRequestId": _UUID,
        "time": "21/Nov/2026:12:00:00 +0000",
        "ip": "198.51.100.77",
        "clientId": "records",
        "method": "POST",
        "route": "/tokenservice/services/api/use",
        "status": "200",
        "length": "243",
        "latency": "31",
        "integrationLatency": "18",
        "authorizerLatency": "-",
        "error": "-",
        "reason": "-",
        "authRequestId": "-",
    }
    return json.dumps(usual | members, separators=(",", ":"))


ACCESS: Final = access()


def of_store(stage: str, operation: str) -> Lines:
    """Of a call of the store: `claim`, or the authorizer's `find_client`."""
    return _written(stage, lambda audit: audit.latency(operation, 7.123))


def of_forwarder(stage: str, events: int) -> Lines:
    """Of a batch of log events that Splunk took."""
    ledger = Ledger(received=events, delivered=events, longest_delay_ms=4_321, total_delay_ms=events * 3_210)
    return _written(stage, lambda audit: audit.metrics(ledger.metrics()))


def of_redrive(stage: str) -> Lines:
    """Of a scheduled redrive when nothing waits."""
    return _written(stage, lambda audit: audit.metrics({Metric.ENTRIES_WAITING: (0, "Count")}))


def size(lines: Sequence[str]) -> int:
    """Bytes, as CloudWatch Logs counts them."""
    return sum(len(line.encode()) for line in lines)


def series(lines: Sequence[str]) -> Iterator[Series]:
    """Each metric that CloudWatch makes of these lines, as often as it gets a value.

    Source: Amazon CloudWatch user guide, "Embedded metric format specification".
    """
    for line in lines:
        if not line.startswith("{"):
            continue
        members = json.loads(line)
        for directive in members.get("_aws", {}).get("CloudWatchMetrics", ()):
            for dimensions in directive["Dimensions"]:
                values = tuple((name, members[name]) for name in dimensions)
                yield from ((metric["Name"], values) for metric in directive["Metrics"])


def _written(stage: str, write: Callable[[Audit], None]) -> Lines:
    written: list[str] = []
    write(Audit(stage, __version__, written.append))
    return tuple(written)
