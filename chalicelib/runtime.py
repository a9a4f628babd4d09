"""The composition root: builds what a function needs, once, and only what that function needs."""

from __future__ import annotations

import gc
import logging
import os
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from chalicelib import __version__, instants
from chalicelib.audit import Audit, configure_logging
from chalicelib.settings import BOTOCORE, Settings, SettingsError, runs_in_lambda

if TYPE_CHECKING:
    from chalicelib.authorizer import Authorizer
    from chalicelib.aws.dynamodb import DynamoDbClient
    from chalicelib.service import TokenService
    from chalicelib.splunk.forward import Forwarder
    from chalicelib.splunk.redrive import ScheduledRedrive
    from chalicelib.storage.client_store import ClientStore
    from chalicelib.storage.token_store import TokenStore


def runs(handler: str) -> bool:
    """Whether this process serves that entry point. Lambda names the one it runs; elsewhere one process has all."""
    return os.environ.get("_HANDLER", handler) == handler


@cache
def settings() -> Settings:
    """The settings of this process, read once; ends the process with one line where they are wrong."""
    try:
        found = Settings.from_environ(os.environ)
    except SettingsError as error:
        raise SystemExit(f"tokenservice: {error}") from None
    configure_logging(found.stage, __version__, found.log_level)
    return found


def now() -> datetime:
    """The current instant, to the millisecond."""
    return instants.cut(datetime.now(UTC))


@cache
def audit() -> Audit:
    return Audit(settings().stage, __version__)


@cache
def dynamodb_client() -> DynamoDbClient | None:
    """What the stores call DynamoDB with; None: botocore."""
    if settings().dynamodb_transport == BOTOCORE:
        return None
    _do_without_botocore()
    from chalicelib.aws.dynamodb import DynamoDbClient  # the forwarders do without it
    from chalicelib.aws.signing import NoCredentials

    try:
        return DynamoDbClient.from_environ(os.environ)
    except NoCredentials as error:
        raise SystemExit(f"tokenservice: {error}") from None


def _do_without_botocore() -> None:
    """Elsewhere than in Lambda, where the real one is installed, nothing stands in for it."""
    if runs_in_lambda(os.environ):
        from chalicelib.aws import botocore_names  # the same

        botocore_names.install()


@cache
def token_store() -> TokenStore:
    client = dynamodb_client()  # before PynamoDB is loaded, which asks for botocore or what stands in for it
    from chalicelib.storage.token_store import TokenStore  # the authorizer does without it

    return TokenStore(settings().token_table, audit().latency, client)


@cache
def client_store() -> ClientStore:
    client = dynamodb_client()  # the same
    from chalicelib.storage.client_store import ClientStore  # the REST handler does without it

    return ClientStore(settings().client_table, audit().latency, client)


@cache
def token_service() -> TokenService:
    from chalicelib.service import TokenService  # the authorizer does without it

    return TokenService(token_store(), audit(), now, settings().tokens_issued_after)


@cache
def authorizer() -> Authorizer:
    from chalicelib.authorizer import Authorizer  # the REST handler does without it

    return Authorizer(client_store(), audit(), now)


def warm_up() -> None:
    """Do what the first request would have to wait for, while the function starts.

    Lambda gives a function a whole processor until it is ready, and then a share by its memory: 7 % at 128 MB. A
    failure is told and the start goes on, since a start must not depend on how DynamoDB is.
    """
    if not runs_in_lambda(os.environ):
        return
    try:
        if runs("app.app"):
            token_service()
            token_store().warm_up()
        if runs("app.basic_auth"):
            authorizer()
            client_store().warm_up()
    except Exception as error:  # noqa: BLE001 - whatever it is, the first request meets it again and says so
        logging.getLogger("tokenservice").warning("The start could not be warmed up: %s", type(error).__name__)
    gc.collect()
    gc.freeze()  # what is loaded stays; no later collection needs to look at it


@cache
def forwarder() -> Forwarder:
    _do_without_botocore()
    from chalicelib.splunk import forward, record  # the REST handler and the authorizer do without

    splunk = settings().splunk
    return forward.forwarder(
        splunk,
        settings().stage,
        record=record.S3Record(splunk.failure_bucket) if splunk.failure_bucket else None,
        metric=audit().metrics,
        own_log_group=os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME"),
    )


@cache
def redriver() -> ScheduledRedrive:
    _do_without_botocore()
    from chalicelib.aws.services import READ_ENTRIES, S3  # the other functions do without
    from chalicelib.splunk import forward, record, redrive, waiting

    splunk = settings().splunk
    source = kept = None
    if splunk.hec_url and splunk.failure_bucket:
        s3 = S3.from_environ(os.environ, READ_ENTRIES)
        source, kept = waiting.BucketSource(s3, splunk.failure_bucket), record.S3Record(splunk.failure_bucket, s3)
    # Without a log group of its own: what this function logs is forwarded, so it may wait here like all else.
    replay = forward.forwarder(splunk, settings().stage, record=kept, metric=audit().metrics)
    return redrive.ScheduledRedrive(source, replay, audit().metrics)
