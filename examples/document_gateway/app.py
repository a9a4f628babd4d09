"""The gateway's pages: a link is looked at, its button is pressed, the document comes.

```
GET  /d/{token}           the page with the button, or why there is none; spends nothing
POST /d/{token}           the button: spends one use, lends the browser the document for nine minutes, and shows
                          the page again, which has the browser fetch the document
GET  /d/{token}/content   the document, whole or in ranges, for a browser that holds a lease
GET  /healthz             whether the gateway answers
```
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from flask import Flask, Response, g, make_response, redirect, render_template, request
from tokenservice_client import Introspection, Refused, TokenServiceClient, TokenServiceError, Use
from werkzeug.exceptions import HTTPException

from examples.document_gateway import refusals
from examples.document_gateway.content import ContentApi, ContentError, ContentUnavailable, Document, DocumentMissing
from examples.document_gateway.downloads import Downloads, TooMany
from examples.document_gateway.leases import (
    FRESH_VISIT_SECONDS,
    LEASE_SECONDS,
    VISIT_SECONDS,
    Lease,
    Leases,
    new_visit,
    token_id,
)
from examples.document_gateway.names import disposition, safe_name, size_in_words
from examples.document_gateway.person import Person, UntrustedWay, person
from examples.document_gateway.refusals import Page
from examples.document_gateway.settings import Settings

VISIT_COOKIE: Final = "visit"
LEASE_COOKIE: Final = "lease"
BEGUN_COOKIE: Final = "begun"
"""Has the page begin the download, once. It grants nothing: that is the lease's part."""

