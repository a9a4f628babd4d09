"""The speed and the memory of the log forwarder: `python -m studies.bench.forwarder`.

Speed: events per second of processor time, from the Lambda event to the gzipped request, at 200 B and 1 kB a message.
The network is left out: an answer costs nothing here.

Memory: a fresh process forwards one payload of 1 MB over HTTP to a receiver in another process, and prints its peak. As
on Lambda, it reads the HEC token from a parameter and stores what Splunk never takes in a bucket; the receiver is both,
so the peak includes the AWS clients.
If possible, the process runs in a control group of 128 MB without swap; otherwise the result names the missing limit.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from chalicelib.splunk.delivery import Deliverer
from chalicelib.splunk.envelope import MAX_BYTES
from chalicelib.splunk.forward import Forwarder
from chalicelib.splunk.record import S3Record
from chalicelib.splunk.secret import HecToken, fixed, from_parameter
from chalicelib.splunk.verdicts import Answer
from dev.engine import ROOT
from studies.bench.box import group

RESULTS: Final = ROOT / "studies" / "bench" / "results" / "forwarder.json"
LIMIT_BYTES: Final = 128 * 1024 * 1024
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


def payload(messages: list[str]) -> dict[str, Any]:
    """The subscription event with these messages."""
    from tests.support.splunk_world import subscription  # noqa: PLC0415 - not in the process whose memory counts

    return subscription(messages)


def events_per_cpu_second(size: int, rounds: int) -> dict[str, float]:
    """Median over rounds, and the spread."""
    source, count, rates = random.Random(1), 4_000_000 // size, []
    event = payload([message(source, size) for _ in range(count)])
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
        while len((event := payload(messages[:count]))["awslogs"]["data"]) > PAYLOAD_BYTES:
            count = int(count * 0.98)
        return event, count
    few = ["" if kind == KINDS[2] else message(random.Random(n), _SIZE) for n in range(1_000)]
    per_event = len(gzip.decompress(base64.b64decode(payload(few)["awslogs"]["data"]))) / len(few)
    count = int(MAX_BYTES * 0.999 / per_event)
    return payload([few[n % 50] for n in range(count)]), count


def peak_memory(kind: str) -> dict[str, Any]:
    """Run a fresh process on a full payload and read its peak."""
    event, count = full_payload(kind)
    limits = group.make("forwarder")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "event.json"
        path.write_text(json.dumps(event))
        try:
            if limits:
                limits.limit_memory(LIMIT_BYTES)
            run = subprocess.run(
                [sys.executable, "-m", "studies.bench.forwarder", "--child", str(path)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                preexec_fn=(lambda: limits.enter(os.getpid())) if limits else None,
                check=False,
            )
        finally:
            if limits:
                limits.remove()
    if run.returncode:
        error = run.stderr.strip().splitlines()[-1:]
        return {"payload": kind, "events": count, "exit_code": run.returncode, "error": error}
    return {
        "payload": kind,
        "payload_bytes": len(event["awslogs"]["data"]),
        "events": count,
        **json.loads(run.stdout),
        "limit": "control group of 128 MB" if limits else "none could be set: peak resident size without a limit",
    }


def child(path: Path) -> None:
    """Forward one payload as a Lambda process would, to a receiver in a process of its own; print the peak."""
    code = "import studies.bench.forwarder as f; f.receive()"
    receiver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        group.leave(receiver.pid)  # its memory is not the forwarder's
        assert receiver.stdout is not None
        url = receiver.stdout.readline().strip()
        from chalicelib.splunk.transport import Transport  # noqa: PLC0415 - as late as the rest of what is measured

        os.environ |= {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "eu-central-1"}
        os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
        deliverer = Deliverer(Transport(url).post, HecToken(from_parameter("/hec")))
        forwarder = Forwarder(deliverer, stage="bench", index="audit", record=S3Record("kept"))
        start = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        report = forwarder.forward(json.loads(path.read_text()), lambda: 900_000)
        assert report.delivered + report.set_aside + report.blank == report.received > 0, report
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        megabytes = {"peak_mb": round(peak / 1e6, 1), "start_mb": round(start / 1e6, 1)}
        print(json.dumps({"set_aside": report.set_aside, **megabytes}))
    finally:
        receiver.terminate()
        receiver.wait()


def receive() -> None:
    """Answer as Splunk, Parameter Store and S3 to whatever comes; prints its URL first."""
    from tests.support.scripted_server import Handler, Server, answer  # noqa: PLC0415 - only in this process

    def move(handler: Handler) -> None:
        handler.server.received.clear()
        is_parameter = "x-amz-target" in handler.received.headers
        body = {"Parameter": {"Value": "token"}} if is_parameter else {"text": "Success", "code": 0}
        answer(200, body)(handler)

    print(Server(move).url, flush=True)


def main() -> None:
    """Measure, write `studies/bench/results/forwarder.json` and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return
    results = {
        "events_per_cpu_second": [events_per_cpu_second(size, arguments.rounds) for size in (200, 1_000)],
        "peak_memory": [peak_memory(kind) for kind in KINDS],
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
