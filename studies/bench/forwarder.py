"""The speed and the memory of the log forwarder: `python -m studies.bench.forwarder`.

Speed: events per second of processor time, from the Lambda event to the gzipped request, at 200 B and 1 kB a message.
The network is left out: an answer costs nothing here.

Memory: the packaged function, in a process like Lambda's, forwards one payload over HTTP. As on Lambda, it reads the
HEC token from a parameter and stores what Splunk never takes in a bucket; a receiver in this process is both, so the
peak includes the AWS clients.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from chalicelib.splunk.delivery import Deliverer
from chalicelib.splunk.envelope import MAX_BYTES
from chalicelib.splunk.forward import Forwarder
from chalicelib.splunk.secret import HecToken, fixed
from chalicelib.splunk.verdicts import Answer
from dev.engine import ROOT
from studies.bench.box import build, function
from studies.bench.box.build import Built
from studies.bench.box.variants import SERVICE
from tests.support.scripted_server import Handler, Server, answer
from tests.support.splunk_world import subscription

RESULTS: Final = ROOT / "studies" / "bench" / "results" / "forwarder.json"
PAYLOAD_BYTES: Final = 1_000_000  # Lambda's limit for an asynchronous invocation is 1 MB
KINDS: Final = ("audit events", "the largest input that is taken", "as many blank events as there can be")
_SIZE: Final = 200  # bytes of a message where memory is measured


def message(source: random.Random, size: int) -> str:
    """An audit event of about `size` bytes with the usual share of random ids."""
    event = {
        "event": source.choice(["token.used", "token.issued", "token.refused"]),
        "time": "2026-11-21T04:05:06.789Z",
        "level": "INFO",
        "clientId": "portal",
        "tokenId": f"tok_{source.getrandbits(128):032x}",
        "requestId": f"{source.getrandbits(64):016x}",
        "stage": "prod",
        "note": "",
    }
    event["note"] = "x" * max(0, size - len(json.dumps(event)))
    return json.dumps(event, separators=(",", ":"))


def events_per_cpu_second(size: int, rounds: int) -> dict[str, float]:
    """Median over rounds, and the spread."""
    source, count, rates = random.Random(1), 4_000_000 // size, []
    event = subscription([message(source, size) for _ in range(count)])
    taken = Answer(200, b'{"text":"Success","code":0}')
    forwarder = Forwarder(
        Deliverer(lambda body, token, timeout: taken, HecToken(fixed("token"))),
        stage="bench",
        index="audit",
        record=None,
    )
    for _ in range(rounds + 1):
        start = time.process_time()
        report = forwarder.forward(event, lambda: 900_000)
        rates.append(count / (time.process_time() - start))
        assert report.delivered == count
    del rates[0]  # it warms up
    return {
        "message_bytes": size,
        "events": count,
        "median": round(statistics.median(rates)),
        "least": round(min(rates)),
        "most": round(max(rates)),
    }


def full_payload(kind: str) -> tuple[dict[str, Any], int]:
    """A payload of 1 MB of random ids that hardly shrink, or one that grows to the forwarder's limit; and its events.

    The events of that one are ours, or as small as they can be and all such that Splunk never takes them.
    """
    if kind == KINDS[0]:
        source, count = random.Random(2), PAYLOAD_BYTES // 40
        messages = [message(source, _SIZE) for _ in range(count)]
        while len((event := subscription(messages[:count]))["awslogs"]["data"]) > PAYLOAD_BYTES:
            count = int(count * 0.98)
        return event, count
    few = ["" if kind == KINDS[2] else message(random.Random(n), _SIZE) for n in range(1_000)]
    per_event = len(gzip.decompress(base64.b64decode(subscription(few)["awslogs"]["data"]))) / len(few)
    count = int(MAX_BYTES * 0.999 / per_event)
    return subscription([few[n % 50] for n in range(count)]), count


def peak_memory(kind: str, archive: Built) -> dict[str, Any]:
    """Call a fresh function of our archive with a full payload; its peak in MB of 1,000,000 bytes."""
    event, count = full_payload(kind)
    with tempfile.TemporaryDirectory() as folder, Server(_receive) as receiver:
        environ = {
            "AWS_ENDPOINT_URL": receiver.url,
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "SPLUNK_HEC_URL": receiver.url,
            "SPLUNK_HEC_TOKEN_PARAMETER": "/hec",
            "SPLUNK_FAILURE_BUCKET": "kept",
            "STAGE": "dev",
            "TOKEN_TABLE": "tokens",
            "CLIENT_TABLE": "clients",
        }
        log = Path(folder) / "log"
        with function.opened(
            archive.task,
            build.runtime(),
            "app.forward_logs",
            environ,
            128,
            log=log,
            limited=False,
            python=build.python(),
        ) as forwarder:
            forwarder.init()
            start = forwarder.peak_mb()
            forwarder.call(event)
            return {
                "payload": kind,
                "payload_bytes": len(event["awslogs"]["data"]),
                "events": count,
                "peak_mb": round(forwarder.peak_mb(), 1),
                "start_mb": round(start, 1),
            }


def _receive(handler: Handler) -> None:
    """Answer as Splunk, Parameter Store and S3 to whatever comes."""
    handler.server.received.clear()
    is_parameter = "x-amz-target" in handler.received.headers
    answer(200, {"Parameter": {"Value": "token"}} if is_parameter else {"text": "Success", "code": 0})(handler)


def main() -> None:
    """Measure, write `studies/bench/results/forwarder.json` and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    archive = build.built(SERVICE.archive, build.our_package())
    results = {
        "events_per_cpu_second": [events_per_cpu_second(size, arguments.rounds) for size in (200, 1_000)],
        "peak_memory": [peak_memory(kind, archive) for kind in KINDS],
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
