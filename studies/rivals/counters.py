"""Six ways to count the uses of a link, each restated in our words from its product's source, and ours.

All count in one DynamoDB table, with the client that the token service has. Six of them read, then write.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar, Final

from chalicelib import instants, tokens
from chalicelib.aws.dynamodb import DynamoDbClient
from chalicelib.aws.errors import Refused
from chalicelib.clients import Scope
from chalicelib.service import Caller, TokenService
from chalicelib.tokens import Document, Grant, Terms
from tests.support.audits import SilentAudit
from tests.support.store_engines import StoreEngine


class Rival(ABC):
    """One way to count.

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

    def _update(self, link: str, expression: str, value: int) -> None:
        key, values = {"id": {"S": link}}, {":value": {"N": str(value)}}
        self._call("UpdateItem", Key=key, UpdateExpression=expression, ExpressionAttributeValues=values)


class Ours(Rival):
    """A claim in one conditional write; its id is the caller's key, so that a repetition finds it."""

    name = "token service"
    exact = True

    def __init__(self, engine: StoreEngine) -> None:
        super().__init__(engine)
        self._service = TokenService(engine.token_store(self._count), SilentAudit(), instants.now)
        self._caller = Caller("app", frozenset(Scope), "race")

    def issue(self) -> str:
        [(secret, _)] = self._service.issue(
            self._caller, [Terms(Document("node"), instants.now() + timedelta(hours=1))]
        )
        return secret

    def use(self, link: str, key: str) -> bool:
        use = tokens.new_use(link, self._caller.client_id, idempotency_key=key)
        return isinstance(self._service.use(self._caller, use), Grant)

    def _count(self, operation: str, milliseconds: float) -> None:
        self.requests += 1


class SingleUseTokenManager(Rival):
    """idct/single-use-token-manager: Redis GETDEL, which reads and deletes at once; here a delete on a condition.

    One request, and nobody gets the link twice. A caller whose answer is lost has lost it. The condition is for
    DynamoDB Local: without one, it returned the deleted item to several callers.
    """

    name = "single-use-token-manager (GETDEL)"
    exact = True

    def use(self, link: str, key: str) -> bool:
        try:
            self._delete(link, ConditionExpression="attribute_exists(id)")
        except Refused as refused:
            if refused.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return False
        return True


class SingleUseSignedUrl(Rival):
    """aws-samples/single-use-signed-url, `CloudFrontViewRequest.js`: reads the key, deletes it, lets the caller in.

    The delete has no condition: it succeeds for everybody who has read the key.
    """

    name = "AWS sample single-use-signed-url"

    def use(self, link: str, key: str) -> bool:
        if self._read(link) is None:
            return False
        self._delete(link)
        return True


class BitwardenSend(Rival):
    """bitwarden/server, `SendAuthorizationService.AccessAsync`: adds one in memory, then replaces the row.

    Two callers that read the same row both write the same count.
    """

    name = "Bitwarden Send"

    def use(self, link: str, key: str) -> bool:
        row = self._read(link)
        if _is_spent(row):
            return False
        self._call("PutItem", Item={**row, "used": {"N": str(int(row["used"]["N"]) + 1)}})
        return True


class NextcloudDownloadLimit(Rival):
    """nextcloud/files_downloadlimit, `BeforeNodeReadListener`: the last download deletes the share, others count on.

    It counts what it read plus one. If that fails, it logs the error and the download goes on.
    """

    name = "Nextcloud files_downloadlimit"

    def use(self, link: str, key: str) -> bool:
        share = self._read(link)
        if share is None:
            return False
        downloads = int(share["used"]["N"]) + 1
        if downloads >= int(share["allowed"]["N"]):
            self._delete(link)
        else:
            self._call("PutItem", Item={**share, "used": {"N": str(downloads)}})
        return True


class PingvinShare(Rival):
    """stonith404/pingvin-share, `ShareService`: compares the views, then stores what it read plus one.

    The update sets a number; it does not add.
    """

    name = "Pingvin Share"

    def use(self, link: str, key: str) -> bool:
        share = self._read(link)
        if _is_spent(share):
            return False
        self._update(link, "SET used = :value", int(share["used"]["N"]) + 1)
        return True


class FileBrowserQuantum(Rival):
    """gtsteffaniak/filebrowser (Quantum): checks the count before it streams a file, and adds one after it.

    It adds correctly, but whoever comes while the file is on its way passes the check. Here no file takes time.
    """

    name = "FileBrowser Quantum"

    def use(self, link: str, key: str) -> bool:
        if _is_spent(self._read(link)):
            return False
        self._update(link, "ADD used :value", 1)
        return True


def _is_spent(link: dict[str, Any] | None) -> bool:
    return link is None or int(link["used"]["N"]) >= int(link["allowed"]["N"])


ALL: Final[tuple[type[Rival], ...]] = (
    Ours,
    SingleUseTokenManager,
    SingleUseSignedUrl,
    BitwardenSend,
    NextcloudDownloadLimit,
    PingvinShare,
    FileBrowserQuantum,
)
