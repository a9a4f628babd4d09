"""A server in place of Alfresco: two documents behind the two calls of the gateway, with ranges and credentials."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self

from flask import Flask, Response, abort, request, send_file
from werkzeug.serving import WSGIRequestHandler, make_server

from examples.document_gateway.content import NODES_PATH

HOST: Final = "127.0.0.1"
REPORT: Final = "f2f42052-6e24-4c54-bc15-1e0bb6dce9f7"
PAGE: Final = "8a1c9e57-0b7d-4b0e-9a3f-2f6f5f0f8c11"


class Stored(NamedTuple):
    """One document."""

    name: str
    media_type: str
    content: bytes


DOCUMENTS: Final[Mapping[str, Stored]] = MappingProxyType(
    {
        REPORT: Stored(
            "Annual report 2026.pdf", "application/pdf", Path(__file__).with_name("sample.pdf").read_bytes()
        ),
        PAGE: Stored("notes.html", "text/html", b"<script>document.title = 'shown'</script>"),
    }
)


class ContentServer:
    """Serves documents on a free port of this machine until the end of the block.

    Attributes:
        app: answers the requests.
        documents: node id to document.
        paths: of the requests that came.
    """

    def __init__(self, user: str, password: str, documents: Mapping[str, Stored] = DOCUMENTS) -> None:
        self.documents = dict(documents)
        self.paths: list[str] = []
        self._credentials = ("basic", user, password)
        self.app = app = Flask(__name__)
        app.before_request(self._check)
        app.add_url_rule(f"{NODES_PATH}/<node_id>", "describe", self._describe)
        app.add_url_rule(f"{NODES_PATH}/<node_id>/content", "send", self._send)
        self._server = make_server(HOST, 0, app, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _check(self) -> None:
        self.paths.append(request.path)
        sent = request.authorization
        if sent is None or (sent.type, sent.username, sent.password) != self._credentials:
            abort(HTTPStatus.UNAUTHORIZED)

    def _stored(self, node_id: str) -> Stored:
        return self.documents.get(node_id) or abort(HTTPStatus.NOT_FOUND)

    def _describe(self, node_id: str) -> dict[str, Any]:
        stored = self._stored(node_id)
        content = {"mimeType": stored.media_type, "sizeInBytes": len(stored.content)}
        return {"entry": {"id": node_id, "name": stored.name, "content": content}}

    def _send(self, node_id: str) -> Response:
        stored = self._stored(node_id)
        etag = hashlib.sha256(stored.content).hexdigest()[:16]
        return send_file(io.BytesIO(stored.content), stored.media_type, etag=etag)


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Nothing: document ids are not for a terminal."""
