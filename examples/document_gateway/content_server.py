"""A server in place of Alfresco: two documents behind the two calls of the gateway, with ranges and credentials."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

from examples.document_gateway.content import NODES_PATH

HOST: Final = "127.0.0.1"
REPORT: Final = "f2f42052-6e24-4c54-bc15-1e0bb6dce9f7"
PAGE: Final = "8a1c9e57-0b7d-4b0e-9a3f-2f6f5f0f8c11"

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True)
class Stored:
    """One document."""

    name: str
    media_type: str
    content: bytes

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'


def a_pdf(text: str) -> bytes:
    """One page of PDF 1.4 with one line in it. Source: ISO 32000-1, annex H."""
    drawn = f"BT /F1 24 Tf 72 720 Td ({text}) Tj ET".encode("ascii")
    fonts = b"<< /F1 5 0 R >>"
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font %s >> >>" % fonts,
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    written = b"%PDF-1.4\n"
    offsets = []
    for number, item in enumerate(objects, 1):
        offsets.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, item)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    written_at = len(written)
    size = len(objects) + 1
    written += b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, table)
    return written + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, written_at)


DOCUMENTS: Final[Mapping[str, Stored]] = MappingProxyType(
    {
        REPORT: Stored("Annual report 2026.pdf", "application/pdf", a_pdf("Annual report 2026")),
        PAGE: Stored("notes.html", "text/html", b"<script>document.title = 'shown'</script>"),
    }
)


class ContentServer(ThreadingHTTPServer):
    """Serves documents on a free port of this machine until the end of the block.

    Attributes:
        documents: node id to document.
        requests: their paths and Range headers.
        breaks_off_after: None: never; otherwise a content ends after so many bytes, though more were announced.
    """

    daemon_threads = True

    def __init__(self, user: str, password: str, documents: Mapping[str, Stored] = DOCUMENTS) -> None:
        super().__init__((HOST, 0), _Handler)
        self.documents = dict(documents)
        self.authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.requests: list[tuple[str, str | None]] = []
        self.breaks_off_after: int | None = None
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the midst of a document is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: ContentServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Range")))
        if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), self.server.authorization.encode()):
            self._json(HTTPStatus.UNAUTHORIZED, {"error": {"briefSummary": "Authentication failed"}})
            return
        node_id, _, below = self.path.removeprefix(f"{NODES_PATH}/").partition("/")
        stored = self.server.documents.get(node_id) if self.path.startswith(f"{NODES_PATH}/") else None
        if stored is None or below not in ("", "content"):
            self._json(HTTPStatus.NOT_FOUND, {"error": {"briefSummary": "The entity was not found"}})
        elif below == "content":
            self._content(stored)
        else:
            content = {"mimeType": stored.media_type, "sizeInBytes": len(stored.content)}
            self._json(HTTPStatus.OK, {"entry": {"id": node_id, "name": stored.name, "content": content}})

    def _content(self, stored: Stored) -> None:
        whole = len(stored.content)
        headers = {"Content-Type": stored.media_type, "Accept-Ranges": "bytes", "ETag": stored.etag}
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        if wanted is None or self.headers.get("If-Range", stored.etag) != stored.etag or not any(wanted.groups()):
            self._send(HTTPStatus.OK, headers, stored.content)
            return
        first, last = wanted.groups()
        start = int(first) if first else max(0, whole - int(last))
        end = min(int(last), whole - 1) if first and last else whole - 1
        if start > end:
            self._send(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {**headers, "Content-Range": f"bytes */{whole}"}, b""
            )
            return
        headers["Content-Range"] = f"bytes {start}-{end}/{whole}"
        self._send(HTTPStatus.PARTIAL_CONTENT, headers, stored.content[start : end + 1])

    def _json(self, status: int, body: Mapping[str, Any]) -> None:
        self._send(status, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        limit = self.server.breaks_off_after
        self.close_connection = limit is not None and len(body) > limit
        self.wfile.write(body[:limit])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Nothing: document ids are not for a terminal."""
