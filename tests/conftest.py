"""What tests share: a running engine, a stage with tables in it, and the API as the gateway calls it."""

from __future__ import annotations

import base64
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.loaders import JSONFileLoader
from chalice.config import Config
from chalice.local import LocalGateway, LocalGatewayException

from chalicelib import clients
from chalicelib.clients import Client, Scope
from chalicelib.storage.client_store import ClientStore
from chalicelib.storage.token_store import TokenStore
from dev import dynamodb_local, install
from dev.engine import Engine
from tests.support.browser import WITHOUT_BROWSER
from tests.support.store_engines import DYNAMODB_LOCAL, MINISTACK, OPEN, StoreEngine, with_tables
from tokenctl import tables
from tokenctl.deployment import Deployment, open_stage

ROOT = Path(__file__).resolve().parent.parent
STAGE = "local"
BASE_PATH = "/tokenservice/services/api"
SERVICES = ("dynamodb", "iam", "lambda", "logs", "s3", "sqs", "ssm", "sts")
"""What tokenctl and the forwarder call, and what tests need to make it."""
NODE = "f2f42052-6e24-4c54-bc15-1e0bb6dce9f7"


@pytest.fixture(scope="session", autouse=True)
def models_of_aws() -> Iterator[None]:
    """Let botocore read each of its files once, not anew for each of the hundreds of clients that are made here."""
    read = cache(JSONFileLoader().load_file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: read(path))
        yield


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """MiniStack on a free port, empty, for the whole run; this process's AWS calls go there."""
    directory = tmp_path_factory.mktemp("engine")
    with Engine(services=SERVICES, log=directory / "engine.log") as engine:
        os.environ.update(engine.client_environ)
        os.environ["STAGE"] = STAGE
        yield engine


@pytest.fixture(scope="session")
def deployment(engine: Engine) -> Deployment:
    """The stage `local`, with its tables."""
    deployment = open_stage(STAGE)
    tables.create(deployment)
    return deployment


@pytest.fixture(scope="session")
def dynamodb(deployment: Deployment) -> Any:
    """The engine itself, past our own code."""
    return deployment.aws("dynamodb")


@pytest.fixture(scope="session")
def token_store(deployment: Deployment) -> TokenStore:
    return deployment.token_store()


@pytest.fixture(scope="session")
def client_store(deployment: Deployment) -> ClientStore:
    return deployment.client_store()


WITHOUT_SECOND_ENGINE = "not run on DynamoDB Local: "


@pytest.fixture(scope="session")
def second_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreEngine]:
    """Amazon's DynamoDB Local; where it is missing, tests are left out loudly, and in CI they fail."""
    missing = dynamodb_local.why_missing()
    if missing is not None:
        (pytest.fail if install.in_ci() else pytest.skip)(WITHOUT_SECOND_ENGINE + missing)
    with OPEN[DYNAMODB_LOCAL](tmp_path_factory.mktemp("engine")) as opened:
        yield opened


@pytest.fixture(scope="session", params=[MINISTACK, DYNAMODB_LOCAL])
def store_engine(request: pytest.FixtureRequest) -> StoreEngine:
    """Each engine in turn. What the store promises, it must keep on both."""
    if request.param == MINISTACK:
        engine: Engine = request.getfixturevalue("engine")
        return with_tables(MINISTACK, engine.client_environ)
    second: StoreEngine = request.getfixturevalue("second_engine")
    return second


LEFT_OUT = {
    WITHOUT_SECOND_ENGINE: ("ONE ENGINE ONLY", "on Amazon's DynamoDB Local"),
    WITHOUT_BROWSER: ("NO BROWSER", "in a browser"),
    "not run as Java: ": ("NO JAVA COMPILER", "as Java"),
    "not run with curl: ": ("NO CURL", "with curl"),
    "not run on Python 3.9: ": ("NO PYTHON 3.9", "on the oldest Python of the client"),
    "not imported by Postman's converter: ": ("NO NODE", "through Postman's converter"),
}
"""What a skip begins with, to the heading and the words that tell of it at the end."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it loudly where tests were left out; a skipped test is easily overlooked."""
    skipped = [
        report.longrepr[2] for report in terminalreporter.stats.get("skipped", ()) if isinstance(report.longrepr, tuple)
    ]
    for sign, (heading, where) in LEFT_OUT.items():
        missing = [reason.partition(sign)[2] for reason in skipped if sign in reason]
        if missing:
            terminalreporter.section(heading, red=True, bold=True)
            terminalreporter.line(f"{len(missing)} tests were not run {where}: {missing[0]}", red=True)


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
    """Calls the application as API Gateway does: authorizer first, then the REST handler."""

    def __init__(self, deployment: Deployment) -> None:
        import app

        self.app = app.app
        config = Config.create(chalice_app=self.app, lambda_timeout=29, project_dir=str(ROOT))
        self.gateway = Gateway(self.app, config)
        self._client_store = deployment.client_store()
        self._made = 0

    def client(self, *scopes: Scope) -> Credentials:
        """Make a client with these scopes; none named: with all."""
        from chalicelib.runtime import now

        self._made += 1
        secret, kept = clients.new_secret(now())
        name = f"client-{self._made}"
        assert self._client_store.add(Client(name, frozenset(scopes or Scope), (kept,), now()))
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
        told = {**response["headers"], **response["multiValueHeaders"]}
        return Answer(response["statusCode"], {k.lower(): v for k, v in told.items()}, response["body"])

    def issue(self, client: Credentials, **body: Any) -> dict[str, Any]:
        """Issue a token and return the whole answer."""
        answer = self.call("POST", "/token", client, {"nodeId": NODE, **body})
        assert answer.status == 201, answer.text
        issued: dict[str, Any] = answer.json
        return issued

    def use(self, client: Credentials, token: str, *, key: str | None = None, **body: Any) -> Answer:
        headers = {"Idempotency-Key": key} if key is not None else {}
        return self.call("POST", "/use", client, {"token": token, **body}, headers=headers)


@pytest.fixture(scope="session")
def api(deployment: Deployment) -> Api:
    return Api(deployment)


@pytest.fixture(scope="session")
def client(api: Api) -> Credentials:
    """A client with every scope."""
    return api.client()


@pytest.fixture
def asked(api: Api, client: Credentials, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The DynamoDB operations that the REST handler asks for from here on, where PynamoDB hands them over."""
    from chalicelib import runtime

    api.issue(client)  # makes the client
    names: list[str] = []
    connection = runtime.token_service()._store._model._get_connection().connection  # type: ignore[attr-defined]
    call = connection.client._make_api_call

    def note(operation: str, request: dict[str, Any]) -> Any:
        if request.get("TableName") != runtime.settings().client_table:  # the authorizer may share the client
            names.append(operation)
        return call(operation, request)

    monkeypatch.setattr(connection.client, "_make_api_call", note)
    return names
