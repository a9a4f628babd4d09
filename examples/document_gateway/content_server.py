"""A server in place of Alfresco: two documents behind the two calls of the gateway, with ranges and credentials."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

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


def content_server(user: str, password: str, documents: Mapping[str, Stored] = DOCUMENTS) -> Flask:
    """The application that has these documents, node id to document."""
    app = Flask(__name__)

    def stored(node_id: str) -> Stored:
        sent = request.authorization
        if sent is None or (sent.username, sent.password) != (user, password):
            abort(HTTPStatus.UNAUTHORIZED)
        return documents.get(node_id) or abort(HTTPStatus.NOT_FOUND)

    @app.get(f"{NODES_PATH}/<node_id>")
    def describe(node_id: str) -> dict[str, Any]:
        document = stored(node_id)
        content = {"mimeType": document.media_type, "sizeInBytes": len(document.content)}
        return {"entry": {"id": node_id, "name": document.name, "content": content}}

    @app.get(f"{NODES_PATH}/<node_id>/content")
    def send(node_id: str) -> Response:
        document = stored(node_id)
        etag = hashlib.sha256(document.content).hexdigest()[:16]
        return send_file(io.BytesIO(document.content), document.media_type, etag=etag)

    return app


@contextmanager
def serving(app: Flask, port: int = 0) -> Iterator[str]:
    """Serve an application on this machine until the end of the block; yields its address. Port 0: a free one."""
    server = make_server(HOST, port, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://{HOST}:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Nothing: paths hold tokens and document ids."""
