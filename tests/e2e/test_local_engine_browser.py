"""What a page in a developer's browser can do to the engine that `make run` starts: nothing."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dev.engine import HOST, Engine
from tests.support.api import Api
from tests.support.browser import chromium
from tests.support.scripted_server import Server, answer

REBOUND = "attacker.example"
"""A name of the attacker's that the browser's name server points at this machine."""
# A call of the store, a page that needs no preflight, and a request that is sent without one.
ATTACK = """
const [engine, done] = arguments;
const headers = {
  'Content-Type': 'application/x-amz-json-1.0',
  'X-Amz-Target': 'DynamoDB_20120810.DeleteTable',
  'Authorization': 'AWS4-HMAC-SHA256 Credential=test/2/u/dynamodb/aws4_request, SignedHeaders=host, Signature=0',
};
const calls = {
  '/': {method: 'POST', headers, body: '{"TableName": "tokenservice-local-tokens"}'},
  '/_ministack/ready': {},
  '/_ministack/reset': {method: 'POST', mode: 'no-cors', body: '{}'},
};
const results = Object.entries(calls).map(async ([path, call]) => {
  try {
    const answer = await fetch(engine + path, call);
    return `${answer.type} ${answer.status}`;
  } catch (error) {
    return error.name;
  }
});
Promise.all(results).then(done);
"""


@pytest.mark.parametrize(
    ("rebound", "seen"), [(False, ["TypeError", "TypeError", "opaque 0"]), (True, ["basic 403"] * 3)]
)
def test_a_page_reads_and_changes_nothing(
    rebound: bool, seen: list[str], api: Api, engine: Engine, tmp_path: Path
) -> None:
    """A page of another site; and one whose name leads to this machine, for which the engine is its own site."""
    client = api.client()
    token = api.issue(client)["token"]
    port = urlsplit(engine.endpoint_url).port
    with (
        Server(answer(200, b"<title>Kittens</title>", Content_Type="text/html")) as page,
        chromium(tmp_path, f"--host-resolver-rules=MAP {REBOUND} {HOST}") as browser,
    ):
        browser.get(f"http://{REBOUND}:{port}/_ministack/ready" if rebound else page.url)
        assert browser.execute_async_script(ATTACK, "" if rebound else engine.endpoint_url) == seen
    assert api.use(client, token).status == 200
