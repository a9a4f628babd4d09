"""What is stored of a client, and how its values are written."""

from __future__ import annotations

from typing import Any

from pynamodb.attributes import Attribute, UnicodeAttribute, UnicodeSetAttribute, VersionAttribute
from pynamodb.constants import LIST, MAP, NUMBER, STRING
from pynamodb.models import Model

from chalicelib.clients import ClientSecret
from chalicelib.storage.model import INSTANT, InstantAttribute


class SecretsAttribute(Attribute[tuple[ClientSecret, ...]]):
    """What is kept of a client's secrets, the newest first."""

    attr_type = LIST

    def serialize(self, value: tuple[ClientSecret, ...]) -> list[dict[str, Any]]:
        return [{MAP: self._to_item(secret)} for secret in value]

    def deserialize(self, value: list[dict[str, Any]]) -> tuple[ClientSecret, ...]:
        return tuple(self._from_item(item[MAP]) for item in value)

    @staticmethod
    def _to_item(secret: ClientSecret) -> dict[str, Any]:
        item = {"digest": {STRING: secret.digest}, "created_at": {NUMBER: INSTANT.serialize(secret.created_at)}}
        if secret.expires_at is not None:
            item["expires_at"] = {NUMBER: INSTANT.serialize(secret.expires_at)}
        return item

    @staticmethod
    def _from_item(item: dict[str, Any]) -> ClientSecret:
        expires_at = INSTANT.deserialize(item["expires_at"][NUMBER]) if "expires_at" in item else None
        return ClientSecret(item["digest"][STRING], INSTANT.deserialize(item["created_at"][NUMBER]), expires_at)


class ClientItem(Model):
    """One client."""

    client_id = UnicodeAttribute(hash_key=True)
    scopes = UnicodeSetAttribute()
    secrets = SecretsAttribute()
    created_at = InstantAttribute()
    disabled_at = InstantAttribute(null=True)
    version = VersionAttribute()
