"""What is stored of a token, and how its values are written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pynamodb.attributes import Attribute, UnicodeAttribute, UnicodeSetAttribute
from pynamodb.constants import LIST, MAP, NUMBER, STRING, STRING_SET
from pynamodb.indexes import GlobalSecondaryIndex, IncludeProjection
from pynamodb.models import Model

from chalicelib.addresses import Network, parse_address, parse_network
from chalicelib.storage.index_keys import node_key, plain_key
from chalicelib.storage.model import INSTANT, CountAttribute, InstantAttribute
from chalicelib.tokens import (
    KEPT_AFTER_EXPIRY,
    Action,
    Claim,
    Document,
    Sealed,
    Terms,
    Token,
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
    `sealed` is the document. Tokens issued before documents were sealed hold `node_id` and `metadata` instead.
    `node_hash` and `user_hash` are index keys. Revoking removes them, and keeps the first as `revoked_node_hash`.
    `purge_at` is DynamoDB's TTL, days after the expiry, so that "expired" and "unknown" stay different answers.
    """

    id = UnicodeAttribute(hash_key=True)
    digest = UnicodeAttribute()
    issuer = UnicodeAttribute()
    issued_at = InstantAttribute()
    expires_at = InstantAttribute()
    not_before = InstantAttribute(null=True)
    max_uses = CountAttribute()
    sealed = UnicodeAttribute(null=True)
    node_id = UnicodeAttribute(null=True)
    user = UnicodeAttribute(null=True)
    actions = UnicodeSetAttribute()
    networks = NetworksAttribute(null=True)
    audience = UnicodeSetAttribute(null=True)
    metadata = MetadataAttribute(null=True)
    claims = ClaimsAttribute()
    claim_order = ClaimOrderAttribute()
    mismatches = CountAttribute()
    last_mismatch_at = InstantAttribute(null=True)
    revoked_at = InstantAttribute(null=True)
    node_hash = UnicodeAttribute(null=True)
    user_hash = UnicodeAttribute(null=True)
    revoked_node_hash = UnicodeAttribute(null=True)
    purge_at = CountAttribute()

    by_node = _TokensByNode()
    by_user = _TokensByUser()


_ATTRIBUTES: Final = TokenItem.get_attributes()


def to_item(token: Token, secret: str | None, index_secrets: Sequence[bytes] = ()) -> dict[str, Any]:
    """A new token's item as DynamoDB takes it.

    Args:
        token: its document is open.
        secret: the token itself, to seal the document under it; None stores the document readable.
        index_secrets: of the index of nodes, the newest first.
    """
    terms, document = token.terms, token.terms.document
    assert isinstance(document, Document)  # noqa: S101 - a new token's is
    node_hash = node_key(document.node_id, index_secrets)
    at_rest = (
        {"node_id": document.node_id, "metadata": document.metadata or None}
        if secret is None
        else {"sealed": document.sealed(secret, node_hash).text}
    )
    values = at_rest | {
        "id": token.id,
        "digest": token.digest,
        "issuer": token.issuer,
        "issued_at": token.issued_at,
        "expires_at": terms.expires_at,
        "not_before": terms.not_before,
        "max_uses": terms.max_uses,
        "user": terms.user,
        "actions": terms.actions,
        "networks": terms.networks or None,
        "audience": terms.audience or None,
        "claims": {claim.id: claim for claim in token.claims},
        "claim_order": [claim.id for claim in token.claims],
        "mismatches": token.mismatches,
        "last_mismatch_at": token.last_mismatch_at,
        "revoked_at": token.revoked_at,
        "node_hash": node_hash,
        "user_hash": None if terms.user is None else plain_key(terms.user),
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
    if "sealed" in item:
        node_hash = "node_hash" if "node_hash" in item else "revoked_node_hash"
        document: Document | Sealed = Sealed(read("sealed"), read(node_hash))
    else:
        document = Document(read("node_id"), find("metadata", {}))
    terms = Terms(
        document,
        expires_at=read("expires_at"),
        max_uses=read("max_uses"),
        actions=frozenset(map(Action, read("actions"))),
        not_before=find("not_before"),
        user=find("user"),
        networks=find("networks", frozenset()),
        audience=frozenset(find("audience", ())),
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
