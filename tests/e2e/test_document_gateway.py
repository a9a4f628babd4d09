"""The document gateway between people and the real service: what spends a use, what does not, and what anybody sees."""

from __future__ import annotations

import html
import json
import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from dev.engine import HOST, free_port
from examples.document_gateway import log as gateway_log
from examples.document_gateway.content_server import DOCUMENTS, REPORT, ContentServer, Stored
from tests.support.api import Credentials
from tests.support.gateway_world import ELSEWHERE, USER_HEADER, Visitor, World, gateway
from tests.support.waiting import wait_until

PDF = DOCUMENTS[REPORT].content
USED_UP = (410, "This link has been used")
EXPIRED = (410, "This link has expired")
TOO_EARLY = (403, "This link does not open yet")
NOT_FOR_YOU = (403, "This link is not for you to open here")
UNKNOWN = (404, "This link does not work")
DOCUMENT_GONE = (404, "The document is no longer there")
NOT_NOW = (503, "The document can't be opened right now")
BIG = "big-document"
ODD = "odd-name"


@pytest.fixture(scope="module")
def content() -> Iterator[ContentServer]:
    more = {
        BIG: Stored("big.bin", "application/octet-stream", bytes(range(256)) * 8192),
        ODD: Stored('..\\ev"il\u202egpj.exe\r\nX: y<b>', "text/html", b"<script>alert(1)</script>"),
    }
    with ContentServer("gateway", "the content's password", {**DOCUMENTS, **more}) as server:
        yield server


@pytest.fixture(scope="module")
def world(service: str, client: Credentials, content: ContentServer) -> Iterator[World]:
    """Straight to the socket: the person is unknown."""
    with gateway(service, client, content) as world:
        yield world


@pytest.fixture(scope="module")
def behind_proxy(service: str, client: Credentials, content: ContentServer) -> Iterator[World]:
    """Behind one proxy that sends name and address of the person."""
    with gateway(service, client, content, TRUSTED_HOPS="1", USER_HEADER=USER_HEADER) as world:
        yield world


def someone(user: str | None = "alice", address: str = ELSEWHERE) -> Visitor:
    """A visitor as a proxy hands them on."""
    named = {USER_HEADER: user} if user else {}
    return Visitor({"X-Forwarded-For": f"203.0.113.9, {address}", **named})


def shown(page: requests.Response) -> tuple[int, str]:
    """Status and heading."""
    title = re.search(r"<h1>(.*?)</h1>", page.text)
    return page.status_code, html.unescape(title[1]) if title else ""


def test_one_press_is_one_use_and_brings_the_document(world: World) -> None:
    link, issued = world.link(metadata={"name": "Größe.pdf"})
    visitor = Visitor()
    page = visitor.open(link)
    assert shown(page) == (200, "Größe.pdf"), "the issuer's name for it"
    assert world.uses(issued) == 0
    sent = visitor.press(link, page)
    assert (sent.status_code, sent.headers["Location"]) == (303, f"/d/{issued.token}?note=begun")
    document = visitor.fetch(link)
    assert (document.status_code, document.content) == (200, PDF)
    assert document.headers["Content-Disposition"] == "attachment; filename*=UTF-8''Gr%C3%B6%C3%9Fe.pdf"
    assert world.uses(issued) == 1


def test_the_use_has_the_user_and_the_address(behind_proxy: World) -> None:
    link, issued = behind_proxy.link(user="größe", ip_addresses=[ELSEWHERE])
    assert someone("größe".encode()).press(link).status_code == 303
    [claim] = behind_proxy.tokens.status(issued.token_id).claims
    assert (claim.user, claim.ip_address, claim.action) == ("größe", ELSEWHERE, "download")
    assert Visitor({USER_HEADER: "größe".encode()}).open(link).status_code == 400, "it did not come by the proxy"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"])
def test_nothing_but_the_button_spends(world: World, method: str) -> None:
    link, issued = world.link()
    for path in ("", "/content"):
        Visitor().send(method, link + path)
    assert world.uses(issued) == 0
    assert world.tokens.status(issued.token_id).mismatches == 0


