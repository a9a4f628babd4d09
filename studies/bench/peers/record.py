"""What every peer reads, stores and answers: the bodies, the item and the conditional write that ours has.

Lies beside each peer's `app.py` in its archive. Standard library only: what a peer needs more is what it is measured
for. It checks what comes in by hand, field by field, and knows the fields that the box sends; ours knows all of them.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import time
from datetime import UTC, datetime

BASE_PATH = "/tokenservice/services/api"
HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-store"}
KEPT_AFTER_EXPIRY_SECONDS = 7 * 24 * 3600
HEX = frozenset("0123456789abcdef")

_UPDATE = "SET #claims.#claim = :claim, #order = list_append(#order, :ids)"
_CONDITION = (
    "#digest = :digest AND attribute_not_exists(#revoked) AND #mismatches < :locked"
    " AND attribute_not_exists(#claims.#claim) AND #expires > :now"
    " AND (attribute_not_exists(#before) OR #before <= :now)"
    " AND (attribute_not_exists(#audience) OR contains(#audience, :client))"
    " AND size(#claims) < #max AND attribute_not_exists(#user) AND attribute_not_exists(#networks)"
)
_NAMES = {
    "#claims": "claims",
    "#order": "claim_order",
    "#digest": "digest",
    "#revoked": "revoked_at",
    "#mismatches": "mismatches",
    "#expires": "expires_at",
    "#before": "not_before",
    "#audience": "audience",
    "#max": "max_uses",
    "#user": "user",
    "#networks": "networks",
}


class Refused(Exception):
    """The request is not granted; carries the HTTP status and the code that programs read."""

    def __init__(self, status, code):
        super().__init__(code)
        self.status = status
        self.code = code


def require_scope(context, scope):
    """The client that the authorizer found, if it may do this."""
    found = context.get("authorizer") or {}
    if not found.get("clientId"):
        raise Refused(401, "unauthorized")
    if scope not in str(found.get("scopes", "")).split():
        raise Refused(403, "insufficient_scope")
    return found["clientId"]


def read_issue(body):
    """The fields of an issue body: node id, how often, and for how many seconds."""
    given = _object(body, {"nodeId", "maxUses", "expiresIn"})
    node_id, max_uses, seconds = given.get("nodeId"), given.get("maxUses", 1), given.get("expiresIn", 300)
    if not (isinstance(node_id, str) and 1 <= len(node_id) <= 1024 and node_id.isprintable()):
        raise Refused(400, "invalid_request")
    if not (type(max_uses) is int and 1 <= max_uses <= 100 and type(seconds) is int and 1 <= seconds <= 2_592_000):
        raise Refused(400, "invalid_request")
    return node_id, max_uses, seconds


def read_use(body):
    """The token that is to be used."""
    token = _object(body, {"token"}).get("token")
    if not (isinstance(token, str) and len(token) == 64 and HEX.issuperset(token)):
        raise Refused(400, "invalid_request")
    return token


def _object(body, fields):
    try:
        given = json.loads(body or "")
    except ValueError:
        raise Refused(400, "invalid_request") from None
    if not (isinstance(given, dict) and fields.issuperset(given)):
        raise Refused(400, "invalid_request")
    return given


def new_token():
    """A token and its digest."""
    token = secrets.token_hex(32)
    return token, digest_of(token)


def digest_of(text):
    """SHA-256 as 64 hex characters."""
    return hashlib.sha256(text.encode()).hexdigest()


def id_of(digest):
    """The public id of a token."""
    return "tok_" + digest[:32]


def now():
    """Epoch seconds, to the millisecond."""
    return round(time.time(), 3)


def item(digest, issuer, issue, issued_at):
    """What is stored of a token, as DynamoDB's API writes it; `issue` is what `read_issue()` found."""
    node_id, max_uses, seconds = issue
    expires_at = issued_at + seconds
    return {
        "id": {"S": id_of(digest)},
        "digest": {"S": digest},
        "issuer": {"S": issuer},
        "issued_at": {"N": str(issued_at)},
        "expires_at": {"N": str(expires_at)},
        "max_uses": {"N": str(max_uses)},
        "node_id": {"S": node_id},
        "actions": {"SS": ["download"]},
        "claims": {"M": {}},
        "claim_order": {"L": []},
        "mismatches": {"N": "0"},
        "node_hash": {"S": digest_of(node_id)},
        "purge_at": {"N": str(math.ceil(expires_at + KEPT_AFTER_EXPIRY_SECONDS))},
    }


