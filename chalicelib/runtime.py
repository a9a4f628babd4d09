"""The composition root: builds what a function needs, once, and only what that function needs."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from chalicelib import __version__
from chalicelib.audit import Audit, configure_logging
from chalicelib.settings import Settings, SettingsError

if TYPE_CHECKING:
    from chalicelib.authorizer import Authorizer
    from chalicelib.service import TokenService
    from chalicelib.splunk.forward import Forwarder


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
    instant = datetime.now(UTC)
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


@cache
def audit() -> Audit:
    return Audit(settings().stage, __version__)


@cache
def token_service() -> TokenService:
    from chalicelib.service import TokenService  # noqa: PLC0415 - the authorizer does without it
    from chalicelib.storage import TokenStore  # noqa: PLC0415

    store = TokenStore(settings().token_table, audit().latency)
    return TokenService(store, audit(), now, settings().tokens_issued_after)


@cache
def authorizer() -> Authorizer:
    from chalicelib.authorizer import Authorizer  # noqa: PLC0415 - the REST handler does without it
    from chalicelib.storage import ClientStore  # noqa: PLC0415

    return Authorizer(ClientStore(settings().client_table, audit().latency), audit(), now)


@cache
def forwarder() -> Forwarder:
    from chalicelib.splunk import forward, record  # noqa: PLC0415 - the REST handler and the authorizer do without

    splunk = settings().splunk
    return forward.forwarder(
        splunk,
        settings().stage,
        record=record.S3Record(splunk.failure_bucket) if splunk.failure_bucket else None,
        metric=audit().metrics,
        own_log_group=os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME"),
    )
