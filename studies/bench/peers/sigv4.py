"""A signed request to DynamoDB, made by hand. Lies beside the peers that have no client.

Source: AWS General Reference, "Create a signed AWS API request" (Signature Version 4).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time

_keys = {}


def signed(host, operation, body, instant=None, environ=os.environ):
    """The headers of a POST of `body`, in bytes, with its signature; `instant` is now, unless it is given."""
    instant, region = instant or time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), environ["AWS_REGION"]
    headers = {
        "content-type": "application/x-amz-json-1.0",
        "host": host,
        "x-amz-date": instant,
        "x-amz-target": "DynamoDB_20120810." + operation,
    }
    if environ.get("AWS_SESSION_TOKEN"):
        headers["x-amz-security-token"] = environ["AWS_SESSION_TOKEN"]
    names = sorted(headers)
    lines = "".join(f"{name}:{headers[name]}\n" for name in names)
    listed = ";".join(names)
    canonical = f"POST\n/\n\n{lines}\n{listed}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{instant[:8]}/{region}/dynamodb/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{instant}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = _key(environ["AWS_SECRET_ACCESS_KEY"], instant[:8], region)
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={environ['AWS_ACCESS_KEY_ID']}/{scope},"
        f" SignedHeaders={listed}, Signature={signature}"
    )
    return headers


def _key(secret, day, region):
    """The key of one day and region, which is used again."""
    named = (secret, day, region)
    if named not in _keys:
        key = b"AWS4" + secret.encode()
        for part in (day, region, "dynamodb", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        _keys.clear()
        _keys[named] = key
    return _keys[named]
