"""Tokens in one DynamoDB table: domain objects in and out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from pynamodb.constants import (
    ALL_NEW,
    ALL_OLD,
    ATTRIBUTES,
    CONDITION_EXPRESSION,
    EXPRESSION_ATTRIBUTE_NAMES,
    EXPRESSION_ATTRIBUTE_VALUES,
    ITEM,
    ITEMS,
    KEY,
    LAST_EVALUATED_KEY,
    LIST,
    NUMBER,
    PUT_ITEM,
    RETURN_VALUES,
    RETURN_VALUES_ON_CONDITION_FAILURE,
    STRING,
    TABLE_NAME,
    TRANSACT_ITEMS,
    TRANSACT_WRITE_ITEMS,
    UPDATE_EXPRESSION,
    UPDATE_ITEM,
)
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action as UpdateAction

from chalicelib.errors import StoreUnavailable
from chalicelib.storage.index_keys import ReadSecrets, node_keys, plain_keys
from chalicelib.storage.model import INSTANT, bind
from chalicelib.storage.store import ConditionFailed, Observe, Store
from chalicelib.storage.token_item import ClaimsAttribute, TokenItem, to_item, to_token
from chalicelib.tokens import (
    LOCKED_AFTER_MISMATCHES,
    Reason,
    Sealed,
    Token,
    Use,
    canonical,
)

if TYPE_CHECKING:
    from chalicelib.aws.dynamodb import DynamoDbClient

# The writes that add a token and spend a use, as DynamoDB's expressions. PynamoDB would build the same texts for each
# request, which takes longer than all else of a call.

# If DynamoDB's answer is lost, the write is sent again, and passes with the same digest. Another token with the same id
# does not pass, nor does one that was used or revoked in between: it would be new again.
_ADDABLE: Final = (
    "attribute_not_exists(id) OR (digest = :digest"
    " AND size(claims) = :none AND mismatches = :none AND attribute_not_exists(revoked_at))"
)
_MAKE_CLAIM: Final = "SET claims.#claim = :claim, claim_order = list_append(claim_order, :order)"
CLAUSES: Final = {
    Reason.NOT_FOUND: "digest = :digest",
    Reason.REVOKED: "attribute_not_exists(revoked_at)",
    Reason.LOCKED: "mismatches < :locked",
    Reason.KEY_REUSED: "attribute_not_exists(claims.#claim)",
    Reason.EXPIRED: "expires_at > :now",
    Reason.NOT_YET_VALID: "(attribute_not_exists(not_before) OR not_before <= :now)",
    Reason.AUDIENCE: "(attribute_not_exists(audience) OR contains(audience, :client))",
    Reason.EXHAUSTED: "size(claims) < max_uses",
}
"""The condition of every claim: what must hold, by the reason that refuses the use otherwise."""
_CLAIMABLE: Final = " AND ".join(CLAUSES.values())
# What some claims need as well.
_ISSUED_SINCE: Final = " AND issued_at >= :issued_after"  # else revoked
_FOR_NO_USER: Final = " AND attribute_not_exists(#user)"  # else another user's
_FOR_THIS_USER: Final = " AND (attribute_not_exists(#user) OR #user = :user)"
_FROM_ANYWHERE: Final = " AND attribute_not_exists(networks)"  # else to be judged first
_FOR_THIS_ACTION: Final = " AND contains(actions, :action)"


class TokenStore(Store):
    """Tokens in one table.

    Args:
        table_name: the DynamoDB table.
        observe: receives each operation's name and its milliseconds.
        client: what PynamoDB calls DynamoDB with; None means a botocore client of its own.
        index_secrets: of the index of nodes.
        seals: whether new tokens' documents are sealed; both kinds can be read.
    """

    _model: type[TokenItem]

    def __init__(
        self,
        table_name: str,
        observe: Observe = lambda *_: None,
        client: DynamoDbClient | None = None,
        *,
        index_secrets: ReadSecrets = tuple,
        seals: bool = True,
    ) -> None:
        self._index_secrets = index_secrets
        self._seals = seals
        super().__init__(bind(TokenItem, table_name), observe, client)

    def add(self, issued: Sequence[tuple[str, Token]]) -> None:
        """Store new tokens, all or none of them; at most 100.

        Args:
            issued: each token itself, which is not stored, and what is stored of it.

        Raises:
            StoreUnavailable: also if another token has one of their ids, or one of them was used, revoked or
                counted a mismatch before our repetition after a lost answer, so that the caller asks for a new one.
        """
        index_secrets = self._index_secrets()
        puts = [
            self._put(to_item(token, secret if self._seals else None, index_secrets), token.digest)
            for secret, token in issued
        ]
        try:
            with self._request("add"):
                if len(puts) == 1:
                    self._call(PUT_ITEM, puts[0])
                else:
                    self._call(TRANSACT_WRITE_ITEMS, {TRANSACT_ITEMS: [{"Put": put} for put in puts]})
        except ConditionFailed as failed:
            raise StoreUnavailable from failed

    def find(self, token_id: str) -> Token | None:
        """The token with that id, as of now; None if missing."""
        with self._request("find"):
            answer = self._model._get_connection().get_item(token_id, consistent_read=True)
        return _to_token(answer.get(ITEM))

    def claim(
        self, use: Use, now: datetime, issued_after: datetime | None, judged: Token | None = None
    ) -> Token | None:
        """Make the use's claim if every rule allows it, in one conditional write.

        DynamoDB can't match address ranges, nor the spellings of a name that is not in canonical form, as older
        tokens may hold it. So such a token is claimed only when the caller has judged it.

        Args:
            judged: the token as an earlier call returned it, whose addresses and user allow the use. Neither of the
                two ever changes, so what was judged still holds.

        Returns:
            The token after the write, holding the claim; or, where the condition did not hold, the token as it is.
            `decide()` says which of the two it is, and why. None if missing.
        """
        claim = use.claim(now)
        condition = _CLAIMABLE
        values: dict[str, dict[str, Any]] = {
            ":digest": {STRING: use.digest},
            ":now": {NUMBER: INSTANT.serialize(now)},
            ":client": {STRING: use.client_id},
            ":locked": {NUMBER: str(LOCKED_AFTER_MISMATCHES)},
            ":claim": ClaimsAttribute.to_item(claim),
            ":order": {LIST: [{STRING: claim.id}]},
        }
        if use.user is None:
            condition += _FOR_NO_USER
        else:
            condition += _FOR_THIS_USER
            spelling = judged.terms.user if judged is not None and judged.terms.user else use.user
            values[":user"] = {STRING: spelling if canonical(spelling) == use.user else use.user}
        if use.action is not None:
            condition += _FOR_THIS_ACTION
            values[":action"] = {STRING: use.action}
        if judged is None:
            condition += _FROM_ANYWHERE
        if issued_after is not None:
            condition += _ISSUED_SINCE
            values[":issued_after"] = {NUMBER: INSTANT.serialize(issued_after)}
        request = {
            TABLE_NAME: self._model.Meta.table_name,
            KEY: {"id": {STRING: use.token_id}},
            UPDATE_EXPRESSION: _MAKE_CLAIM,
            CONDITION_EXPRESSION: condition,
            EXPRESSION_ATTRIBUTE_NAMES: {"#claim": claim.id, "#user": "user"},
            EXPRESSION_ATTRIBUTE_VALUES: values,
            RETURN_VALUES: ALL_NEW,
            RETURN_VALUES_ON_CONDITION_FAILURE: ALL_OLD,
        }
        try:
            return _to_token(self._send_update("claim", request))
        except ConditionFailed as failed:
            return _to_token(failed.item)

    def count_mismatch(self, token_id: str, now: datetime) -> Token | None:
        """Count one use for the wrong user, address or action.

        A repetition after a lost answer counts twice: the token then locks earlier, never later. Where the answer to
        the locking count itself was lost, the repetition knows it by its instant.

        Returns:
            The token after the write; None if it was locked already or is gone.
        """
        token = self._model
        condition = token.id.exists() & (token.mismatches < LOCKED_AFTER_MISMATCHES)
        actions = [token.mismatches.add(1), token.last_mismatch_at.set(now)]
        try:
            return _to_token(self._conditional_update("count_mismatch", token_id, actions, condition))
        except ConditionFailed as failed:
            known = _to_token(failed.item)
            return known if known is not None and known.last_mismatch_at == now else None

    def revoke(self, token_id: str, issuer: str | None, now: datetime) -> Token | None:
        """Revoke one token, and take it out of the indexes.

        Args:
            issuer: revoke it only if this client issued it; None means any client.

        Returns:
            The token as it is now: `revoked_at` is `now` exactly if this call did it. None if missing.
        """
        token = self._model
        condition = token.id.exists() & token.revoked_at.does_not_exist()
        if issuer is not None:
            condition &= token.issuer == issuer
        actions = [
            token.revoked_at.set(now),
            token.revoked_node_hash.set(token.node_hash),
            token.node_hash.remove(),
            token.user_hash.remove(),
        ]
        return self._update("revoke", token_id, actions, condition)

    def find_unrevoked(
        self,
        *,
        node_id: str | Sealed | None = None,
        user: str | None = None,
        issuer: str | None,
        now: datetime,
    ) -> Iterator[str]:
        """The ids of the tokens of one node or of one user that have not expired and were not revoked.

        They come from an index, which trails writes by moments.

        Args:
            node_id: or the sealed document of one of the node's tokens.
            issuer: only those that this client issued; None means any client.
        """
        token = self._model
        if node_id is None:
            index, keys = "by-user", plain_keys(str(user))
        elif isinstance(node_id, Sealed):
            index, keys = "by-node", [node_id.node_key]
        else:
            index, keys = "by-node", node_keys(node_id, self._index_secrets())
        for key in keys:
            pages = token.query(
                key,
                token.expires_at > now,
                index_name=index,
                filter_condition=None if issuer is None else token.issuer == issuer,
            ).page_iter
            for item in self._items("query", pages):
                yield item["id"][STRING]

    def all(self) -> Iterator[Token]:
        """Every token that is stored, in no order. It reads the whole table: for operators, never for a request."""
        return filter(None, map(_to_token, self._items("scan", self._model.scan().page_iter)))

    def _items(self, operation: str, pages: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The items of all pages, each page one request."""
        while True:
            with self._request(operation):
                page = next(pages)
            yield from page[ITEMS]
            if LAST_EVALUATED_KEY not in page:
                return

    def _put(self, item: dict[str, Any], digest: str) -> dict[str, Any]:
        return {
            TABLE_NAME: self._model.Meta.table_name,
            ITEM: item,
            CONDITION_EXPRESSION: _ADDABLE,
            EXPRESSION_ATTRIBUTE_VALUES: {":digest": {STRING: digest}, ":none": {NUMBER: "0"}},
        }

    def _update(
        self, operation: str, token_id: str, actions: Sequence[UpdateAction], condition: Condition
    ) -> Token | None:
        """Do a conditional write; the item after it, or the item that failed the condition."""
        try:
            return _to_token(self._conditional_update(operation, token_id, actions, condition))
        except ConditionFailed as failed:
            return _to_token(failed.item)

    def _conditional_update(
        self, operation: str, token_id: str, actions: Sequence[UpdateAction], condition: Condition
    ) -> dict[str, Any]:
        # PynamoDB's own `update()` can't ask for the item that stood against the condition.
        connection = self._model._get_connection()
        request = connection.get_operation_kwargs(
            token_id,
            actions=actions,
            condition=condition,
            return_values=ALL_NEW,
            return_values_on_condition_failure=ALL_OLD,
        )
        return self._send_update(operation, request)

    def _send_update(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        with self._request(operation):
            item: dict[str, Any] = self._call(UPDATE_ITEM, request)[ATTRIBUTES]
        return item


def _to_token(item: dict[str, Any] | None) -> Token | None:
    return to_token(item) if item else None
