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
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chalicelib.splunk.delivery import Deliverer
from chalicelib.splunk.envelope import MAX_BYTES
from chalicelib.splunk.forward import Forwarder
from chalicelib.splunk.hec import Answer
from chalicelib.splunk.record import FailureRecord, S3Record
from chalicelib.splunk.secret import Secret, fixed, from_parameter
from studies.bench.box import group

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "studies" / "bench" / "results" / "forwarder.json"
LIMIT_BYTES = 128 * 1024 * 1024
PAYLOAD_BYTES = 1_000_000  # Lambda's limit for an asynchronous invocation is 1 MB


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
    content = {
        "messageType": "DATA_MESSAGE",
        "owner": "123456789012",
        "logGroup": "/aws/lambda/tokenservice-prod",
        "logStream": "2026/11/21/[$LATEST]0123456789abcdef",
        "subscriptionFilters": ["splunk"],
        "logEvents": [
            {"id": f"{37_000_000_000_000_000 + n:056d}", "timestamp": 1_795_233_906_789 + n, "message": text}
            for n, text in enumerate(messages)
        ],
    }
    packed = zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 6, wbits=31)
    return {"awslogs": {"data": base64.b64encode(packed).decode()}}


def forwarder(
    post: Callable[[bytes, str, float], Answer],
    secret: Secret,
    record: FailureRecord | None = None,
) -> Forwarder:
    """A forwarder in front of `post`."""
    return Forwarder(Deliverer(post, secret), stage="bench", index="audit", record=record)


def events_per_cpu_second(size: int, rounds: int) -> dict[str, float]:
    """Median over rounds, and the spread."""
    source = random.Random(1)
    count = 4_000_000 // size
    event = payload([message(source, size) for _ in range(count)])
    forward = forwarder(
        lambda body, token, timeout: Answer(200, b'{"text":"Success","code":0}'), Secret(fixed("token"))
    )
    rates = []
    for number in range(rounds + 1):
        start = time.process_time()
        report = forward.forward(event, lambda: 900_000)
        seconds = time.process_time() - start
        assert report.delivered == count
        if number:  # the first warms up
            rates.append(count / seconds)
        progress(f"{size} B: round {number}/{rounds}")
    return {
        "message_bytes": size,
        "events": count,
        "median": round(statistics.median(rates)),
        "least": round(min(rates)),
        "most": round(max(rates)),
    }


def full_payload(kind: str) -> tuple[dict[str, Any], int]:
    """A payload of 1 MB: of random ids that hardly shrink, or one that grows to the forwarder's limit.

    The events of that one are ours, or as small as they can be and all such that Splunk never takes them.
    """
    source = random.Random(2)
    size = 200
    if kind == "audit events":
        per_event = 62.0  # a first guess at the gzipped bytes of one event
        while True:
            count = int(PAYLOAD_BYTES * 0.75 / per_event)
            event = payload([message(source, size) for _ in range(count)])
            length = len(event["awslogs"]["data"])
            if 0.97 * PAYLOAD_BYTES < length <= PAYLOAD_BYTES:
                return event, count
            per_event *= length / PAYLOAD_BYTES * 1.01
    few = ["" if kind == BLANK else message(random.Random(n), size) for n in range(1_000)]
    per_event = len(gzip.decompress(base64.b64decode(payload(few)["awslogs"]["data"]))) / len(few)
    count = int(MAX_BYTES * 0.999 / per_event)
    return payload([few[n % 50] for n in range(count)]), count


BLANK = "as many blank events as there can be"


def peak_memory(kind: str) -> dict[str, Any]:
    """Run a fresh process on a full payload and read its peak."""
    event, count = full_payload(kind)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "event.json"
        path.write_text(json.dumps(event))
        limits = group.make("forwarder")
        if limits:
            limits.limit_memory(LIMIT_BYTES)
        try:
            command = [sys.executable, "-m", "studies.bench.forwarder", "--child", str(path)]
            run = subprocess.run(
                command,
                cwd=ROOT,
                capture_output=True,
                text=True,
                preexec_fn=(lambda: limits.enter(os.getpid())) if limits else None,
                check=False,
            )
            if run.returncode:
                error = run.stderr.strip().splitlines()[-1:]
                return {"payload": kind, "events": count, "exit_code": run.returncode, "error": error}
            result = json.loads(run.stdout)
        finally:
            if limits:
                limits.remove()
    limited = "control group of 128 MB"
    limit = limited if result["limited"] else "none could be set: peak resident size without a limit"
    return {
        "payload": kind,
        "payload_bytes": len(event["awslogs"]["data"]),
        "events": count,
        "set_aside": result["set_aside"],
        "peak_mb": round(result["peak"] / 1e6, 1),
        "start_mb": round(result["start"] / 1e6, 1),
        "limit": limit,
    }


def child(path: Path) -> None:
    """Forward one payload as a Lambda process would, to a receiver in a process of its own; print the peak."""
    code = "import studies.bench.forwarder as f; f.receive()"
    receiver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        group.leave(receiver.pid)  # its memory is not the forwarder's
        assert receiver.stdout is not None
        port = receiver.stdout.readline().strip()
        from chalicelib.splunk.transport import Transport  # noqa: PLC0415 - as late as the rest of what is measured

        address = f"http://127.0.0.1:{port}"
        os.environ |= {"AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": "eu-central-1"}
        os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
        made = forwarder(Transport(address).post, Secret(from_parameter("/hec")), S3Record("kept"))
        start = _resident_bytes()
        report = made.forward(json.loads(path.read_text()), lambda: 900_000)
        assert report.delivered + report.set_aside + report.blank == report.received > 0, report
        limited = "/forwarder-" in Path("/proc/self/cgroup").read_text()
        print(
            json.dumps(
                {
                    "limited": limited,
                    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                    "start": start,
                    "set_aside": report.set_aside,
                }
            )
        )
    finally:
        receiver.terminate()
        receiver.wait()


def receive() -> None:
    """Answer "Success" to whatever comes, as Splunk, Parameter Store and S3; prints its free loopback port first."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # noqa: PLC0415 - only in this process

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            if "X-Amz-Target" in self.headers:
                self.answer(b'{"Parameter":{"Value":"token"}}')
            else:
                self.answer(b'{"text":"Success","code":0}')

        def do_PUT(self) -> None:
            self.answer(b"")

        def answer(self, body: bytes) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def progress(text: str) -> None:
    """Tell on a terminal what is being measured."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def main() -> None:
    """Measure, write `studies/bench/results/forwarder.json` and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return
    results: dict[str, Any] = {
        "events_per_cpu_second": [events_per_cpu_second(size, arguments.rounds) for size in (200, 1_000)],
        "peak_memory": [],
    }
    for kind in ("audit events", "the largest input that is taken", BLANK):
        progress(f"memory: {kind}")
        results["peak_memory"].append(peak_memory(kind))
    progress("")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
