"""The gateway's pages: a link is looked at, its button is pressed, the document comes.

```
GET  /d/{token}                        the page with the button, or why there is none; spends nothing
POST /d/{token}                        the button: spends one use; the page has the browser fetch the document
GET  /d/{token}/content?visit={visit}  the document, whole or in ranges, for the page that was pressed
```
A visit is a random number in the page with the button. It is the idempotency key of the use, so pressing twice, or
again after a lost answer, is one use. Each download repeats the use with the same number, which spends nothing for ten
minutes and fails at once if the token is revoked. So the gateway stores nothing, and browsers need no cookie.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
import traceback
import unicodedata
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from flask import Flask, Response, abort, g, redirect, render_template, request
from tokenservice_client import Refused, TokenServiceClient, Use
from werkzeug.exceptions import HTTPException

from examples.document_gateway import refusals
from examples.document_gateway.content import ContentApi, DocumentMissing
from examples.document_gateway.refusals import Page
from examples.document_gateway.settings import Settings

_ACTION: Final = "download"
_TOKEN: Final = re.compile(r"[0-9a-f]{64}")
_VISIT: Final = re.compile(r"[0-9a-f]{32}")
_MAX_FORM_BYTES: Final = 8 * 1024
_PIECE_BYTES: Final = 64 * 1024
_FORWARDED: Final = (
    *("Content-Type", "Content-Encoding", "Content-Range"),
    *("Accept-Ranges", "ETag", "Last-Modified"),
)
"""Headers of the content API that a browser gets."""
# Were a document shown in spite of its disposition, it could run nothing and load nothing.
_CONTENT_POLICY: Final = "default-src 'none'; frame-ancestors 'none'; sandbox"
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'",
    # The token is a part of the path: no other site may get it.
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}

log = logging.getLogger("document_gateway")


class Shown(Exception):
    """Ends a request with a page that holds no document."""

    def __init__(self, page: Page) -> None:
        super().__init__(page.name)
        self.page = page


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

    def look(self, token: str) -> str:
        """Show the page. Link previews, mail scanners and HEAD come here: nothing is spent and nothing is counted."""
        _check(token)
        answer = self._tokens.introspect(token, **self._person(), action=_ACTION)
        if answer.node_id is None:
            raise Shown(refusals.page_of(answer.reason))
        document = self._content.describe(answer.node_id)
        name = safe_name(answer.metadata.get("name", document.name))
        visit = secrets.token_hex(16)
        return render_template("open.html", name=name, size=document.size, uses=answer.uses_remaining, visit=visit)

    def press(self, token: str) -> str:
        """Spend one use, or repeat the one of this visit, and have the browser fetch the document."""
        visit = request.form.get("visit", "")
        use = self._use(token, visit)
        return render_template("begun.html", name=self._name(use), content=f"/d/{token}/content?visit={visit}")

    def fetch(self, token: str) -> Response:
        """Stream the document. The token service repeats the grant of the visit; nothing is spent."""
        use = self._use(token, request.args.get("visit", ""))
        name = self._name(use)
        ranges = {name: request.headers[name] for name in ("Range", "If-Range") if name in request.headers}
        content = self._content.open(use.node_id, ranges)
        headers = {name: content.headers[name] for name in _FORWARDED if name in content.headers}
        if content.raw.length_remaining is not None:  # as urllib3 read it; a wrong length is not passed on
            headers["Content-Length"] = str(content.raw.length_remaining)
        # As it is on the line: a length that was announced is that of these bytes. If they end early, urllib3 raises,
        # and the answer to the browser ends early as well.
        pieces = content.raw.stream(_PIECE_BYTES, decode_content=False)
        response = Response(pieces, content.status_code, headers)
        response.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"  # RFC 6266
        response.headers["Content-Security-Policy"] = _CONTENT_POLICY
        response.call_on_close(content.close)
        return response

    def _use(self, token: str, visit: str) -> Use:
        _check(token)
        # A form of another site has no visit of ours, and a current browser says where it comes from.
        is_ours = request.headers.get("Sec-Fetch-Site", "same-origin") in ("same-origin", "none")
        if not is_ours or not _VISIT.fullmatch(visit):
            abort(redirect(f"/d/{token}", 303))
        try:
            use = self._tokens.use(token, **self._person(), action=_ACTION, idempotency_key=visit)
        except Refused as refused:
            if refused.code == "idempotency_key_reused":  # the page stood open since a use of ten minutes ago
                abort(redirect(f"/d/{token}", 303))
            raise Shown(refusals.page_of(refused.code)) from None
        g.facts["useId"] = use.use_id
        return use

    def _name(self, use: Use) -> str:
        return safe_name(use.metadata.get("name") or self._content.describe(use.node_id).name)

    def _person(self) -> dict[str, Any]:
        """The person who sends the request: their address, and their name if a trusted proxy sends it.

        Each trusted proxy writes the address that it sees at the end of X-Forwarded-For. With n of them, the n-th entry
        from the end was written by the outermost one; the person can write all before it.
        """
        hops, header = self._settings.trusted_hops, self._settings.user_header
        if not hops:
            return {"ip_address": request.remote_addr}
        passed = request.headers.get("X-Forwarded-For", "").split(",")
        if len(passed) < hops:
            raise Shown(refusals.WRONG_WAY)
        # WSGI hands bytes on as Latin-1 (PEP 3333); proxies write UTF-8.
        user = request.headers.get(header, "").encode("latin-1").decode("utf-8", "replace") if header else ""
        return {"ip_address": passed[-hops].strip(), "user": user or None}


def safe_name(name: str) -> str:
    """A name that is a file name and nothing else, without characters that turn the direction of writing."""
    shown = "".join(char for char in name if unicodedata.category(char)[0] != "C")
    return re.sub(r'[/\\:*?"<>|%]', "_", shown).strip(". ") or "document"


def create_app(settings: Settings, tokens: TokenServiceClient, content: ContentApi) -> Flask:
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = _MAX_FORM_BYTES
    # Else `//` in a path is redirected to an address that contains the request's Host header.
    app.url_map.merge_slashes = False
    gateway = Gateway(settings, tokens, content)
    app.add_url_rule("/d/<token>", "look", gateway.look)
    app.add_url_rule("/d/<token>", "press", gateway.press, methods=["POST"])
    app.add_url_rule("/d/<token>/content", "fetch", gateway.fetch)
    app.register_error_handler(Exception, _failed)
    app.before_request(_begin)
    app.after_request(_finish)
    return app


def _check(token: str) -> None:
    if not _TOKEN.fullmatch(token):
        raise Shown(refusals.UNKNOWN)
    # The id may be logged. Source: the service's contract.
    g.facts["tokenId"] = "tok_" + hashlib.sha256(token.encode()).hexdigest()[:32]


def _failed(error: Exception) -> tuple[str, int]:
    """The page for what ended a request."""
    if isinstance(error, Shown):
        page, status = error.page, error.page.status
    elif isinstance(error, HTTPException):
        status = error.code or HTTPStatus.BAD_REQUEST
        page = refusals.NO_SUCH_PAGE if status == HTTPStatus.NOT_FOUND else refusals.WRONG_WAY
    else:
        page = refusals.DOCUMENT_GONE if isinstance(error, DocumentMissing) else refusals.NOT_NOW
        status, g.facts["failure"] = page.status, "".join(traceback.format_exception(error))
    return render_template("refused.html", page=page.name), status


def _begin() -> None:
    g.facts = {}


def _finish(response: Response) -> Response:
    """Headers for every answer, and a line in the log that names the route and never the path."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    route = request.url_rule.rule if request.url_rule else None
    line = json.dumps({"method": request.method, "route": route, "status": response.status_code, **g.facts})
    log.info(_TOKEN.sub("[token]", line))
    return response
