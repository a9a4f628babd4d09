"""From an Authorization header to a client, and to the policy that the gateway keeps for it (RFC 7617)."""

from __future__ import annotations

import binascii
import logging
import os
import re
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Protocol

from chalice.app import AuthRequest, AuthResponse

from chalicelib import clients
from chalicelib.clients import CLIENT_ID, AuthRefusal, Client
from chalicelib.log_names import Event, Metric

_TRACE_ROOT: Final = r"Root=([0-9A-Fa-f-]+)"  # compiled by the first refusal

log = logging.getLogger("tokenservice.authorizer")


class ClientStore(Protocol):
    """What the authorizer needs of a store."""

    def find(self, client_id: str) -> Client | None: ...


class Audit(Protocol):
    """What the authorizer needs of the log."""

    def event(self, name: Event, now: datetime, level: str = "INFO", **facts: str | None) -> None: ...

    def count(self, name: Metric, **facts: str) -> None: ...


def parse_basic(header: str) -> tuple[str, str] | None:
    """Read Basic credentials.

    Returns:
        User id and password; the password may hold colons. None for another scheme, for what is not base64 as it is
        written, not UTF-8, without a colon or with a control character.

    Source: RFC 7617, section 2.
    """
    scheme, _, encoded = header.partition(" ")
    encoded = encoded.strip(" ")
    try:
        decoded = binascii.a2b_base64(encoded, strict_mode=True)
        text = decoded.decode()
    except ValueError:
        return None
    user, colon, password = text.partition(":")
    is_canonical = binascii.b2a_base64(decoded, newline=False) == encoded.encode()
    has_control = any(character < " " or character == "\x7f" for character in text)
    if scheme.lower() != "basic" or not is_canonical or not colon or has_control:
        return None
    return user, password


class Allowed(AuthResponse):
    """Allows every route, and names the API key by which a usage plan counts the client's calls."""

    def __init__(self, client: Client, stage: str) -> None:
        super().__init__(["*"], client.id, {"clientId": client.id, "scopes": " ".join(sorted(client.scopes))})
        self._usage_key = clients.usage_key(stage, client.id)

    def to_dict(self, request: AuthRequest) -> dict[str, Any]:
        return {**super().to_dict(request), "usageIdentifierKey": self._usage_key}


class Authorizer:
    """Checks credentials for every route at once, since the gateway reuses an answer for all of them.

    Args:
        store: where clients are kept.
        audit: logs every refusal.
        clock: the current instant, aware, in UTC.
        stage: the stage, part of the clients' usage keys.
    """

    def __init__(self, store: ClientStore, audit: Audit, clock: Callable[[], datetime], stage: str) -> None:
        self._store = store
        self._audit = audit
        self._clock = clock
        self._stage = stage

    def __call__(self, request: AuthRequest) -> AuthResponse | dict[str, Any] | None:
        """Answer the gateway.

        Returns:
            A policy that allows every route, with the client's id and scopes for the REST handler; a policy that
            denies every route, with the client, the reason and the event's id for the access log; or None where the
            store gave no answer: the gateway then answers 5xx and caches nothing. (An exception would do the
            same there, but ends the connection in `chalice local`.)
        """
        now = self._clock()
        try:
            refusal, client = self._check(request.token, now)
        except Exception:
            log.exception("credentials could not be checked", extra={"requestId": _request_id()})
            self._audit.count(Metric.AUTH_FAILED)
            return None
        if refusal is None and client is not None:
            return Allowed(client, self._stage)
        # A name that no client has may be a secret in the wrong place: it is not logged.
        known_id = client.id if client else None
        request_id = _request_id()
        self._audit.event(Event.AUTH_REFUSED, now, "WARNING", requestId=request_id, clientId=known_id, reason=refusal)
        self._audit.count(Metric.AUTH_REFUSED)
        return _deny(request.method_arn, known_id, refusal, request_id)

    def _check(self, header: str, now: datetime) -> tuple[AuthRefusal | None, Client | None]:
        credentials = parse_basic(header)
        if credentials is None:
            return AuthRefusal.MALFORMED, None
        client_id, secret = credentials
        # A name that can't be a client's is looked up as '-', so it takes as long as an unknown one.
        client = self._store.find(client_id if CLIENT_ID.fullmatch(client_id) else "-")
        return clients.auth_refusal(client, secret, now), client


def _deny(method_arn: str, client_id: str | None, refusal: AuthRefusal | None, request_id: str) -> dict[str, Any]:
    """A policy against every route of the API and stage. Chalice's `AuthResponse` can only allow.

    Client and reason are for the gateway's access log, the only place where they stand beside the caller's address. The
    id joins each line there, also of a call that is denied by a kept policy, to the one event about these credentials.
    """
    api_and_stage = "/".join(method_arn.split("/")[:2])
    statement = {"Action": "execute-api:Invoke", "Effect": "Deny", "Resource": [f"{api_and_stage}/*"]}
    return {
        "principalId": client_id or "nobody",
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": {"reason": refusal, "authRequestId": request_id},
    }


def _request_id() -> str:
    """An id for the authorizer's own lines: its trace's, where Lambda names one.

    The gateway gives a TOKEN authorizer the header and the method's ARN, and Chalice hands on nothing else.
    """
    trace = re.search(_TRACE_ROOT, os.environ.get("_X_AMZN_TRACE_ID", ""))
    return trace[1] if trace else str(uuid.uuid4())
