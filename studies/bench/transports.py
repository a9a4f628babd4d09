"""What a call of DynamoDB costs, by what carries it: `python -m studies.bench.transports`.

Each way signs and sends the same GetItem to MiniStack on a connection that is kept, in a fresh process; the ways
alternate. Reported are processor times: of importing and the first call, and of each further call.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

WAYS: Final = ("ours", "http.client", "urllib3", "requests", "botocore")
ROUNDS: Final = 7
CALLS: Final = 40


def main() -> None:
    """Let each way run in its turn, and print the medians."""
    from tests.support.store_engines import MINISTACK, OPEN  # the ways themselves must not load it

    times: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as scratch, OPEN[MINISTACK](Path(scratch)) as engine:
        for number in range(ROUNDS):
            for way in WAYS:
                command = [sys.executable, "-m", "studies.bench.transports", way, engine.token_table]
                environ = {**os.environ, **engine.environ}
                run = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
                times[way].append(tuple(json.loads(run.stdout)))
            print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
    ours = statistics.median(call for _, call in times["ours"])
    print("| carried by | import and first call, CPU ms | a call, CPU µs | ratio |\n|---|---|---|---|")
    for way, figures in times.items():
        first, call = (statistics.median(column) for column in zip(*figures, strict=True))
        print(f"| {way} | {first:.0f} | {call:.0f} | {call / ours:.1f} |")


def measure(way: str, table: str) -> tuple[float, float]:
    """Processor time of importing and the first call (ms), and the median of that of a further one (µs)."""
    began = time.process_time()
    call = _caller(way, {"TableName": table, "Key": {"id": {"S": "tok_none"}}})
    call()
    first = time.process_time() - began
    each = []
    for _ in range(10):
        began = time.process_time()
        for _ in range(CALLS):
            call()
        each.append((time.process_time() - began) / CALLS)
    return first * 1e3, statistics.median(each) * 1e6


def _caller(way: str, request: dict[str, Any]) -> Callable[[], object]:
    if way == "botocore":
        import botocore.session
        from botocore.config import Config

        config = Config(parameter_validation=False)
        client = botocore.session.get_session().create_client("dynamodb", config=config)
        return lambda: client._make_api_call("GetItem", dict(request))
    from chalicelib.aws import gate

    gate.close()
    from chalicelib.aws.dynamodb import DynamoDbClient
    from chalicelib.aws.signing import Credentials, Signer, region_from_environ

    if way == "ours":
        ours = DynamoDbClient.from_environ(os.environ)
        return lambda: ours._make_api_call("GetItem", dict(request))
    signer = Signer(Credentials.from_environ(os.environ), region_from_environ(os.environ), "dynamodb")
    url = os.environ["AWS_ENDPOINT_URL"]
    host = url.partition("//")[2]
    headers = {"content-type": "application/x-amz-json-1.0", "host": host, "x-amz-target": "DynamoDB_20120810.GetItem"}
    send = _sender(way, url, host)

    def call() -> object:
        body = json.dumps(request).encode()
        return json.loads(send(body, signer.sign("POST", "/", headers, body)))

    return call


def _sender(way: str, url: str, host: str) -> Callable[[bytes, dict[str, str]], bytes]:
    if way == "http.client":
        connection = http.client.HTTPConnection(host)

        def send(body: bytes, headers: dict[str, str]) -> bytes:
            connection.request("POST", "/", body, headers)
            return connection.getresponse().read()

        return send
    if way == "urllib3":
        import urllib3

        pool = urllib3.connection_from_url(url)
        return lambda body, headers: pool.request("POST", "/", body=body, headers=headers).data
    import requests

    session = requests.Session()
    return lambda body, headers: session.post(url, data=body, headers=headers).content


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        print(json.dumps(measure(*sys.argv[1:])))
