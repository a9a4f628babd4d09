"""The client: one method for each route of the service."""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tokenservice_client.answers import Batch, Introspection, Issued, Revocation, Status, Use, Version
from tokenservice_client.errors import UnexpectedAnswer
from tokenservice_client.terms import Action, Address, Range, Terms, check, without_none
from tokenservice_client.transport import Transport, base_url

if TYPE_CHECKING:
    from typing_extensions import Self

TIMEOUT_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 30.0
MAX_PATIENCE_SECONDS: Final = 300.0
"""Half of the time in which the service repeats its response to an idempotency key."""

# The service works on a revocation for up to 24 seconds before it returns `more`.
_REVOKE_SECONDS: Final = 30.0
_REVOKE_PATIENCE_SECONDS: Final = 90.0
_MAX_REVOKE_CALLS: Final = 1_000
_TOKEN_ID: Final = re.compile(r"tok_[0-9a-f]{32}")
_KEY: Final = re.compile(r"[!-~]{1,255}")


class TokenServiceClient:
    """Calls one token service. Threads may share it.

    A request is repeated if no response arrives, or if the status is 429, 502, 503 or 504, after the time that
    `Retry-After` states. That is safe:

    - a use has an idempotency key, so a repetition gets the same grant and spends nothing;
    - status, introspection and revocation are idempotent;
    - an issue whose response was lost leaves a token that nobody knows. It expires.

    Args:
        url: `https://…`, with or without the service's base path. http:// only to this machine.
        user: client id.
        password: the client's secret.
        timeout_seconds: until a response begins, and between its chunks.
        patience_seconds: for a call with its repetitions; no wait and no request begins that would exceed it. 0 means
            no repetition.
        ca_bundle: PEM file of trusted authorities; None means those of `requests`. Environment variables can't change
            it, and .netrc is not read. Proxies of the environment are used for https:// only.
        connections: size of the connection pool.
        allow_insecure: accept http:// to other machines. Then tokens can be read in transit.

    Raises:
        ValueError: an argument is invalid; the message names it and holds no secret. The same is true of each method.
        TokenServiceError: by each method; see `tokenservice_client.errors`.
    """

    def __init__(
        self,
        url: str,
        user: str,
        password: str,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
        ca_bundle: str | Path | None = None,
        connections: int = 10,
        allow_insecure: bool = False,
    ) -> None:
        check(url=url, user=user, password=password, connections=connections)
        check(timeout_seconds=timeout_seconds, patience_seconds=patience_seconds, **without_none(ca_bundle=ca_bundle))
        if connections < 1:
            raise ValueError("connections must be 1 or more")
        if not isinstance(allow_insecure, bool):
            raise ValueError("allow_insecure must be True or False")
        if not 0 < timeout_seconds <= MAX_PATIENCE_SECONDS:
            raise ValueError(f"timeout_seconds must be above 0 and at most {MAX_PATIENCE_SECONDS:.0f}")
        if not 0 <= patience_seconds <= MAX_PATIENCE_SECONDS:
            raise ValueError(f"patience_seconds must be 0 to {MAX_PATIENCE_SECONDS:.0f}")
        if ca_bundle is not None and not Path(ca_bundle).is_file():
            raise ValueError("ca_bundle: there is no such file")
        self._base = base_url(url, allow_insecure)
        self._user = user
        self._transport = Transport(
            self._base,
            user,
            password,
            verify=str(ca_bundle) if ca_bundle else True,
            connections=connections,
            timeout_seconds=timeout_seconds,
            patience_seconds=patience_seconds,
        )

    def __repr__(self) -> str:
        return f"TokenServiceClient({self._base!r}, {self._user!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    def issue(
        self,
        node_id: str,
        *,
        max_uses: int | None = None,
        expires_in: int | timedelta | None = None,
        expires_at: datetime | None = None,
        not_before: datetime | None = None,
        user: str | None = None,
        ip_addresses: Collection[Range] | None = None,
        actions: Collection[Action] | None = None,
        audience: Collection[str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Issued:
        """Issue a token. The arguments are those of `Terms`; the scope is `issue`."""
        terms = Terms(
            node_id=node_id,
            max_uses=max_uses,
            expires_in=expires_in,
            expires_at=expires_at,
            not_before=not_before,
            user=user,
            ip_addresses=ip_addresses,
            actions=actions,
            audience=audience,
            metadata=metadata,
        )
        return Issued.read(self._transport.call("POST", "/token", terms.as_json()).body)

    def issue_many(self, tokens: Iterable[Terms]) -> list[Issued]:
        """Issue up to 100 tokens, all or none, and return them in the same order. The scope is `issue`."""
        tokens = list(tokens)
        for terms in tokens:
            if not isinstance(terms, Terms):
                raise ValueError(f"each of tokens must be Terms, not {type(terms).__name__}")
        body = {"tokens": [terms.as_json() for terms in tokens]}
        issued = Batch.read(self._transport.call("POST", "/tokens", body).body).tokens
        if len(issued) != len(tokens):
            raise UnexpectedAnswer(
                "unexpected_answer", f"the response has {len(issued)} tokens instead of {len(tokens)}"
            )
        return list(issued)

    def use(
        self,
        token: str,
        *,
        user: str | None = None,
        ip_address: Address | None = None,
        action: Action | None = None,
        idempotency_key: str | None = None,
    ) -> Use:
        """Spend one use of a token and get the document id. The scope is `use`.

        Args:
            user: the end user. Only the caller knows it; the same is true of `ip_address`.
            action: without it the caller must check the actions of the response.
            idempotency_key: 1 to 255 visible ASCII characters. The same key with the same arguments within ten minutes
                gets the same response and spends nothing. None means a new key, which covers this call's repetitions.

        Raises:
            Refused: nothing was spent; `code` is the reason.
            NoAnswer: the use may have been spent; a call with the same key finds out.
        """
        key = uuid.uuid4().hex if idempotency_key is None else idempotency_key
        check(idempotency_key=key)
        if not _KEY.fullmatch(key):
            raise ValueError("idempotency_key must be 1 to 255 visible ASCII characters")
        reply = self._transport.call(
            "POST", "/use", _use_body(token, user, ip_address, action), {"Idempotency-Key": key}
        )
        return Use.read(reply.body, replayed=reply.headers.get("Idempotent-Replayed") == "true")

    def introspect(
        self,
        token: str,
        *,
        user: str | None = None,
        ip_address: Address | None = None,
        action: Action | None = None,
    ) -> Introspection:
        """Return what `use()` would return now, and change nothing. A refusal is returned, not raised.

        It discloses the node id and spends nothing: the scope is `introspect`, and the service logs each call.
        """
        body = _use_body(token, user, ip_address, action)
        return Introspection.read(self._transport.call("POST", "/introspect", body).body)

    def status(self, token_id: str) -> Status:
        """Limits and uses of a token that the client issued. The scope is `manage`."""
        return Status.read(self._transport.call("GET", _path_of(token_id)).body)

    def revoke(self, token_id: str) -> None:
        """Revoke a token that the client issued. Idempotent, also if it does not exist. The scope is `manage`."""
        self._transport.call("DELETE", _path_of(token_id))

    def revoke_all(self, *, node_id: str | None = None, user: str | None = None) -> int:
        """Revoke every live token of one node or one user, with as many calls as necessary. The scope is `manage`.

        The service reads an index that trails writes by moments: a token issued in the last second may be missed.

        Returns:
            How many live tokens were revoked; a lower bound if a response was lost.
        """
        if (node_id is None) == (user is None):
            raise ValueError("give either node_id or user")
        check(**without_none(node_id=node_id, user=user))
        revoked = 0
        for _ in range(_MAX_REVOKE_CALLS):
            reply = self._transport.call(
                "POST",
                "/revoke",
                without_none(nodeId=node_id, user=user),
                least_timeout_seconds=_REVOKE_SECONDS,
                least_patience_seconds=_REVOKE_PATIENCE_SECONDS,
            )
            revocation = Revocation.read(reply.body)
            revoked += revocation.revoked
            if not revocation.more:
                return revoked
        raise UnexpectedAnswer("unexpected_answer", f"after {_MAX_REVOKE_CALLS} calls there are more tokens to revoke")

    def version(self) -> Version:
        """What is deployed. Any client may call it."""
        return Version.read(self._transport.call("GET", "/version").body)


def _use_body(token: str, user: str | None, ip_address: Address | None, action: Action | None) -> dict[str, Any]:
    check(token=token, **without_none(user=user, ip_address=ip_address, action=action))
    address = None if ip_address is None else str(ip_address)
    return without_none(token=token, user=user, ipAddress=address, action=action)


def _path_of(token_id: str) -> str:
    check(token_id=token_id)
    # A token sent by mistake would end up in the access log, as part of the URL.
    if not _TOKEN_ID.fullmatch(token_id):
        raise ValueError("a token id is tok_ and 32 lower-case hex characters")
    return f"/token/{token_id}"
