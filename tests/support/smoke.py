"""One client's way through a stage that is deployed: `python -m tests.support.smoke --stage dev [--url URL]`.

The pipeline runs it between dev and prod. It adds a client of its own, issues a token, uses it up, revokes another,
and deletes the client again, whatever happened. Every step is a line; the first that goes wrong ends it with exit
code 1. Neither the secret nor a token is ever printed.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from tokenservice_client import Refused, TokenServiceClient, TokenServiceError, Unauthorized

ROOT = Path(__file__).resolve().parents[2]
NODE = "00000000-0000-4000-8000-736d6f6b6521"  # nobody's document


class SmokeError(Exception):
    """A step went wrong; the message is one line."""


def endpoint(stage: str, cloudformation: Any) -> str:
    """Where a stage answers, from the outputs of its stack."""
    try:
        [stack] = cloudformation.describe_stacks(StackName=f"tokenservice-{stage}")["Stacks"]
    except (BotoCoreError, ClientError) as error:
        raise SmokeError(f"stack tokenservice-{stage}: {error}") from None
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
    if "EndpointURL" not in outputs:
        raise SmokeError(f"stack tokenservice-{stage} ({stack['StackStatus']}) has no output EndpointURL")
    return str(outputs["EndpointURL"])


def tokenctl(stage: str, *arguments: str) -> Any:
    """Run the operator's command and read its JSON."""
    command = [sys.executable, "-m", "tokenctl", *arguments, "--stage", stage, "--json"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if said.returncode:
        raise SmokeError(f"tokenctl {' '.join(arguments[:2])}: {said.stderr.strip()}")
    return json.loads(said.stdout)


def check(step: str, seen: object, wanted: object) -> None:
    """Print a step that went well.

    Raises:
        SmokeError: it did not.
    """
    if seen != wanted:
        raise SmokeError(f"{step}: {seen}, wanted: {wanted}")
    print(f"ok  {step}", flush=True)


def code_of(call: Callable[[], object]) -> str:
    """The code of a refusal."""
    try:
        return f"no refusal, but {type(call()).__name__}"
    except (Refused, Unauthorized) as refused:
        return refused.code


def walk(client: TokenServiceClient, stage: str) -> None:
    check("version", client.version().stage, stage)
    issued, other = client.issue(NODE), client.issue(NODE)
    check("use", client.use(issued.token).node_id, NODE)
    check("use again", code_of(lambda: client.use(issued.token)), "token_exhausted")
    client.revoke(other.token_id)
    check("use of the revoked", code_of(lambda: client.use(other.token)), "token_revoked")


def smoke(stage: str, find_url: Callable[[], str]) -> None:
    """Go the way with a client that is there for this alone."""
    url = find_url()
    name = f"smoke-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    scopes = [option for scope in ("issue", "use", "manage") for option in ("--scope", scope)]
    secret = tokenctl(stage, "client", "add", name, *scopes)["secret"]
    try:
        with TokenServiceClient(url, name, secret, patience_seconds=0) as client:
            walk(client, stage)
        # Another secret than the one that the gateway may have an answer for.
        with TokenServiceClient(url, name, secret[:-1], patience_seconds=0) as client:
            check("wrong secret", code_of(client.version), "unauthorized")
    finally:
        tokenctl(stage, "client", "delete", name, "--yes")
        print(f"ok  client {name} deleted")


def main() -> int:
    parser = argparse.ArgumentParser(prog="smoke", description="One client's way through a stage that is deployed.")
    parser.add_argument("--stage", required=True)
    parser.add_argument("--url", help="where it answers, without /tokenservice; else what its stack says")
    given = parser.parse_args()
    try:
        smoke(given.stage, lambda: given.url or endpoint(given.stage, boto3.client("cloudformation")))
    except (SmokeError, TokenServiceError, BotoCoreError) as error:
        for failure in (error.__context__, error):  # a step's, where the client could not be deleted after it
            if isinstance(failure, SmokeError | TokenServiceError | BotoCoreError):
                print(f"FAILED  {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a build that is stopped deletes its client, too
    sys.exit(main())
