"""The API as API Gateway calls it, and what tests send to it and get back."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlencode

from chalice import Chalice
from chalice.app import AuthRequest
from chalice.config import Config
from chalice.local import LocalGateway, LocalGatewayException

from chalicelib import __version__, clients, instants
from chalicelib.audit import Audit
from chalicelib.authorizer import Authorizer
from chalicelib.clients import Client, Scope
from chalicelib.http import routes, schemas
from chalicelib.service import TokenService
from dev.engine import ROOT
from tests.support.memory_store import AnyClientStore, MemoryClientStore, MemoryTokenStore

BASE_PATH: Final = "/tokenservice/services/api"
STAGE: Final = "local"
POSTS: Final[Mapping[str, type[Any]]] = {
    "/token": schemas.IssueRequest,
    "/tokens": schemas.BatchRequest,
    "/use": schemas.UseRequest,
    "/introspect": schemas.UseRequest,
    "/revoke": schemas.RevokeRequest,
}
"""The routes that read a body, to its type."""
NODE: Final = "f2f42052-6e24-4c54-bc15-1e0bb6dce9f7"


@dataclass(frozen=True)
class Credentials:
    """A client that exists, and its secret."""

    user: str
    password: str

    @property
    def header(self) -> str:
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP, header names in lower case."""

    status: int
    headers: Mapping[str, str]
    text: str

    @cached_property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str | None:
        """The problem's code; None where the answer is no problem."""
        is_problem = self.headers.get("content-type") == "application/problem+json"
        return self.json["code"] if is_problem else None


def gateway_event(client: Credentials, method: str, path: str, body: object = None, **members: Any) -> dict[str, Any]:
    """A REST request as API Gateway sends it to the function, once the authorizer has let the client in.

    Args:
        path: a route below the base path.
        members: replace or add members of the event.
    """
    return {
        "requestContext": {
            "httpMethod": method,
            "resourcePath": BASE_PATH + path,
            "path": "/api" + BASE_PATH + path,
            "authorizer": {"clientId": client.user, "scopes": " ".join(Scope)},
        },
        "headers": {"content-type": "application/json"},
        "pathParameters": {},
        "stageVariables": {},
        "multiValueQueryStringParameters": None,
        "body": body,
        **members,
    }


class Gateway(LocalGateway):
    """Chalice's stand-in for API Gateway, as AWS does it: all values of headers and the last of each, and request ids.

    Attributes:
        ids: of the last request: `requestId`, which a caller can choose, and `extendedRequestId`.
    """

    ids: Mapping[str, str]

    def _generate_lambda_event(self, method: str, path: str, headers: Any, body: bytes | None) -> Any:
        values = {name: value if isinstance(value, list) else [value] for name, value in headers.items()}
        last = {name: each[-1] for name, each in values.items()}
        event = {**super()._generate_lambda_event(method, path, last, body), "multiValueHeaders": values}
        self.ids = {"requestId": str(uuid.uuid4()), "extendedRequestId": f"{uuid.uuid4().hex[:15]}="}
        event["requestContext"].update(self.ids)
        return event


class Api:
    """Calls the application as API Gateway does: authorizer first, then the REST handler.

    Args:
        app: the REST application.
        client_store: the store of its authorizer.
    """

    def __init__(self, app: Chalice, client_store: AnyClientStore) -> None:
        self.app = app
        config = Config.create(chalice_app=app, lambda_timeout=29, project_dir=str(ROOT))
        self.gateway = Gateway(app, config)
        self._client_store = client_store
        self._made = 0

    def client(self, *scopes: Scope) -> Credentials:
        """Make a client with these scopes; none named: with all."""
        self._made += 1
        secret, stored = clients.new_secret(instants.now())
        name = f"client-{self._made}"
        assert self._client_store.add(Client(name, frozenset(scopes or Scope), (stored,), instants.now()))
        return Credentials(name, secret)

    def call(
        self,
        method: str,
        path: str,
        client: Credentials | None,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str | list[str]] | None = None,
    ) -> Answer:
        """Send a request.

        Args:
            path: below the base path.
            body: sent as JSON, unless it is bytes already.
            query: values that are lists are given more than once.
            headers: the same.
        """
        sent: dict[str, Any] = dict(headers or {})
        if client is not None:
            sent.setdefault("Authorization", client.header)
        raw = body
        if body is not None and not isinstance(body, bytes):
            raw = json.dumps(body).encode()
        if raw is not None and not any(name.lower() == "content-type" for name in sent):
            sent["Content-Type"] = "application/json"
        target = BASE_PATH + path + (f"?{urlencode(query, doseq=True)}" if query else "")
        try:
            response = self.gateway.handle_request(method, target, sent, raw)
        except LocalGatewayException as refused:
            return Answer(refused.CODE, {}, (refused.body or b"").decode())
        received = {**response["headers"], **response["multiValueHeaders"]}
        return Answer(response["statusCode"], {k.lower(): v for k, v in received.items()}, response["body"])

    def issue(self, client: Credentials, **body: Any) -> dict[str, Any]:
        """Issue a token and return the whole answer."""
        answer = self.call("POST", "/token", client, {"nodeId": NODE, **body})
        assert answer.status == 201, answer.text
        issued: dict[str, Any] = answer.json
        return issued

    def use(self, client: Credentials, token: str, *, key: str | None = None, **body: Any) -> Answer:
        headers = {"Idempotency-Key": key} if key is not None else {}
        return self.call("POST", "/use", client, {"token": token, **body}, headers=headers)


class MemoryApi(Api):
    """The same on stores in memory, put together as `app.py` does.

    Attributes:
        store: of its tokens.
    """

    def __init__(self) -> None:
        client_store, self.store = MemoryClientStore(), MemoryTokenStore()
        audit = Audit(STAGE, __version__)
        service = TokenService(self.store, audit, instants.now)
        app = Chalice(app_name="tokenservice", configure_logs=False)
        authorize = Authorizer(client_store, audit, instants.now, "test")

        @app.authorizer()
        def basic_auth(request: AuthRequest) -> Any:
            return authorize(request)

        build = schemas.VersionAnswer("tokenservice", __version__, "unknown", STAGE)
        app.register_blueprint(routes.blueprint(basic_auth, lambda: service, build), url_prefix=BASE_PATH)
        super().__init__(app, client_store)
