"""Tokens and the rules of their use. No clock, no storage, no HTTP.

A token hides a document id. Whoever presents it gets a `Grant` or a `Refusal` from `decide()`, the one
statement of the rules. The store's conditional write states the same to DynamoDB; tests compare the two.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from chalicelib import addresses, seal
from chalicelib.addresses import Address, Network
from chalicelib.instants import epoch_ms

LOCKED_AFTER_MISMATCHES: Final = 5
REPLAY_WINDOW: Final = timedelta(minutes=10)
KEPT_AFTER_EXPIRY: Final = timedelta(days=7)
TOKEN_ID_PREFIX: Final = "tok_"  # noqa: S105 - no secret
USE_ID_PREFIX: Final = "use_"


class Action(StrEnum):
    """What a token may be used for."""

    DOWNLOAD = "download"
    PREVIEW = "preview"
    EDIT = "edit"


class Reason(StrEnum):
    """Why a use is refused. If several apply, the first in this order is returned."""

    # Callers read the values, so none may change.
    NOT_FOUND = "token_not_found"
    REVOKED = "token_revoked"
    LOCKED = "token_locked"
    KEY_REUSED = "idempotency_key_reused"
    EXPIRED = "token_expired"
    NOT_YET_VALID = "token_not_yet_valid"
    AUDIENCE = "audience_mismatch"
    USER = "user_mismatch"
    ADDRESS = "ip_mismatch"
    ACTION = "action_not_permitted"
    EXHAUSTED = "token_exhausted"


MISMATCHES: Final = frozenset({Reason.USER, Reason.ADDRESS, Reason.ACTION})
"""The refusals that count towards locking: each may be a guess. A client can't guess who it is, so an audience mismatch
does not count: otherwise any client could lock a token that is not meant for it."""


class Document(Struct, frozen=True, omit_defaults=True):
    """What a token hides.

    Attributes:
        node_id: the document's id.
        metadata: what the issuer wants returned with it.
    """

    node_id: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    def sealed(self, token: str, node_key: str) -> Sealed:
        return Sealed(seal.seal(msgspec.json.encode(self), seal.key(token)), node_key)


class Sealed(Struct, frozen=True):
    """A document as it is stored: whoever has the token can open it.

    Attributes:
        text: as `seal.seal()` returns it.
        node_key: the key of its node in the index, by which the document's other tokens are found.
    """

    text: str
    node_key: str

    def opened(self, key: bytes) -> Document:
        """Open it with the token's key. Raises `InternalError` if it was altered."""
        return msgspec.json.decode(seal.unseal(self.text, key), type=Document)


class Terms(Struct, frozen=True):
    """What the issuer says of a token.

    Attributes:
        document: what the token hides; sealed in a token that comes from the store.
        expires_at: the first instant at which the token is refused.
        max_uses: how many uses are granted altogether.
        not_before: the first instant at which the token may be used; None means at once.
        user: the only user it may be used for, in canonical form where it was issued by this version; None means any.
        networks: the only addresses it may be used from; empty: any.
        audience: ids of the only clients that may use it; empty: any.
    """

    document: Document | Sealed
    expires_at: datetime
    max_uses: int = 1
    actions: frozenset[Action] = frozenset({Action.DOWNLOAD})
    not_before: datetime | None = None
    user: str | None = None
    networks: frozenset[Network] = frozenset()
    audience: frozenset[str] = frozenset()


class Claim(Struct, frozen=True):
    """One use that was granted, as it is kept in the token's item.

    Attributes:
        id: `use_` and 32 hex characters; made from the idempotency key where the caller sent one.
        attempt: names the request that made the claim, so that it knows its own claim again.
        at: when it was granted.
    """

    id: str
    attempt: str
    at: datetime
    client_id: str
    user: str | None = None
    address: Address | None = None
    action: Action | None = None