def test_a_post_that_is_not_of_the_page_spends_nothing(world: World, behind_proxy: World) -> None:
    link, issued = world.link()
    assert requests.post(link, data={"visit": ""}, allow_redirects=False).headers["Location"].endswith("?note=cookies")
    thief, victim = Visitor(), Visitor()
    stolen = thief.open(link)
    victim.open(link)
    # The thief's form, sent by the victim's browser; and a form of another link.
    assert victim.press(link, stolen).headers["Location"].endswith("?note=again")
    other, _ = world.link()
    assert victim.press(link, victim.open(other)).headers["Location"].endswith("?note=again")
    for site in ("cross-site", "same-site"):
        assert victim.press(link, headers={"Sec-Fetch-Site": site}).headers["Location"].endswith("?note=again")
    assert "Nothing has been used up" in victim.open(f"{link}?note=again").text
    assert world.uses(issued) == 0
    assert victim.press(link, headers={"Sec-Fetch-Site": "same-origin"}).headers["Location"].endswith("?note=begun")


def test_pressing_twice_and_from_two_pages_and_again_after_a_lost_answer_is_one_use(world: World) -> None:
    link, issued = world.link(max_uses=3)
    visitor = Visitor()
    pages = [visitor.open(link), visitor.open(link)]
    with ThreadPoolExecutor(4) as threads:
        sent = list(threads.map(lambda number: Visitor.press(_copy(visitor), link, pages[number % 2]), range(4)))
    assert {answer.headers["Location"] for answer in sent} == {f"/d/{issued.token}?note=begun"}
    # None of the four answers came through: the browser has no lease.
    visitor.press(link, pages[0])
    assert world.uses(issued) == 1
    assert visitor.fetch(link).content == PDF


def _copy(visitor: Visitor) -> Visitor:
    """The same cookies, whose changes are lost."""
    other = Visitor(visitor.headers)
    other.session.cookies.update(visitor.session.cookies)
    return other


def test_ranges_and_repeated_downloads_of_a_lease_are_one_use(world: World, content: ContentServer) -> None:
    whole = content.documents[BIG].content
    link, issued = world.link(BIG)
    visitor = Visitor()
    visitor.press(link)
    with visitor.send("GET", f"{link}/content", stream=True) as broken_off:
        begun = broken_off.raw.read(100_000)
        etag = broken_off.headers["ETag"]
    rest = visitor.fetch(link, Range="bytes=100000-", If_Range=etag)
    assert (rest.status_code, rest.headers["Content-Range"]) == (206, f"bytes 100000-{len(whole) - 1}/{len(whole)}")
    assert begun + rest.content == whole
    changed = visitor.fetch(link, Range="bytes=100000-", If_Range='"another"')
    assert (changed.status_code, changed.content) == (200, whole)
    assert visitor.fetch(link, Range=f"bytes={len(whole)}-").status_code == 416
    assert visitor.press(link).headers["Location"].endswith("?note=begun")
    assert "Download again" in visitor.open(link).text
    assert visitor.send("HEAD", f"{link}/content").headers["Content-Length"] == str(len(whole))
    assert world.uses(issued) == 1


def test_an_interrupted_download_is_incomplete_and_can_be_resumed(
    world: World, content: ContentServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = content.documents[BIG].content
    link, issued = world.link(BIG)
    visitor = Visitor()
    visitor.press(link)
    with monkeypatch.context() as failing:
        answer = content.app.wsgi_app
        failing.setattr(content.app, "wsgi_app", lambda *call: [b"".join(answer(*call))[:300_000]])
        with visitor.send("GET", f"{link}/content", stream=True) as broken_off:
            arrived: list[bytes] = []
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                arrived.extend(broken_off.iter_content(1000))
    begun = b"".join(arrived)
    assert begun
    assert whole.startswith(begun)
    assert begun + visitor.fetch(link, Range=f"bytes={len(begun)}-").content == whole
    assert world.uses(issued) == 1
    for record in caplog.records:
        assert issued.token not in gateway_log.JsonFormatter().format(record)
    assert any("ended early" in gateway_log.JsonFormatter().format(record) for record in caplog.records)


def test_a_lease_is_one_browser_s_and_one_person_s(behind_proxy: World) -> None:
    link, issued = behind_proxy.link()
    alice = someone("alice")
    alice.press(link)
    assert alice.fetch(link).content == PDF
    # Another browser, another person with the same cookies, the same cookies at another link.
    for other in (someone("alice"), someone("bob"), someone(None)):
        if other.headers.get(USER_HEADER) != "alice":
            other.session.cookies.update(alice.session.cookies)
        assert other.fetch(link).headers["Location"] == f"/d/{issued.token}"
        assert shown(other.open(link)) == USED_UP
    another, other_issued = behind_proxy.link()
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in alice.session.cookies)
    moved = someone("alice").send("GET", f"{another}/content", headers={"Cookie": cookies})
    assert moved.headers["Location"] == f"/d/{other_issued.token}"
    assert (behind_proxy.uses(issued), behind_proxy.uses(other_issued)) == (1, 0)


