"""What a page in a developer's browser can do to the engine that `make run` starts: nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium import webdriver

from dev.engine import HOST, Engine
from tests.support.api import Api
from tests.support.gateway_world import chromium

REBOUND = "attacker.example"
"""A name of the attacker's that the browser's name server points at this machine."""
ATTACK = """
const [engine, calls, done] = arguments;
const attempt = async ({path, method, mode, headers, body}) => {
  try {
    const answer = await fetch(engine + path, {method, mode, headers, body: body || undefined});
    return `${answer.type} ${answer.status}: ${await answer.text()}`;
  } catch (error) {
    return String(error);
  }
};
(async () => {
  const results = {};
  for (const [name, call] of Object.entries(calls)) results[name] = await attempt(call);
  done(results);
})();
"""
UNREADABLE = "TypeError: Failed to fetch"


def dynamodb(operation: str, body: Any) -> dict[str, Any]:
    return {
        "path": "/",
        "method": "POST",
        "headers": {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"DynamoDB_20120810.{operation}",
            "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request, "
            "SignedHeaders=host, Signature=0",
        },
        "body": json.dumps(body),
    }


def without_preflight(path: str) -> dict[str, Any]:
    """A request that a browser sends without asking first; the page does not see the answer."""
    return {"path": path, "method": "POST", "mode": "no-cors", "headers": {}, "body": "{}"}


CALLS = {
    "list the tables": dynamodb("ListTables", {}),
    "read the tokens": dynamodb("Scan", {"TableName": "tokenservice-local-tokens"}),
    "delete the tokens": dynamodb("DeleteTable", {"TableName": "tokenservice-local-tokens"}),
    "read the engine's health": {"path": "/_ministack/health", "method": "GET", "headers": {}},
    "read whether it is ready": {"path": "/_ministack/ready", "method": "GET", "headers": {}},
    "change the engine": {"path": "/_ministack/config", "method": "POST", "headers": {}, "body": "{}"},
}
UNSEEN = {
    "reset the engine": without_preflight("/_ministack/reset"),
    "reset it with a key": without_preflight(
        "/_ministack/reset?X-Amz-Credential=test%2F2%2Fu%2Fdynamodb%2Faws4_request"
    ),
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("browser"), f"--host-resolver-rules=MAP {REBOUND} {HOST}") as browser:
        yield browser


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    """A page of another origin."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>Kittens</title>")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((HOST, 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{HOST}:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_a_page_of_another_site_reads_and_changes_nothing(
    browser: webdriver.Chrome, page: str, api: Api, engine: Engine
) -> None:
    client = api.client()
    token = api.issue(client)["token"]
    browser.get(page)
    assert browser.execute_async_script(ATTACK, engine.endpoint_url, CALLS) == dict.fromkeys(CALLS, UNREADABLE)
    browser.execute_async_script(ATTACK, engine.endpoint_url, UNSEEN)
    assert api.use(client, token).status == 200


def test_a_page_whose_name_resolves_to_this_machine_reads_nothing(browser: webdriver.Chrome, engine: Engine) -> None:
    """DNS rebinding: for the browser the engine is then the page's own site."""
    rebound = f"http://{REBOUND}:{urlsplit(engine.endpoint_url).port}"
    browser.get(f"{rebound}/_ministack/ready")
    results = browser.execute_async_script(ATTACK, "", CALLS)
    assert {name: result.split(":")[0] for name, result in results.items()} == dict.fromkeys(CALLS, "basic 403")
