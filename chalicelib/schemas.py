"""Requests and answers as types with their limits, and what they mean in the domain."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from chalicelib import instants, tokens
from chalicelib.audit import timestamp
from chalicelib.clients import CLIENT_ID
from chalicelib.problems import Errors, InvalidRequest
from chalicelib.tokens import Action, Address, Grant, Network, Refusal, Terms, Token, Use

DEFAULT_LIFETIME: Final = timedelta(seconds=300)
MAX_LIFETIME: Final = timedelta(days=30)
MAX_METADATA_BYTES: Final = 2048
MAX_USER: Final = 256
MAX_BODY_BYTES: Final = 64 * 1024
TOKEN_ID: Final = re.compile(r"tok_[0-9a-f]{32}")

_END: Final = r"$(?!\n)"  # Python's `$` also matches before a final line break, which the look-ahead forbids
# Nor U+FFFD, which stands for bytes that were no UTF-8: what was meant is lost.
_NO_CONTROL: Final = rf"^[^\x00-\x1f\x7f-\x9f\ufffd]+{_END}"

_ADDRESS: Final = "an IPv4 or IPv6 address"
_RANGE: Final = "an IPv4 or IPv6 address or a range without host bits, for example 192.0.2.0/24"
_MOST_OF_ONE: Final = 4  # characters of another normal form that may become one in form C
_NOT_UTF8: Final = "\ufffd".encode()
_INSTANT: Final = "a time with an offset, for example 2026-12-31T23:59:59Z (RFC 3339, no leap second)"

_USER: Final = f"a string of 1 to {MAX_USER} characters without control characters"

# `wanted` is what errors say of a text: its pattern does not explain itself.
NodeId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=1024,
        pattern=_NO_CONTROL,
        description="The secret document id to hide. Returned as it came; send one spelling of it.",
        examples=["f2f42052-6e24-4c54-bc15-1e0bb6dce9f7"],
        extra={"wanted": "a string of 1 to 1024 characters without control characters"},
    ),
]
User = Annotated[
    str,
    Meta(
        min_length=1,
        pattern=_NO_CONTROL,
        description="The end user. Compared in Unicode's normal form C, case included.",
        examples=["alice"],
        # It is counted in normal form C (`_user()`), and may be sent in another.
        extra_json_schema={"maxLength": MAX_USER},
        extra={"wanted": _USER},
    ),
]
TokenText = Annotated[
    str,
    Meta(
        min_length=64,
        max_length=64,
        pattern="^[0-9a-f]{64}$",
        description="The token, as it was issued.",
        extra={"wanted": "64 lower-case hex characters"},
    ),
]
AddressText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        description="IPv4 or IPv6 address; an IPv4-mapped one counts as IPv4.",
        examples=["192.0.2.7"],
        extra={"wanted": _ADDRESS},
    ),
]
RangeText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        description="Address or CIDR range.",
        examples=["192.0.2.0/24"],
        extra={"wanted": _RANGE},
    ),
]
ClientIdText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern=f"^{CLIENT_ID.pattern}{_END}",
        examples=["records"],
        extra={"wanted": "a client id: 1 to 64 letters, digits, '.', '_' and '-', a letter or digit first"},
    ),
]
MetadataName = Annotated[str, Meta(min_length=1)]  # DynamoDB takes an empty value, but no empty name
# A text, since msgspec would round a fraction of more than six digits.
Instant = Annotated[
    str,
    Meta(
        min_length=1,
        extra_json_schema={"format": "date-time"},
        examples=["2026-12-31T23:59:59Z"],
        extra={"wanted": _INSTANT},
    ),
]
InstantText = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, examples=["2026-12-31T23:59:59.000Z"])]


Wrong = Callable[[str, str], None]


class Request(Struct, forbid_unknown_fields=True, rename="camel"):
    """Base of what callers send: every field is known, and its type is exact."""


class _Answer(Struct, omit_defaults=True, rename="camel"):
    pass


class IssueRequest(Request):
    """What the issuer says of a token."""

    node_id: NodeId
    actions: Annotated[list[Action], Meta(min_length=1, max_length=3, extra_json_schema={"uniqueItems": True})] = (
        msgspec.field(default_factory=lambda: [Action.DOWNLOAD])
    )
    max_uses: Annotated[int, Meta(ge=1, le=100, description="How many uses are granted.")] = 1
    expires_in: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=int(MAX_LIFETIME.total_seconds()),
                description="Seconds from now; 300 where neither this nor `expiresAt` is given.",
            ),
        ]
        | UnsetType
    ) = UNSET
    expires_at: Annotated[Instant, Meta(description="Instead of `expiresIn`.")] | UnsetType = UNSET
    not_before: Annotated[Instant, Meta(description="Not to be used before; lies before the expiry.")] | UnsetType = (
        UNSET
    )
    user: User | UnsetType = UNSET
    ip_addresses: (
        Annotated[
            list[RangeText],
            Meta(
                min_length=1,
                max_length=16,
                description="Where it may be used from.",
                extra_json_schema={"uniqueItems": True},
            ),
        ]
        | UnsetType
    ) = UNSET
    audience: (
        Annotated[
            list[ClientIdText],
            Meta(
                min_length=1,
                max_length=16,
                description="Clients that may use it.",
                extra_json_schema={"uniqueItems": True},
            ),
        ]
        | UnsetType
    ) = UNSET
    metadata: (
        Annotated[dict[MetadataName, str], Meta(description="Returned on use; 2 KB as JSON at most.")] | UnsetType
    ) = UNSET


class BatchRequest(Request):
    """Up to 100 tokens, issued together or not at all."""

    tokens: Annotated[list[IssueRequest], Meta(min_length=1, max_length=100)]


class UseRequest(Request):
    """A token, and what the calling application says of its end user."""

    token: TokenText
    action: Action | UnsetType = UNSET
    user: User | UnsetType = UNSET
    ip_address: AddressText | UnsetType = UNSET


class RevokeRequest(Request):
    """Exactly one of the two."""

    node_id: NodeId | UnsetType = UNSET
    user: User | UnsetType = UNSET


class IssueAnswer(_Answer):
    """The only answer that holds the token."""

    token: str
    token_id: str
    expires_at: InstantText
    max_uses: int
    actions: list[Action]


class BatchAnswer(_Answer):
    """In the order of the request."""

    tokens: list[IssueAnswer]


class UseAnswer(_Answer):
    """What a granted use returns."""

    token_id: str
    node_id: str
    actions: list[Action]
    uses_remaining: int
    expires_at: InstantText
    use_id: str
    user: str | UnsetType = UNSET
    metadata: Mapping[str, str] | UnsetType = UNSET


class IntrospectAnswer(_Answer):
    """What a use would return now: everything but the use's id, or the reason against it."""

    active: bool
    token_id: str | UnsetType = UNSET
    node_id: str | UnsetType = UNSET
    actions: list[Action] | UnsetType = UNSET
    uses_remaining: int | UnsetType = UNSET
    expires_at: InstantText | UnsetType = UNSET
    user: str | UnsetType = UNSET
    metadata: Mapping[str, str] | UnsetType = UNSET
    reason: tokens.Reason | UnsetType = UNSET