def test_a_phone_may_change_its_network_within_the_addresses_of_the_token(behind_proxy: World) -> None:
    link, issued = behind_proxy.link(ip_addresses=["192.0.2.0/24"])
    alice = someone(address="192.0.2.7")
    alice.press(link)
    alice.headers["X-Forwarded-For"] = "192.0.2.8"
    assert alice.fetch(link).content == PDF
    alice.headers["X-Forwarded-For"] = "198.51.100.1"
    assert shown(alice.fetch(link)) == NOT_FOR_YOU
    assert behind_proxy.uses(issued) == 1


def test_a_lease_ends_with_its_time_and_with_the_token(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    link, issued = world.link()
    visitor = Visitor()
    visitor.press(link)
    with monkeypatch.context() as later:
        later.setattr("examples.document_gateway.leases.LEASE_SECONDS", -1)
        assert visitor.fetch(link).headers["Location"] == f"/d/{issued.token}"
        assert shown(visitor.open(link)) == USED_UP
    assert visitor.fetch(link).status_code == 200
    world.tokens.revoke(issued.token_id)
    assert shown(visitor.fetch(link)) == UNKNOWN


def test_a_page_that_stood_open_too_long_begins_a_visit_of_its_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, issued = world.link(max_uses=2)
    visitor = Visitor()
    visitor.press(link)
    first = dict(visitor.session.cookies)["visit"]
    for name in ("examples.document_gateway.leases.LEASE_SECONDS", "examples.document_gateway.app.FRESH_VISIT_SECONDS"):
        monkeypatch.setattr(name, -1)
    visitor.press(link)
    assert dict(visitor.session.cookies)["visit"] != first
    assert world.uses(issued) == 2


@pytest.mark.parametrize(
    ("terms", "visitor", "expected"),
    [
        ({"user": "bob"}, someone("alice"), NOT_FOR_YOU),
        ({"user": "bob"}, someone(None), NOT_FOR_YOU),
        ({"ip_addresses": ["198.51.100.0/24"]}, someone(), NOT_FOR_YOU),
        # What the person wrote in front of the proxy's word counts for nothing.
        ({"ip_addresses": ["203.0.113.9"]}, someone(), NOT_FOR_YOU),
        ({"not_before": datetime.now(UTC) + timedelta(days=1), "expires_in": 172_800}, someone(), TOO_EARLY),
        ({"actions": ["preview"]}, someone(), UNKNOWN),
        ({"audience": ["another-application"]}, someone(), UNKNOWN),
    ],
)
def test_a_refusal_shows_what_a_person_can_do_and_nothing_else(
    behind_proxy: World, terms: dict[str, Any], visitor: Visitor, expected: tuple[int, str]
) -> None:
    link, issued = behind_proxy.link(metadata={"name": "Secret merger.pdf"}, **terms)
    page = visitor.open(link)
    assert shown(page) == expected
    for secret in ("Secret merger", "bob", "198.51.100", "203.0.113", REPORT, "another-application", "<button"):
        assert secret not in page.text
    assert visitor.press(link).headers["Location"].endswith("?note=cookies")
    assert (behind_proxy.uses(issued), behind_proxy.tokens.status(issued.token_id).mismatches) == (0, 0)


def test_an_expired_link_and_one_withdrawn_between_page_and_press(world: World) -> None:
    link, _ = world.link(expires_in=1)
    wait_until(lambda: shown(Visitor().open(link)) == EXPIRED)
    link, issued = world.link()
    visitor = Visitor()
    page = visitor.open(link)
    world.tokens.revoke(issued.token_id)
    assert shown(visitor.press(link, page)) == UNKNOWN


@pytest.mark.parametrize("odd", ["", "ab" * 31, "AB" * 32, "ab" * 32 + "%00", "%2e%2e", "<script>", "ab" * 32])
def test_odd_tokens_are_links_that_do_not_work(world: World, odd: str) -> None:
    for method in ("GET", "POST"):
        page = Visitor().send(method, f"{world.url}/d/{odd}")
        if page.status_code == 303:
            page = Visitor().open(f"{world.url}{page.headers['Location']}")
        assert page.status_code == 404
        assert "<script>" not in page.text
        assert page.headers["Referrer-Policy"] == "no-referrer"


def test_a_name_can_neither_leave_its_header_nor_its_page(world: World) -> None:
    link, _ = world.link(ODD)
    visitor = Visitor()
    page = visitor.open(link)
    assert "<b>" not in page.text
    visitor.press(link, page)
    document = visitor.fetch(link)
    assert document.headers["Content-Disposition"] == 'attachment; filename="_ev_ilgpj.exeX_ y_b_"'
    assert document.headers["Content-Security-Policy"].endswith("sandbox")
    assert document.headers["X-Content-Type-Options"] == "nosniff"
    assert "X" not in document.headers


@pytest.mark.parametrize("node_id", ["gone", "../../admin"])
def test_a_document_that_is_not_there_is_reported_before_anything_is_spent(world: World, node_id: str) -> None:
    before = len(world.content.paths)
    link, issued = world.link(node_id)
    assert shown(Visitor().open(link)) == DOCUMENT_GONE
    assert world.uses(issued) == 0
    assert all(path.endswith("/nodes/gone") for path in world.content.paths[before:])


def test_while_the_content_is_away_nothing_is_lost(service: str, client: Credentials) -> None:
    with ContentServer("gateway", "the content's password") as away:
        pass
    with gateway(service, client, away) as world:
        link, issued = world.link()
        visitor = Visitor()
        page = visitor.open(link)
        assert shown(page) == (200, "document")
        visitor.press(link, page)
        failed = visitor.fetch(link)
        assert shown(failed) == NOT_NOW
        assert "Download again" in visitor.open(link).text
        assert world.uses(issued) == 1


def test_while_the_service_is_away_a_page_explains_it(
    client: Credentials, content: ContentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("examples.document_gateway.__main__.PATIENCE_SECONDS", 0)
    with gateway(f"http://{HOST}:{free_port()}", client, content) as world:
        page = Visitor().open(f"{world.url}/d/{'ab' * 32}")
        assert shown(page) == NOT_NOW
        assert page.headers["Retry-After"] == "60"
        assert Visitor().open(f"{world.url}/healthz").text == "ok\n"


def test_every_answer_has_its_headers_and_no_log_line_a_token(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    link, issued = world.link()
    visitor = Visitor()
    page = visitor.open(link)
    answers = [page, visitor.press(link, page), visitor.fetch(link), visitor.open(link + "/nothing")]
    answers += [visitor.send("DELETE", link), visitor.send("POST", link, data={"visit": "x" * 9000})]
    for answer in answers:
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "Server" not in answer.headers
        for cookie in answer.raw.headers.getlist("Set-Cookie"):
            assert f"Path=/d/{issued.token}" in cookie
            assert "HttpOnly" in cookie
            assert "SameSite=Lax" in cookie
            assert "Secure" not in cookie  # http:// on this machine
        assert REPORT not in str(answer.headers) + answer.text
    assert [answer.status_code for answer in answers] == [200, 303, 200, 404, 405, 413]
    lines = [gateway_log.JsonFormatter().format(record) for record in caplog.records]
    ours = [json.loads(line) for line in lines if '"gateway.request"' in line]
    assert [line["status"] for line in ours] == [200, 303, 200, 404, 405, 413]
    assert ours[1]["tokenId"] == issued.token_id
    assert ours[1]["useId"] == world.tokens.status(issued.token_id).claims[0].use_id
    for record in caplog.records:
        if record.name.startswith(("document_gateway", "waitress", "examples")):
            assert issued.token not in record.getMessage() + str(vars(record))


def test_behind_https_cookies_are_for_https_alone(service: str, client: Credentials, content: Any) -> None:
    with gateway(service, client, content, PUBLIC_URL="https://documents.example") as world:
        link, _ = world.link()
        page = Visitor().open(link)
        assert "; Secure;" in page.headers["Set-Cookie"]
        assert page.headers["Strict-Transport-Security"] == "max-age=31536000"