class Token(Struct, frozen=True):
    """The record of a token: its digest, never the secret itself.

    Attributes:
        id: `tok_` and the first 32 hex characters of the digest; not secret.
        digest: SHA-256 of the token as 64 hex characters.
        issuer: id of the client that issued it.
        claims: the uses granted so far, in the order in which they were granted.
        mismatches: how often it was presented for the wrong user, address or action.
        last_mismatch_at: when that happened last; None means never.
        revoked_at: when it was revoked; None if it was not.
    """

    id: str
    digest: str
    issuer: str
    issued_at: datetime
    terms: Terms
    claims: tuple[Claim, ...] = ()
    mismatches: int = 0
    last_mismatch_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def uses_remaining(self) -> int:
        return self.terms.max_uses - len(self.claims)

    @property
    def locked(self) -> bool:
        return self.mismatches >= LOCKED_AFTER_MISMATCHES


class Use(Struct, frozen=True):
    """One request to use a token, as the calling application states it.

    Attributes:
        digest: SHA-256 of the presented token as 64 hex characters.
        client_id: the calling application.
        attempt: names this request, and no other.
        claim_id: the id of the claim that a grant will make, or has made when it is a repetition.
        user: in canonical form.
        key: opens what the token hides; empty if nothing is to be opened.
    """

    digest: str
    client_id: str
    attempt: str
    claim_id: str
    user: str | None = None
    address: Address | None = None
    action: Action | None = None
    key: bytes = b""

    @property
    def token_id(self) -> str:
        return token_id(self.digest)

    def claim(self, at: datetime) -> Claim:
        """The claim that this use makes when it is granted at that instant."""
        return Claim(self.claim_id, self.attempt, at, self.client_id, self.user, self.address, self.action)


class Grant(Struct, frozen=True):
    """The use is, or would be, granted.

    Attributes:
        claim: the claim in the token that belongs to this use; None if there is none yet.
        replayed: the claim was made by an earlier request with the same idempotency key.
    """

    token: Token
    claim: Claim | None = None
    replayed: bool = False

    @property
    def uses_remaining(self) -> int:
        """How many were left with the claim; without one, how many are left now."""
        return self.token.terms.max_uses - self.uses_made

    @property
    def uses_made(self) -> int:
        """How many uses there were with the claim; without one, how many there are now."""
        return len(self.token.claims) if self.claim is None else 1 + self.token.claims.index(self.claim)


class Refusal(Struct, frozen=True):
    """The use is refused; `token` is None where there is no such token."""

    reason: Reason
    token: Token | None = None


def canonical(name: str) -> str:
    """A name of a user or node in Unicode's normal form C, in which its spellings are one. Case still counts.

    Source: RFC 8265, section 3.4 (UsernameCasePreserved): normalise to NFC, then compare character by character.
    """
    if name.isascii():
        return name
    from unicodedata import normalize  # noqa: PLC0415 - loaded by the first name that needs it, not by each start

    return normalize("NFC", name)


