"""Look a stage over: is everything there that a request needs?"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import requests
from botocore.exceptions import BotoCoreError, ClientError
from tokenservice_client import Problem, TokenServiceClient, TokenServiceError

from chalicelib.http.routes import BASE_PATH
from chalicelib.splunk.errors import Undelivered
from chalicelib.splunk.forward import forwarder
from tokenctl import tables
from tokenctl.deployment import DEMO_ENV, LOCAL_ENV, LOCAL_STAGE, Deployment, DeploymentError, read_env_file
from tokenctl.trouble import OwnErrors

_TIMEOUT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `advice` says what to do where it is not well."""

    what: str
    well: bool
    seen: str
    advice: str = ""


class _Unwell(Exception):
    """What was looked at is not well: what was seen, and what to do about it."""


def examine(deployment: Deployment, url: str | None) -> Iterator[Finding]:
    """Look at the tables, the service and the credentials of a stage.

    Args:
        url: where the service answers, up to and without `BASE_PATH`; None: where `make run` serves.
    """
    settings = deployment.settings
    create = f"tokenctl tables create --stage {deployment.stage}"
    for name in (settings.token_table, settings.client_table):
        yield _look(f"table {name}", partial(_table, deployment, name), create)
    yield _look("expired tokens are deleted (TTL)", lambda: _ttl(deployment), create)
    yield _look("point-in-time recovery", lambda: _recovery(deployment), create)
    yield from _splunk(deployment)
    user, password = _credentials(deployment)
    base = url or (read_env_file(LOCAL_ENV).get("TOKENSERVICE_URL") if deployment.stage == LOCAL_STAGE else None)
    if base is None:
        yield Finding("service", False, "its address is not known", "give it with --url")
        return
    yield _look("service", lambda: _service(base), "is it started, and is --url right?")
    if not user:
        advice = "set TOKENSERVICE_USER and TOKENSERVICE_PASSWORD"
        yield Finding("credentials", False, "none to try", advice)
        return
    yield _look(f"credentials of {user}", lambda: _version(base, user, password), "tokenctl client list")


def _look(what: str, at: Callable[[], str], advice: str) -> Finding:
    try:
        return Finding(what, True, at())
    except _Unwell as unwell:
        return Finding(what, False, str(unwell), advice)
    except ClientError as error:
        return Finding(what, False, error.response.get("Error", {}).get("Code", "refused"), advice)
    except BotoCoreError as error:
        return Finding(what, False, str(error), "are region, credentials and AWS_ENDPOINT_URL right?")
    except requests.RequestException as error:
        return Finding(what, False, f"no answer ({type(error).__name__})", advice)


def _table(deployment: Deployment, name: str) -> str:
    table = deployment.aws("dynamodb").describe_table(TableName=name)["Table"]
    if table["TableStatus"] not in ("ACTIVE", "UPDATING"):
        raise _Unwell(table["TableStatus"].lower())
    return f"{table['TableStatus'].lower()}, about {table.get('ItemCount', 0)} items"


def _ttl(deployment: Deployment) -> str:
    if not tables.ttl_is_on(deployment.aws("dynamodb"), deployment.settings.token_table):
        raise _Unwell("off")
    return f"on, by {tables.TTL_ATTRIBUTE}"


def _recovery(deployment: Deployment) -> str:
    for name in (deployment.settings.token_table, deployment.settings.client_table):
        if not tables.recovery_is_on(deployment.aws("dynamodb"), name):
            raise _Unwell(f"off for {name}")
    return "on"


def _splunk(deployment: Deployment) -> Iterator[Finding]:
    """Only where the stage has a Splunk: does it answer, and does it know the token?"""
    advice = "docs/splunk.md, 'When something is stuck'"
    try:
        deployment = deployment.with_deployed_splunk()
        splunk = deployment.settings.splunk
        if not splunk.hec_url:
            return
        ssm = OwnErrors(deployment.aws("ssm")) if splunk.hec_token_parameter else None
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        forwarder(splunk, deployment.stage, ssm=ssm).probe(lambda: max(0.0, deadline - time.monotonic()))
        yield Finding("Splunk", True, "answers, and takes the token")
    except (DeploymentError, Undelivered) as error:
        yield Finding("Splunk", False, str(error), advice)


def _service(base: str) -> str:
    answer = requests.get(f"{base}{BASE_PATH}/version", timeout=_TIMEOUT_SECONDS)
    if answer.status_code not in (401, 403):
        raise _Unwell(f"answers {answer.status_code} to a call without credentials, not 401")
    return "answers, and asks for credentials"


def _version(base: str, user: str, password: str) -> str:
    try:
        with TokenServiceClient(base, user, password, timeout_seconds=_TIMEOUT_SECONDS, patience_seconds=0) as client:
            told = client.version()
    except ValueError as error:
        raise _Unwell(f"not tried: {error}") from None
    except Problem as error:
        raise _Unwell(f"refused with {error.status}") from None
    except TokenServiceError as error:
        raise _Unwell(str(error)) from None
    return f"good; version {told.version}, commit {told.commit}, stage {told.stage}"


def _credentials(deployment: Deployment) -> tuple[str, str]:
    found = dict(read_env_file(DEMO_ENV)) if deployment.stage == LOCAL_STAGE else {}
    found.update(
        {name: os.environ[name] for name in ("TOKENSERVICE_USER", "TOKENSERVICE_PASSWORD") if name in os.environ}
    )
    return found.get("TOKENSERVICE_USER", ""), found.get("TOKENSERVICE_PASSWORD", "")
