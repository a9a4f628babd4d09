"""AWS Signature Version 4 in the Authorization header.

Source: AWS Identity and Access Management user guide, "Create a signed AWS API request".
"""

from __future__ import annotations

import hmac
import time
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from chalicelib.aws.errors import NoCredentials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    class Source(Protocol):
        """Where a signer gets its credentials."""

        def current(self) -> Credentials: ...


_ALGORITHM: Final = "AWS4-HMAC-SHA256"


class Credentials:
    """What a request is signed with; a Lambda function's live as long as its execution environment.

    Args:
        session_token: of temporary credentials; None for lasting ones.
    """

    # No NamedTuple: making such a class takes ten times as long, and every start makes this one.
    def __init__(self, access_key_id: str, secret_access_key: str, session_token: str | None = None) -> None:
        self.access_key_id = access_key_id
        self.secret_access_key = secret_access_key
        self.session_token = session_token

    def __repr__(self) -> str:
        return f"Credentials(access_key_id={self.access_key_id!r})"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Credentials:
        """Read them as Lambda hands them over.

        Raises:
            NoCredentials: a variable is missing.
        """
        return cls(
            needed(environ, "AWS_ACCESS_KEY_ID"),
            needed(environ, "AWS_SECRET_ACCESS_KEY"),
            environ.get("AWS_SESSION_TOKEN") or None,
        )

    def current(self) -> Credentials:
        """These: they last as long as whoever has them."""
        return self


def region_from_environ(environ: Mapping[str, str]) -> str:
    """The region to call.

    Raises:
        NoCredentials: no variable names it.
    """
    return environ.get("AWS_REGION") or needed(environ, "AWS_DEFAULT_REGION")


def needed(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name)
    if not value:
        raise NoCredentials(name)
    return value


class Signer:
    """Signs requests to one service in one region.

    Args:
        credentials: themselves, or what renews them.
        service: as in the credential scope, `dynamodb` for example.
        clock: epoch seconds.
    """

    def __init__(self, credentials: Source, region: str, service: str, clock: Callable[[], float] = time.time):
        self._credentials = credentials
        self._scope = f"{region}/{service}/aws4_request"
        self._region = region
        self._service = service
        self._clock = clock
        self._key_of: tuple[str, str, bytes] = ("", "", b"")

    def sign(self, method: str, path: str, headers: Mapping[str, str], body: bytes, query: str = "") -> dict[str, str]:
        """The headers, and those that prove who sends them.

        Args:
            path: as it is sent and as it is signed: percent-encoded, without the query.
            headers: with lower-case names, `host` among them, and values without needless spaces; all are signed.
            query: percent-encoded and in the order of names.

        Raises:
            OSError: credentials could not be renewed.
        """
        credentials = self._credentials.current()
        instant = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock()))
        signed = {**headers, "x-amz-date": instant}
        if credentials.session_token is not None:
            signed["x-amz-security-token"] = credentials.session_token
        names = sorted(signed)
        lines = "".join(f"{name}:{signed[name]}\n" for name in names)
        listed = ";".join(names)
        request = f"{method}\n{path}\n{query}\n{lines}\n{listed}\n{sha256(body).hexdigest()}"
        scope = f"{instant[:8]}/{self._scope}"
        text = f"{_ALGORITHM}\n{instant}\n{scope}\n{sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(self._key(instant[:8], credentials.secret_access_key), text.encode(), "sha256").hex()
        signed["authorization"] = (
            f"{_ALGORITHM} Credential={credentials.access_key_id}/{scope}, "
            f"SignedHeaders={listed}, Signature={signature}"
        )
        return signed

    def _key(self, day: str, secret: str) -> bytes:
        """The signing key is the same for a whole day, unless the credentials are renewed."""
        known_day, known_secret, key = self._key_of
        if (known_day, known_secret) != (day, secret):
            key = f"AWS4{secret}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key_of = (day, secret, key)
        return key
