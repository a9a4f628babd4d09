"""What every function needs: its settings, its log, and a start that leaves nothing for the first request.

The first import of `app.py`: it decides whether PynamoDB gets botocore or our own client, so that no later import
depends on order. In Lambda it also pauses the garbage collector, which would find nothing while modules load.
"""

from __future__ import annotations

import gc
import logging
import os
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Final

from chalicelib import __version__
from chalicelib.audit import Audit, configure_logging
from chalicelib.aws import gate
from chalicelib.aws.errors import NoCredentials
from chalicelib.settings import BOTOCORE, SLIM, Settings, SettingsError, runs_in_lambda

if TYPE_CHECKING:
    from chalicelib.aws.dynamodb import DynamoDbClient

_ENTRIES: Final = {"app.app": "chalicelib.entry.api", "app.basic_auth": "chalicelib.entry.authorizer"}
"""By handler: the module to load and to warm up at the start. Callers wait for these two functions only."""


def serves(handler: str) -> bool:
    """Whether this process serves a handler. In Lambda it serves one, elsewhere all."""
    return os.environ.get("_HANDLER", handler) == handler


@cache
def settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        SystemExit: some are wrong; in one line.
    """
    try:
        return Settings.from_environ(os.environ)
    except SettingsError as error:
        raise SystemExit(f"tokenservice: {error}") from None


@cache
def audit() -> Audit:
    """The log of this process, set up with the first call."""
    configure_logging(settings().stage, __version__, settings().log_level)
    return Audit(settings().stage, __version__)


@cache
def dynamodb() -> DynamoDbClient | None:
    """The client that the stores of this process share; None means that PynamoDB makes one of botocore.

    Raises:
        SystemExit: credentials or a region are missing; in one line.
    """
    if settings().dynamodb_transport == BOTOCORE:
        return None
    from chalicelib.aws.dynamodb import DynamoDbClient  # noqa: PLC0415 - the forwarders do without

    try:
        return DynamoDbClient.from_environ(os.environ)
    except NoCredentials as error:
        raise SystemExit(f"tokenservice: {error}") from None


def _disconnect() -> None:
    """Close the connections of our own client, which would be dead in a function that is restored from a snapshot."""
    ours = dynamodb()
    if ours is not None:
        ours.close()


def start() -> None:
    """Last call of `app.py`: in Lambda, do now what the first request would have to wait for.

    A function has a whole processor until it is ready, and then a share by its memory: 7 % at 128 MB. A failure is
    logged and the start goes on, since a start must not depend on DynamoDB.
    """
    if not runs_in_lambda(os.environ):
        return
    audit()
    entry = _ENTRIES.get(os.environ.get("_HANDLER", ""))
    if entry:
        try:
            import_module(entry).warm_up()
            if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
                _disconnect()
        except Exception as error:  # noqa: BLE001 - the first request meets any error again and reports it
            why = getattr(error, "why", type(error).__name__)
            logging.getLogger("tokenservice").warning("The start could not be warmed up: %s", why)
    gc.freeze()  # no later collection needs to look at what is loaded
    gc.enable()


if runs_in_lambda(os.environ):
    gc.disable()
    if settings().dynamodb_transport == SLIM:
        gate.close()
