"""What is stored in DynamoDB: the two kinds of items and how their values are written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final, TypeVar

from pynamodb.attributes import Attribute, NumberAttribute, UnicodeAttribute, UnicodeSetAttribute, VersionAttribute
from pynamodb.constants import LIST, MAP, NUMBER, STRING, STRING_SET
from pynamodb.indexes import GlobalSecondaryIndex, IncludeProjection
from pynamodb.models import Model

from chalicelib.clients import Secret
from chalicelib.tokens import Action, Claim, Network, parse_address, parse_network

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_M = TypeVar("_M", bound=Model)


class InstantAttribute(Attribute[datetime]):
    """An aware datetime, stored as a number of epoch seconds, exact to the microsecond."""

    attr_type = NUMBER

    def serialize(self, value: datetime) -> str:
        # Integer and decimal arithmetic: a float would round the last digits of a microsecond.
        return format((Decimal((value - _EPOCH) // _MICROSECOND) / 1_000_000).normalize(), "f")

    def deserialize(self, value: str) -> datetime:
        return _EPOCH + int(Decimal(value) * 1_000_000) * _MICROSECOND


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
            "at": {NUMBER: _INSTANT.serialize(claim.at)},
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
            _INSTANT.deserialize(item["at"][NUMBER]),
            texts["client"],
            texts.get("user"),
            parse_address(texts["ip"]) if "ip" in texts else None,
            Action(texts["action"]) if "action" in texts else None,
        )


class SecretsAttribute(Attribute[tuple[Secret, ...]]):
    """What is kept of a client's secrets, the newest first."""

    attr_type = LIST

    def serialize(self, value: tuple[Secret, ...]) -> list[dict[str, Any]]:
        return [{MAP: self._to_item(secret)} for secret in value]

    def deserialize(self, value: list[dict[str, Any]]) -> tuple[Secret, ...]:
        return tuple(self._from_item(item[MAP]) for item in value)

    @staticmethod
    def _to_item(secret: Secret) -> dict[str, Any]:
        item = {"digest": {STRING: secret.digest}, "created_at": {NUMBER: _INSTANT.serialize(secret.created_at)}}
        if secret.expires_at is not None:
            item["expires_at"] = {NUMBER: _INSTANT.serialize(secret.expires_at)}
        return item

    @staticmethod
    def _from_item(item: dict[str, Any]) -> Secret:
        expires_at = _INSTANT.deserialize(item["expires_at"][NUMBER]) if "expires_at" in item else None
        return Secret(item["digest"][STRING], _INSTANT.deserialize(item["created_at"][NUMBER]), expires_at)


_INSTANT: Final = InstantAttribute()


class _Meta:
    """How every model reaches DynamoDB.

    Two attempts with a pause of at most a second between them end within three seconds: a caller waits no longer to
    learn that the store is away.
    """

    connect_timeout_seconds = 0.9
    read_timeout_seconds = 0.9
    max_retry_attempts = 1
    max_pool_connections = 50
    billing_mode = "PAY_PER_REQUEST"


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

    `claim_order` is appended to by the write that adds the claim; it tells a replay how many uses were left then.
    `node_hash` and `user_hash` are index keys (a key may hold 2,048 bytes, a node id 4,096); revoking removes them.
    `purge_at` is DynamoDB's TTL, days after the expiry, so that "expired" and "unknown" stay different answers.
    """

    class Meta(_Meta):
        table_name: str

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


class ClientItem(Model):
    """One client."""

    class Meta(_Meta):
        table_name: str

    client_id = UnicodeAttribute(hash_key=True)
    scopes = UnicodeSetAttribute()
    secrets = SecretsAttribute()
    created_at = InstantAttribute()
    disabled_at = InstantAttribute(null=True)
    version = VersionAttribute()


def hash_of(text: str) -> str:
    """The index key of a node id or user name: SHA-256 as 64 hex characters."""
    return sha256(text.encode()).hexdigest()


def bind(model: type[_M], table_name: str) -> type[_M]:
    """The model for one table. A model of its own for each table, since PynamoDB keeps the connection in the class."""
    meta = type("Meta", (_Meta,), {"table_name": table_name})
    return type(model.__name__, (model,), {"Meta": meta, "__module__": model.__module__})
