"""Dependent applications, their scopes and their secrets. Pure: no clock, no storage, no HTTP."""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

CLIENT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def usage_key(stage: str, client_id: str) -> str:
    """By this the gateway counts a client's calls: an API key of 20 to 128 characters, and no secret."""
    return f"tokenservice-{stage}-client-{client_id}"


SECRET_PREFIX: Final = "tss_"  # noqa: S105 - the mark that every secret bears, so that a leaked one can be found
MAX_SECRETS: Final = 2
_NO_DIGEST: Final = "0" * 64


class Scope(StrEnum):
    """What a client may do. `admin` includes `manage`, and for every issuer's tokens.

    `introspect` is apart from `use`: it discloses the node id without spending anything.
    """

    ISSUE = "issue"
    USE = "use"
    INTROSPECT = "introspect"
    MANAGE = "manage"
    ADMIN = "admin"


class AuthRefusal(StrEnum):
    """Why credentials are refused. Only our log has the reason; the caller gets 401."""

    MALFORMED = "malformed_credentials"
    UNKNOWN_CLIENT = "unknown_client"
    WRONG_SECRET = "wrong_secret"  # noqa: S105 - a name, not a secret
    DISABLED = "client_disabled"


class ClientSecret(NamedTuple):
    """What is kept of a client secret.

    Attributes:
        digest: SHA-256 as 64 hex characters. A secret has 256 random bits, so no salt and no slow hash is needed.
        expires_at: the first instant at which it is refused; None means never.
    """

    digest: str
    created_at: datetime
    expires_at: datetime | None = None

    def valid(self, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at


class Client(NamedTuple):
    """A dependent application.

    Attributes:
        id: its name, and the user id of its Basic credentials.
        secrets: the newest first; two while one replaces the other.
        disabled_at: since when it is refused; None if it is not.
    """

    id: str
    scopes: frozenset[Scope]
    secrets: tuple[ClientSecret, ...]
    created_at: datetime
    disabled_at: datetime | None = None


def new_secret(now: datetime) -> tuple[str, ClientSecret]:
    """Generate a client secret.

    Returns:
        The secret itself, `tss_` and 43 characters (256 random bits), to be shown once; and what is kept of it.
    """
    import secrets  # noqa: PLC0415 - the authorizer never makes one, and starts sooner without

    secret = SECRET_PREFIX + secrets.token_urlsafe(32)
    return secret, ClientSecret(digest(secret), now)


def digest(secret: str) -> str:
    """SHA-256 of a secret, as 64 hex characters."""
    return hashlib.sha256(secret.encode()).hexdigest()


def rotated(client: Client, secret: ClientSecret, now: datetime, overlap: timedelta) -> Client:
    """The client with a new secret; its newest old one stays valid for `overlap` at most, older ones end.

    Asked again for a client that has the new secret already (an answer was lost), it changes nothing.
    """
    if client.secrets and client.secrets[0].digest == secret.digest:
        return client
    ends = now + overlap
    old = [last._replace(expires_at=min(ends, last.expires_at or ends)) for last in client.secrets[:1] if overlap]
    return client._replace(secrets=(secret, *old))


def auth_refusal(client: Client | None, secret: str, now: datetime) -> AuthRefusal | None:
    """Why these credentials are refused; None if they are good.

    An unknown client costs the same work as a wrong secret, so that the time taken names no clients.
    """
    presented = digest(secret)
    kept = client.secrets if client else ()
    good = False
    for place in range(MAX_SECRETS):
        candidate = kept[place] if place < len(kept) else None
        same = hmac.compare_digest(candidate.digest if candidate else _NO_DIGEST, presented)
        alive = candidate is not None and candidate.valid(now)
        good |= same and alive
    if client is None:
        return AuthRefusal.UNKNOWN_CLIENT
    if not good:
        return AuthRefusal.WRONG_SECRET
    return AuthRefusal.DISABLED if client.disabled_at is not None else None
