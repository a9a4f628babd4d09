"""`python -m examples.document_gateway`: serves the gateway that the environment describes."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from tokenservice_client import TokenServiceClient
from waitress.wasyncore import close_all

from examples.document_gateway import log
from examples.document_gateway.app import create_app
from examples.document_gateway.content import ContentApi
from examples.document_gateway.downloads import EVERYBODY
from examples.document_gateway.server import Listener
from examples.document_gateway.settings import Settings, SettingsError

PAGE_THREADS = 16
"""Beside those that documents on their way may take, so that pages always come."""
PATIENCE_SECONDS = 15
"""How long a person waits for the token service."""


class Server:
    """The gateway on its address: it listens from the start, and answers in `run()`.

    Raises:
        ValueError: an address or a password makes no sense.
    """

    def __init__(self, settings: Settings) -> None:
        tokens = TokenServiceClient(
            settings.tokens_url,
            settings.tokens_user,
            settings.tokens_password,
            patience_seconds=PATIENCE_SECONDS,
            ca_bundle=settings.ca_bundle,
            connections=EVERYBODY + PAGE_THREADS,
        )
        content = ContentApi(
            settings.content_url, settings.content_user, settings.content_password, settings.ca_bundle, EVERYBODY
        )
        self._connections: dict[int, Any] = {}
        self._listener: Any = Listener(
            create_app(settings, tokens, content),
            self._connections,
            host=settings.host,
            port=settings.port,
            threads=EVERYBODY + PAGE_THREADS,
            ident=None,
            url_scheme="https" if settings.is_https else "http",
            # We count the hops ourselves; waitress would take the headers out.
            clear_untrusted_proxy_headers=False,
            max_request_header_size=16 * 1024,
            max_request_body_size=16 * 1024,
        )

    def run(self) -> None:
        """Answer until `stop()`, or until an exception such as SystemExit comes from a signal."""
        self._listener.run()

    def stop(self) -> None:
        """Have a `run()` in another thread end; connections that are open are closed."""
        self._listener.trigger.pull_trigger(lambda: close_all(self._connections))


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log.to_standard_output()
    try:
        settings = Settings.from_environ(os.environ)
        server = Server(settings)
    except (SettingsError, ValueError) as error:
        print(f"document gateway: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"document gateway: LISTEN: {error.strerror}", file=sys.stderr)
        return 1
    print(f"Ready: {settings.public_url}, on {settings.host}:{settings.port}", flush=True)
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
