"""Checks the callers of the local AWS: they sign with credentials of this run, and are no page in a browser.

MiniStack alone serves every program and page that reaches its port. With `AUTH=true` it checks what IAM users and roles
sign, but never what its root account signs, and `test` and every number of twelve digits are keys of that account.

Runs in the environment of the engine, where of this project only `dev.leash` can be imported beside it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, quote

from ministack.core.iam_evaluator import (
    CredentialResolutionError,
    find_iam_access_key_account,
    is_root_access_key,
    resolve_credential,
)
from ministack.core.responses import _account_from_sts_session
from ministack.core.sigv4 import (
    decode_header_value,
    header_signature_failure,
    parse_header_signature,
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Refusal = tuple[str, str]
"""An error code of AWS, and a message."""

_LOOPBACK = ("127.0.0.1", "localhost")
_READY = "/_ministack/ready"
_OWN_PATHS = ("/_ministack/", "/_localstack/")
_DEPLOYED_API = "/_aws/execute-api/"


class Gate:
    """Lets through what is signed with known credentials for a service that is served; all else is answered with 403.

    Without a signature it lets through `GET /_ministack/ready`, and calls of a deployed API, which authenticates its
    callers itself. No request from a web page comes through: browsers name the page's site in `Origin`, or the
    attacker's name in `Host` where that name leads to this machine (DNS rebinding).

    Services and key are those of MiniStack's own settings.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._services = frozenset(os.environ["SERVICES"].split(","))  # as credential scopes name them
        self._key = os.environ["AWS_ACCESS_KEY_ID"]  # of the one root account, new for every run

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._pass_on(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        refusal = self._page_or_path(scope, headers)
        if refusal is None and not self._is_open(scope):
            body = await _body(receive)
            receive = _replayed(body, receive)
            refusal = self._signature(scope, headers, body)
        if refusal is None:
            await self._app(scope, receive, _without_cors(send))
        else:
            await _refuse(refusal, send)

    def _is_open(self, scope: Scope) -> bool:
        """Whether a request needs no signature."""
        path: str = scope["path"]
        is_probe = scope["method"] == "GET" and path == _READY
        return is_probe or ("apigateway" in self._services and path.startswith(_DEPLOYED_API))

    def _page_or_path(self, scope: Scope, headers: dict[str, str]) -> Refusal | None:
        """Why a web page, or a path of MiniStack's own, is refused."""
        if headers.get("host", "").rpartition(":")[0] not in _LOOPBACK or "origin" in headers:
            return "AccessDeniedException", "The local AWS does not serve web pages."
        if scope["path"].startswith(_OWN_PATHS) and not self._is_open(scope):
            return "AccessDeniedException", "The local AWS does not serve this path."
        return None

    def _signature(self, scope: Scope, headers: dict[str, str], body: bytes) -> Refusal | None:
        """Why a signature does not hold."""
        signature = parse_header_signature(headers)
        if isinstance(signature, tuple):
            return signature
        if signature.service not in self._services:
            return "AccessDeniedException", f"This local AWS does not serve {signature.service!r}."
        key = signature.access_key_id
        # If IAM is not served, users can only come from old state.
        if key != self._key and (is_root_access_key(key) or "iam" not in self._services):
            return "UnrecognizedClientException", "The security token included in the request is invalid."
        account = _account_from_sts_session(key) or find_iam_access_key_account(key)
        credential = resolve_credential(key, account, headers.get("x-amz-security-token", ""))
        if isinstance(credential, CredentialResolutionError):
            return credential.code, credential.message
        path = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        refusal: Refusal | None = header_signature_failure(
            signature, credential.secret_access_key, scope["method"], path, query, headers, body
        )
        return refusal


def _headers(scope: Scope) -> dict[str, str]:
    """By lower-case name. Those that arrive twice are joined, as a signature covers them."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), decode_header_value(value)
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    return headers


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Receives the body again, and then what comes after it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Any:
        return messages.pop() if messages else await receive()

    return replay


def _without_cors(send: Send) -> Send:
    async def pass_on(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = [line for line in message["headers"] if not line[0].lower().startswith(b"access-control-")]
            message = {**message, "headers": headers}
        await send(message)

    return pass_on


async def _refuse(refusal: Refusal, send: Send) -> None:
    code, text = refusal
    body = json.dumps({"__type": code, "message": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": HTTPStatus.FORBIDDEN, "headers": headers})
    await send({"type": "http.response.body", "body": body})