_ACTION: Final = "download"
_MAX_FORM_BYTES: Final = 8 * 1024
_BEGUN_SECONDS: Final = 60
_TOKEN: Final = re.compile(r"[0-9a-f]{64}")
_PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# Were a document shown in spite of its disposition, it could run nothing and load nothing.
_CONTENT_POLICY: Final = "default-src 'none'; frame-ancestors 'none'; sandbox"
_ALWAYS: Final = {
    "Cache-Control": "no-store",
    # The token is a part of the path: no other site may get it.
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

log = logging.getLogger("document_gateway")


class Shown(Exception):
    """Ends a request with a page that holds no document."""

    def __init__(self, page: Page) -> None:
        super().__init__(page.name)
        self.page = page


class _Quiet(Flask):
    """Flask would write the path of a request that fails, and the token is in it."""

    def log_exception(self, exc_info: Any) -> None:
        log.error("gateway.failed", exc_info=exc_info)


class Link(NamedTuple):
    """A link, and the person and the browser that open it."""

    token: str
    who: Person
    leases: Leases
    lease: Lease | None


class Gateway:
    """Handles the requests.

    Args:
        tokens: the token service.
        content: the documents.
    """

    def __init__(self, settings: Settings, tokens: TokenServiceClient, content: ContentApi) -> None:
        self._settings = settings
        self._tokens = tokens
        self._content = content
        self._downloads = Downloads()

    def look(self, token: str) -> Response:
        """Show the page. Link previews, mail scanners and HEAD come here: nothing is spent and nothing is counted."""
        link = self._link(token)
        answer = self._introspect(link)
        if link.lease is not None and (answer.active or answer.reason == "token_exhausted"):
            return self._page_with_button(link, name=safe_name(link.lease.name))
        if not answer.active or answer.node_id is None:
            raise Shown(refusals.page_for(answer.reason))
        document = self._describe(answer.node_id)
        name = _name(answer.metadata.get("name"), document)
        size = size_in_words(document.size if document else None)
        return self._page_with_button(link, name=name, size=size, uses=answer.uses_remaining)

    def press(self, token: str) -> Response:
        """Spend one use, unless this browser has the document on loan; then send it to the content."""
        link = self._link(token)
        visit = self._pressed_visit(link)
        if visit is None:
            # Nothing is spent for a form of another site, of another person, or of a browser without cookies.
            return self._back(token, "cookies" if VISIT_COOKIE not in request.cookies else "again")
        if link.lease is not None:
            return self._begun(token)
        use = self._use(link, link.who.address, visit)
        if use is None:
            # The page stood open since a use of ten minutes ago. It is shown anew, as it is now.
            return self._back(token, "again")
        name = _name(use.metadata.get("name"), None if "name" in use.metadata else self._describe(use.node_id))
        response = self._begun(token)
        lease = link.leases.sign_lease(Lease(visit, link.who.address, name))
        self._set_cookie(response, LEASE_COOKIE, lease, token, LEASE_SECONDS)
        return response

    def fetch(self, token: str) -> Response:
        """Stream the document to a browser with a lease. The token service repeats the grant; nothing is spent."""
        link = self._link(token)
        lease = link.lease
        if lease is None:
            return self._back(token)
        with ExitStack() as opened:
            opened.callback(self._begin(lease, link))
            if lease.address != link.who.address:
                # Phones change their networks. The token's addresses hold for the new one as well.
                answer = self._introspect(link)
                if not answer.active and answer.reason != "token_exhausted":
                    raise Shown(refusals.page_for(answer.reason))
            use = self._use(link, lease.address, lease.number)
            if use is None:
                # The grant is older than the lease, which was signed for a repeated one.
                response = self._back(token)
                response.delete_cookie(LEASE_COOKIE, path=f"/d/{token}")
                return response
            ranges = {name: request.headers[name] for name in ("Range", "If-Range") if name in request.headers}
            content = self._content.open(use.node_id, ranges)
            opened.callback(content.close)
            response = Response(content.pieces(), content.status, content.headers, content_type=content.content_type)
            response.headers["Content-Disposition"] = disposition(safe_name(lease.name, content.media_type))
            response.headers["Content-Security-Policy"] = _CONTENT_POLICY
            response.call_on_close(opened.pop_all().close)
        return response

    def _begin(self, lease: Lease, link: Link) -> Callable[[], None]:
        try:
            return self._downloads.begin(lease=lease.number, link=token_id(link.token))
        except TooMany as many:
            raise Shown(refusals.NOT_NOW if many.is_everybody else refusals.TOO_MANY) from None

    def _link(self, token: str) -> Link:
        if not _TOKEN.fullmatch(token):
            raise Shown(refusals.UNKNOWN)
        g.token_id = token_id(token)
        try:
            who = person(request.environ, self._settings.trusted_hops, self._settings.user_header)
        except UntrustedWay as untrusted:
            log.warning("gateway.untrusted", extra={"facts": {"reason": str(untrusted)}})
            raise Shown(refusals.WRONG_WAY) from None
        leases = Leases(self._settings.secret, token, who)
        return Link(token, who, leases, leases.read_lease(request.cookies.get(LEASE_COOKIE, "")))

    def _introspect(self, link: Link) -> Introspection:
        who = link.who
        answer = self._tokens.introspect(link.token, user=who.user, ip_address=who.address, action=_ACTION)
        g.reason = answer.reason
        return answer

    def _use(self, link: Link, address: str, number: str) -> Use | None:
        """Use the token, or repeat the grant of the same number; None if the number's grant is too old for that."""
        try:
            use = self._tokens.use(
                link.token, user=link.who.user, ip_address=address, action=_ACTION, idempotency_key=number
            )
        except Refused as refused:
            g.reason = refused.code
            if refused.code == "idempotency_key_reused":
                return None
            raise Shown(refusals.page_for(refused.code)) from None
        g.use_id = use.use_id
        return use

    def _pressed_visit(self, link: Link) -> str | None:
        """The visit whose form was sent; None if the form is not of this site, this person and this browser.

        Origin does not help: with our Referrer-Policy browsers send `null`. Browsers that send Sec-Fetch-Site are
        believed; the signed field is for all others.
        """
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return None
        visit = link.leases.read_visit(request.cookies.get(VISIT_COOKIE, ""))
        return visit if visit and link.leases.is_form_of(request.form.get("visit", ""), visit) else None

    def _describe(self, node_id: str) -> Document | None:
        """The document's name, type and size; None if the content API does not answer, so that the page still opens."""
        try:
            return self._content.describe(node_id)
        except ContentUnavailable as error:
            log.warning("gateway.content", extra={"facts": {"reason": str(error)}})
            return None

    def _page_with_button(self, link: Link, **shown: Any) -> Response:
        """The page. With a lease, the button downloads the document again."""
        leased, path = link.lease is not None, f"/d/{link.token}"
        # A visit that began a moment ago goes on, so that two pages of one link don't get in each other's way. It is
        # not signed anew: its number would outlive the time in which the token service repeats a grant.
        seconds = VISIT_SECONDS if leased else FRESH_VISIT_SECONDS
        going_on = link.leases.read_visit(request.cookies.get(VISIT_COOKIE, ""), seconds)
        visit = going_on or new_visit()
        begins = leased and BEGUN_COOKIE in request.cookies
        page = render_template(
            "open.html",
            **shown,
            leased=leased,
            begins=begins,
            content=f"{path}/content",
            minutes=LEASE_SECONDS // 60,
            note=request.args.get("note", ""),
            field=link.leases.sign_form(visit),
        )
        response = make_response(page)
        if begins:
            response.delete_cookie(BEGUN_COOKIE, path=path)
        if going_on is None:
            self._set_cookie(response, VISIT_COOKIE, link.leases.sign_visit(visit), link.token, VISIT_SECONDS)
        return response

    def _begun(self, token: str) -> Response:
        """Redirect to the document. A browser that shows pages gets the page again: its own would stay as it was."""
        is_page = request.headers.get("Sec-Fetch-Dest") == "document"
        response = self._as_response(
            redirect(f"/d/{token}" if is_page else f"/d/{token}/content", HTTPStatus.SEE_OTHER)
        )
        if is_page:
            self._set_cookie(response, BEGUN_COOKIE, "1", token, _BEGUN_SECONDS)
        return response

    def _back(self, token: str, note: str = "") -> Response:
        query = f"?note={note}" if note else ""
        return self._as_response(redirect(f"/d/{token}{query}", HTTPStatus.SEE_OTHER))

    @staticmethod
    def _as_response(answer: Any) -> Response:
        # Werkzeug's redirects come with a page of their own, which repeats the address.
        response = make_response(answer)
        response.data = b""
        return response

    def _set_cookie(self, response: Response, name: str, value: str, token: str, seconds: int) -> None:
        response.set_cookie(
            name,
            value,
            max_age=seconds,
            path=f"/d/{token}",
            secure=self._settings.is_https,
            httponly=True,
            # With Strict, a link in a mail that is opened a second time would come without its lease.
            samesite="Lax",
        )


def create_app(settings: Settings, tokens: TokenServiceClient, content: ContentApi) -> Flask:
    app = _Quiet(__name__)
    app.config["MAX_CONTENT_LENGTH"] = _MAX_FORM_BYTES
    # Else `//` in a path is redirected to an address that contains the request's Host header.
    app.url_map.merge_slashes = False
    gateway = Gateway(settings, tokens, content)
    app.add_url_rule("/d/<token>", "look", gateway.look)
    app.add_url_rule("/d/<token>", "press", gateway.press, methods=["POST"])
    app.add_url_rule("/d/<token>/content", "fetch", gateway.fetch)
    app.add_url_rule("/healthz", "healthz", lambda: ("ok\n", {"Content-Type": "text/plain; charset=utf-8"}))
    app.register_error_handler(Shown, lambda shown: _show(shown.page))
    app.register_error_handler(ContentError, _backend_failed)
    app.register_error_handler(TokenServiceError, _backend_failed)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _defect)
    app.before_request(_begin)
    app.after_request(lambda response: _finish(response, settings))
    return app


