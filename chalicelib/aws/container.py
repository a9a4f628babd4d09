"""Credentials from the endpoint that Lambda offers under SnapStart, where the environment has none.

Those of the environment would be in the snapshot, and expired when it is restored.

Source: AWS Lambda developer guide, "Using SnapStart with the AWS SDKs"; AWS SDKs and Tools reference guide, "Container
credential provider".
"""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from chalicelib.aws.connection import Endpoint, Garbled
from chalicelib.aws.signing import Credentials, needed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

URL: Final = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
_TOKEN: Final = "AWS_CONTAINER_AUTHORIZATION_TOKEN"  # noqa: S105 - the variable's name
_SECONDS: Final = 1.0
_RENEWED_BEFORE_SECONDS: Final = 300
_OK: Final = 200


class ContainerCredentials:
    """Fetches credentials with the first request, and again five minutes before they expire.

    Args:
        environ: names the endpoint, which is on this machine, and what it wants in `Authorization`.
        clock: epoch seconds.

    Raises:
        NoCredentials: a variable is missing.
    """

    def __init__(self, environ: Mapping[str, str], clock: Callable[[], float] = time.time) -> None:
        url, token = needed(environ, URL), needed(environ, _TOKEN)
        self._endpoint = Endpoint(url, "")
        head = f"GET {urlsplit(url).path} HTTP/1.1\r\nhost: {self._endpoint.host}\r\nauthorization: {token}\r\n\r\n"
        self._request = head.encode()
        self._clock = clock
        self._known: tuple[Credentials, float] | None = None

    def current(self) -> Credentials:
        """The credentials to sign with now.

        Raises:
            OSError: there are none that are valid, and the endpoint gave none.
        """
        now = self._clock()
        known = self._known
        if known is None or now >= known[1] - _RENEWED_BEFORE_SECONDS:
            try:
                known = self._known = self._fetch()
            except OSError:
                if known is None or now >= known[1]:
                    raise
        return known[0]

    def _fetch(self) -> tuple[Credentials, float]:
        """New credentials, and when they expire, in epoch seconds."""
        try:
            answer = self._endpoint.exchange(self._request, time.monotonic() + _SECONDS)
        finally:
            self._endpoint.close()  # it is asked again in hours, or after a restore
        if answer.status != _OK:
            raise Garbled(f"no credentials: status {answer.status}")
        try:
            document = json.loads(answer.body)
            credentials = Credentials(document["AccessKeyId"], document["SecretAccessKey"], document["Token"])
            return credentials, datetime.fromisoformat(document["Expiration"]).timestamp()
        except (ValueError, KeyError, TypeError):
            raise Garbled("no credentials: not what was asked for") from None
