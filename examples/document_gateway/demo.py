"""`python -m examples.document_gateway.demo`: the service, a server like Alfresco, the gateway, and a link to click.

It runs in a checkout after `make setup`. Where `make run` is at work there already, that service is used. Ctrl-C or
SIGTERM ends all that was started.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, NoReturn

from tokenservice_client import TokenServiceClient, TokenServiceError

from dev import leash, preflight
from dev.engine import ROOT, free_port, is_free
from examples.document_gateway import log
from examples.document_gateway.__main__ import Server
from examples.document_gateway.content_server import HOST, REPORT, ContentServer
from examples.document_gateway.settings import Settings
from tokenctl.deployment import DEMO_ENV, LOCAL_ENV, read_env_file

_GATEWAY_ABOVE_SERVICE: Final = 80
"""How far the gateway's port lies above the service's: 8080 and 8000."""
LINK_MINUTES: Final = 30

_LOG: Final = ROOT / ".local" / "demo-service.log"
_READY_SECONDS: Final = 90
_LOOK_EVERY_SECONDS: Final = 0.2
_STOPPED_WITHIN_SECONDS: Final = 90


class DemoError(Exception):
    """The demo can't go on; the message is one line for the person at the terminal."""


def main() -> int:
    os.umask(0o077)  # the service's log names documents
    try:
        leash.run_until_stopped(_run)
    except (DemoError, TokenServiceError, OSError, ValueError) as error:
        print(f"demo: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _run(started: ExitStack) -> NoReturn:
    service, tokens_url = started.enter_context(_service())
    demo = read_env_file(DEMO_ENV)
    user, password = demo["TOKENSERVICE_USER"], demo["TOKENSERVICE_PASSWORD"]
    content_password = secrets.token_urlsafe(24)
    content = started.enter_context(ContentServer("gateway", content_password))
    port = _free_or_other(_service_port() + _GATEWAY_ABOVE_SERVICE)
    settings = Settings.from_environ(
        {
            "TOKENSERVICE_URL": tokens_url,
            "TOKENSERVICE_USER": user,
            "TOKENSERVICE_PASSWORD": password,
            "CONTENT_URL": content.url,
            "CONTENT_USER": "gateway",
            "CONTENT_PASSWORD": content_password,
            "GATEWAY_SECRET": secrets.token_hex(32),
            "PUBLIC_URL": f"http://{HOST}:{port}",
            "LISTEN": f"{HOST}:{port}",
        }
    )
    log.to_standard_output()
    started.enter_context(_gateway(settings))
    with TokenServiceClient(tokens_url, user, password) as tokens:
        issued = tokens.issue(REPORT, expires_in=LINK_MINUTES * 60)
    print(_welcome(f"{settings.public_url}/d/{issued.token}", tokens_url), flush=True)
    _watch(service)


@contextmanager
def _service() -> Iterator[tuple[subprocess.Popen[bytes] | None, str]]:
    """The token service: the one that `make run` serves from this directory, or one that is started here."""
    running = _running()
    if running is not None:
        print(f"Using the token service that runs already, {running}", flush=True)
        yield None, running
        return
    port = _free_or_other(_service_port())
    print("Starting the token service ...", flush=True)
    _LOG.parent.mkdir(exist_ok=True)
    _LOG.parent.chmod(0o700)
    with ExitStack() as ending:
        with _LOG.open("wb") as output, leash.uninterrupted():
            process = subprocess.Popen(
                [sys.executable, "-m", "dev"],
                cwd=ROOT,
                # MAKELEVEL has it end with this process, even when this one is killed outright.
                env={**os.environ, "PORT": str(port), "MAKELEVEL": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                start_new_session=True,
            )
            ending.callback(leash.stop, process, _STOPPED_WITHIN_SECONDS)
        _wait_until_ready(process)
        yield process, f"http://{HOST}:{port}"


def _service_port() -> int:
    try:
        return preflight.port_of(os.environ.get("PORT", ""))
    except preflight.UsageError as error:
        raise DemoError(str(error)) from None


def _free_or_other(port: int) -> int:
    """This port, or, if it is taken, any that is free: the link that is printed has it."""
    return port if is_free(port) else free_port()


def _running() -> str | None:
    """The address of a service that `make run` serves from this directory and that answers."""
    try:
        url = read_env_file(LOCAL_ENV)["TOKENSERVICE_URL"]
        demo = read_env_file(DEMO_ENV)
        with TokenServiceClient(
            url, demo["TOKENSERVICE_USER"], demo["TOKENSERVICE_PASSWORD"], patience_seconds=0
        ) as tokens:
            tokens.version()
    except (OSError, KeyError, ValueError, TokenServiceError):
        return None
    return url


def _wait_until_ready(service: subprocess.Popen[bytes]) -> None:
    """Wait for the ready line; by then the demo client's secret is there as well."""
    if why := leash.why_not_ready(service, lambda: b"\nReady: " in _LOG.read_bytes(), _READY_SECONDS):
        raise DemoError(f"the token service {why}; see {_LOG.relative_to(ROOT)}")


@contextmanager
def _gateway(settings: Settings) -> Iterator[None]:
    server = Server(settings)
    thread = threading.Thread(target=server.run, name="gateway", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.stop()
        thread.join()


def _welcome(link: str, tokens_url: str) -> str:
    return f"""
Open this link in a browser. It opens once, within {LINK_MINUTES} minutes:

  {link}

Looking at the page uses nothing up; pressing the button does. Afterwards, open the link in another browser.
The token service is at {tokens_url}. Ctrl-C stops everything that was started here.
"""


def _watch(service: subprocess.Popen[bytes] | None) -> NoReturn:
    parent = os.getppid()
    while True:
        time.sleep(_LOOK_EVERY_SECONDS)
        leash.check_parent(parent)
        if service is not None and service.poll() is not None:
            raise DemoError(f"the token service ended by itself with code {service.returncode}")


if __name__ == "__main__":
    sys.exit(main())
