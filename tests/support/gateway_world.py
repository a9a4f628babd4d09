"""What a document gateway needs around it: the real service, a content server, and a browser where there is one."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from selenium import webdriver
from selenium.webdriver.chrome.service import Service as Driver
from tokenservice_client import Issued, TokenServiceClient

from dev.engine import HOST, free_port
from examples.document_gateway.__main__ import Server
from examples.document_gateway.content_server import REPORT, ContentServer
from examples.document_gateway.settings import Settings
from tests.support import browser
from tests.support.api import Credentials

USER_HEADER = "X-Person"
ELSEWHERE = "192.0.2.7"
_FIELD = re.compile(r'name="visit" value="([^"]+)"')


@dataclass
class World:
    """One gateway, its backends, and what the tests do with it.

    Attributes:
        url: of the gateway.
        tokens: a client with every scope.
    """

    url: str
    tokens: TokenServiceClient
    content: ContentServer
    settings: Settings

    def link(self, node_id: str = REPORT, **terms: Any) -> tuple[str, Issued]:
        issued = self.tokens.issue(node_id, **terms)
        return f"{self.url}/d/{issued.token}", issued

    def uses(self, issued: Issued) -> int:
        return len(self.tokens.status(issued.token_id).claims)


@dataclass
class Visitor:
    """A browser of few means: it stores cookies and presses the button."""

    headers: dict[str, str] = field(default_factory=dict)
    session: requests.Session = field(default_factory=requests.Session)

    def send(self, method: str, link: str, **more: Any) -> requests.Response:
        headers = {**self.headers, **more.pop("headers", {})}
        return self.session.request(method, link, headers=headers, allow_redirects=False, timeout=60, **more)

    def open(self, link: str, **more: Any) -> requests.Response:
        return self.send("GET", link, **more)

    def press(self, link: str, page: requests.Response | None = None, **more: Any) -> requests.Response:
        """Press the button of a page; of a fresh one where none is given. Redirects are not followed."""
        field = _FIELD.search((self.open(link) if page is None else page).text)
        return self.send("POST", link, data={"visit": field[1] if field else ""}, **more)

    def fetch(self, link: str, **headers: str) -> requests.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send("GET", f"{link}/content", headers=sent)


@contextmanager
def gateway(tokens_url: str, client: Credentials, content: ContentServer, **changed: str) -> Iterator[World]:
    """A gateway on a free port."""
    port = free_port()
    environ = {
        "TOKENSERVICE_URL": tokens_url,
        "TOKENSERVICE_USER": client.user,
        "TOKENSERVICE_PASSWORD": client.password,
        "CONTENT_URL": content.url,
        "CONTENT_USER": "gateway",
        "CONTENT_PASSWORD": "the content's password",
        "GATEWAY_SECRET": "s" * 32,
        "PUBLIC_URL": f"http://{HOST}:{port}",
        "LISTEN": f"{HOST}:{port}",
    }
    settings = Settings.from_environ({**environ, **changed})
    server = Server(settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with TokenServiceClient(tokens_url, client.user, client.password) as tokens:
            yield World(f"http://{HOST}:{port}", tokens, content, settings)
    finally:
        server.stop()
        thread.join()


@contextmanager
def chromium(downloads: Path, *arguments: str) -> Iterator[webdriver.Chrome]:
    """Debian's Chromium without a window; in CI it must be there.

    Args:
        downloads: where it saves documents, and its own files.
        arguments: more of its command line.
    """
    installed = browser.find()
    options = webdriver.ChromeOptions()
    options.binary_location = installed.program
    # Its sandbox does not work for root, which is who runs containers; /dev/shm is small in them.
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--no-first-run",
        *arguments,
    ):
        options.add_argument(argument)
    options.add_argument("--disable-background-networking")
    options.add_argument("--disable-component-update")
    options.add_argument(f"--user-data-dir={downloads / 'profile'}")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With the driver's path nothing is looked for, and nothing downloaded.
    chrome = webdriver.Chrome(options, Driver(installed.driver))
    try:
        yield chrome
    finally:
        chrome.quit()
