"""What the rivals share: a link for one use, as an item of one DynamoDB table."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from chalicelib.aws.dynamodb import DynamoDbClient
from tests.support.store_engines import StoreEngine


class Rival(ABC):
    """One way to count, over the table and the client that ours has too.

    Attributes:
        name: of the product.
        exact: whether it never grants too much. What is not exact must be caught.
        requests: sent to DynamoDB so far.
        meet: called between a read and what follows from it.
    """

    name: ClassVar[str]
    exact: ClassVar[bool] = False

    def __init__(self, engine: StoreEngine) -> None:
        self._client = DynamoDbClient.from_environ(engine.environ, engine.patience)
        self._table = engine.token_table
        self.requests = 0
        self.meet: Callable[[], object] = lambda: None

    def issue(self) -> str:
        """Store a link for one use; what it is used with."""
        link = secrets.token_hex(16)
        self._call("PutItem", Item={"id": {"S": link}, "used": {"N": "0"}, "allowed": {"N": "1"}})
        return link

    @abstractmethod
    def use(self, link: str, key: str) -> bool:
        """Whether a use is granted.

        Args:
            key: idempotency key of the caller. No rival has one.
        """

    def _call(self, operation: str, **request: Any) -> dict[str, Any]:
        self.requests += 1
        return self._client._make_api_call(operation, {"TableName": self._table, **request})

    def _read(self, link: str) -> dict[str, Any] | None:
        item = self._call("GetItem", Key={"id": {"S": link}}, ConsistentRead=True).get("Item")
        self.meet()
        return item

    def _delete(self, link: str, **more: Any) -> dict[str, Any]:
        return self._call("DeleteItem", Key={"id": {"S": link}}, **more)
