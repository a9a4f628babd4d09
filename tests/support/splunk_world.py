"""What comes to the forwarder, a failure record in memory or in a bucket, and a collector in this process."""

from __future__ import annotations

import base64
import gzip
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from chalicelib.splunk.delivery import Deliverer
from chalicelib.splunk.envelope import decode
from chalicelib.splunk.errors import RecordUnavailable
from chalicelib.splunk.forward import Forwarder, build_forwarder
from chalicelib.splunk.record import FailureRecord, Kind, S3Record
from chalicelib.splunk.secret import HecToken, fixed
from chalicelib.splunk.verdicts import Answer
from chalicelib.splunk.waiting import BucketSource
from tests.support.hec_rules import Collector, Rejected, reply, request
from tests.support.hec_server import HecServer, splunk_settings
from tests.support.memory_bucket import BUCKET, MemoryBucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

START_MS = 1_700_000_000_123


def aws_event(source: str, kind: str, resource: str, **detail: Any) -> dict[str, Any]:
    """What EventBridge hands over."""
    return {
        "version": "0",
        "id": "c4c1c1c9-6542-e61b-6ef0-8c4d36933a92",
        "detail-type": kind,
        "source": source,
        "account": "123456789012",
        "time": "2026-11-21T04:05:06Z",
        "region": "eu-central-1",
        "resources": [f"arn:aws:{resource}"],
        "detail": detail,
    }


def state_change(alarm: str, reason: str = "too slow") -> dict[str, Any]:
    """The event of an alarm. Source: Amazon CloudWatch user guide, "Alarm events and EventBridge"."""
    state = {"value": "ALARM", "reason": reason}
    arn = f"cloudwatch:us-east-1:000000000000:alarm:{alarm}"
    return aws_event("aws.cloudwatch", "CloudWatch Alarm State Change", arn, alarmName=alarm, state=state)


ALARM = state_change("tokenservice-prod-slow")
SCHEDULED = aws_event("aws.events", "Scheduled Event", "events:us-east-1:000000000000:rule/redrive")
GZIP = {"content-encoding": "gzip"}


def subscription(
    messages: Iterable[str | None], *, log_group: str = "/aws/lambda/service", first_id: int = 0, **changes: Any
) -> dict[str, Any]:
    """A subscription event as CloudWatch Logs makes it; each message gets an id and a time of its own.

    None is a message that CloudWatch Logs would not write: the item is no log event.
    """
    content: dict[str, Any] = {
        "messageType": "DATA_MESSAGE",
        "owner": "123456789012",
        "logGroup": log_group,
        "logStream": "2026/11/21/[$LATEST]0123456789abcdef",
        "subscriptionFilters": ["splunk"],
        "logEvents": [
            {"id": f"{first_id + n:056d}", "timestamp": START_MS + n, "message": message}
            for n, message in enumerate(messages)
        ],
    }
    return pack(content | changes)


def content(**changes: Any) -> dict[str, Any]:
    """What a subscription event with one log event holds."""
    found = json.loads(gzip.decompress(base64.b64decode(subscription(["a"])["awslogs"]["data"])))
    return {**found, **changes}


def pack(content: Any, **options: Any) -> dict[str, Any]:
    """A subscription event with this content, bytes or what `json.dumps` takes with these options."""
    text = content if isinstance(content, bytes) else json.dumps(content, **options).encode()
    return {"awslogs": {"data": base64.b64encode(gzip.compress(text, 1, mtime=0)).decode()}}


