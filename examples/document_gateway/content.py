"""The content API: Alfresco's REST API, or anything that answers as it does.

Source: Alfresco Content Services REST API, `GET /nodes/{nodeId}` and `GET /nodes/{nodeId}/content`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from typing import Any, Final

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth

from examples.document_gateway.names import safe_media_type

NODES_PATH: Final = "/alfresco/api/-default-/public/alfresco/versions/1/nodes"

_CONNECT_SECONDS: Final = 5.0
_READ_SECONDS: Final = 30.0
_PIECE_BYTES: Final = 64 * 1024
# A node id becomes part of a path: "..", a slash or a question mark would lead elsewhere.
_NODE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# If these are wrong, the browser is misled about where the content ends.
_MEASURES: Final = {
    "Content-Length": re.compile(r"[0-9]{1,18}"),
    "Content-Range": re.compile(r"bytes ([0-9]{1,18}-[0-9]{1,18}/([0-9]{1,18}|\*)|\*/[0-9]{1,18})"),
}
_FORWARDED: Final = (*_MEASURES, "Accept-Ranges", "ETag", "Last-Modified")
_SEVERAL_PARTS: Final = "multipart/byteranges"
_BOUNDARY: Final = re.compile(r"[A-Za-z0-9'()+_,./:=? -]{0,69}[A-Za-z0-9'()+_,./:=?-]")  # RFC 2046, section 5.1.1
_ANSWERS: Final = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)


class ContentError(Exception):
    """Base of what goes wrong with documents. No message holds a document's id."""


class DocumentMissing(ContentError):
    """There is no such document, or the gateway may not read it."""


class ContentUnavailable(ContentError):
    """The content API gave no answer that can be used; later it may."""


@dataclass(frozen=True, slots=True)
class Document:
    """What is known of a document without its content.

    Attributes:
        size: in bytes; None if unknown.
    """

    name: str
    media_type: str
    size: int | None


class Content:
    """A document's content on its way.

    Attributes:
        status: 200, 206 or 416.
        media_type: without its parameters.
        content_type: the same, with the boundary where these are several parts of a document.
        headers: length, range and version of the content.

    Raises:
        ContentUnavailable: a header contradicts HTTP.
    """

    def __init__(self, response: requests.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.media_type = safe_media_type(response.headers.get("Content-Type", ""))
        self.content_type = self.media_type
        headers = {name: response.headers[name] for name in _FORWARDED if name in response.headers}
        self.headers = {name: value for name, value in headers.items() if value.isascii() and value.isprintable()}
        wrong = [name for name, form in _MEASURES.items() if name in headers and not form.fullmatch(headers[name])]
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            wrong.append("Content-Encoding")
        if self.media_type == _SEVERAL_PARTS:
            kind = Message()
            kind["Content-Type"] = response.headers["Content-Type"]
            boundary = kind.get_boundary("")
            self.content_type = f'{_SEVERAL_PARTS}; boundary="{boundary}"'
            if not _BOUNDARY.fullmatch(boundary):
                wrong.append("Content-Type")
        if wrong:
            self.close()
            raise ContentUnavailable(f"the content API answers with a wrong {wrong[0]}")

    def pieces(self) -> Iterator[bytes]:
        """The bytes as they come.

        Raises:
            ContentUnavailable: they ended early. The answer to the browser must then end early as well.
        """
        try:
            # As it is on the line: a length that was announced is that of these bytes.
            yield from self._response.raw.stream(_PIECE_BYTES, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            failure = type(error).__name__
        else:
            return
        finally:
            self.close()
        raise ContentUnavailable(f"the content ended early ({failure})")

    def close(self) -> None:
        self._response.close()


class ContentApi:
    """Reads documents with the gateway's own credentials; threads may share it.

    Args:
        url: scheme, host and, where there is one, port.
        ca_bundle: PEM file with the authorities to trust; None: those that come with `requests`.
    """

    def __init__(self, url: str, user: str, password: str, ca_bundle: str | None = None, connections: int = 16) -> None:
        self._nodes = url + NODES_PATH
        session = requests.Session()
        # A .netrc would replace the credentials, and a variable could name other authorities.
        session.trust_env = False
        session.verify = ca_bundle or True
        session.auth = HTTPBasicAuth(user.encode(), password.encode())
        # What is compressed on its way could not be resumed by ranges.
        session.headers["Accept-Encoding"] = "identity"
        session.mount(url, HTTPAdapter(pool_maxsize=connections))
        self._session = session

    def describe(self, node_id: str) -> Document:
        """Name, type and size.

        Raises:
            DocumentMissing, ContentUnavailable
        """
        with self._get(node_id, "", {}) as response:
            try:
                entry = response.json()["entry"]
                content = entry.get("content") or {}
                size = content.get("sizeInBytes")
                kind = safe_media_type(str(content.get("mimeType", "")))
                return Document(str(entry["name"]), kind, size if isinstance(size, int) else None)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, requests.RequestException):
                pass
        raise ContentUnavailable("the content API describes a document in words of its own")

    def open(self, node_id: str, ranges: Mapping[str, str]) -> Content:
        """Begin to fetch the content; the caller closes it.

        Args:
            ranges: the browser's Range and If-Range headers.

        Raises:
            DocumentMissing, ContentUnavailable
        """
        return Content(self._get(node_id, "/content", ranges))

    def _get(self, node_id: str, below: str, headers: Mapping[str, str]) -> requests.Response:
        if not _NODE_ID.fullmatch(node_id):
            raise DocumentMissing("the document's id is not one of the content API")
        failure = ""
        response: Any = None
        try:
            # A redirect would take the credentials to a place that nobody configured.
            response = self._session.get(
                f"{self._nodes}/{node_id}{below}",
                headers=headers,
                timeout=(_CONNECT_SECONDS, _READ_SECONDS),
                allow_redirects=False,
                stream=True,
            )
        except requests.RequestException as error:
            failure = type(error).__name__
        # Not within the handler: the error holds the URL, and that holds the document's id.
        if response is None:
            raise ContentUnavailable(f"no answer of the content API ({failure})")
        if response.status_code in _ANSWERS:
            answer: requests.Response = response
            return answer
        response.close()
        if response.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN, HTTPStatus.GONE):
            raise DocumentMissing(f"the content API answers {response.status_code}")
        raise ContentUnavailable(f"the content API answers {response.status_code}")
