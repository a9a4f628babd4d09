"""Chalice and PynamoDB as their own tutorials put them together; the client is made at the first call."""

from __future__ import annotations

import os
import secrets

import record
from chalice import Chalice, Response
from pynamodb.attributes import (
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    UnicodeAttribute,
    UnicodeSetAttribute,
    UTCDateTimeAttribute,
)
from pynamodb.exceptions import DoesNotExist, UpdateError
from pynamodb.expressions.condition import size
from pynamodb.expressions.operand import Path
from pynamodb.models import Model

app = Chalice(app_name="peer")


class Token(Model):
    class Meta:
        table_name = os.environ["TOKEN_TABLE"]

    id = UnicodeAttribute(hash_key=True)
    digest = UnicodeAttribute()
    issuer = UnicodeAttribute()
    issued_at = NumberAttribute()
    expires_at = NumberAttribute()
    not_before = NumberAttribute(null=True)
    max_uses = NumberAttribute()
    node_id = UnicodeAttribute()
    user = UnicodeAttribute(null=True)
    actions = UnicodeSetAttribute()
    networks = UnicodeSetAttribute(null=True)
    audience = UnicodeSetAttribute(null=True)
    claims = MapAttribute()
    claim_order = ListAttribute(of=UnicodeAttribute)
    mismatches = NumberAttribute()
    revoked_at = UTCDateTimeAttribute(null=True)
    node_hash = UnicodeAttribute()
    purge_at = NumberAttribute()


@app.route(record.BASE_PATH + "/token", methods=["POST"])
def issue():
    try:
        client = record.require_scope(app.current_request.context, "issue")
        asked = record.read_issue(app.current_request.raw_body)
    except record.Refused as refused:
        return _problem(refused)
    token, digest = record.new_token()
    at = record.now()
    node_id, max_uses, seconds = asked
    Token(
        id=record.id_of(digest),
        digest=digest,
        issuer=client,
        issued_at=at,
        expires_at=at + seconds,
        max_uses=max_uses,
        node_id=node_id,
        actions={"download"},
        claims={},
        claim_order=[],
        mismatches=0,
        node_hash=record.digest_of(node_id),
        purge_at=round(at + seconds) + record.KEPT_AFTER_EXPIRY_SECONDS,
    ).save(condition=Token.id.does_not_exist())
    answer = record.issue_answer(token, digest, asked, at)
    return Response(answer, status_code=201, headers={"Cache-Control": "no-store"})


@app.route(record.BASE_PATH + "/use", methods=["POST"])
def use():
    try:
        client = record.require_scope(app.current_request.context, "use")
        return _use(record.digest_of(record.read_use(app.current_request.raw_body)), client)
    except record.Refused as refused:
        return _problem(refused)


def _use(digest, client):
    at = record.now()
    use_id = "use_" + secrets.token_hex(16)
    claim = {"at": at, "attempt": use_id[4:], "client": client}
    place = Path(["claims", use_id])
    condition = (
        (Token.digest == digest)
        & Token.revoked_at.does_not_exist()
        & (Token.mismatches < 5)
        & place.does_not_exist()
        & (Token.expires_at > at)
        & (Token.not_before.does_not_exist() | (Token.not_before <= at))
        & (Token.audience.does_not_exist() | Token.audience.contains(client))
        & (size(Token.claims) < Token.max_uses)
        & Token.user.does_not_exist()
        & Token.networks.does_not_exist()
    )
    token = Token(record.id_of(digest))
    actions = [place.set(claim), Token.claim_order.set(Token.claim_order.append([use_id]))]
    try:
        token.update(actions=actions, condition=condition)
    except UpdateError as error:
        if error.cause_response_code != "ConditionalCheckFailedException":
            raise
        raise _refusal(digest, at) from None
    answer = {
        "tokenId": token.id,
        "nodeId": token.node_id,
        "actions": sorted(token.actions),
        "usesRemaining": int(token.max_uses) - len(token.claim_order),
        "expiresAt": record.rfc3339(token.expires_at),
        "useId": use_id,
    }
    return Response(answer, status_code=200, headers={"Cache-Control": "no-store"})


def _refusal(digest, at):
    """PynamoDB's `update()` can't ask for the item that stood against the condition: a second call reads it."""
    try:
        token = Token.get(record.id_of(digest), consistent_read=True)
    except DoesNotExist:
        return record.refusal(None, digest, at)
    stored = {"digest": {"S": token.digest}, "expires_at": {"N": str(token.expires_at)}}
    return record.refusal(stored | ({"revoked_at": {}} if token.revoked_at else {}), digest, at)


def _problem(refused):
    request_id = app.lambda_context.aws_request_id
    body = record.problem(refused, request_id)
    return Response(body, status_code=refused.status, headers={"Content-Type": "application/problem+json"})