class ClaimAnswer(_Answer):
    """One use that was granted."""

    use_id: str
    at: InstantText
    client_id: str
    user: str | UnsetType = UNSET
    ip_address: str | UnsetType = UNSET
    action: Action | UnsetType = UNSET


class StatusAnswer(_Answer):
    """What is known of a token; never the token, never the node id."""

    token_id: str
    issuer: str
    issued_at: InstantText
    expires_at: InstantText
    actions: list[Action]
    max_uses: int
    uses_remaining: int
    claims: list[ClaimAnswer]
    mismatches: int
    locked: bool
    revoked: bool
    revoked_at: InstantText | UnsetType = UNSET
    not_before: InstantText | UnsetType = UNSET
    user: str | UnsetType = UNSET
    ip_addresses: list[str] | UnsetType = UNSET
    audience: list[str] | UnsetType = UNSET


class RevokeAnswer(_Answer):
    """How many live tokens were revoked; `more`: time ran out, call again."""

    revoked: int
    more: bool


class VersionAnswer(_Answer):
    """What is deployed."""

    service: str
    version: str
    commit: str
    stage: str


def to_terms(request: IssueRequest, errors: Errors, now: datetime) -> Terms:
    """Read what the issuer says of a token.

    Args:
        request: may be a draft, in which None stands for what is wrong by its type: it is not judged again.
        errors: what is wrong so far.
        now: what `expiresIn` counts from.

    Raises:
        InvalidRequest: names every field that is wrong.
    """
    terms = _to_terms(request, errors, now)
    if terms is None:
        raise InvalidRequest(errors)
    return terms


def to_terms_of_all(request: BatchRequest, errors: Errors, now: datetime) -> list[Terms]:
    """Read a batch; all of it is read before anything is said.

    Raises:
        InvalidRequest: names every field that is wrong.
    """
    entries: Sequence[IssueRequest | None] = request.tokens or ()
    terms = [
        _to_terms(entry, errors, now, f"tokens[{place}].") for place, entry in enumerate(entries) if entry is not None
    ]
    errors.check()
    return [each for each in terms if each is not None]


def to_use(request: UseRequest, errors: Errors, client_id: str, idempotency_key: str | None = None) -> Use:
    """Read a use.

    Raises:
        InvalidRequest: names every field that is wrong.
    """
    user = _user(request.user, errors.add)
    if user and request.token and request.token in user.lower():
        # It would be kept in the claim, and the status would show it.
        errors.add("user", "holds the token")
    address: Address | None = None
    if request.ip_address:
        try:
            address = tokens.parse_address(request.ip_address)
        except ValueError:
            errors.add("ipAddress", _not_an_address(request.ip_address, _ADDRESS))
    errors.check()
    return tokens.new_use(
        request.token,
        client_id,
        user=user,
        address=address,
        action=request.action or None,
        idempotency_key=idempotency_key,
    )


