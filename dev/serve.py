"""Starts the local store and the service, watches both, and stops them in order."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Final, NoReturn

from botocore.exceptions import BotoCoreError, ClientError
from pynamodb.exceptions import PynamoDBException

from chalicelib import clients
from chalicelib.clients import AuthRefusal, Client, Scope
from chalicelib.errors import ServiceError
from chalicelib.http import problems
from chalicelib.http.routes import BASE_PATH
from chalicelib.instants import now
from chalicelib.settings import Settings, SettingsError
from chalicelib.splunk.errors import SplunkError
from dev import leash, preflight
from dev.engine import HOST, ROOT, Engine, EngineError, status_of
from dev.output import LogFile, hand_on, show
from dev.preflight import StartError
from dev.shipping import Shipping
from tokenctl import tables
from tokenctl.deployment import (
    DEMO_ENV,
    LOCAL_ENV,
    LOCAL_LOG,
    LOCAL_STAGE,
    Deployment,
    leave_aws,
    open_stage,
    read_env_file,
    stage_environ,
)
from tokenctl.errors import DeploymentError, cause

STATE: Final = ROOT / ".local"
DEMO_CLIENT: Final = "demo"
_ENGINE_LOG: Final = STATE / "engine.log"
EXAMPLE_NODE: Final = "f2f42052-6e24-4c54-bc15-1e0bb6dce9f7"

_READY_WITHIN_SECONDS: Final = 60
_STOPPED_WITHIN_SECONDS: Final = 20
_LOOK_EVERY_SECONDS: Final = 0.2
# Someone may have rotated the demo client's secret by hand and use the new one.
_DEMO_OVERLAP: Final = timedelta(days=1)
_ENGINE_WELCOME: Final = f"""
Ready: the tables of the stage {LOCAL_STAGE}. Serve them from another terminal in this directory:
  pip install chalice
  pip install -r requirements.txt
  chalice local

Ctrl-C stops the engine; tokens and clients are kept.
"""


def main(*, engine_alone: bool = False, then: Callable[[ExitStack, str], object] | None = None) -> int:
    """Serve until SIGINT, SIGTERM or SIGHUP; returns the exit code.

    Args:
        engine_alone: start the store without the service, for `chalice local` to serve.
        then: called once the service is ready, with the stack that is closed at the end and the service's address.
    """
    os.umask(0o077)  # this process and its children write files that name documents
    try:
        leash.run_until_stopped(lambda started: _serve(started, engine_alone, then or _welcome))
    except (StartError, EngineError, DeploymentError, SettingsError, SplunkError, ServiceError, OSError) as error:
        message = problems.detail(error) if isinstance(error, ServiceError) else str(error)
        print(f"tokenservice: {' '.join(message.split())}", file=sys.stderr)
        return error.exit_code if isinstance(error, StartError) else 1
    return 0


def prepare_store(deployment: Deployment) -> None:
    """Create the tables and the demo client if missing.

    `.local/demo.env` and the store must agree. If one of them lost the secret, the client gets a new one. A client of
    an earlier version gets the new scopes.
    """
    tables.create(deployment)
    store = deployment.client_store()
    known = store.find(DEMO_CLIENT)
    if known is not None and known.scopes != frozenset(Scope):
        store.change(DEMO_CLIENT, lambda client: client._replace(scopes=frozenset(Scope)))
    if known is not None and clients.auth_refusal(known, _demo_secret(), now()) in (None, AuthRefusal.DISABLED):
        DEMO_ENV.chmod(0o600)
        return
    secret, digest = clients.new_secret(now())
    if known is None:
        store.add(Client(DEMO_CLIENT, frozenset(Scope), (digest,), now()))
    else:
        store.change(DEMO_CLIENT, lambda client: clients.rotated(client, digest, now(), _DEMO_OVERLAP))
    _write_private(DEMO_ENV, {"TOKENSERVICE_USER": DEMO_CLIENT, "TOKENSERVICE_PASSWORD": secret})


def _serve(started: ExitStack, engine_alone: bool, then: Callable[[ExitStack, str], object]) -> NoReturn:
    parent = os.getppid()  # now: after the ready line it may end at any moment
    port = preflight.port_of(os.environ.get("PORT", ""))
    STATE.mkdir(exist_ok=True)
    STATE.chmod(0o700)  # an earlier run may have created it
    started.enter_context(_alone(port))
    if not engine_alone:
        preflight.check_port(port)
    leave_aws()
    settings = Settings.from_environ({**os.environ, **stage_environ(LOCAL_STAGE)})

    engine = started.enter_context(Engine(state_dir=STATE / "engine", log=_ENGINE_LOG))
    os.environ.update(engine.client_environ)
    url = f"http://{HOST}:{port}"
    _write_private(LOCAL_ENV, {**engine.client_environ, "TOKENSERVICE_URL": url})
    started.callback(LOCAL_ENV.unlink, missing_ok=True)
    try:
        prepare_store(open_stage(LOCAL_STAGE))
    except (PynamoDBException, BotoCoreError, ClientError) as error:
        raise StartError(f"the local store failed: {cause(error)}; see {_ENGINE_LOG.relative_to(ROOT)}") from error

    service = None
    if engine_alone:
        print(_ENGINE_WELCOME, flush=True)
    else:
        service = started.enter_context(_service(port, settings))
        _wait_until_ready(service, port)
        then(started, url)
    _watch(service, engine, parent)


@contextmanager
def _alone(port: int) -> Iterator[None]:
    """One run at a time in a checkout."""
    with preflight.LOCK.open("a+") as lock:
        preflight.take_lock(lock.fileno())
        lock.truncate(0)
        lock.write(f"process {os.getpid()}, port {port}\n")
        lock.flush()
        yield


def _demo_secret() -> str:
    try:
        demo = read_env_file(DEMO_ENV)
    except UnicodeDecodeError:
        return ""
    return demo.get("TOKENSERVICE_PASSWORD", "") if demo.get("TOKENSERVICE_USER") == DEMO_CLIENT else ""


def _write_private(path: Path, variables: dict[str, str]) -> None:
    """Write `NAME=value` lines that nobody else can read, all or none of them."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in variables.items())
    draft.replace(path)


