"""`python -m examples.document_gateway`: serves the gateway that the environment describes."""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any, Final, cast

from tokenservice_client import TokenServiceClient
from waitress.server import create_server
from waitress.wasyncore import close_all

from examples.document_gateway import log
from examples.document_gateway.app import create_app
from examples.document_gateway.content import ContentApi
from examples.document_gateway.downloads import EVERYBODY
from examples.document_gateway.settings import Settings, SettingsError

PATIENCE_SECONDS: Final = 15
"""How long a person waits for the token service."""
IDLE_SECONDS: Final = 75
"""Between two requests; longer than proxies leave a connection open, so that no request of theirs meets its end."""
ANSWER_SECONDS: Final = 60
"""In which a reader must take some of a waiting answer."""
_PAGE_THREADS: Final = 16
"""Beside those that documents on their way may take, so that pages always come."""


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
            connections=EVERYBODY + _PAGE_THREADS,
        )
        content = ContentApi(
            settings.content_url, settings.content_user, settings.content_password, settings.ca_bundle, EVERYBODY
        )
        self._sockets: dict[int, Any] = {}
        self._server: Any = cast(Any, create_server)(
            create_app(settings, tokens, content),
            map=self._sockets,
            host=settings.host,
            port=settings.port,
            threads=EVERYBODY + _PAGE_THREADS,
            ident=None,
            url_scheme="https" if settings.is_https else "http",
            # We count the hops ourselves; waitress would take the headers out.
            clear_untrusted_proxy_headers=False,
            max_request_header_size=16 * 1024,
            max_request_body_size=16 * 1024,
            connection_limit=900,  # each is a file descriptor; 1,024 are common for a process
            channel_timeout=IDLE_SECONDS,
            cleanup_interval=5,
            outbuf_high_watermark=256 * 1024,  # of an answer in memory; what is more waits where it comes from
            asyncore_use_poll=True,  # select() ends with file descriptor 1,023
        )
        # Waitress waits for a reader without end. Linux closes the connection; other systems lack the option.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            self._server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, ANSWER_SECONDS * 1000)

    def run(self) -> None:
        """Answer until `stop()`, or until an exception such as SystemExit comes from a signal."""
        self._server.run()
        self._server.task_dispatcher.shutdown()

    def stop(self) -> None:
        """Have a `run()` in another thread end; connections that are open are closed."""
        self._server.trigger.pull_trigger(self._close)

    def _close(self) -> None:
        for connection in list(self._server.active_channels.values()):
            connection.handle_close()  # ends the thread that waits for its reader
        close_all(self._sockets)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log.to_standard_output()
    try:
        settings = Settings.from_environ(os.environ)
        server = Server(settings)
    except (SettingsError, ValueError, OSError) as error:
        print(f"document gateway: {error}", file=sys.stderr)
        return 1
    print(f"Ready: {settings.public_url}, on {settings.host}:{settings.port}", flush=True)
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
