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
from examples.document_gateway import refusals
from examples.document_gateway.content_server import DOCUMENTS, REPORT, ContentServer, Stored
from tests.support.api import Credentials
from tests.support.gateway_world import ELSEWHERE, USER_HEADER, Visitor, World, gateway
from tests.support.waiting import wait_until

PDF = DOCUMENTS[REPORT].content
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


def title_of(page: requests.Response) -> str:
    title = re.search(r"<h1>(.*?)</h1>", page.text)
    return html.unescape(title[1]) if title else ""


def test_one_press_is_one_use_and_brings_the_document(world: World) -> None:
    link, issued = world.link()
    visitor = Visitor()
    page = visitor.open(link)
    assert (page.status_code, title_of(page)) == (200, "Annual report 2026.pdf")
    assert world.uses(issued) == 0
    sent = visitor.press(link, page)
    assert (sent.status_code, sent.headers["Location"]) == (303, f"/d/{issued.token}/content")
    document = visitor.fetch(link)
    assert (document.status_code, document.content) == (200, PDF)
    assert document.headers["Content-Disposition"] == 'attachment; filename="Annual report 2026.pdf"'
    assert world.uses(issued) == 1


def test_the_use_has_the_user_and_the_address(behind_proxy: World) -> None:
    link, issued = behind_proxy.link(user="größe", ip_addresses=[ELSEWHERE])
    assert someone("größe".encode()).press(link).status_code == 303
    [claim] = behind_proxy.tokens.status(issued.token_id).claims
    assert (claim.user, claim.ip_address, claim.action) == ("größe", ELSEWHERE, "download")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("agent", ["Slackbot-LinkExpanding 1.0", "Mozilla/5.0 SafeLinks"])
def test_nothing_but_the_button_spends(world: World, method: str, agent: str) -> None:
    link, issued = world.link()
    for path in ("", "/content"):
        for _ in range(3):
            Visitor({"User-Agent": agent}).send(method, link + path)
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
    assert victim.press(link, headers={"Sec-Fetch-Site": "same-origin"}).headers["Location"].endswith("/content")


def test_pressing_twice_and_from_two_pages_and_again_after_a_lost_answer_is_one_use(world: World) -> None:
    link, issued = world.link(max_uses=3)
    visitor = Visitor()
    pages = [visitor.open(link), visitor.open(link)]
    with ThreadPoolExecutor(4) as threads:
        sent = list(threads.map(lambda number: Visitor.press(_copy(visitor), link, pages[number % 2]), range(4)))
    assert {answer.headers["Location"] for answer in sent} == {f"/d/{issued.token}/content"}
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
    assert visitor.press(link).headers["Location"].endswith("/content")
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
        failing.setattr(content, "breaks_off_after", 300_000)
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
        assert title_of(other.open(link)) == refusals.USED_UP.title
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
    assert title_of(alice.fetch(link)) == refusals.NOT_FOR_YOU.title
    assert behind_proxy.uses(issued) == 1


def test_a_lease_ends_with_its_time_and_with_the_token(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    link, issued = world.link()
    visitor = Visitor()
    visitor.press(link)
    with monkeypatch.context() as later:
        later.setattr("examples.document_gateway.leases.LEASE_SECONDS", -1)
        assert visitor.fetch(link).headers["Location"] == f"/d/{issued.token}"
        assert title_of(visitor.open(link)) == refusals.USED_UP.title
    assert visitor.fetch(link).status_code == 200
    world.tokens.revoke(issued.token_id)
    assert title_of(visitor.fetch(link)) == refusals.UNKNOWN.title


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
        ({"user": "bob"}, someone("alice"), refusals.NOT_FOR_YOU),
        ({"user": "bob"}, someone(None), refusals.NOT_FOR_YOU),
        ({"ip_addresses": ["198.51.100.0/24"]}, someone(), refusals.NOT_FOR_YOU),
        # What the person wrote in front of the proxy's word counts for nothing.
        ({"ip_addresses": ["203.0.113.9"]}, someone(), refusals.NOT_FOR_YOU),
        ({"not_before": datetime.now(UTC) + timedelta(days=1), "expires_in": 172_800}, someone(), refusals.TOO_EARLY),
        ({"actions": ["preview"]}, someone(), refusals.UNKNOWN),
        ({"audience": ["another-application"]}, someone(), refusals.UNKNOWN),
    ],
)
def test_a_refusal_shows_what_a_person_can_do_and_nothing_else(
    behind_proxy: World, terms: dict[str, Any], visitor: Visitor, expected: refusals.Page
) -> None:
    link, issued = behind_proxy.link(metadata={"name": "Secret merger.pdf"}, **terms)
    page = visitor.open(link)
    assert (page.status_code, title_of(page)) == (expected.status, expected.title)
    for secret in ("Secret merger", "bob", "198.51.100", "203.0.113", REPORT, "another-application", "<button"):
        assert secret not in page.text
    assert visitor.press(link).headers["Location"].endswith("?note=cookies")
    assert (behind_proxy.uses(issued), behind_proxy.tokens.status(issued.token_id).mismatches) == (0, 0)


