"""Requests and answers as types with their limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from chalicelib import tokens
from chalicelib.clients import CLIENT_ID
from chalicelib.tokens import Action

MAX_LIFETIME: Final = timedelta(days=30)
MAX_METADATA_BYTES: Final = 2048
MAX_USER: Final = 256
MAX_BODY_BYTES: Final = 64 * 1024
TOKEN_ID: Final = re.compile(r"tok_[0-9a-f]{32}")

_END: Final = r"$(?!\n)"  # Python's `$` also matches before a final line break, which the look-ahead forbids
# Nor U+FFFD: it replaces bytes that were not UTF-8, whose meaning is lost.
_NO_CONTROL: Final = rf"^[^\x00-\x1f\x7f-\x9f\ufffd]+{_END}"

ADDRESS: Final = "an IPv4 or IPv6 address"
RANGE: Final = "an IPv4 or IPv6 address or a range without host bits, for example 192.0.2.0/24"
INSTANT: Final = "a time with an offset, for example 2026-12-31T23:59:59Z (RFC 3339, no leap second)"

USER: Final = f"a string of 1 to {MAX_USER} characters without control characters"


def _text(wanted: str, most: int | None = None, **more: Any) -> Meta:
    """A text of 1 to so many characters; `wanted` describes it in error messages: a pattern does not explain itself."""
    return Meta(min_length=1, max_length=most, extra={"wanted": wanted}, **more)


def _set(most: int, description: str | None = None) -> Meta:
    return Meta(min_length=1, max_length=most, description=description, extra_json_schema={"uniqueItems": True})


NodeId = Annotated[
    str,
    _text(
        "a string of 1 to 1024 characters without control characters",
        1024,
        pattern=_NO_CONTROL,
        description="The secret document id to hide. Returned unchanged; use one Unicode spelling.",
        examples=["f2f42052-6e24-4c54-bc15-1e0bb6dce9f7"],
    ),
]
User = Annotated[
    str,
    _text(
        USER,
        pattern=_NO_CONTROL,
        description="The end user. Compared in Unicode normal form C, including case.",
        examples=["alice"],
        # It is counted in normal form C (`_user()`), and may be sent in another.
        extra_json_schema={"maxLength": MAX_USER},
    ),
]
TokenText = Annotated[
    str,
    Meta(
        min_length=64,
        max_length=64,
        pattern="^[0-9a-f]{64}$",
        description="The issued token.",
        extra={"wanted": "64 lower-case hex characters"},
    ),
]
AddressText = Annotated[
    str,
    _text(ADDRESS, 64, description="IPv4 or IPv6 address; an IPv4-mapped one counts as IPv4.", examples=["192.0.2.7"]),
]
RangeText = Annotated[str, _text(RANGE, 64, description="Address or CIDR range.", examples=["192.0.2.0/24"])]
ClientIdText = Annotated[
    str,
    _text(
        "a client id: 1 to 64 letters, digits, '.', '_' and '-', a letter or digit first",
        64,
        pattern=f"^{CLIENT_ID.pattern}{_END}",
        examples=["records"],
    ),
]
Lifetime = Annotated[
    int,
    Meta(
        ge=1,
        le=int(MAX_LIFETIME.total_seconds()),
        description="Seconds from now; 300 if neither this nor `expiresAt` is set.",
    ),
]
MetadataName = Annotated[str, Meta(min_length=1)]  # DynamoDB takes an empty value, but no empty name
# A text, since msgspec would round a fraction of more than six digits.
Instant = Annotated[str, _text(INSTANT, extra_json_schema={"format": "date-time"}, examples=["2026-12-31T23:59:59Z"])]
InstantText = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, examples=["2026-12-31T23:59:59.000Z"])]


class Request(Struct, forbid_unknown_fields=True, rename="camel"):
    """Base of all requests: unknown fields are errors."""


class Answer(Struct, omit_defaults=True, rename="camel"):
    """Base of all responses: members without a value are left out."""


class IssueRequest(Request):
    """The document and its limits."""

    node_id: NodeId
    actions: Annotated[list[Action], _set(3)] = msgspec.field(default_factory=lambda: [Action.DOWNLOAD])
    max_uses: Annotated[int, Meta(ge=1, le=100, description="Number of uses.")] = 1
    expires_in: Lifetime | UnsetType = UNSET
    expires_at: Annotated[Instant, Meta(description="Instead of `expiresIn`.")] | UnsetType = UNSET
    not_before: Annotated[Instant, Meta(description="Earliest use; before the expiry.")] | UnsetType = UNSET
    user: User | UnsetType = UNSET
    ip_addresses: Annotated[list[RangeText], _set(16, "Addresses that may use it.")] | UnsetType = UNSET
    audience: Annotated[list[ClientIdText], _set(16, "Clients that may use it.")] | UnsetType = UNSET
    metadata: (
        Annotated[dict[MetadataName, str], Meta(description="Returned on use; 2 KB as JSON at most.")] | UnsetType
    ) = UNSET


class BatchRequest(Request):
    """Up to 100 tokens, issued together or not at all."""

    tokens: Annotated[list[IssueRequest], Meta(min_length=1, max_length=100)]


class UseRequest(Request):
    """A token and its end user."""

    token: TokenText
    action: Action | UnsetType = UNSET
    user: User | UnsetType = UNSET
    ip_address: AddressText | UnsetType = UNSET


class RevokeRequest(Request):
    """Exactly one of the two."""

    node_id: NodeId | UnsetType = UNSET
    user: User | UnsetType = UNSET


class IssueAnswer(Answer):
    """The only response with the token."""

    token: str
    token_id: str
    expires_at: InstantText
    max_uses: int
    actions: list[Action]


class BatchAnswer(Answer):
    """In the order of the request."""

    tokens: list[IssueAnswer]


class UseAnswer(Answer):
    """The result of a granted use."""

    token_id: str
    node_id: str
    actions: list[Action]
    uses_remaining: int
    expires_at: InstantText
    use_id: str
    user: str | UnsetType = UNSET
    metadata: Mapping[str, str] | UnsetType = UNSET


class IntrospectAnswer(Answer):
    """The result of a use now, without `useId`, or the reason for a refusal."""

    active: bool
    token_id: str | UnsetType = UNSET
    node_id: str | UnsetType = UNSET
    actions: list[Action] | UnsetType = UNSET
    uses_remaining: int | UnsetType = UNSET
    expires_at: InstantText | UnsetType = UNSET
    user: str | UnsetType = UNSET
    metadata: Mapping[str, str] | UnsetType = UNSET
    reason: tokens.Reason | UnsetType = UNSET


class ClaimAnswer(Answer):
    """One granted use."""

    use_id: str
    at: InstantText
    client_id: str
    user: str | UnsetType = UNSET
    ip_address: str | UnsetType = UNSET
    action: Action | UnsetType = UNSET


class StatusAnswer(Answer):
    """Limits and uses; never the token or the node id."""

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


class RevokeAnswer(Answer):
    """Number of revoked tokens; if `more` is true, time ran out: call again."""

    revoked: int
    more: bool


class VersionAnswer(Answer):
    """The deployed version."""

    service: str
    version: str
    commit: str
    stage: str


class OpenApiAnswer(Answer):
    """The OpenAPI 3.1 document, with the requested path as server."""

    openapi: str
    info: dict[str, Any]
    servers: list[dict[str, str]]
    security: list[dict[str, list[str]]]
    tags: list[dict[str, str]]
    paths: dict[str, Any]
    components: dict[str, Any]