def _name(metadata_name: str | None, document: Document | None) -> str:
    """What the document is called: by its issuer, else by the content API."""
    media_type = document.media_type if document else ""
    return safe_name(metadata_name or (document.name if document else ""), media_type)


def _show(page: Page) -> Response:
    g.page = page.name
    response = make_response(render_template("refused.html", page=page), page.status)
    if page.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        response.headers["Retry-After"] = "60"
    return response


def _backend_failed(error: ContentError | TokenServiceError) -> Response:
    is_missing = isinstance(error, DocumentMissing)
    name = "gateway.content" if isinstance(error, ContentError) else "gateway.tokens"
    facts = {"reason": str(error), "tokenId": g.get("token_id")}
    log.log(logging.WARNING if is_missing else logging.ERROR, name, extra={"facts": facts})
    return _show(refusals.DOCUMENT_GONE if is_missing else refusals.NOT_NOW)


def _http_error(error: HTTPException) -> Response:
    page = refusals.NO_SUCH_PAGE if error.code == HTTPStatus.NOT_FOUND else refusals.WRONG_WAY
    response = _show(page)
    response.status_code = error.code or HTTPStatus.BAD_REQUEST
    allowed = getattr(error, "valid_methods", None)
    if allowed:
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def _defect(error: Exception) -> Response:
    log.error("gateway.failed", exc_info=error)
    return _show(refusals.NOT_NOW)


def _begin() -> None:
    g.begun = time.monotonic()


def _finish(response: Response, settings: Settings) -> Response:
    """Headers for every answer, and a line in the log that names the route and never the path."""
    is_style = request.endpoint == "static"
    is_news = request.endpoint not in ("static", "healthz")
    response.headers.setdefault("Content-Security-Policy", _PAGE_POLICY)
    response.headers.update(_ALWAYS)
    if settings.is_https:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    if is_style:
        response.headers["Cache-Control"] = "public, max-age=3600"
    if is_news:
        facts = {
            "method": request.method,
            "route": request.url_rule.rule if request.url_rule else None,
            "status": response.status_code,
            "tokenId": g.get("token_id"),
            "page": g.get("page"),
            "reason": g.get("reason"),
            "useId": g.get("use_id"),
            "milliseconds": round((time.monotonic() - g.get("begun", time.monotonic())) * 1000, 1),
        }
        log.info(
            "gateway.request", extra={"facts": {name: value for name, value in facts.items() if value is not None}}
        )
    return response
