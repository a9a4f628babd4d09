"""The document gateway between people and the real service: what spends a use, what does not, and what anybody sees."""

from __future__ import annotations

import html
import json
import logging
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask, Response, request

from dev.engine import HOST, ROOT, free_port
from examples.document_gateway.content_server import DOCUMENTS, REPORT, Stored, content_server, serving
from tests.support.api import Credentials
from tests.support.gateway_world import CONTENT, World, gateway_world
from tests.support.make_run import Run, copy_of_the_checkout, processes_of
from tests.support.scripted_server import Handler, Server
from tests.support.waiting import wait_until

PDF = DOCUMENTS[REPORT].content
EXPIRED = (410, "This link has expired")
TOO_EARLY = (403, "This link does not open yet")
NOT_FOR_YOU = (403, "This link is not for you to open here")
UNKNOWN = (404, "This link does not work")
DOCUMENT_GONE = (404, "The document is no longer there")
NOT_NOW = (503, "The document can't be opened right now")
BIG, ODD = "big-document", "odd-name"
MORE = {
    BIG: Stored("big.bin", "application/octet-stream", bytes(range(256)) * 8192),
    ODD: Stored('..\\öv"il\u202egpj.exe\r\nX: y<b>', "text/html", b"<script>alert(1)</script>"),
}
VISIT = "7" * 32


@pytest.fixture(scope="module")
def alfresco() -> Flask:
    """One whose headers name the document."""
    app = content_server(*CONTENT.values(), {**DOCUMENTS, **MORE})

    @app.after_request
    def talk(answer: Response) -> Response:
        answer.set_cookie("node", request.path)
        answer.headers["X-Node"] = request.path
        return answer

    return app


@pytest.fixture(scope="module")
def content(alfresco: Flask) -> Iterator[str]:
    with serving(alfresco) as url:
        yield url


@pytest.fixture(scope="module")
def world(service: str, client: Credentials, content: str) -> Iterator[World]:
    """Straight to the socket: the person is unknown."""
    with gateway_world(service, client, content) as world:
        yield world


@pytest.fixture(scope="module")
def behind_proxy(service: str, client: Credentials, content: str) -> Iterator[World]:
    """Behind one proxy that sends name and address of the person."""
    with gateway_world(service, client, content, TRUSTED_HOPS="1", USER_HEADER="X-Person") as world:
        yield world


def someone(user: str | bytes = "alice", address: str = "192.0.2.7") -> dict[str, Any]:
    """The headers with which a proxy hands a person on, who claims another address."""
    return {"X-Forwarded-For": f"203.0.113.9, {address}", "X-Person": user}


def send(method: str, url: str, headers: Any = None, **more: Any) -> requests.Response:
    return requests.request(method, url, headers=headers, allow_redirects=False, timeout=60, **more)


def look(link: str, headers: Any = None) -> requests.Response:
    return send("GET", link, headers)


def press(link: str, headers: Any = None, visit: str = VISIT) -> requests.Response:
    return send("POST", link, headers, data={"visit": visit})


def fetch(link: str, headers: Any = None, **more: Any) -> requests.Response:
    return send("GET", f"{link}/content?visit={VISIT}", headers, **more)


def shown(page: requests.Response) -> tuple[int, str]:
    """Status and heading."""
    title = re.search(r"<h1>(.*?)</h1>", page.text)
    return page.status_code, html.unescape(title[1]) if title else ""


def test_the_use_has_the_user_and_the_address(behind_proxy: World) -> None:
    link, issued = behind_proxy.link(user="größe", ip_addresses=["192.0.2.7"])
    assert press(link, someone("größe".encode())).status_code == 200
    [claim] = behind_proxy.tokens.status(issued.token_id).claims
    assert (claim.user, claim.ip_address, claim.action) == ("größe", "192.0.2.7", "download")


