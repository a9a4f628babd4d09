"""What is stored of a token, and how its values are written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from pynamodb.attributes import Attribute, NumberAttribute, UnicodeAttribute, UnicodeSetAttribute
from pynamodb.constants import LIST, MAP, NUMBER, STRING, STRING_SET
from pynamodb.indexes import GlobalSecondaryIndex, IncludeProjection
from pynamodb.models import Model

from chalicelib.storage.model import INSTANT, InstantAttribute
from chalicelib.tokens import (
    KEPT_AFTER_EXPIRY,
    Action,
    Claim,
    Network,
    Terms,
    Token,
    canonical,
    parse_address,
    parse_network,
)


class NetworksAttribute(Attribute[frozenset[Network]]):
    """Addresses and CIDR ranges, stored as a set of texts."""

    attr_type = STRING_SET

    def serialize(self, value: frozenset[Network]) -> list[str]:
        return sorted(str(network) for network in value)

    def deserialize(self, value: list[str]) -> frozenset[Network]:
        return frozenset(map(parse_network, value))


class MetadataAttribute(Attribute[Mapping[str, str]]):
    """Texts by name. PynamoDB's own map attribute has names that it keeps for itself."""

    attr_type = MAP

    def serialize(self, value: Mapping[str, str]) -> dict[str, Any]:
        return {name: {STRING: text} for name, text in value.items()}

    def deserialize(self, value: dict[str, Any]) -> Mapping[str, str]:
        return {name: text[STRING] for name, text in value.items()}


class ClaimOrderAttribute(Attribute[list[str]]):
    """Claim ids, in the order in which the claims were granted."""

    attr_type = LIST

    def serialize(self, value: list[str]) -> list[dict[str, str]]:
        return [{STRING: claim_id} for claim_id in value]

    def deserialize(self, value: list[dict[str, str]]) -> list[str]:
        return [claim_id[STRING] for claim_id in value]


class ClaimsAttribute(Attribute[dict[str, Claim]]):
    """The uses granted so far: claim id to when, who, from where and for what."""

    attr_type = MAP

    def serialize(self, value: dict[str, Claim]) -> dict[str, Any]:
        return {claim.id: self.to_item(claim) for claim in value.values()}

    def deserialize(self, value: dict[str, Any]) -> dict[str, Claim]:
        return {claim_id: self._from_item(claim_id, item[MAP]) for claim_id, item in value.items()}

    @staticmethod
    def to_item(claim: Claim) -> dict[str, Any]:
        item = {
            "at": {NUMBER: INSTANT.serialize(claim.at)},
            "attempt": {STRING: claim.attempt},
            "client": {STRING: claim.client_id},
        }
        for name, text in (("user", claim.user), ("ip", claim.address), ("action", claim.action)):
            if text is not None:
                item[name] = {STRING: str(text)}
        return {MAP: item}

    @staticmethod
    def _from_item(claim_id: str, item: dict[str, Any]) -> Claim:
        texts = {name: value[STRING] for name, value in item.items() if STRING in value}
        return Claim(
            claim_id,
            texts["attempt"],
            INSTANT.deserialize(item["at"][NUMBER]),
            texts["client"],
            texts.get("user"),
            parse_address(texts["ip"]) if "ip" in texts else None,
            Action(texts["action"]) if "action" in texts else None,
        )


class _TokensByNode(GlobalSecondaryIndex["TokenItem"]):
    """Tokens that were not revoked, by node and expiry."""

    class Meta:
        index_name = "by-node"
        projection = IncludeProjection(["issuer"])

    node_hash = UnicodeAttribute(hash_key=True)
    expires_at = InstantAttribute(range_key=True)


class _TokensByUser(GlobalSecondaryIndex["TokenItem"]):
    """Tokens that are bound to a user and were not revoked, by user and expiry."""

    class Meta:
        index_name = "by-user"
        projection = IncludeProjection(["issuer"])

    user_hash = UnicodeAttribute(hash_key=True)
    expires_at = InstantAttribute(range_key=True)