@contextmanager
def _service(port: int, settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """`chalice local`. If a Splunk is set, its log lines go there as well."""
    command = [sys.executable, "-m", "dev.gateway", "--stage", LOCAL_STAGE, "--no-autoreload"]
    takers = [show, LogFile(LOCAL_LOG).write]
    with ExitStack() as ending:
        if settings.splunk.hec_url:
            shipping = Shipping(settings)
            ending.callback(shipping.finish)
            takers.append(shipping.put)
        with leash.uninterrupted():
            process = subprocess.Popen(
                [*command, "--host", HOST, "--port", str(port)],
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            assert process.stdout is not None  # noqa: S101 - a pipe, see above
            ending.callback(hand_on(process.stdout, takers).join)
            ending.callback(leash.stop, process, _STOPPED_WITHIN_SECONDS)
        yield process


def _wait_until_ready(service: subprocess.Popen[bytes], port: int) -> None:
    """Get the version as the demo client: that takes the whole way, down to the store."""
    credentials = base64.b64encode(f"{DEMO_CLIENT}:{_demo_secret()}".encode()).decode()

    def is_ready() -> bool:
        status = status_of(port, "GET", f"{BASE_PATH}/version", headers={"Authorization": f"Basic {credentials}"})
        # 503: the store was slow, as on a busy machine.
        if HTTPStatus.INTERNAL_SERVER_ERROR <= status != HTTPStatus.SERVICE_UNAVAILABLE:
            raise StartError(f"the service answers {status}")
        return 0 < status < HTTPStatus.INTERNAL_SERVER_ERROR

    if why := leash.why_not_ready(service, is_ready, _READY_WITHIN_SECONDS):
        raise StartError(f"the service {why}")


def _welcome(_: ExitStack, url: str) -> None:
    base = f"{url}{BASE_PATH}"
    welcome = f"""
Ready: {base}

Issue a token, from another terminal in this directory:
  set -a; source {DEMO_ENV.relative_to(ROOT)}; set +a
  curl -u "$TOKENSERVICE_USER:$TOKENSERVICE_PASSWORD" -H 'Content-Type: application/json' \\
    -d '{{"nodeId": "{EXAMPLE_NODE}"}}' {base}/token; echo

Ctrl-C stops it; tokens and clients are kept.
"""
    print(welcome, flush=True)


def _watch(service: subprocess.Popen[bytes] | None, engine: Engine, parent: int) -> NoReturn:
    while True:
        time.sleep(_LOOK_EVERY_SECONDS)
        if service is not None and service.poll() is not None:
            raise StartError(f"the service ended by itself with code {service.returncode}")
        if not engine.is_running:
            raise StartError(f"the local store ended by itself; see {_ENGINE_LOG.relative_to(ROOT)}")
        leash.check_parent(parent)
