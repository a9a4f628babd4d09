"""From typed requests to domain objects, and from domain objects to responses.

A request is converted by a function that adds to the errors so far. If there are some, the request may be a draft: None
marks a field that has an error already. The function then returns None, or what nobody reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from chalicelib import addresses, instants, tokens
from chalicelib.addresses import Address, Network
from chalicelib.audit import timestamp
from chalicelib.http import schemas
from chalicelib.http.problems import Errors
from chalicelib.tokens import Document, Grant, Refusal, Terms, Token, Use

DEFAULT_LIFETIME: Final = timedelta(seconds=300)

_MOST_OF_ONE: Final = 4  # characters of another normal form that may become one in form C
_NOT_UTF8: Final = "\ufffd".encode()

Wrong = Callable[[str, str], None]


def to_terms(request: schemas.IssueRequest, errors: Errors, now: datetime, prefix: str = "") -> Terms | None:
    """Convert an issue request.

    Args:
        now: when `expiresIn` begins.
        prefix: of the names of its fields.
    """

    def wrong(field: str, message: str) -> None:
        errors.add(prefix + field, message)

    expires_at = _expiry(request, now, wrong)
    not_before = _instant("notBefore", request.not_before, wrong)
    if not_before is not None and expires_at is not None and not_before >= expires_at:
        wrong("notBefore", "must lie before the expiry")
    networks: list[Network] = []
    for place, text in enumerate(request.ip_addresses or ()):
        try:
            networks += [addresses.parse_network(text)] if text else []
        except ValueError:
            wrong(f"ipAddresses[{place}]", _not_an_address(text, schemas.RANGE))
    user = _user(request.user, wrong)
    metadata = request.metadata or {}
    metadata_json = msgspec.json.encode(metadata)
    if len(metadata_json) > schemas.MAX_METADATA_BYTES:
        wrong("metadata", f"must hold at most {schemas.MAX_METADATA_BYTES} bytes as JSON")
    if _NOT_UTF8 in metadata_json:
        wrong("metadata", "must hold text; U+FFFD stands for bytes that were not UTF-8")
    actions = [action for action in request.actions or () if action]
    audience = [client_id for client_id in request.audience or () if client_id]
    for field, values in (("actions", actions), ("ipAddresses", networks), ("audience", audience)):
        if len(set(values)) != len(values):
            wrong(field, "holds a value twice")
    if errors or expires_at is None:
        return None
    return Terms(
        Document(request.node_id, metadata),
        expires_at=expires_at,
        max_uses=request.max_uses,
        actions=frozenset(actions),
        not_before=not_before,
        user=user,
        networks=frozenset(networks),
        audience=frozenset(audience),
    )


def to_terms_of_all(request: schemas.BatchRequest, errors: Errors, now: datetime) -> list[Terms]:
    """Convert a batch."""
    entries: Sequence[schemas.IssueRequest | None] = request.tokens or ()
    terms = [
        to_terms(entry, errors, now, f"tokens[{place}].") for place, entry in enumerate(entries) if entry is not None
    ]
    return [entry for entry in terms if entry is not None]


def to_use(
    request: schemas.UseRequest, errors: Errors, client_id: str, idempotency_key: str | None = None
) -> Use | None:
    """Convert a use."""
    user = _user(request.user, errors.add)
    if user and request.token and request.token in user.lower():
        # It would be stored in the claim, and the status would show it.
        errors.add("user", "holds the token")
    address: Address | None = None
    if request.ip_address:
        try:
            address = addresses.parse_address(request.ip_address)
        except ValueError:
            errors.add("ipAddress", _not_an_address(request.ip_address, schemas.ADDRESS))
    if errors:
        return None
    return tokens.new_use(
        request.token,
        client_id,
        user=user,
        address=address,
        action=request.action or None,
        idempotency_key=idempotency_key,
    )


def to_revocation(request: schemas.RevokeRequest, errors: Errors) -> dict[str, str] | None:
    """Convert a revocation to `node_id` or `user`, of which it has one."""
    if errors:
        return None  # with an invalid one it is unknown which of the two was meant
    if (request.node_id is UNSET) == (request.user is UNSET):
        errors.add("nodeId", "give either nodeId or user")
    user = _user(request.user, errors.add)
    return {"node_id": request.node_id} if request.node_id else {"user": user or ""}


def issue_answer(secret: str, token: Token) -> schemas.IssueAnswer:
    terms = token.terms
    return schemas.IssueAnswer(secret, token.id, timestamp(terms.expires_at), terms.max_uses, sorted(terms.actions))


def use_answer(grant: Grant) -> schemas.UseAnswer:
    """The response to a granted use. The grant must have its claim."""
    if grant.claim is None:
        raise ValueError("a grant without a claim is not a use")
    return schemas.UseAnswer(use_id=grant.claim.id, **_granted(grant))


def introspect_answer(decision: Grant | Refusal) -> schemas.IntrospectAnswer:
    if isinstance(decision, Refusal):
        return schemas.IntrospectAnswer(active=False, reason=decision.reason)
    return schemas.IntrospectAnswer(active=True, **_granted(decision))


def status_answer(token: Token, revoked: bool) -> schemas.StatusAnswer:
    terms = token.terms
    return schemas.StatusAnswer(
        token_id=token.id,
        issuer=token.issuer,
        issued_at=timestamp(token.issued_at),
        expires_at=timestamp(terms.expires_at),
        actions=sorted(terms.actions),
        max_uses=terms.max_uses,
        uses_remaining=token.uses_remaining,
        claims=[
            schemas.ClaimAnswer(
                claim.id,
                timestamp(claim.at),
                claim.client_id,
                claim.user or UNSET,
                str(claim.address) if claim.address else UNSET,
                claim.action or UNSET,
            )
            for claim in token.claims
        ],
        mismatches=token.mismatches,
        locked=token.locked,
        revoked=revoked,
        revoked_at=timestamp(token.revoked_at) if token.revoked_at else UNSET,
        not_before=timestamp(terms.not_before) if terms.not_before else UNSET,
        user=terms.user or UNSET,
        ip_addresses=sorted(map(str, terms.networks)) or UNSET,
        audience=sorted(terms.audience) or UNSET,
    )


def encode(answer: Struct | Mapping[str, Any]) -> str:
    return msgspec.json.encode(answer).decode()


def _granted(grant: Grant) -> dict[str, Any]:
    token, terms = grant.token, grant.token.terms
    document = terms.document
    assert isinstance(document, Document)  # noqa: S101 - the service grants no use before it has opened it
    return {
        "token_id": token.id,
        "node_id": document.node_id,
        "actions": sorted(terms.actions),
        "uses_remaining": grant.uses_remaining,
        "expires_at": timestamp(terms.expires_at),
        "user": terms.user or UNSET,
        "metadata": document.metadata or UNSET,
    }


def _user(text: str | UnsetType, wrong: Wrong) -> str | None:
    """In canonical form; None if it is not set or invalid."""
    if not text:
        return None
    user = tokens.canonical(text) if len(text) <= _MOST_OF_ONE * schemas.MAX_USER else text
    if len(user) > schemas.MAX_USER:
        wrong("user", f"must be {schemas.USER}")
        return None
    return user


def _not_an_address(text: str, wanted: str) -> str:
    zone = "; a zone, which % introduces, names an interface of one machine only" if "%" in text else ""
    return f"must be {wanted}{zone}"


def _expiry(request: schemas.IssueRequest, now: datetime, wrong: Wrong) -> datetime | None:
    """None if it is invalid."""
    expires_in = DEFAULT_LIFETIME.seconds if request.expires_in is UNSET else request.expires_in
    if request.expires_at is UNSET:
        return now + timedelta(seconds=expires_in) if expires_in else None
    expires_at = _instant("expiresAt", request.expires_at, wrong)
    if request.expires_in is not UNSET:
        wrong("expiresAt", "give either expiresAt or expiresIn")
    elif expires_at is not None and not timedelta(seconds=1) <= expires_at - now <= schemas.MAX_LIFETIME:
        wrong("expiresAt", f"must lie 1 second to {schemas.MAX_LIFETIME.days} days ahead")
    return expires_at


def _instant(field: str, text: str | UnsetType, wrong: Wrong) -> datetime | None:
    """In UTC; None if it is not set or invalid."""
    if not isinstance(text, str):
        return None
    try:
        instant = instants.parse(text)
    except ValueError:
        wrong(field, f"must be {schemas.INSTANT}")
        return None
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        # In UTC it lies in the year 0 or 10000, which no datetime holds. The decision is the same without the offset.
        return instant.replace(tzinfo=UTC)
