"""The OpenAPI document, made from the types that parse the requests and from the table of problems."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from chalicelib import __version__
from chalicelib.http import problems, schemas
from chalicelib.http.problems import TABLE
from chalicelib.http.routes import BASE_PATH
from chalicelib.tokens import Reason
from tokenctl.samples import EXAMPLES, KEY, samples, shown

_SCHEMAS: Final = "#/components/schemas/"
_JSON: Final = "application/json"
_ABOUT: Final = """\
Hides a secret document id behind a random token that may be used only as often, until when, by whom, from where and \
for what its issuer said.

Every call needs HTTP Basic: a client's id and secret. Answers that are no success are `application/problem+json` \
(RFC 9457); programs read `code`.

A field that is not set is left out. `null`, `""` and `[]` are refused, so that a forgotten `user` can't become "any \
user". Tools that send them have a switch: Jackson `JsonInclude.Include.NON_EMPTY`, openapi-generator (Java) \
`containerDefaultToNull=true`, Appian `a!toJson(…, removeNullOrEmptyFields: true)` and, in an HTTP integration, the \
checkbox "Remove fields with null or empty values".

A parameter, a field, or one of the headers `Authorization`, `Content-Type` and `Idempotency-Key` that comes twice is \
refused. `HEAD` is answered wherever `GET` is, but for `GET /use`.

In the examples `token` and `tokenId` are those of the answer shown for `POST /token`: put your own in their place.

