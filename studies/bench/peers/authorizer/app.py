"""A bare authorizer: Basic credentials, one signed GetItem over http.client, SHA-256, a policy. No audit."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import ssl
import time

import sigv4

TABLE = os.environ["CLIENT_TABLE"]


HOST = os.environ["AWS_ENDPOINT_URL"].partition("://")[2]
CONTEXT = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
connection = http.client.HTTPSConnection(HOST, timeout=2, context=CONTEXT)


def find(client_id):
    body = json.dumps(
        {"TableName": TABLE, "Key": {"client_id": {"S": client_id}}, "ConsistentRead": True}, separators=(",", ":")
    ).encode()
    for attempt in (1, 2):
        try:
            connection.request("POST", "/", body, sigv4.signed(HOST, "GetItem", body))
            response = connection.getresponse()
            answer = json.loads(response.read())
            break
        except (OSError, http.client.HTTPException):
            connection.close()
            if attempt == 2:
                raise
    if response.status != 200:
        raise RuntimeError(answer)
    return answer.get("Item")


find("warm")


def _is_good(item, secret):
    digest = hashlib.sha256(secret.encode()).hexdigest()
    if item is None or "disabled_at" in item:
        return False
    good = False
    for kept in item["secrets"]["L"]:
        alive = "expires_at" not in kept["M"] or float(kept["M"]["expires_at"]["N"]) > time.time()
        good |= hmac.compare_digest(kept["M"]["digest"]["S"], digest) and alive
    return good


def _policy(who, effect, arn, context):
    api = "/".join(arn.split("/")[:2]) + "/*"
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": [api]}
    return {
        "principalId": who,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": context,
    }


def app(event, context):
    scheme, _, encoded = event["authorizationToken"].partition(" ")
    try:
        client_id, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        colon = ""
    if scheme.lower() != "basic" or not colon:
        return _policy("nobody", "Deny", event["methodArn"], {})
    item = find(client_id)
    if not _is_good(item, secret):
        return _policy("nobody", "Deny", event["methodArn"], {})
    scopes = " ".join(sorted(item["scopes"]["SS"]))
    return _policy(client_id, "Allow", event["methodArn"], {"clientId": client_id, "scopes": scopes})
