"""Powertools for AWS Lambda's event handler over boto3's client, as their own pages show it."""

from __future__ import annotations

import os

import boto3
import record
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from botocore.config import Config
from botocore.exceptions import ClientError

TABLE = os.environ["TOKEN_TABLE"]

api = APIGatewayRestResolver(strip_prefixes=[record.BASE_PATH])
CONFIG = Config(connect_timeout=1, read_timeout=1, retries={"max_attempts": 1})
dynamodb = boto3.client("dynamodb", config=CONFIG)
if os.environ.get("WARM"):
    dynamodb.get_item(TableName=TABLE, Key={"id": {"S": "warm"}})


@api.post("/token")
def issue():
    client = record.require_scope(api.current_event["requestContext"], "issue")
    request, issued = record.issue_request(TABLE, client, api.current_event.body)
    dynamodb.put_item(**request)
    return Response(201, body=issued, headers={"Cache-Control": "no-store"}, content_type="application/json")


@api.post("/use")
def use():
    client = record.require_scope(api.current_event["requestContext"], "use")
    digest, at = record.digest_of(record.read_use(api.current_event.body)), record.now()
    use_id, request = record.claim_request(TABLE, digest, client, at)
    try:
        answer = dynamodb.update_item(**request)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        raise record.refusal(error.response.get("Item"), digest, at) from None
    told = record.use_answer(answer["Attributes"], use_id)
    return Response(200, body=told, headers={"Cache-Control": "no-store"}, content_type="application/json")


@api.exception_handler(record.Refused)
def refuse(refused):
    body = record.problem(refused, api.lambda_context.aws_request_id)
    return Response(refused.status, body=body, content_type="application/problem+json")


def app(event, context):
    return api.resolve(event, context)