class TokenItem(Model):
    """One token. The number of uses is the size of `claims`, so it can't drift from the record of who used it.

    `claim_order` is appended to by the write that adds the claim; a replay reads from it how many uses were left then.
    `node_hash` and `user_hash` are index keys (a key may hold 2,048 bytes, a node id 4,096); revoking removes them.
    `purge_at` is DynamoDB's TTL, days after the expiry, so that "expired" and "unknown" stay different answers.
    """

    id = UnicodeAttribute(hash_key=True)
    digest = UnicodeAttribute()
    issuer = UnicodeAttribute()
    issued_at = InstantAttribute()
    expires_at = InstantAttribute()
    not_before = InstantAttribute(null=True)
    max_uses = NumberAttribute()
    node_id = UnicodeAttribute()
    user = UnicodeAttribute(null=True)
    actions = UnicodeSetAttribute()
    networks = NetworksAttribute(null=True)
    audience = UnicodeSetAttribute(null=True)
    metadata = MetadataAttribute(null=True)
    claims = ClaimsAttribute()
    claim_order = ClaimOrderAttribute()
    mismatches = NumberAttribute()
    last_mismatch_at = InstantAttribute(null=True)
    revoked_at = InstantAttribute(null=True)
    node_hash = UnicodeAttribute(null=True)
    user_hash = UnicodeAttribute(null=True)
    purge_at = NumberAttribute()

    by_node = _TokensByNode()
    by_user = _TokensByUser()


_ATTRIBUTES: Final = TokenItem.get_attributes()


def to_item(token: Token) -> dict[str, Any]:
    """A token's item as DynamoDB takes it."""
    terms = token.terms
    values = {
        "id": token.id,
        "digest": token.digest,
        "issuer": token.issuer,
        "issued_at": token.issued_at,
        "expires_at": terms.expires_at,
        "not_before": terms.not_before,
        "max_uses": terms.max_uses,
        "node_id": terms.node_id,
        "user": terms.user,
        "actions": terms.actions,
        "networks": terms.networks or None,
        "audience": terms.audience or None,
        "metadata": terms.metadata or None,
        "claims": {claim.id: claim for claim in token.claims},
        "claim_order": [claim.id for claim in token.claims],
        "mismatches": token.mismatches,
        "last_mismatch_at": token.last_mismatch_at,
        "revoked_at": token.revoked_at,
        "node_hash": hash_of(terms.node_id),
        "user_hash": None if terms.user is None else hash_of(terms.user),
        "purge_at": math.ceil((terms.expires_at + KEPT_AFTER_EXPIRY).timestamp()),
    }
    attributes = ((name, _ATTRIBUTES[name], value) for name, value in values.items() if value is not None)
    return {name: {attribute.attr_type: attribute.serialize(value)} for name, attribute, value in attributes}


def to_token(item: Mapping[str, Any]) -> Token:
    """The token of an item as DynamoDB returns it."""

    def read(name: str) -> Any:
        attribute = _ATTRIBUTES[name]
        return attribute.deserialize(item[name][attribute.attr_type])

    def find(name: str, default: Any = None) -> Any:
        return read(name) if name in item else default

    claims = read("claims")
    terms = Terms(
        node_id=read("node_id"),
        expires_at=read("expires_at"),
        max_uses=read("max_uses"),
        actions=frozenset(map(Action, read("actions"))),
        not_before=find("not_before"),
        user=find("user"),
        networks=find("networks", frozenset()),
        audience=frozenset(find("audience", ())),
        metadata=find("metadata", {}),
    )
    return Token(
        id=read("id"),
        digest=read("digest"),
        issuer=read("issuer"),
        issued_at=read("issued_at"),
        terms=terms,
        claims=tuple(claims[claim_id] for claim_id in read("claim_order")),
        mismatches=read("mismatches"),
        last_mismatch_at=find("last_mismatch_at"),
        revoked_at=find("revoked_at"),
    )


def hash_of(name: str) -> str:
    """The index key of a node id or user name: SHA-256 of its canonical form, as 64 hex characters."""
    return _sha256(canonical(name))


def hashes_of(name: str) -> list[str]:
    """The index keys under which a name may stand.

    Tokens stored before names were normalised stand under what was sent: most likely form C, form D, or what is sent
    now. None of them lives longer than 30 days.
    """
    if name.isascii():
        return [hash_of(name)]
    from unicodedata import normalize  # noqa: PLC0415 - as in `canonical()`

    return [_sha256(each) for each in dict.fromkeys((canonical(name), normalize("NFD", name), name))]


def _sha256(text: str) -> str:
    return sha256(text.encode()).hexdigest()
