"""Clients in one DynamoDB table: domain objects in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pynamodb.exceptions import DoesNotExist

from chalicelib.clients import Client, Scope
from chalicelib.storage.client_item import ClientItem
from chalicelib.storage.model import bind
from chalicelib.storage.store import ConditionFailed, Observe, Store

if TYPE_CHECKING:
    from chalicelib.aws.dynamodb import DynamoDbClient


class ClientStore(Store):
    """Clients in one table.

    Args:
        table_name: the DynamoDB table.
        observe: receives each operation's name and its milliseconds.
        client: what PynamoDB calls DynamoDB with; None means a botocore client of its own.
    """

    _model: type[ClientItem]

    def __init__(
        self, table_name: str, observe: Observe = lambda *_: None, client: DynamoDbClient | None = None
    ) -> None:
        super().__init__(bind(ClientItem, table_name), observe, client)

    def find(self, client_id: str) -> Client | None:
        """The client with that id, as of now; None if missing."""
        with self._request("find_client"):
            try:
                return _to_client(self._model.get(client_id, consistent_read=True))
            except DoesNotExist:
                return None

    def add(self, client: Client) -> bool:
        """Store a new client; False: there is one with that id already."""
        item = self._model(client_id=client.id, created_at=client.created_at, **_changing(client))
        try:
            with self._request("add_client"):
                item.save()  # the attribute of the version lets no item be replaced
        except ConditionFailed:
            # Its secret is new, so what equals it is what this very call stored before an answer was lost.
            return self.find(client.id) == client
        return True

    def change(self, client_id: str, to: Callable[[Client], Client]) -> Client | None:
        """Change a client; nobody else's change in between is lost.

        Args:
            to: makes the new client of the old one; called again if somebody else was faster.

        Returns:
            The client as it is stored now; None if missing.
        """
        while True:
            with self._request("find_client"):
                try:
                    item = self._model.get(client_id, consistent_read=True)
                except DoesNotExist:
                    return None
            known = _to_client(item)
            changed = to(known)
            before = _changing(known)
            for name, value in _changing(changed).items():
                if value != before[name]:
                    setattr(item, name, value)
            try:
                with self._request("change_client"):
                    item.save()
            except ConditionFailed:
                continue
            return changed

    def delete(self, client: Client) -> bool:
        """Delete a client, if it is still as given.

        Returns:
            Whether no client has that id now. False: somebody changed the client, and it stays.
        """
        with self._request("find_client"):
            try:
                item = self._model.get(client.id, consistent_read=True)
            except DoesNotExist:
                return True
        if _to_client(item) != client:
            return False
        try:
            with self._request("delete_client"):
                item.delete()
        except ConditionFailed:
            # A repetition after a lost answer finds no item, where this very call deleted it.
            return self.find(client.id) is None
        return True

    def all(self) -> list[Client]:
        """All clients, in the order of their ids."""
        with self._request("list_clients"):
            return sorted(map(_to_client, self._model.scan()))  # their ids come first, and no two are the same


def _changing(client: Client) -> dict[str, Any]:
    """The attributes of a client that may change."""
    return {
        "scopes": {str(scope) for scope in client.scopes},
        "secrets": client.secrets,
        "disabled_at": client.disabled_at,
    }


def _to_client(item: ClientItem) -> Client:
    return Client(
        id=item.client_id,
        # A scope of a later version opens nothing here, and must not shut its client out: two versions serve at the
        # same time while one replaces the other.
        scopes=frozenset(scope for scope in Scope if scope in item.scopes),
        secrets=item.secrets,
        created_at=item.created_at,
        disabled_at=item.disabled_at,
    )
