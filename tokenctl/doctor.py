"""`tokenctl doctor`: check that a stage has everything that a request needs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial

import click
import requests
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from tokenservice_client import Problem, TokenServiceClient, TokenServiceError

from chalicelib.errors import StoreUnavailable
from chalicelib.http.routes import BASE_PATH
from chalicelib.splunk.errors import Undelivered
from chalicelib.splunk.forward import build_forwarder
from tokenctl import tables
from tokenctl.deployment import DEMO_ENV, LOCAL_ENV, LOCAL_STAGE, Deployment, read_env_file
from tokenctl.errors import DeploymentError, OwnErrors, code
from tokenctl.terminal import Terminal, common, plain

_TIMEOUT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; `advice` says what to do if it failed."""

    what: str
    ok: bool
    seen: str
    advice: str = ""


@click.command("doctor")
@click.option("--url", metavar="URL", help="The service's address, without /tokenservice.")
@common
def doctor(terminal: Terminal, url: str | None) -> None:
    """Check a stage: tables, TTL, recovery, Splunk, service, credentials."""
    findings = list(examine(terminal.deployment(), url.rstrip("/") if url else None))

    def human(console: Console) -> None:
        for finding in findings:
            mark = "[green]ok[/]" if finding.ok else "[red]FAIL[/]"
            advice = "" if finding.ok else f"\n      {finding.advice}"
            console.print(f"{mark:>16}  ", plain(f"{finding.what}: {finding.seen}{advice}"), sep="")

    terminal.show([asdict(finding) for finding in findings], human)
    if not all(finding.ok for finding in findings):
        sys.exit(1)


def examine(deployment: Deployment, url: str | None) -> Iterator[Finding]:
    """Check the tables, the service and the credentials of a stage.

    Args:
        url: the service's address without `BASE_PATH`; None means that of `make run`.
    """
    settings = deployment.settings
    create = f"tokenctl tables create --stage {deployment.stage}"
    for name in (settings.token_table, settings.client_table):
        yield _check(f"table {name}", partial(_table, deployment, name), create)
    yield _check("expired tokens are deleted (TTL)", lambda: _ttl(deployment), create)
    yield _check("point-in-time recovery", lambda: _recovery(deployment), create)
    if settings.index_key_parameter:
        yield _check("index by node", lambda: _index(deployment), "docs/security.md, 'Documents at rest'")
    yield _check("Splunk", lambda: _splunk(deployment), "docs/splunk.md, 'When something is stuck'")
    user, password = _credentials(deployment)
    base = url or (read_env_file(LOCAL_ENV).get("TOKENSERVICE_URL") if deployment.stage == LOCAL_STAGE else None)
    if base is None:
        yield Finding("service", False, "unknown address", "set it with --url")
        return
    yield _check("service", lambda: _service(base), "check that it runs, and --url")
    if not user:
        advice = "set TOKENSERVICE_USER and TOKENSERVICE_PASSWORD"
        yield Finding("credentials", False, "none", advice)
        return
    yield _check(f"credentials of {user}", lambda: _version(base, user, password), "tokenctl client list")


def _check(what: str, at: Callable[[], str], advice: str) -> Finding:
    try:
        return Finding(what, True, at())
    except (DeploymentError, Undelivered) as failed:
        return Finding(what, False, str(failed), advice)
    except ClientError as error:
        return Finding(what, False, code(error) or "refused", advice)
    except BotoCoreError as error:
        return Finding(what, False, str(error), "check region, credentials and AWS_ENDPOINT_URL")
    except requests.RequestException as error:
        return Finding(what, False, f"no response ({type(error).__name__})", advice)


def _table(deployment: Deployment, name: str) -> str:
    table = deployment.aws("dynamodb").describe_table(TableName=name)["Table"]
    if table["TableStatus"] not in ("ACTIVE", "UPDATING"):
        raise DeploymentError(table["TableStatus"].lower())
    return f"{table['TableStatus'].lower()}, about {table.get('ItemCount', 0)} items"


def _ttl(deployment: Deployment) -> str:
    if not tables.ttl_is_on(deployment.aws("dynamodb"), deployment.settings.token_table):
        raise DeploymentError("off")
    return f"on, by {tables.TTL_ATTRIBUTE}"


def _recovery(deployment: Deployment) -> str:
    for name in (deployment.settings.token_table, deployment.settings.client_table):
        if not tables.recovery_is_on(deployment.aws("dynamodb"), name):
            raise DeploymentError(f"off for {name}")
    return "on"


def _index(deployment: Deployment) -> str:
    try:
        return f"keyed; secrets in the parameter: {len(deployment.index_secrets())}"
    except StoreUnavailable:
        raise DeploymentError(f"{deployment.settings.index_key_parameter} holds no secret that can be read") from None


def _splunk(deployment: Deployment) -> str:
    deployment = deployment.with_deployed_splunk()
    splunk = deployment.settings.splunk
    if not splunk.hec_url:
        return "none: SPLUNK_HEC_URL is not set"
    ssm = OwnErrors(deployment.aws("ssm")) if splunk.hec_token_parameter else None
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    build_forwarder(splunk, deployment.stage, ssm=ssm).probe(lambda: max(0.0, deadline - time.monotonic()))
    return "responds, and accepts the token"


def _service(base: str) -> str:
    answer = requests.get(f"{base}{BASE_PATH}/version", timeout=_TIMEOUT_SECONDS)
    if answer.status_code not in (401, 403):
        raise DeploymentError(f"responds with {answer.status_code} to a call without credentials, not 401")
    return "responds, and requires credentials"


def _version(base: str, user: str, password: str) -> str:
    try:
        with TokenServiceClient(base, user, password, timeout_seconds=_TIMEOUT_SECONDS, patience_seconds=0) as client:
            version = client.version()
    except ValueError as error:
        raise DeploymentError(f"not sent: {error}") from None
    except Problem as error:
        raise DeploymentError(f"rejected with {error.status}") from None
    except TokenServiceError as error:
        raise DeploymentError(str(error)) from None
    return f"valid; version {version.version}, commit {version.commit}, stage {version.stage}"


def _credentials(deployment: Deployment) -> tuple[str, str]:
    known = {**(read_env_file(DEMO_ENV) if deployment.stage == LOCAL_STAGE else {}), **os.environ}
    return known.get("TOKENSERVICE_USER", ""), known.get("TOKENSERVICE_PASSWORD", "")