def digest(token: str) -> str:
    """SHA-256 of a token, as 64 hex characters. The token has 256 random bits, so no salt is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def token_id(token_digest: str) -> str:
    """The public id of the token with that digest."""
    return TOKEN_ID_PREFIX + token_digest[:32]


def chain(token: Token, uses: int) -> str:
    """The digest of a token's issue and of its first so many uses, as 32 hex characters.

    The event that comes next carries it, so that a line that was altered in the log or removed from it shows.
    """
    digest_so_far = link(token.id, epoch_ms(token.issued_at), token.issuer)
    for claim in token.claims[:uses]:
        facts = (claim.client_id, claim.id, claim.user, claim.address, claim.action)
        digest_so_far = link(digest_so_far, epoch_ms(claim.at), *facts)
    return digest_so_far


def link(before: str, at_ms: int, *facts: object) -> str:
    """The digest of one event and of all before it. None counts as an empty text; no fact holds a line break."""
    texts = (before, at_ms, *("" if fact is None else fact for fact in facts))
    return hashlib.sha256("\n".join(map(str, texts)).encode()).hexdigest()[:32]


def new_token(issuer: str, terms: Terms, now: datetime) -> tuple[str, Token]:
    """Make a token.

    Returns:
        The token itself, 64 lower-case hex characters, to be shown once; and what is stored of it.
    """
    secret = secrets.token_hex(32)
    hashed = digest(secret)
    return secret, Token(token_id(hashed), hashed, issuer, now, terms)


def new_use(
    token: str,
    client_id: str,
    *,
    user: str | None = None,
    address: Address | None = None,
    action: Action | None = None,
    idempotency_key: str | None = None,
) -> Use:
    """Make a use of a presented token. The same client, token and idempotency key give the same claim id."""
    hashed = digest(token)
    attempt = secrets.token_hex(16)
    if idempotency_key is None:
        claim_id = USE_ID_PREFIX + attempt
    else:
        # Neither a client id nor a digest holds a line break, so the parts can't run into each other. The id is stored:
        # with another formula, a request that is repeated after a deployment would spend a second use.
        named = f"{client_id}\n{hashed}\n{idempotency_key}"
        claim_id = USE_ID_PREFIX + hashlib.sha256(named.encode()).hexdigest()[:32]
    return Use(hashed, client_id, attempt, claim_id, user and canonical(user), address, action, seal.key(token))


def open_if_presented(token: Token | None, use: Use) -> Token | None:
    """The token with its document open, if it is the one that the use presents; else as it is."""
    if token is None or token.digest != use.digest or isinstance(token.terms.document, Document):
        return token
    return replace(token, terms=replace(token.terms, document=token.terms.document.opened(use.key)))


def decide(  # noqa: C901, PLR0911 - a list of rules in their order; split up it would be harder to check
    token: Token | None, use: Use, now: datetime, issued_after: datetime | None = None
) -> Grant | Refusal:
    """Decide whether a use is granted.

    Args:
        token: the token with the id that the use names, as it is stored now; None if missing.
        issued_after: tokens issued before this instant count as revoked; None revokes none.

    Returns:
        A `Grant` whose `claim` is the use's own, if the token holds it already; or the first reason against it.
    """
    if token is None or not hmac.compare_digest(token.digest, use.digest):
        return Refusal(Reason.NOT_FOUND)
    claim = next((claim for claim in token.claims if claim.id == use.claim_id), None)
    if claim is not None and claim.attempt == use.attempt:
        return Grant(token, claim)  # made by this very request, whose answer was lost; whatever came after it
    if revoked(token, issued_after):
        return Refusal(Reason.REVOKED, token)
    if token.locked:
        return Refusal(Reason.LOCKED, token)
    if claim is not None:
        return _replay(token, claim, use, now)
    terms = token.terms
    if now >= terms.expires_at:
        return Refusal(Reason.EXPIRED, token)
    if terms.not_before is not None and now < terms.not_before:
        return Refusal(Reason.NOT_YET_VALID, token)
    if terms.audience and use.client_id not in terms.audience:
        return Refusal(Reason.AUDIENCE, token)
    if terms.user is not None and use.user != canonical(terms.user):
        return Refusal(Reason.USER, token)
    if terms.networks and not addresses.matches(use.address, terms.networks):
        return Refusal(Reason.ADDRESS, token)
    if use.action is not None and use.action not in terms.actions:
        return Refusal(Reason.ACTION, token)
    if token.uses_remaining <= 0:
        return Refusal(Reason.EXHAUSTED, token)
    return Grant(token)


def _replay(token: Token, claim: Claim, use: Use, now: datetime) -> Grant | Refusal:
    """Judge a use whose claim was made by an earlier request with the same key."""
    user = claim.user and canonical(claim.user)
    same_body = (user, claim.address, claim.action) == (use.user, use.address, use.action)
    if not same_body or now - claim.at >= REPLAY_WINDOW:
        return Refusal(Reason.KEY_REUSED, token)
    return Grant(token, claim, replayed=True)


def revoked(token: Token, issued_after: datetime | None) -> bool:
    """Whether a token was revoked, by itself or with all that were issued before an instant."""
    return token.revoked_at is not None or (issued_after is not None and token.issued_at < issued_after)
