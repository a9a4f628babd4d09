"""The client: a method for each route of the service."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tokenservice_client.answers import Introspection, Issued, Members, Status, Use, Version, flag, number
from tokenservice_client.errors import UnexpectedAnswer
from tokenservice_client.terms import Action, Address, Range, Terms, check, check_address, check_text, without_none
from tokenservice_client.transport import Reply, Request, Transport, base_url, basic

if TYPE_CHECKING:
    from typing_extensions import Self

TIMEOUT_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 30.0
MAX_PATIENCE_SECONDS: Final = 300.0
"""Half of the time in which the service repeats an answer to the same idempotency key."""

# The service works on a revocation for up to 24 seconds before it says that there is more.
_REVOKE_SECONDS: Final = 30.0
_REVOKE_PATIENCE_SECONDS: Final = 90.0
_MAX_REVOKE_CALLS: Final = 1_000
_TOKEN_ID: Final = re.compile(r"tok_[0-9a-f]{32}")
_KEY: Final = re.compile(r"[!-~]{1,255}")
_USER_AGENT: Final = "tokenservice-client"

T = TypeVar("T")


class TokenServiceClient:
    """Issues and uses tokens of one token service. Threads may share it.

    Every call is repeated by itself where no answer came, and where the service says "not now" (429, 502, 503, 504),
    after the wait that it asks for. That is safe for each of them:

    - a use carries an idempotency key, so a repetition gets the same grant and spends nothing;
    - looking at tokens changes nothing, and what is revoked twice is revoked;
    - an issue whose answer was lost leaves a token that nobody has ever seen. It ends by itself at its expiry.

    Args:
        url: `https://…`, with or without the service's base path. http:// only to this very machine.
        user: client id.
        password: the client's secret.
        timeout_seconds: for one answer to begin, and between its pieces.
        patience_seconds: for a whole call with its repetitions; no wait and no request begins that would go beyond.
            0: nothing is repeated.
        ca_bundle: PEM file with the authorities to trust; None: those that come with `requests`. Environment variables
            can't change it, and no .netrc is read. Proxies of the environment are used for https:// alone.
        connections: how many are kept open.
        allow_insecure: take http:// to other machines, too. Then every token can be read on its way.

    Raises:
        ValueError: an argument makes no sense; names it, and holds no secret.
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
        for name, text in (("url", url), ("user", user), ("password", password)):
            check_text(name, text)
        for name, seconds in (("timeout_seconds", timeout_seconds), ("patience_seconds", patience_seconds)):
            check(name, seconds, (int, float), "a number")
        check("connections", connections, int, "a whole number")
        if connections < 1:
            raise ValueError("connections must be 1 or more")
        if not isinstance(allow_insecure, bool):
            raise ValueError("allow_insecure must be True or False")
        if not 0 < timeout_seconds <= MAX_PATIENCE_SECONDS:
            raise ValueError(f"timeout_seconds must be above 0 and at most {MAX_PATIENCE_SECONDS:.0f}")
        if not 0 <= patience_seconds <= MAX_PATIENCE_SECONDS:
            raise ValueError(f"patience_seconds must be 0 to {MAX_PATIENCE_SECONDS:.0f}")
        if ca_bundle is not None:
            check("ca_bundle", ca_bundle, (str, Path), "a path")
            if not Path(ca_bundle).is_file():
                raise ValueError("ca_bundle: there is no such file")
        self._base = base_url(url, allow_insecure)
        self._user = user
        self._timeout_seconds = timeout_seconds
        self._patience_seconds = patience_seconds
        authorization = basic(user, password)
        secrets = (password, authorization.partition(" ")[2].rstrip("="))  # a URL has its padding as %3D
        self._transport = Transport(
            self._base,
            authorization,
            secrets=secrets,
            verify=str(ca_bundle) if ca_bundle else True,
            user_agent=_USER_AGENT,
            connections=connections,
        )

    def __repr__(self) -> str:
        return f"TokenServiceClient({self._base!r}, {self._user!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept open."""
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
        """Issue a token. The arguments are those of `Terms`; the scope is `issue`.

        Raises:
            ValueError, TokenServiceError
        """
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
        return _read(self._call("POST", "/token", terms.as_json()), Issued.read)

    def issue_many(self, tokens: Iterable[Terms]) -> list[Issued]:
        """Issue up to 100 tokens, all or none, in the order of what was asked for. The scope is `issue`.

        Raises:
            ValueError, TokenServiceError
        """
        tokens = list(tokens)
        for terms in tokens:
            check("each of tokens", terms, Terms, "Terms")
        body = {"tokens": [terms.as_json() for terms in tokens]}
        issued = _read(self._call("POST", "/tokens", body), lambda found: Members(found).get("tokens", list))
        if len(issued) != len(tokens):
            raise UnexpectedAnswer("unexpected_answer", f"{len(issued)} tokens came where {len(tokens)} were asked for")
        return [Issued.read(each) for each in issued]

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
            user: the end user, whom only the caller sees; the same is true of `ip_address`.
            action: what it is used for. Without it the caller holds itself to the answer's actions.
            idempotency_key: 1 to 255 visible ASCII characters. The same key with the same arguments within ten minutes
                gets the same answer and spends nothing. None: a fresh one, which covers this call's own repetitions.

        Raises:
            Refused: nothing was spent; `code` says why.
            NoAnswer: perhaps it was spent; a call with the same key finds out.
            ValueError, TokenServiceError
        """
        key = uuid.uuid4().hex if idempotency_key is None else idempotency_key
        check_text("idempotency_key", key)
        if not _KEY.fullmatch(key):
            raise ValueError("idempotency_key must be 1 to 255 visible ASCII characters")
        reply = self._call("POST", "/use", _use_body(token, user, ip_address, action), {"Idempotency-Key": key})
        return Use.read(reply.body, replayed=reply.headers.get("Idempotent-Replayed") == "true")

    def introspect(
        self,
        token: str,
        *,
        user: str | None = None,
        ip_address: Address | None = None,
        action: Action | None = None,
    ) -> Introspection:
        """Return what `use()` would return now, and change nothing. A refusal is an answer here.

        It discloses the node id and spends nothing: the scope is `introspect`, and the service logs each call.

        Raises:
            ValueError, TokenServiceError
        """
        return _read(self._call("POST", "/introspect", _use_body(token, user, ip_address, action)), Introspection.read)

    def status(self, token_id: str) -> Status:
        """Limits and uses of a token that the client issued. The scope is `manage`.

        Raises:
            ValueError: that is no token id.
            TokenServiceError
        """
        return _read(self._call("GET", _path_of(token_id)), Status.read)

    def revoke(self, token_id: str) -> None:
        """Revoke a token that the client issued; no matter if it is revoked or gone already. The scope is `manage`.

        Raises:
            ValueError: that is no token id.
            TokenServiceError
        """
        self._call("DELETE", _path_of(token_id))

    def revoke_all(self, *, node_id: str | None = None, user: str | None = None) -> int:
        """Revoke every live token of one node or one user, however many calls that takes. The scope is `manage`.

        The service reads an index that trails writes by moments: a token issued in the last second may be missed.

        Returns:
            How many live tokens were revoked; at least, where an answer was lost on the way.

        Raises:
            ValueError: not exactly one of the two is given.
            TokenServiceError
        """
        if (node_id is None) == (user is None):
            raise ValueError("give either node_id or user")
        check_text("node_id" if user is None else "user", node_id if user is None else user)
        revoked = 0
        for _ in range(_MAX_REVOKE_CALLS):
            reply = self._call(
                "POST",
                "/revoke",
                without_none(nodeId=node_id, user=user),
                timeout_seconds=max(_REVOKE_SECONDS, self._timeout_seconds),
                patience_seconds=max(_REVOKE_PATIENCE_SECONDS, self._patience_seconds),
            )
            done = Members(reply.body)
            revoked += done.get("revoked", number)
            if not done.get("more", flag):
                return revoked
        raise UnexpectedAnswer("unexpected_answer", f"after {_MAX_REVOKE_CALLS} calls there is more to revoke")

    def version(self) -> Version:
        """What is deployed. Any client may ask.

        Raises:
            TokenServiceError
        """
        return _read(self._call("GET", "/version"), Version.read)

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_seconds: float | None = None,
        patience_seconds: float | None = None,
    ) -> Reply:
        return self._transport.call(
            Request(method, path, body, headers or {}),
            self._timeout_seconds if timeout_seconds is None else timeout_seconds,
            self._patience_seconds if patience_seconds is None else patience_seconds,
        )


def _read(reply: Reply, read: Callable[[Any], T]) -> T:
    return read(reply.body)


def _use_body(token: str, user: str | None, ip_address: Address | None, action: Action | None) -> dict[str, Any]:
    check_text("token", token)
    for name, text in (("user", user), ("action", action)):
        if text is not None:
            check_text(name, text)
    if ip_address is not None:
        check_address("ip_address", ip_address)
    address = None if ip_address is None else str(ip_address)
    return without_none(token=token, user=user, ipAddress=address, action=action)


def _path_of(token_id: str) -> str:
    check_text("token_id", token_id)
    # A token given for its id would end up in the access log, as part of a URL.
    if not _TOKEN_ID.fullmatch(token_id):
        raise ValueError("a token id is tok_ and 32 lower-case hex characters")
    return f"/token/{token_id}"
