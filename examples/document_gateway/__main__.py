"""`python -m examples.document_gateway`: serves the gateway that the environment describes."""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Any, Final, cast

import waitress
from flask import Flask
from tokenservice_client import TokenServiceClient

from examples.document_gateway.app import create_app
from examples.document_gateway.content import ContentApi
from examples.document_gateway.settings import Settings, SettingsError

PATIENCE_SECONDS: Final = 15
"""How long a person waits for the token service."""
_THREADS: Final = 32
"""Each document on its way takes one, until its reader has it."""


def gateway(settings: Settings) -> Flask:
    """The application, with its clients of the token service and of the content API."""
    bundle = settings.ca_bundle
    tokens = TokenServiceClient(
        settings.tokens_url,
        settings.tokens_user,
        settings.tokens_password,
        patience_seconds=PATIENCE_SECONDS,
        ca_bundle=bundle,
        connections=_THREADS,
    )
    content = ContentApi(settings.content_url, settings.content_user, settings.content_password, bundle, _THREADS)
    return create_app(settings, tokens, content)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("waitress").setLevel(logging.CRITICAL)  # its lines name paths, which hold tokens
    try:
        settings = Settings.from_environ(os.environ)
        print(f"Listening on {settings.listen}", flush=True)
        # We count the hops ourselves; waitress would take the headers out.
        serve = cast(Any, waitress.serve)
        serve(
            gateway(settings), listen=settings.listen, threads=_THREADS, ident=None, clear_untrusted_proxy_headers=False
        )
    except (SettingsError, ValueError, OSError) as error:
        print(f"document gateway: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