def test_a_request_that_did_not_come_by_the_proxies_is_refused(service: str, client: Credentials, content: str) -> None:
    with gateway_world(service, client, content, TRUSTED_HOPS="3") as world:
        link, _ = world.link(ip_addresses=["203.0.113.9"])
        assert look(link, someone()).status_code == 400
        assert look(link, {"X-Forwarded-For": "203.0.113.9, 10.0.0.1, 10.0.0.2"}).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"])
def test_nothing_but_the_button_spends(world: World, method: str) -> None:
    link, issued = world.link()
    for path in ("", "/content", "/content?visit="):
        send(method, link + path)
    assert world.uses(issued) == 0
    assert world.tokens.status(issued.token_id).mismatches == 0


def test_a_post_that_is_not_of_the_page_spends_nothing(world: World) -> None:
    link, issued = world.link()
    sent = [press(link, visit=""), press(link, visit="x" * 32)]
    sent += [press(link, {"Sec-Fetch-Site": site}) for site in ("cross-site", "same-site")]
    assert {(answer.status_code, answer.headers["Location"]) for answer in sent} == {(303, f"/d/{issued.token}")}
    assert world.uses(issued) == 0
    assert press(link, {"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_pressing_twice_and_again_after_a_lost_answer_is_one_use(world: World) -> None:
    link, issued = world.link(max_uses=3)
    with ThreadPoolExecutor(4) as threads:
        assert {answer.status_code for answer in threads.map(press, [link] * 4)} == {200}
    assert world.uses(issued) == 1


def test_ranges_and_repeated_downloads_are_one_use(world: World) -> None:
    whole = MORE[BIG].content
    link, issued = world.link(BIG)
    press(link)
    etag = send("HEAD", f"{link}/content?visit={VISIT}").headers["ETag"]
    rest = fetch(link, {"Range": "bytes=100000-", "If-Range": etag})
    assert (rest.status_code, rest.headers["Content-Range"]) == (206, f"bytes 100000-{len(whole) - 1}/{len(whole)}")
    assert rest.content == whole[100_000:]
    changed = fetch(link, {"Range": "bytes=100000-", "If-Range": '"another"'})
    assert (changed.status_code, changed.content) == (200, whole)
    assert fetch(link, {"Range": f"bytes={len(whole)}-"}).status_code == 416
    assert send("HEAD", f"{link}/content?visit={VISIT}").headers["Content-Length"] == str(len(whole))
    assert world.uses(issued) == 1


def test_an_interrupted_download_is_incomplete_and_can_be_resumed(
    world: World, alfresco: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = MORE[BIG].content
    link, issued = world.link(BIG, metadata={"name": "big.bin"})
    press(link)
    with monkeypatch.context() as failing:
        answer = alfresco.wsgi_app
        failing.setattr(alfresco, "wsgi_app", lambda *call: [b"".join(answer(*call))[:300_000]])
        with fetch(link, stream=True) as broken_off:
            arrived: list[bytes] = []
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                arrived.extend(broken_off.iter_content(1000))
    begun = b"".join(arrived)
    assert begun
    assert begun + fetch(link, {"Range": f"bytes={len(begun)}-"}).content == whole
    assert world.uses(issued) == 1


@pytest.mark.parametrize(("length", "passed_on"), [("4", "4"), ("+4", "4"), ("-5", None), ("3x", None)])
def test_a_length_that_is_none_is_not_passed_on(
    length: str, passed_on: str | None, service: str, client: Credentials
) -> None:
    def content(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.wfile.write(b"%PDF")
        handler.close_connection = True

    with Server(content) as alfresco, gateway_world(service, client, alfresco.url) as world:
        fetched = fetch(world.link(metadata={"name": "report.pdf"})[0])
    assert (fetched.status_code, fetched.content, fetched.headers.get("Content-Length")) == (200, b"%PDF", passed_on)


def test_a_download_is_one_person_s_and_ends_with_the_token(behind_proxy: World) -> None:
    link, issued = behind_proxy.link(max_uses=2)
    press(link, someone("alice"))
    assert fetch(link, someone("alice")).content == PDF
    for other in (someone("bob"), someone("alice", "192.0.2.8")):
        assert fetch(link, other).headers["Location"] == f"/d/{issued.token}", "where the page is shown anew"
    assert behind_proxy.uses(issued) == 1
    behind_proxy.tokens.revoke(issued.token_id)
    assert shown(fetch(link, someone("alice"))) == UNKNOWN


@pytest.mark.parametrize(
    ("terms", "visitor", "expected"),
    [
        ({"user": "bob"}, someone("alice"), NOT_FOR_YOU),
        ({"user": "bob"}, someone(""), NOT_FOR_YOU),
        ({"ip_addresses": ["198.51.100.0/24"]}, someone(), NOT_FOR_YOU),
        # What the person wrote in front of the proxy's word counts for nothing.
        ({"ip_addresses": ["203.0.113.9"]}, someone(), NOT_FOR_YOU),
        ({"not_before": datetime.now(UTC) + timedelta(days=1), "expires_in": 172_800}, someone(), TOO_EARLY),
        ({"actions": ["preview"]}, someone(), UNKNOWN),
        ({"audience": ["another-application"]}, someone(), UNKNOWN),
    ],
)
def test_a_refusal_shows_what_a_person_can_do_and_nothing_else(
    behind_proxy: World, terms: dict[str, Any], visitor: dict[str, Any], expected: tuple[int, str]
) -> None:
    link, issued = behind_proxy.link(metadata={"name": "Secret merger.pdf"}, **terms)
    page = look(link, visitor)
    assert shown(page) == expected
    for secret in ("Secret merger", "bob", "198.51.100", "203.0.113", REPORT, "another-application", "<button"):
        assert secret not in page.text
    assert behind_proxy.tokens.status(issued.token_id).mismatches == 0
    assert shown(press(link, visitor)) == expected
    assert behind_proxy.uses(issued) == 0


def test_an_expired_link_and_one_withdrawn_between_page_and_press(world: World) -> None:
    link, _ = world.link(expires_in=1)
    wait_until(lambda: shown(look(link)) == EXPIRED)
    link, issued = world.link()
    assert look(link).status_code == 200
    world.tokens.revoke(issued.token_id)
    assert shown(press(link)) == UNKNOWN


@pytest.mark.parametrize("odd", ["", "ab" * 31, "AB" * 32, "ab" * 32 + "%00", "%2e%2e", "<script>", "ab" * 32])
def test_odd_tokens_are_links_that_do_not_work(world: World, odd: str) -> None:
    for page in (look(f"{world.url}/d/{odd}"), press(f"{world.url}/d/{odd}")):
        assert page.status_code == 404
        assert "<script>" not in page.text
        assert page.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["//evil.example/d/{}", "//d//{}", "/d//{}", "/d/{}//content", "/d/{}/"])
def test_no_redirect_uses_the_host_of_the_request(world: World, path: str) -> None:
    answer = look(world.url + path.format("ab" * 32), {"Host": "evil.example"})
    assert (answer.status_code, answer.headers.get("Location")) == (404, None)


def test_a_name_can_neither_leave_its_header_nor_its_page(world: World) -> None:
    link, _ = world.link(ODD)
    assert "<b>" not in look(link).text
    press(link)
    document = fetch(link)
    assert document.headers["Content-Disposition"] == "attachment; filename*=UTF-8''_%C3%B6v_ilgpj.exeX_%20y_b_"
    assert document.headers["Content-Security-Policy"].endswith("sandbox")
    assert document.headers["X-Content-Type-Options"] == "nosniff"
    assert "X" not in document.headers


@pytest.mark.parametrize("node_id", ["gone", "../../admin"])
def test_a_document_that_is_not_there_is_reported_before_anything_is_spent(world: World, node_id: str) -> None:
    link, issued = world.link(node_id)
    assert shown(look(link)) == DOCUMENT_GONE
    assert world.uses(issued) == 0


def test_while_a_backend_is_away_nothing_is_lost(
    service: str, client: Credentials, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("examples.document_gateway.__main__.PATIENCE_SECONDS", 0)
    nobody = f"http://{HOST}:{free_port()}"
    with gateway_world(service, client, nobody) as world:
        link, issued = world.link()
        assert shown(look(link)) == NOT_NOW
        press(link)
    with gateway_world(service, client, content) as world:
        link = f"{world.url}/d/{issued.token}"
        assert "Your download has begun" in press(link).text, "the same visit, once the documents are back"
        assert world.uses(issued) == 1
    with gateway_world(nobody, client, content) as world:
        assert shown(look(f"{world.url}/d/{'ab' * 32}")) == NOT_NOW


def test_every_answer_has_its_headers_and_no_log_line_a_token(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    link, issued = world.link()
    answers = [look(link), press(link), fetch(link), look(f"{link}/nothing"), send("DELETE", link)]
    answers.append(press(link, visit="x" * 9000))
    for answer in answers:
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "Set-Cookie" not in answer.headers
        assert REPORT not in str(answer.headers) + answer.text
    statuses = [200, 200, 200, 404, 405, 413]
    assert [answer.status_code for answer in answers] == statuses
    lines = [record.getMessage() for record in caplog.records if record.name == "document_gateway"]
    ours = [json.loads(line) for line in lines]
    assert [line["status"] for line in ours] == statuses
    assert ours[1]["tokenId"] == issued.token_id
    assert ours[1]["useId"] == world.tokens.status(issued.token_id).claims[0].use_id
    assert issued.token not in "".join(lines)


def test_a_failure_is_logged_without_the_token(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    link, issued = world.link()

    def broken(_: str) -> str:
        raise RuntimeError(f"no name for {link}")

    monkeypatch.setattr("examples.document_gateway.app.safe_name", broken)
    assert shown(look(link)) == NOT_NOW
    [line] = [record.getMessage() for record in caplog.records if record.name == "document_gateway"]
    assert "RuntimeError: no name for" in json.loads(line)["failure"]
    assert issued.token not in line


PROGRAM = (sys.executable, "-m", "examples.document_gateway")


def test_the_program_serves_what_its_environment_describes_until_it_is_stopped() -> None:
    url = f"http://{HOST}:{free_port()}"
    environ = {**CONTENT, "CONTENT_URL": url, "TOKENSERVICE_URL": url, "LISTEN": url.removeprefix("http://")}
    program = Run(ROOT, environ | {"TOKENSERVICE_USER": "gateway", "TOKENSERVICE_PASSWORD": "p"}, program=PROGRAM)
    try:
        program.wait_until(lambda: program.output)
        assert program.output == [f"Listening on {environ['LISTEN']}\n"]

        def answers() -> list[requests.Response]:
            with suppress(requests.ConnectionError):
                return [look(f"{url}/d/none")]
            return []

        [answer] = wait_until(answers)
        assert answer.status_code == 404
        assert "Server" not in answer.headers
    finally:
        code = program.stop()
    assert code == 0


def test_a_wrong_setting_ends_the_program_with_one_line() -> None:
    program = Run(ROOT, {}, program=PROGRAM)
    assert (program.wait(), program.output) == (1, [])
    assert program.errors == ["document gateway: TOKENSERVICE_URL: missing\n"]


def test_the_demo_shows_a_link_that_opens_and_leaves_nothing_running(tmp_path: Path) -> None:
    checkout = copy_of_the_checkout(tmp_path / "checkout", "examples")
    program = (sys.executable, "-m", "examples.document_gateway.demo")
    demo = Run(checkout, {"PORT": str(free_port())}, program=program)
    try:
        demo.wait_until(lambda: any("Ctrl-C" in line for line in demo.output))
        [link] = re.findall(r"^  (http://127\.0\.0\.1:\d+/d/[0-9a-f]{64})$", "".join(demo.output), re.MULTILINE)
        assert "Your download has begun" in press(link).text
        assert fetch(link).content == PDF
    finally:
        code = demo.stop()
    assert (code, processes_of(checkout)) == (0, {})
    output = "".join(demo.output + demo.errors)
    assert "Traceback" not in output
    # The link is printed once, for the person at the terminal; the log has the token's id.
    assert output.count(link.rpartition("/")[2]) == 1
