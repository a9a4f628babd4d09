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

import hmac
import logging
import re
import secrets
import time
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from flask import Flask, Response, g, make_response, render_template, request
from tokenservice_client import Introspection, Refused, TokenServiceClient, TokenServiceError, Use
from werkzeug.exceptions import HTTPException

from examples.document_gateway import leases, refusals
from examples.document_gateway.content import ContentApi, ContentError, ContentUnavailable, Document, DocumentMissing
from examples.document_gateway.downloads import Downloads, TooMany
from examples.document_gateway.leases import FRESH_VISIT_SECONDS, VISIT_SECONDS, Lease, Leases, token_id
from examples.document_gateway.names import disposition, safe_name
from examples.document_gateway.person import Person, UntrustedWay, person
from examples.document_gateway.refusals import Page
from examples.document_gateway.settings import Settings

VISIT_COOKIE: Final = "visit"
LEASE_COOKIE: Final = "lease"

_ACTION: Final = "download"
_MAX_FORM_BYTES: Final = 8 * 1024
_TOKEN: Final = re.compile(r"[0-9a-f]{64}")
_PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# Were a document shown in spite of its disposition, it could run nothing and load nothing.
_CONTENT_POLICY: Final = "default-src 'none'; frame-ancestors 'none'; sandbox"
_ALWAYS: Final = {
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
            return self._page_with_button(link, name=link.lease.name)
        if answer.node_id is None:
            raise Shown(refusals.BY_REASON.get(answer.reason, refusals.UNKNOWN))
        document = self._describe(answer.node_id)
        name = safe_name(answer.metadata.get("name", document.name))
        return self._page_with_button(link, name=name, size=document.size, uses=answer.uses_remaining)

    def press(self, token: str) -> Response:
        """Spend one use, unless this browser has the document on loan; then show the page again."""
        link = self._link(token)
        visit = self._pressed_visit(link)
        if visit is None:
            # Nothing is spent for a form of another site, of another person, or of a browser without cookies.
            return self._back(token, "cookies" if VISIT_COOKIE not in request.cookies else "again")
        if link.lease is not None:
            return self._back(token, "begun")
        use = self._use(link, link.who.address, visit)
        if use is None:
            # The page stood open since a use of ten minutes ago. It is shown anew, as it is now.
            return self._back(token, "again")
        name = use.metadata["name"] if "name" in use.metadata else self._describe(use.node_id).name
        lease = link.leases.sign_lease(Lease(visit, link.who.address, safe_name(name)))
        response = self._back(token, "begun")
        self._set_cookie(response, LEASE_COOKIE, lease, token, leases.LEASE_SECONDS)
        return response

    def fetch(self, token: str) -> Response:
        """Stream the document to a browser with a lease. The token service repeats the grant; nothing is spent."""
        link = self._link(token)
        lease = link.lease
        if lease is None:
            return self._back(token)
        with ExitStack() as opened:
            opened.enter_context(self._downloads.one_more(token_id(token)))
            if lease.address != link.who.address:
                # Phones change their networks. The token's addresses hold for the new one as well.
                answer = self._introspect(link)
                if not answer.active and answer.reason != "token_exhausted":
                    raise Shown(refusals.BY_REASON.get(answer.reason, refusals.UNKNOWN))
            use = self._use(link, lease.address, lease.number)
            if use is None:
                # The grant is older than the lease, which was signed for a repeated one.
                response = self._back(token)
                response.delete_cookie(LEASE_COOKIE, path=f"/d/{token}")
                return response
            ranges = {name: request.headers[name] for name in ("Range", "If-Range") if name in request.headers}
            content = self._content.open(use.node_id, ranges)
            opened.callback(content.close)
            response = Response(content.pieces(), content.status, content.headers)
            response.headers["Content-Disposition"] = disposition(lease.name)
            response.headers["Content-Security-Policy"] = _CONTENT_POLICY
            response.call_on_close(opened.pop_all().close)
        return response

    def _link(self, token: str) -> Link:
        if not _TOKEN.fullmatch(token):
            raise Shown(refusals.UNKNOWN)
        g.facts["tokenId"] = token_id(token)
        who = person(request.environ, self._settings.trusted_hops, self._settings.user_header)
        signed = Leases(self._settings.secret, token, who)
        return Link(token, who, signed, signed.read_lease(request.cookies.get(LEASE_COOKIE, "")))

    def _introspect(self, link: Link) -> Introspection:
        who = link.who
        answer = self._tokens.introspect(link.token, user=who.user, ip_address=who.address, action=_ACTION)
        g.facts["reason"] = answer.reason
        return answer

    def _use(self, link: Link, address: str, number: str) -> Use | None:
        """Use the token, or repeat the grant of the same number; None if the number's grant is too old for that."""
        try:
            use = self._tokens.use(
                link.token, user=link.who.user, ip_address=address, action=_ACTION, idempotency_key=number
            )
        except Refused as refused:
            g.facts["reason"] = refused.code
            if refused.code == "idempotency_key_reused":
                return None
            raise Shown(refusals.BY_REASON.get(refused.code, refusals.UNKNOWN)) from None
        g.facts["useId"] = use.use_id
        return use

    def _pressed_visit(self, link: Link) -> str | None:
        """The visit whose form was sent; None if the form is not of this site, this person and this browser.

        Origin does not help: with our Referrer-Policy browsers send `null`. Browsers that send Sec-Fetch-Site are
        believed; for all others the form's field is compared with the cookie, which no other site can read.
        """
        cookie = request.cookies.get(VISIT_COOKIE, "")
        is_ours = request.headers.get("Sec-Fetch-Site", "same-origin") in ("same-origin", "none")
        is_of_cookie = hmac.compare_digest(request.form.get("visit", "").encode(), cookie.encode())
        return link.leases.read_visit(cookie) if is_ours and is_of_cookie else None

    def _describe(self, node_id: str) -> Document:
        """The document's name and size; unknown if the content API does not answer, so that the page still opens."""
        try:
            return self._content.describe(node_id)
        except ContentUnavailable as error:
            log.warning("gateway.content", extra={"facts": {"reason": str(error)}})
            return Document("", None)

    def _page_with_button(self, link: Link, **shown: Any) -> Response:
        """The page. With a lease, the button downloads the document again."""
        is_leased = link.lease is not None
        # A visit that began a moment ago goes on, so that two pages of one link don't get in each other's way. It is
        # not signed anew: its number would outlive the time in which the token service repeats a grant.
        visit = request.cookies.get(VISIT_COOKIE, "")
        goes_on = link.leases.read_visit(visit, VISIT_SECONDS if is_leased else FRESH_VISIT_SECONDS)
        if not goes_on:
            visit = link.leases.sign_visit(secrets.token_hex(16))
        note = request.args.get("note")
        response = make_response(
            render_template(
                "open.html",
                **shown,
                leased=is_leased,
                note=note if is_leased or note != "begun" else None,
                content=f"/d/{link.token}/content",
                minutes=leases.LEASE_SECONDS // 60,
                visit=visit,
            )
        )
        if not goes_on:
            self._set_cookie(response, VISIT_COOKIE, visit, link.token, VISIT_SECONDS)
        return response

    @staticmethod
    def _back(token: str, note: str = "") -> Response:
        location = f"/d/{token}?note={note}" if note else f"/d/{token}"
        return Response(status=HTTPStatus.SEE_OTHER, headers={"Location": location})

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
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = _MAX_FORM_BYTES
    # Else `//` in a path is redirected to an address that contains the request's Host header.
    app.url_map.merge_slashes = False
    gateway = Gateway(settings, tokens, content)
    app.add_url_rule("/d/<token>", "look", gateway.look)
    app.add_url_rule("/d/<token>", "press", gateway.press, methods=["POST"])
    app.add_url_rule("/d/<token>/content", "fetch", gateway.fetch)
    app.add_url_rule("/healthz", "healthz", lambda: ("ok\n", {"Content-Type": "text/plain; charset=utf-8"}))
    app.register_error_handler(Exception, _failed)
    app.before_request(_begin)
    app.after_request(lambda response: _finish(response, settings))
    return app


def _failed(error: Exception) -> Response:
    """The page for what ended a request."""
    match error:
        case Shown():
            return _show(error.page)
        case UntrustedWay():
            g.facts["reason"] = str(error)
            return _show(refusals.WRONG_WAY)
        case TooMany():
            return _show(refusals.TOO_MANY)
        case DocumentMissing():
            g.facts["reason"] = str(error)
            return _show(refusals.DOCUMENT_GONE)
        case HTTPException():
            response = _show(refusals.NO_SUCH_PAGE if error.code == HTTPStatus.NOT_FOUND else refusals.WRONG_WAY)
            response.status_code = error.code or HTTPStatus.BAD_REQUEST
            response.headers.extend(header for header in error.get_headers() if header[0] == "Allow")
            return response
        case ContentError() | TokenServiceError():
            log.error("gateway.backend", extra={"facts": {**g.facts, "reason": str(error)}})
        case _:
            log.error("gateway.failed", exc_info=error)
    return _show(refusals.NOT_NOW)


def _show(page: Page) -> Response:
    g.facts["page"] = page.name
    response = make_response(render_template("refused.html", page=page.name), page.status)
    if page in (refusals.NOT_NOW, refusals.TOO_MANY):
        response.headers["Retry-After"] = "60"
    return response


def _begin() -> None:
    g.begun = time.monotonic()
    g.facts = {}


def _finish(response: Response, settings: Settings) -> Response:
    """Headers for every answer, and a line in the log that names the route and never the path."""
    response.headers.setdefault("Content-Security-Policy", _PAGE_POLICY)
    response.headers.update(_ALWAYS)
    response.headers["Cache-Control"] = "public, max-age=3600" if request.endpoint == "static" else "no-store"
    if settings.is_https:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    if request.endpoint not in ("static", "healthz"):
        facts = {
            "method": request.method,
            "route": request.url_rule.rule if request.url_rule else None,
            "status": response.status_code,
            **g.facts,
            "milliseconds": round((time.monotonic() - g.begun) * 1000, 1),
        }
        log.info("gateway.request", extra={"facts": facts})
    return response