def test_an_expired_link_and_one_withdrawn_between_page_and_press(world: World) -> None:
    link, _ = world.link(expires_in=1)
    assert wait_until(lambda: title_of(Visitor().open(link)).removeprefix("Annual report 2026.pdf")) == (
        refusals.EXPIRED.title
    )
    link, issued = world.link()
    visitor = Visitor()
    page = visitor.open(link)
    world.tokens.revoke(issued.token_id)
    assert title_of(visitor.press(link, page)) == refusals.UNKNOWN.title


@pytest.mark.parametrize(
    "odd", ["", "0", "ab" * 31, "AB" * 32, "ab" * 32 + "%00", "ab" * 33, "%2e%2e", "<script>", "ab" * 32, "z" * 5000]
)
def test_odd_tokens_are_links_that_do_not_work(world: World, odd: str) -> None:
    for method in ("GET", "POST"):
        page = Visitor().send(method, f"{world.url}/d/{odd}")
        if page.status_code == 303:
            page = Visitor().open(f"{world.url}{page.headers['Location']}")
        assert page.status_code == 404
        assert "<script>" not in page.text
        assert page.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("forwarded", [None, "", "unknown", "alice", "192.0.2.7, "])
def test_who_did_not_come_by_the_proxy_is_not_believed(behind_proxy: World, forwarded: str | None) -> None:
    link, _ = behind_proxy.link()
    visitor = Visitor({USER_HEADER: "alice", **({"X-Forwarded-For": forwarded} if forwarded is not None else {})})
    expected = 200 if forwarded and "192" in forwarded else 400
    assert visitor.open(link).status_code == expected


def test_a_name_can_neither_leave_its_header_nor_its_page(world: World) -> None:
    link, _ = world.link(ODD)
    visitor = Visitor()
    page = visitor.open(link)
    assert "<b>" not in page.text
    visitor.press(link, page)
    document = visitor.fetch(link)
    assert document.headers["Content-Disposition"] == 'attachment; filename="_ev_ilgpj.exeX_ y_b_.html"'
    assert document.headers["Content-Security-Policy"].endswith("sandbox")
    assert document.headers["X-Content-Type-Options"] == "nosniff"
    assert "X" not in document.headers


def test_the_issuer_may_name_the_document(world: World) -> None:
    link, _ = world.link(metadata={"name": "Größe \U0001f600.pdf"})
    visitor = Visitor()
    assert title_of(visitor.open(link)) == "Größe \U0001f600.pdf"
    visitor.press(link)
    assert visitor.fetch(link).headers["Content-Disposition"] == (
        "attachment; filename=\"Groe.pdf\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%F0%9F%98%80.pdf"
    )


@pytest.mark.parametrize("node_id", ["gone", "..", "../../admin", "a/b", "a?b", "a b"])
def test_a_document_that_is_not_there_is_reported_before_anything_is_spent(world: World, node_id: str) -> None:
    before = len(world.content.requests)
    link, issued = world.link(node_id)
    assert title_of(Visitor().open(link)) == refusals.DOCUMENT_GONE.title
    assert world.uses(issued) == 0
    for path, _ in world.content.requests[before:]:
        assert path.endswith("/nodes/gone")


def test_while_the_content_is_away_nothing_is_lost(service: str, client: Credentials) -> None:
    with ContentServer("gateway", "the content's password") as away:
        pass
    with gateway(service, client, away) as world:
        link, issued = world.link()
        visitor = Visitor()
        page = visitor.open(link)
        assert (page.status_code, title_of(page)) == (200, "document")
        visitor.press(link, page)
        failed = visitor.fetch(link)
        assert (failed.status_code, title_of(failed)) == (503, refusals.NOT_NOW.title)
        assert "Download again" in visitor.open(link).text
        assert world.uses(issued) == 1


def test_while_the_service_is_away_a_page_explains_it(
    client: Credentials, content: ContentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("examples.document_gateway.__main__.PATIENCE_SECONDS", 0)
    with gateway(f"http://{HOST}:{free_port()}", client, content) as world:
        page = Visitor().open(f"{world.url}/d/{'ab' * 32}")
        assert (page.status_code, title_of(page)) == (503, refusals.NOT_NOW.title)
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