The samples are whole programs. They read `API` (the address of the service and `/tokenservice/services/api`), \
`TOKENSERVICE_USER`, `TOKENSERVICE_PASSWORD`, and `TOKEN` and `TOKEN_ID` where they need one, from the environment.
"""
_TOKEN_ID: Final = {
    "name": "tokenId",
    "in": "path",
    "required": True,
    "description": "The token's id; not the token.",
    "schema": {"type": "string", "pattern": f"^{schemas.TOKEN_ID.pattern}$"},
    "example": shown("$TOKEN_ID"),
}
_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A repetition with the same key and body gets the same answer for 10 minutes and spends nothing. "
    "Without it, a lost answer is a lost use.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]{1,255}$"},
    "example": KEY["Idempotency-Key"],
}
_REPLAYED: Final = {"Idempotent-Replayed": "`true` where an earlier answer is repeated."}
_REFUSALS: Final = tuple(str(reason) for reason in Reason)
_EVERYWHERE: Final = ("unauthorized", "too_many_requests", "internal_error", "store_unavailable")
_PROBLEM_HEADERS: Final = {row.status: row.headers for row in TABLE.values() if row.headers}
_HEADER_TEXTS: Final = {
    "WWW-Authenticate": "How to authenticate (RFC 7617).",
    "Retry-After": "Seconds to wait before the request is sent again.",
}
_TAGS: Final = {
    "Issue": ("Tokens for document ids.", ("issue",)),
    "Use": ("Trade a token for its document id.", ("use", "introspect")),
    "Manage": ("Look at tokens, and revoke them.", ("manage",)),
    "Service": ("What is deployed, and this document.", (None,)),
}
"""Name to a description and the scopes of the operations that bear it."""
_WITH_BODY: Final = ("invalid_request", "payload_too_large", "unsupported_media_type")


class OpenApiAnswer(msgspec.Struct):
    """The OpenAPI 3.1 document; its server is the one that was asked."""

    openapi: str
    info: dict[str, Any]
    servers: list[dict[str, str]]
    security: list[dict[str, list[str]]]
    tags: list[dict[str, str]]
    paths: dict[str, Any]
    components: dict[str, Any]


_OPERATIONS: Final[dict[tuple[str, str], dict[str, Any]]] = {
    ("/token", "post"): {
        "id": "issueToken",
        "scope": "issue",
        "summary": "Issue a token",
        "body": schemas.IssueRequest,
        "answer": (201, schemas.IssueAnswer),
        "headers": {"Location": "The token's status."},
    },
    ("/tokens", "post"): {
        "id": "issueTokens",
        "scope": "issue",
        "summary": "Issue up to 100 tokens, all or none",
        "body": schemas.BatchRequest,
        "answer": (201, schemas.BatchAnswer),
    },
    ("/use", "get"): {
        "id": "useTokenByQuery",
        "scope": "use",
        "summary": "Use a token given in the query",
        "description": "Kept for callers that use it. A token in a URL ends up in access logs: prefer POST. "
        "HTTP clients and proxies repeat a GET by themselves if its answer is lost, and the repetition is refused: "
        "the token is used up. Send `Idempotency-Key`.",
        "query": schemas.UseRequest,
        "answer": (200, schemas.UseAnswer),
        "headers": _REPLAYED,
        "problems": ("invalid_request", *_REFUSALS),
    },
    ("/use", "post"): {
        "id": "useToken",
        "scope": "use",
        "summary": "Spend one use of a token",
        "description": "A refusal spends nothing.",
        "body": schemas.UseRequest,
        "answer": (200, schemas.UseAnswer),
        "parameters": [_IDEMPOTENCY_KEY],
        "headers": _REPLAYED,
        "problems": _REFUSALS,
    },
    ("/introspect", "post"): {
        "id": "introspectToken",
        "scope": "introspect",
        "summary": "Return what a use would return, and change nothing",
        "description": "It discloses the node id and spends nothing, so each call is an audit event. "
        "Without `Idempotency-Key`: nothing changes, so it may be repeated at will.",
        "body": schemas.UseRequest,
        "answer": (200, schemas.IntrospectAnswer),
    },
    ("/token/{tokenId}", "get"): {
        "id": "getToken",
        "scope": "manage",
        "summary": "A token's limits and uses",
        "answer": (200, schemas.StatusAnswer),
        "parameters": [_TOKEN_ID],
        "problems": ("token_not_found",),
    },
    ("/token/{tokenId}", "delete"): {
        "id": "revokeToken",
        "scope": "manage",
        "summary": "Revoke a token",
        "description": "Also answers 204 where it was revoked before or never was.",
        "answer": (204, None),
        "parameters": [_TOKEN_ID],
        "problems": ("invalid_request",),
    },
    ("/revoke", "post"): {
        "id": "revokeTokens",
        "scope": "manage",
        "summary": "Revoke every live token of a node or of a user",
        "description": "Reads an index that trails writes by moments. Where `more` is true, time ran out: call again.",
        "body": schemas.RevokeRequest,
        "answer": (200, schemas.RevokeAnswer),
    },
    ("/version", "get"): {
        "id": "getVersion",
        "scope": None,
        "summary": "What is deployed",
        "answer": (200, schemas.VersionAnswer),
    },
    ("/openapi.json", "get"): {
        "id": "getOpenApi",
        "scope": None,
        "summary": "This document",
        "answer": (200, OpenApiAnswer),
    },
}


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document as plain data."""
    types = [part for operation in _OPERATIONS.values() for part in _types(operation)]
    _, components = msgspec.json.schema_components(dict.fromkeys(types), ref_template=_SCHEMAS + "{name}")
    for schema in components.values():
        if "enum" in schema:
            schema.setdefault("type", "string")
    components["Problem"] = _problem_schema()
    paths: dict[str, dict[str, Any]] = {}
    for (path, method), operation in _OPERATIONS.items():
        paths.setdefault(BASE_PATH + path, {})[method] = _operation(operation, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Token service",
            "version": __version__,
            "description": _ABOUT,
            "contact": {"name": "The team that runs the service"},
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:8000", "description": "make run"}],
        "security": [{"basic": []}],
        "tags": [{"name": name, "description": description} for name, (description, _) in _TAGS.items()],
        "paths": paths,
        "components": {
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic", "description": "Client id and secret."}},
            "schemas": components,
        },
    }


def document_text() -> str:
    """The document as `chalicelib/http/openapi.json` holds it."""
    return json.dumps(document(), ensure_ascii=False, indent=1) + "\n"


def _types(operation: dict[str, Any]) -> list[type]:
    return [part for part in (operation.get("body"), operation["answer"][1]) if part is not None]


