"""FastAPI behind Mangum over boto3's client, its bodies checked by pydantic."""

from __future__ import annotations

import os
from typing import Annotated

import boto3
import record
from botocore.config import Config
from botocore.exceptions import ClientError
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from mangum import Mangum
from pydantic import BaseModel, ConfigDict, Field

TABLE = os.environ["TOKEN_TABLE"]

api = FastAPI(openapi_url=None, root_path="")
CONFIG = Config(connect_timeout=1, read_timeout=1, retries={"max_attempts": 1})
dynamodb = boto3.client("dynamodb", config=CONFIG)
if os.environ.get("WARM"):
    dynamodb.get_item(TableName=TABLE, Key={"id": {"S": "warm"}})


class Issue(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    nodeId: Annotated[str, Field(min_length=1, max_length=1024)]
    maxUses: Annotated[int, Field(ge=1, le=100)] = 1
    expiresIn: Annotated[int, Field(ge=1, le=2_592_000)] = 300


class Use(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    token: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@api.post(record.BASE_PATH + "/token")
def issue(body: Issue, request: Request):
    client = record.require_scope(request.scope["aws.event"]["requestContext"], "issue")
    token, digest = record.new_token()
    at = record.now()
    asked = (body.nodeId, body.maxUses, body.expiresIn)
    item = record.item(digest, client, asked, at)
    dynamodb.put_item(**record.put_request(TABLE, item))
    answer = record.issue_answer(token, digest, asked, at)
    return JSONResponse(answer, 201, {"Cache-Control": "no-store"})


@api.post(record.BASE_PATH + "/use")
def use(body: Use, request: Request):
    client = record.require_scope(request.scope["aws.event"]["requestContext"], "use")
    digest, at = record.digest_of(body.token), record.now()
    use_id, call = record.claim_request(TABLE, digest, client, at)
    try:
        answer = dynamodb.update_item(**call)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        raise record.refusal(error.response.get("Item"), digest, at) from None
    return JSONResponse(record.use_answer(answer["Attributes"], use_id), 200, {"Cache-Control": "no-store"})


@api.exception_handler(record.Refused)
def refuse(request: Request, refused: record.Refused):
    request_id = request.scope["aws.context"].aws_request_id
    return Response(record.problem(refused, request_id), refused.status, media_type="application/problem+json")


app = Mangum(api, lifespan="off")
