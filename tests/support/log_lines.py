"""The log lines that a call leaves behind, made by the code that writes them, and the metrics in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from chalicelib import __version__
from chalicelib.audit import Audit
from chalicelib.log_names import Event, Metric
from chalicelib.splunk.ledger import Ledger
from chalicelib.tokens import MISMATCHES, Reason

Lines = tuple[str, ...]
Series = tuple[str, tuple[tuple[str, str], ...]]
"""A metric as CloudWatch charges it: its name, and its dimensions with their values."""

_NOW: Final = datetime(2026, 11, 21, 12, 0, 0, 123000, tzinfo=UTC)
_HEX: Final = "0123456789abcdef" * 2
_UUID: Final = "f2f42052-6e24-4c54-bc15-1e0bb6dce9f7"
# What a line of a usual call holds: ids as long as they are, a name, an address.
_FACTS: Final = {
    "requestId": _UUID,
    "extendedRequestId": "JKJaXmPLvHcESHA=",
    "sourceIp": "198.51.100.77",
    "clientId": "records",
    "tokenId": f"tok_{_HEX}",
    "nodeId": _UUID,
}
_USER: Final = {"user": "ada.lovelace@example.org"}
_USE: Final = {**_USER, "ipAddress": "192.0.2.77", "action": "download"}
_STORE_MS: Final = 7.123

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


def of_issue(stage: str) -> Lines:
    """Of a token that is issued for a user."""
    terms = {**_USER, "maxUses": 1, "expiresAt": _NOW, "actions": ["download"]}
    return _of_call(stage, "add", Event.ISSUED, Metric.TOKENS_ISSUED, uses=0, **terms)


def of_use(stage: str) -> Lines:
    """Of a use that is granted."""
    claim = {"useId": f"use_{_HEX}", "uses": 1, "previous": _HEX, "issuedAt": _NOW}
    return _of_call(stage, "claim", Event.USED, Metric.TOKENS_USED, **_USE, **claim)


def of_refusal(stage: str, reason: Reason) -> Lines:
    """Of a use that is refused."""
    lines = _of_call(stage, "claim", Event.REFUSED, Metric.TOKENS_REFUSED, uses=1, **_USE, reason=reason)
    counted = _written(stage, lambda audit: audit.latency("count_mismatch", _STORE_MS))
    return lines + counted if reason in MISMATCHES else lines


def _of_call(stage: str, operation: str, event: Event, metric: Metric, **facts: Any) -> Lines:
    def write(audit: Audit) -> None:
        is_refused = event is Event.REFUSED
        audit.latency(operation, _STORE_MS)
        audit.event(event, _NOW, "WARNING" if is_refused else "INFO", **_FACTS, **facts)
        audit.count(metric, **({"Reason": facts["reason"]} if is_refused else {}))

    return _written(stage, write)


def of_authorizer(stage: str) -> Lines:
    """Of credentials that are right."""
    return _written(stage, lambda audit: audit.latency("find_client", _STORE_MS))


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
