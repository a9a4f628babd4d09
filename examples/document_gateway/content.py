"""The content API: Alfresco's REST API, or anything that answers as it does.

Source: Alfresco Content Services REST API, `GET /nodes/{nodeId}` and `GET /nodes/{nodeId}/content`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth

NODES_PATH: Final = "/alfresco/api/-default-/public/alfresco/versions/1/nodes"

_CONNECT_SECONDS: Final = 5.0
_READ_SECONDS: Final = 30.0
# A node id becomes part of a path: "..", a slash or a question mark would lead elsewhere.
_NODE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ANSWERS: Final = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
_MISSING: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN, HTTPStatus.GONE)


class ContentError(Exception):
    """Base of what goes wrong with documents. No message holds a document's id."""


class DocumentMissing(ContentError):
    """There is no such document, or the gateway may not read it."""


class ContentUnavailable(ContentError):
    """The content API gave no answer that can be used; later it may."""


class Document(NamedTuple):
    """What is known of a document without its content.

    Attributes:
        size: in bytes; None if unknown.
    """

    name: str
    size: int | None


class ContentApi:
    """Reads documents with the gateway's own credentials; threads may share it.

    Args:
        url: scheme, host and, if it is not the scheme's, port.
        ca_bundle: PEM file with the authorities to trust; None: those that come with `requests`.

    Raises:
        DocumentMissing, ContentUnavailable: by each method.
    """

    def __init__(self, url: str, user: str, password: str, ca_bundle: str | None = None, connections: int = 16) -> None:
        self._nodes = url + NODES_PATH
        self._session = session = requests.Session()
        # A .netrc would replace the credentials, and a variable could name other authorities.
        session.trust_env = False
        session.verify = ca_bundle or True
        session.auth = HTTPBasicAuth(user.encode(), password.encode())
        # What is compressed on its way could not be resumed by ranges.
        session.headers["Accept-Encoding"] = "identity"
        session.mount(url, HTTPAdapter(pool_maxsize=connections))

    def describe(self, node_id: str) -> Document:
        """Name and size."""
        with self._get(node_id, "", {}) as response:
            try:
                entry = response.json()["entry"]
                size = (entry.get("content") or {}).get("sizeInBytes")
                return Document(str(entry["name"]), size if isinstance(size, int) else None)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, requests.RequestException):
                raise ContentUnavailable("the content API describes a document in words of its own") from None

    def open(self, node_id: str, ranges: Mapping[str, str]) -> requests.Response:
        """Begin to fetch the content; the caller reads `raw` and closes the response, whose status is 200, 206 or 416.

        Args:
            ranges: the browser's Range and If-Range headers.
        """
        return self._get(node_id, "/content", ranges)

    def _get(self, node_id: str, below: str, headers: Mapping[str, str]) -> requests.Response:
        if not _NODE_ID.fullmatch(node_id):
            raise DocumentMissing("the document's id is not one of the content API")
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
            # Without that error: it holds the URL, and that holds the document's id.
            raise ContentUnavailable(f"no answer of the content API ({type(error).__name__})") from None
        if response.status_code in _ANSWERS:
            return response
        response.close()
        failure = DocumentMissing if response.status_code in _MISSING else ContentUnavailable
        raise failure(f"the content API answers {response.status_code}")
