"""`python -m examples.document_gateway.demo`: the service, a server like Alfresco, the gateway, and a link to click.

It runs in a checkout after `make setup`. Ctrl-C or SIGTERM ends all that was started.
"""

from __future__ import annotations

import logging
import secrets
import sys
from contextlib import ExitStack
from typing import Final

from tokenservice_client import TokenServiceClient

from dev import serve
from dev.engine import free_port, is_free
from examples.document_gateway.__main__ import gateway
from examples.document_gateway.content_server import REPORT, content_server, serving
from examples.document_gateway.settings import Settings
from tokenctl.deployment import DEMO_ENV, read_env_file

PORT: Final = 8080
LINK_MINUTES: Final = 30


def show(started: ExitStack, url: str) -> None:
    """Start a content server and a gateway before the token service at that address, and print a link."""
    demo, password = read_env_file(DEMO_ENV), secrets.token_urlsafe(24)
    content_url = started.enter_context(serving(content_server("gateway", password)))
    content = {"CONTENT_URL": content_url, "CONTENT_USER": "gateway", "CONTENT_PASSWORD": password}
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    app = gateway(Settings.from_environ({**demo, **content, "TOKENSERVICE_URL": url}))
    gateway_url = started.enter_context(serving(app, PORT if is_free(PORT) else free_port()))
    with TokenServiceClient(url, demo["TOKENSERVICE_USER"], demo["TOKENSERVICE_PASSWORD"]) as tokens:
        issued = tokens.issue(REPORT, expires_in=LINK_MINUTES * 60)
    welcome = f"""
Open this link in a browser. It opens once, within {LINK_MINUTES} minutes:

  {gateway_url}/d/{issued.token}

Looking at the page uses nothing up; pressing the button does. Afterwards, open the link again.
The token service is at {url}. Ctrl-C stops everything that was started here.
"""
    print(welcome, flush=True)


if __name__ == "__main__":
    sys.exit(serve.main(then=show))