class MemoryRecord(FailureRecord):
    """A failure record in memory that can fail, and can be slow."""

    def __init__(self) -> None:
        super().__init__(lambda: datetime(2026, 11, 21, tzinfo=UTC))
        self.entries: dict[str, bytes] = {}
        self.refusals = 0
        self.refused = 0
        # Seconds that an entry takes: the caller lets them pass.
        self.take_seconds: Callable[[], float] = lambda: 0.0
        self.pass_seconds: Callable[[float], None] = lambda seconds: None

    def _store(self, name: str, content: bytes, within_seconds: float) -> None:
        if self.refusals:
            self.refusals -= 1
            self._refuse()
        seconds = self.take_seconds()
        self.pass_seconds(min(seconds, within_seconds))
        # What is given up may be kept all the same: only the answer is missing.
        self.entries[name] = content
        if seconds > within_seconds:
            self._refuse()

    def _refuse(self) -> None:
        self.refused += 1
        raise RecordUnavailable("the failure record did not take an entry")

    def of(self, kind: Kind) -> list[dict[str, Any]]:
        return [json.loads(v) for k, v in sorted(self.entries.items()) if k.startswith(kind.value + "/")]

    def ids(self, kind: Kind) -> list[str]:
        logs = [log for kept in self.of(kind) for log in decode(kept["requestPayload"]).events]
        return [json.loads(log.message)["id"] if log.fault else log.id for log in logs]


class MarkedCollector(Collector):
    """Refuses an event whose text holds `☠<code>`, as Splunk might for a reason that the forwarder can't know."""

    def _check(self, event: dict[str, Any], number: int) -> None:
        super()._check(event, number)
        text = json.dumps(event["event"], ensure_ascii=False)
        if "☠" in text:
            raise Rejected(int(text.partition("☠")[2][:2]), number)


def forwarding(post: Callable[[bytes, str, float], Answer], **options: Any) -> Forwarder:
    """A forwarder that never waits, to a collector that knows the token of `Collector`."""
    deliverer = Deliverer(post, HecToken(fixed("the-token")), lambda seconds: None)
    return Forwarder(deliverer, **{"stage": "test", **options})


def coded(code: int, index: int | None = None, after: float | None = None) -> Answer:
    """The collector's answer with this code; `after` is its Retry-After in seconds."""
    answer = reply(code, index)
    return Answer(answer.status, answer.body, after)


class ScriptedCollector:
    """Posts to a collector in this process; each request takes the next answer of `script` first."""

    def __init__(self, collector: Collector | None = None) -> None:
        self.collector = collector or MarkedCollector()
        self.script: list[Answer | Exception] = []

    def post(self, body: bytes, token: str, timeout_seconds: float) -> Answer:
        scripted = self.script.pop(0) if self.script else None
        if isinstance(scripted, Exception):
            raise scripted
        if scripted is not None:
            return scripted
        answer = self.collector.answer(request(body, token, **GZIP))
        return Answer(answer.status, answer.body)


def lambda_record(event: Mapping[str, Any]) -> str:
    """What Lambda writes to its on-failure destination."""
    return json.dumps(
        {
            "version": "1.0",
            "timestamp": "2026-11-21T04:00:00.000Z",
            "requestContext": {"condition": "RetriesExhausted", "approximateInvokeCount": 3},
            "requestPayload": event,
            "responseContext": {"statusCode": 200, "functionError": "Unhandled"},
            "responsePayload": {"errorMessage": "the collector did not accept the events in time"},
        }
    )


class Place:
    """A failure record in a bucket, where entries wait, and a Splunk."""

    def __init__(self, server: HecServer) -> None:
        self.server = server
        self.bucket = MemoryBucket()
        self.source = BucketSource(self.bucket, BUCKET)
        self.settings = splunk_settings(server.url, failure_bucket=BUCKET)
        self.forwarder = build_forwarder(self.settings, "test", record=S3Record(BUCKET, self.bucket))

    def wait(self, name: str, *messages: str | None, content: str | None = None) -> None:
        """Let an entry wait, with these messages or this content; no two log events have one id."""
        number = len(self.bucket.objects) * 100
        self.bucket.objects[name] = (content or lambda_record(subscription(messages, first_id=number))).encode()

    def arrived(self) -> list[Any]:
        return sorted(event["event"] for event in self.server.collector.indexed)
