"""No framework: botocore's own client, called directly."""

from __future__ import annotations

import os

import botocore.session
import record
from botocore.config import Config
from botocore.exceptions import ClientError

TABLE = os.environ["TOKEN_TABLE"]

CONFIG = Config(connect_timeout=1, read_timeout=1, retries={"max_attempts": 1})
dynamodb = botocore.session.get_session().create_client("dynamodb", config=CONFIG)
if os.environ.get("WARM"):
    dynamodb.get_item(TableName=TABLE, Key={"id": {"S": "warm"}})


def issue(event):
    client = record.require_scope(event["requestContext"], "issue")
    request, issued = record.issue_request(TABLE, client, event["body"])
    dynamodb.put_item(**request)
    return record.proxy_answer(201, issued)


def use(event):
    client = record.require_scope(event["requestContext"], "use")
    digest, at = record.digest_of(record.read_use(event["body"])), record.now()
    use_id, request = record.claim_request(TABLE, digest, client, at)
    try:
        answer = dynamodb.update_item(**request)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        raise record.refusal(error.response.get("Item"), digest, at) from None
    return record.proxy_answer(200, record.use_answer(answer["Attributes"], use_id))


app = record.routed(issue, use)
