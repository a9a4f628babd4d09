"""Events of API Gateway: REST proxy and authorizer."""

from __future__ import annotations

import json
import uuid
from typing import Any

from tests.support.api import BASE_PATH, NODE, Credentials

CLIENT = "portal"
SCOPES = "issue use"
_NOT_OF_IAM = (
    *("cognitoIdentityPoolId", "cognitoIdentityId", "cognitoAuthenticationType", "cognitoAuthenticationProvider"),
    *("accountId", "caller", "principalOrgId", "accessKey", "userArn", "user"),
)
"""Members that are null for a caller without an identity of IAM or Cognito."""


def issue(max_uses: int = 1) -> dict[str, Any]:
    """`POST /token`."""
    return proxy("/token", {"nodeId": NODE, "maxUses": max_uses, "expiresIn": 3600})


def use(token: str) -> dict[str, Any]:
    """`POST /use`."""
    return proxy("/use", {"token": token})


def proxy(path: str, body: Any) -> dict[str, Any]:
    """A POST of `body` as JSON, from a client that the authorizer has let through.

    Source: Amazon API Gateway developer guide, "Input format of a Lambda function for proxy integration".
    """
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
        "Authorization": Credentials(CLIENT, "tss_" + "s" * 43).header,
        "Content-Type": "application/json",
        "Host": "gateway123.execute-api.eu-central-1.amazonaws.com",
        "User-Agent": "document-portal/7.2",
        "X-Amzn-Trace-Id": f"Root=1-6741f0a0-{uuid.uuid4().hex[:24]}",
        "X-Forwarded-For": "192.0.2.7",
        "X-Forwarded-Port": "443",
        "X-Forwarded-Proto": "https",
    }
    resource = BASE_PATH + path
    return {
        "resource": resource,
        "path": resource,
        "httpMethod": "POST",
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "resourceId": "x1y2z3",
            "resourcePath": resource,
            "httpMethod": "POST",
            "extendedRequestId": "BenchBenchBench=",
            "requestTime": "21/Nov/2026:10:00:00 +0000",
            "requestTimeEpoch": 1_795_255_200_000,
            "path": "/api" + resource,
            "accountId": "123456789012",
            "protocol": "HTTP/1.1",
            "stage": "api",
            "domainPrefix": "gateway123",
            "domainName": headers["Host"],
            "requestId": str(uuid.uuid4()),
            "apiId": "gateway123",
            "deploymentId": "d4e5f6",
            "authorizer": {
                "principalId": CLIENT,
                "clientId": CLIENT,
                "scopes": SCOPES,
                "integrationLatency": 12,
            },
            "identity": {
                **dict.fromkeys(_NOT_OF_IAM),
                "sourceIp": "192.0.2.7",
                "userAgent": headers["User-Agent"],
            },
        },
        "body": json.dumps(body),
        "isBase64Encoded": False,
    }


def authorize(client: str, secret: str) -> dict[str, Any]:
    """The event of a TOKEN authorizer.

    Source: Amazon API Gateway developer guide, "Input to an API Gateway Lambda authorizer".
    """
    arn = f"arn:aws:execute-api:eu-central-1:123456789012:gateway123/api/POST{BASE_PATH}/use"
    return {"type": "TOKEN", "methodArn": arn, "authorizationToken": Credentials(client, secret).header}