def issue_request(table, client, body):
    """The arguments of the PutItem that stores a new token, and the body of the 201."""
    issue = read_issue(body)
    token, digest = new_token()
    at = now()
    request = {"TableName": table, "Item": item(digest, client, issue, at)}
    request["ConditionExpression"] = "attribute_not_exists(id)"
    return request, issue_answer(token, digest, issue, at)


def claim_request(table, digest, client, at):
    """The arguments of the one UpdateItem that spends a use, and the claim's id."""
    use_id = "use_" + secrets.token_hex(16)
    claim = {"at": {"N": str(at)}, "attempt": {"S": use_id[4:]}, "client": {"S": client}}
    return use_id, {
        "TableName": table,
        "Key": {"id": {"S": id_of(digest)}},
        "UpdateExpression": _UPDATE,
        "ConditionExpression": _CONDITION,
        "ExpressionAttributeNames": {**_NAMES, "#claim": use_id},
        "ExpressionAttributeValues": {
            ":claim": {"M": claim},
            ":ids": {"L": [{"S": use_id}]},
            ":digest": {"S": digest},
            ":locked": {"N": "5"},
            ":now": {"N": str(at)},
            ":client": {"S": client},
        },
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def refusal(stored, digest, at):
    """Why the write was refused, from the item that stood against it."""
    if not stored or stored["digest"]["S"] != digest:
        return Refused(404, "token_not_found")
    if "revoked_at" in stored:
        return Refused(410, "token_revoked")
    if float(stored["expires_at"]["N"]) <= at:
        return Refused(410, "token_expired")
    return Refused(410, "token_exhausted")


def issue_answer(token, digest, issue, issued_at):
    """The body of a 201."""
    _, max_uses, seconds = issue
    return {
        "token": token,
        "tokenId": id_of(digest),
        "expiresAt": rfc3339(issued_at + seconds),
        "maxUses": max_uses,
        "actions": ["download"],
    }


def use_answer(stored, use_id):
    """The body of a 200, from the item after the write."""
    return {
        "tokenId": stored["id"]["S"],
        "nodeId": stored["node_id"]["S"],
        "actions": sorted(stored["actions"]["SS"]),
        "usesRemaining": int(stored["max_uses"]["N"]) - len(stored["claims"]["M"]),
        "expiresAt": rfc3339(float(stored["expires_at"]["N"])),
        "useId": use_id,
    }


def problem(refused, request_id):
    """The body of a refusal."""
    told = {"type": "about:blank", "status": refused.status, "code": refused.code, "requestId": request_id}
    return json.dumps(told, separators=(",", ":"))


def rfc3339(seconds):
    """An instant in UTC with milliseconds."""
    instant = datetime.fromtimestamp(seconds, UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def proxy_answer(status, body):
    """An answer as API Gateway wants it from a function."""
    text = body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))
    return {"statusCode": status, "headers": HEADERS, "body": text, "isBase64Encoded": False}


def routed(issue, use):
    """The handler of a peer without a framework; both views take the event."""
    routes = {("POST", BASE_PATH + "/token"): issue, ("POST", BASE_PATH + "/use"): use}

    def app(event, context):
        try:
            view = routes.get((event["httpMethod"], event["path"]))
            if view is None:
                raise Refused(404, "route_not_found")
            return view(event)
        except Refused as refused:
            return proxy_answer(refused.status, problem(refused, context.aws_request_id))

    return app
