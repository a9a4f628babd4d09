"""What a document gateway needs around it: the real service, a content server, and a browser where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service as Driver
from tokenservice_client import Issued, TokenServiceClient

from examples.document_gateway.__main__ import gateway
from examples.document_gateway.content_server import REPORT, serving
from examples.document_gateway.settings import Settings
from tests.support import browser
from tests.support.api import Credentials

CONTENT = {"CONTENT_USER": "gateway", "CONTENT_PASSWORD": "the content's password"}


@dataclass
class World:
    """A gateway's address, and a client of the token service with every scope."""

    url: str
    tokens: TokenServiceClient

    def link(self, node_id: str = REPORT, **terms: Any) -> tuple[str, Issued]:
        issued = self.tokens.issue(node_id, **terms)
        return f"{self.url}/d/{issued.token}", issued

    def uses(self, issued: Issued) -> int:
        return len(self.tokens.status(issued.token_id).claims)


@contextmanager
def gateway_world(tokens_url: str, client: Credentials, content_url: str, **changed: str) -> Iterator[World]:
    environ = {
        "TOKENSERVICE_URL": tokens_url,
        "TOKENSERVICE_USER": client.user,
        "TOKENSERVICE_PASSWORD": client.password,
        "CONTENT_URL": content_url,
        **CONTENT,
        **changed,
    }
    with (
        serving(gateway(Settings.from_environ(environ))) as url,
        TokenServiceClient(tokens_url, client.user, client.password) as tokens,
    ):
        yield World(url, tokens)


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