def _operation(operation: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    scope = operation["scope"]
    told = [operation["description"]] if "description" in operation else []
    told.append(f"Needs the scope `{scope}`." if scope else "Any client may call it.")
    made: dict[str, Any] = {
        "operationId": operation["id"],
        "tags": [name for name, (_, scopes) in _TAGS.items() if scope in scopes],
        "summary": operation["summary"],
        "description": " ".join(told),
    }
    parameters = list(operation.get("parameters", ()))
    if "query" in operation:
        parameters += [*_query_parameters(operation["query"], EXAMPLES[operation["id"]].query), _IDEMPOTENCY_KEY]
    if parameters:
        made["parameters"] = parameters
    codes = [*_EVERYWHERE, *(("insufficient_scope",) if scope else ()), *operation.get("problems", ())]
    if "body" in operation:
        reference = {"$ref": _SCHEMAS + operation["body"].__name__}
        example = json.loads(shown(json.dumps(EXAMPLES[operation["id"]].body)))
        made["requestBody"] = {"required": True, "content": {_JSON: {"schema": reference, "example": example}}}
        codes += _WITH_BODY
    made["responses"] = {**_answer(operation), **_refusals(codes)}
    made["x-codeSamples"] = samples(operation["id"])
    return made


def _query_parameters(of: type, example: Mapping[str, str]) -> list[dict[str, Any]]:
    _, found = msgspec.json.schema_components([of], ref_template=_SCHEMAS + "{name}")
    schema = found[of.__name__]
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema["required"],
            "description": {**found.get(property_.get("$ref", "").rpartition("/")[2], {}), **property_}["description"],
            "schema": property_,
            "example": shown(example[name]),
        }
        for name, property_ in schema["properties"].items()
    ]


def _answer(operation: dict[str, Any]) -> dict[str, Any]:
    status, answer = operation["answer"]
    made: dict[str, Any] = {"description": answer.__doc__ if answer else "Done."}
    headers = operation.get("headers", {})
    if headers:
        made["headers"] = {name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()}
    if answer:
        content: dict[str, Any] = {"schema": {"$ref": _SCHEMAS + answer.__name__}}
        if EXAMPLES[operation["id"]].answer:
            content["example"] = EXAMPLES[operation["id"]].answer
        made["content"] = {_JSON: content}
    return {str(status): made}


def _refusals(codes: Sequence[str]) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(TABLE[code].status, []).append(code)
    return {
        str(status): {
            **_problem_headers(status),
            "description": " · ".join(f"`{code}`: {TABLE[code].detail}" for code in sorted(set(by_status[status]))),
            "content": {problems.MEDIA_TYPE: {"schema": {"$ref": _SCHEMAS + "Problem"}}},
        }
        for status in sorted(by_status)
    }


def _problem_headers(status: int) -> dict[str, Any]:
    headers = {
        name: {"description": _HEADER_TEXTS[name], "schema": {"type": "string"}, "example": value}
        for name, value in _PROBLEM_HEADERS.get(status, {}).items()
    }
    return {"headers": headers} if headers else {}


def _problem_schema() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "title": "Problem",
        "description": "RFC 9457 problem details. Programs read `code`.",
        "type": "object",
        "required": ["type", "title", "status", "detail", "code", "requestId"],
        "properties": {
            "type": {**text, "examples": ["urn:tokenservice:problem:token_exhausted"]},
            "title": {**text, "examples": [TABLE["token_exhausted"].title]},
            "status": {"type": "integer", "examples": [TABLE["token_exhausted"].status]},
            "detail": {**text, "examples": [TABLE["token_exhausted"].detail]},
            "code": {**text, "enum": sorted(TABLE), "examples": ["token_exhausted"]},
            "requestId": {**text, "examples": ["46020afa-1d49-45c8-a93d-4e12cb88899a"]},
            "errors": {
                "type": "array",
                "description": (
                    "Only with `invalid_request`: every field, parameter or header that is wrong, and what it must be; "
                    'at most 50. Where it says "leave the field out", `null`, `""` or `[]` was sent: see the '
                    "switches named at the top of this document."
                ),
                "items": {
                    "type": "object",
                    "required": ["field", "message"],
                    "properties": {"field": text, "message": text},
                },
            },
        },
    }
