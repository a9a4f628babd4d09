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
import requests
from botocore.exceptions import BotoCoreError, ClientError

ROOT = Path(__file__).resolve().parents[2]
BASE_PATH = "/tokenservice/services/api"
NODE = "00000000-0000-4000-8000-736d6f6b6521"  # nobody's document
_TIMEOUT_SECONDS = 30


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


class Walk:
    """The calls of one client."""

    def __init__(self, url: str, name: str, secret: str) -> None:
        self._base = url.rstrip("/") + BASE_PATH
        self._session = requests.Session()
        self._session.auth = (name, secret)

    def step(self, what: str, method: str, path: str, status: int, *, body: Any = None, code: str | None = None) -> Any:
        """Call, and look at status and code of the answer; gives its JSON.

        Raises:
            SmokeError: it is not as it should be.
        """
        try:
            answer = self._session.request(method, self._base + path, json=body, timeout=_TIMEOUT_SECONDS)
        except requests.RequestException as error:
            raise SmokeError(f"{what}: no answer ({type(error).__name__})") from None
        try:
            parsed = answer.json() if answer.content else {}
        except requests.JSONDecodeError:
            parsed = {}
        seen = (answer.status_code, parsed.get("code"))
        if seen != (status, code):
            raise SmokeError(f"{what}: {seen[0]} {seen[1] or ''}, wanted: {status} {code or ''}")
        print(f"ok  {what}: {status} {code or ''}".rstrip(), flush=True)
        return parsed

    def go(self, stage: str) -> None:
        """The whole way."""
        version = self.step("version", "GET", "/version", 200)
        if version["stage"] != stage:
            raise SmokeError(f"version: stage {version['stage']}, wanted: {stage}")
        document = self.step("document", "GET", "/openapi.json", 200)
        if document["info"]["version"] != version["version"]:
            raise SmokeError("document: of another version than the service")
        issued = self.step("issue", "POST", "/token", 201, body={"nodeId": NODE})
        used = self.step("use", "POST", "/use", 200, body={"token": issued["token"]})
        if used["nodeId"] != NODE:
            raise SmokeError("use: another node than the token was issued for")
        self.step("use again", "POST", "/use", 410, body={"token": issued["token"]}, code="token_exhausted")
        other = self.step("issue another", "POST", "/token", 201, body={"nodeId": NODE})
        self.step("revoke", "DELETE", f"/token/{other['tokenId']}", 204)
        self.step("use of the revoked", "POST", "/use", 410, body={"token": other["token"]}, code="token_revoked")


def smoke(stage: str, find_url: Callable[[], str]) -> None:
    """Go the way with a client that is there for this alone."""
    url = find_url()
    name = f"smoke-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    scopes = [option for scope in ("issue", "use", "manage") for option in ("--scope", scope)]
    secret = tokenctl(stage, "client", "add", name, *scopes)["secret"]
    try:
        Walk(url, name, secret).go(stage)
        # Another secret than the one that the gateway may have an answer for.
        Walk(url, name, secret[:-1]).step("wrong secret", "GET", "/version", 401, code="unauthorized")
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
    except (SmokeError, BotoCoreError) as error:
        for failure in (error.__context__, error):  # a step's, where the client could not be deleted after it
            if isinstance(failure, SmokeError | BotoCoreError):
                print(f"FAILED  {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a build that is stopped deletes its client, too
    sys.exit(main())