def to_revocation(request: RevokeRequest, errors: Errors) -> dict[str, str]:
    """Read whose tokens to revoke: `node_id` or `user`.

    Raises:
        InvalidRequest: none or both are given, or one is wrong.
    """
    errors.check()  # which of the two was meant is judged only where both are what they should be
    if (request.node_id is UNSET) == (request.user is UNSET):
        errors.add("nodeId", "give either nodeId or user")
    user = _user(request.user, errors.add)
    return {"node_id": request.node_id} if request.node_id else {"user": user or ""}


def issue_answer(secret: str, token: Token) -> IssueAnswer:
    terms = token.terms
    return IssueAnswer(secret, token.id, timestamp(terms.expires_at), terms.max_uses, sorted(terms.actions))


def use_answer(grant: Grant) -> UseAnswer:
    """The answer to a use that was granted; the grant holds its claim."""
    if grant.claim is None:
        raise ValueError("a grant without a claim is no use")
    return UseAnswer(use_id=grant.claim.id, **_granted(grant))


def introspect_answer(decision: Grant | Refusal) -> IntrospectAnswer:
    if isinstance(decision, Refusal):
        return IntrospectAnswer(active=False, reason=decision.reason)
    return IntrospectAnswer(active=True, **_granted(decision))


def status_answer(token: Token, revoked: bool) -> StatusAnswer:
    terms = token.terms
    return StatusAnswer(
        token_id=token.id,
        issuer=token.issuer,
        issued_at=timestamp(token.issued_at),
        expires_at=timestamp(terms.expires_at),
        actions=sorted(terms.actions),
        max_uses=terms.max_uses,
        uses_remaining=token.uses_remaining,
        claims=[
            ClaimAnswer(
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
    """An answer as JSON; instants in RFC 3339."""
    return msgspec.json.encode(answer).decode()


def _granted(grant: Grant) -> dict[str, Any]:
    token, terms = grant.token, grant.token.terms
    return {
        "token_id": token.id,
        "node_id": terms.node_id,
        "actions": sorted(terms.actions),
        "uses_remaining": grant.uses_remaining,
        "expires_at": timestamp(terms.expires_at),
        "user": terms.user or UNSET,
        "metadata": terms.metadata or UNSET,
    }


def _to_terms(request: IssueRequest, errors: Errors, now: datetime, prefix: str = "") -> Terms | None:
    """None: something is wrong, here or before."""

    def wrong(field: str, message: str) -> None:
        errors.add(prefix + field, message)

    expires_at = _expiry(request, now, wrong)
    not_before = _instant("notBefore", request.not_before, wrong)
    if not_before is not None and expires_at is not None and not_before >= expires_at:
        wrong("notBefore", "must lie before the expiry")
    networks: list[Network] = []
    for place, text in enumerate(request.ip_addresses or ()):
        try:
            networks += [tokens.parse_network(text)] if text else []
        except ValueError:
            wrong(f"ipAddresses[{place}]", _not_an_address(text, _RANGE))
    user = _user(request.user, wrong)
    metadata = request.metadata or {}
    metadata_json = msgspec.json.encode(metadata)
    if len(metadata_json) > MAX_METADATA_BYTES:
        wrong("metadata", f"must hold at most {MAX_METADATA_BYTES} bytes as JSON")
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
        node_id=request.node_id,
        expires_at=expires_at,
        max_uses=request.max_uses,
        actions=frozenset(actions),
        not_before=not_before,
        user=user,
        networks=frozenset(networks),
        audience=frozenset(audience),
        metadata=metadata,
    )


def _user(text: str | UnsetType, wrong: Wrong) -> str | None:
    """In canonical form; None: it is not given, or it is wrong."""
    if not text:
        return None
    user = tokens.canonical(text) if len(text) <= _MOST_OF_ONE * MAX_USER else text
    if len(user) > MAX_USER:
        wrong("user", f"must be {_USER}")
        return None
    return user


def _not_an_address(text: str, wanted: str) -> str:
    zone = "; a zone, which % introduces, names an interface of one machine only" if "%" in text else ""
    return f"must be {wanted}{zone}"


def _expiry(request: IssueRequest, now: datetime, wrong: Wrong) -> datetime | None:
    """None: it is wrong."""
    expires_in = DEFAULT_LIFETIME.seconds if request.expires_in is UNSET else request.expires_in
    if request.expires_at is UNSET:
        return now + timedelta(seconds=expires_in) if expires_in else None
    expires_at = _instant("expiresAt", request.expires_at, wrong)
    if request.expires_in is not UNSET:
        wrong("expiresAt", "give either expiresAt or expiresIn")
    elif expires_at is not None and not timedelta(seconds=1) <= expires_at - now <= MAX_LIFETIME:
        wrong("expiresAt", f"must lie 1 second to {MAX_LIFETIME.days} days ahead")
    return expires_at


def _instant(field: str, text: str | UnsetType, wrong: Wrong) -> datetime | None:
    """In UTC; None: it is not given, or it is wrong."""
    if not isinstance(text, str):
        return None
    try:
        instant = instants.parse(text)
    except ValueError:
        wrong(field, f"must be {_INSTANT}")
        return None
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        # In UTC it lies in the year 0 or 10000, which no datetime holds: near enough to be judged the same way.
        return instant.replace(tzinfo=UTC)
