"""idct/single-use-token-manager: Redis GETDEL, which reads and deletes at once; here a delete on a condition."""

from __future__ import annotations

from chalicelib.aws.errors import Refused
from studies.rivals.table import Rival


class SingleUseTokenManager(Rival):
    """One request, and nobody gets the link twice. A caller whose answer is lost has lost it.

    The condition is for DynamoDB Local: without one, it returned the deleted item to several callers.
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
