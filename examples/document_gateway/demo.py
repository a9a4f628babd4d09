"""`python -m examples.document_gateway.demo`: the service, a server like Alfresco, the gateway, and a link to click.

It runs in a checkout after `make setup`. If `make run` is at work there already, that service is used. Ctrl-C or
SIGTERM ends all that was started.
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time
from contextlib import ExitStack
from typing import NoReturn

from tokenservice_client import TokenServiceClient, TokenServiceError

from dev import leash, preflight, serve
from dev.engine import free_port, is_free
from examples.document_gateway import log
from examples.document_gateway.__main__ import Server
from examples.document_gateway.content_server import HOST, REPORT, ContentServer
from examples.document_gateway.settings import Settings
from tokenctl.deployment import DEMO_ENV, LOCAL_ENV, read_env_file

LINK_MINUTES = 30


def main() -> int:
    try:
        port = preflight.port_of(os.environ.get("PORT", ""))
    except preflight.UsageError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    running = _running()
    if running is not None:
        print(f"Using the token service that runs already, {running}", flush=True)
        leash.run_until_stopped(lambda started: _show_beside(started, running))
        return 0
    os.environ["PORT"] = str(_free_or_other(port))
    return serve.main(then=_show)


def _running() -> str | None:
    """The address of a service that `make run` serves from this directory and that answers."""
    try:
        url, demo = read_env_file(LOCAL_ENV)["TOKENSERVICE_URL"], read_env_file(DEMO_ENV)
        user, password = demo["TOKENSERVICE_USER"], demo["TOKENSERVICE_PASSWORD"]
        with TokenServiceClient(url, user, password, patience_seconds=0) as tokens:
            tokens.version()
    except (OSError, KeyError, ValueError, TokenServiceError):
        return None
    return url


def _show_beside(started: ExitStack, url: str) -> NoReturn:
    parent = os.getppid()
    _show(started, url)
    while True:
        time.sleep(0.2)
        leash.check_parent(parent)


def _show(started: ExitStack, url: str) -> None:
    """Start a content server and a gateway before the token service at that address, and print a link."""
    demo = read_env_file(DEMO_ENV)
    content_password = secrets.token_urlsafe(24)
    content = started.enter_context(ContentServer("gateway", content_password))
    port = _free_or_other(8080)
    settings = Settings.from_environ(
        {
            **demo,
            "TOKENSERVICE_URL": url,
            "CONTENT_URL": content.url,
            "CONTENT_USER": "gateway",
            "CONTENT_PASSWORD": content_password,
            "GATEWAY_SECRET": secrets.token_hex(32),
            "PUBLIC_URL": f"http://{HOST}:{port}",
            "LISTEN": f"{HOST}:{port}",
        }
    )
    log.to_standard_output()
    server = Server(settings)
    thread = threading.Thread(target=server.run, name="gateway")
    thread.start()
    started.callback(thread.join)
    started.callback(server.stop)
    with TokenServiceClient(url, demo["TOKENSERVICE_USER"], demo["TOKENSERVICE_PASSWORD"]) as tokens:
        issued = tokens.issue(REPORT, expires_in=LINK_MINUTES * 60)
    welcome = f"""
Open this link in a browser. It opens once, within {LINK_MINUTES} minutes:

  {settings.public_url}/d/{issued.token}

Looking at the page uses nothing up; pressing the button does. Afterwards, open the link in another browser.
The token service is at {url}. Ctrl-C stops everything that was started here.
"""
    print(welcome, flush=True)


def _free_or_other(port: int) -> int:
    """This port, or, if it is taken, any that is free: the link that is printed has it."""
    return port if is_free(port) else free_port()


if __name__ == "__main__":
    sys.exit(main())
