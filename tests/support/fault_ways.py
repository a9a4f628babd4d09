"""The ways on which faults are met: the service over its store, and HTTP, in this process or to `make run`'s server."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from chalicelib import clients, runtime, tokens
from chalicelib.clients import Client, Scope
from chalicelib.errors import ServiceError
from chalicelib.http import conversion, parsing, problems
from chalicelib.http.routes import BASE_PATH
from chalicelib.http.schemas import IssueRequest
from chalicelib.service import Caller, TokenService
from chalicelib.storage.client_store import ClientStore
from chalicelib.storage.token_store import TokenStore
from chalicelib.tokens import Action, Refusal
from dev import leash
from dev.engine import HOST, ROOT, free_port
from tests.support.fault_courses import Told

Call = Callable[[str, str, Any, Mapping[str, str]], tuple[int, Mapping[str, str], str]]
_STOPPED_WITHIN_SECONDS: Final = 20


class Silent:
    """Audit events are not what a fault is about."""

    def event(self, name: str, now: datetime, level: str = "INFO", **facts: str | None) -> None: ...

    def count(self, name: str, **dimensions: str) -> None: ...


class OverStore:
    """The service and its store, without HTTP."""

    name = "store"

    def __init__(self, store: TokenStore) -> None:
        self._service = TokenService(store, Silent(), runtime.now)
        self._caller = Caller("app", frozenset(Scope), "faults")

    def issue(self, body: Mapping[str, Any], batch: int) -> Told:
        def issue() -> Told:
            terms = parsing.parse_body(
                json.dumps(body).encode(), IssueRequest, partial(conversion.to_terms, now=runtime.now())
            )
            secret, token = self._service.issue(self._caller, [terms] * batch)[0]
            return Told(201, None, {"token": secret, "tokenId": token.id})

        return self._told(issue)

    def use(self, token: str, facts: Mapping[str, str], key: str | None) -> Told:
        address = tokens.parse_address(facts["ipAddress"]) if "ipAddress" in facts else None
        action = Action(facts["action"]) if "action" in facts else None
        use = tokens.new_use(
            token, self._caller.client_id, user=facts["user"], address=address, action=action, idempotency_key=key
        )

        def ask() -> Told:
            decision = self._service.use(self._caller, use)
            if isinstance(decision, Refusal):
                return Told(problems.TABLE[decision.reason].status, decision.reason, None)
            assert decision.claim is not None
            body = {"useId": decision.claim.id, "usesRemaining": decision.uses_remaining}
            return Told(200, None, body, replayed=decision.replayed)

        return self._told(ask)

    def revoke(self, token_id: str) -> Told:
        return self._told(lambda: Told(204, None, self._service.revoke(self._caller, token_id)))

    @staticmethod
    def _told(ask: Callable[[], Told]) -> Told:
        try:
            return ask()
        except ServiceError as error:
            row = problems.TABLE[error.code]
            return Told(row.status, error.code, None, row.headers.get("Retry-After"))


class OverHttp:
    """The HTTP API, whoever carries the calls."""

    name = "HTTP"

    def __init__(self, call: Call) -> None:
        self._call = call

    def issue(self, body: Mapping[str, Any], batch: int) -> Told:
        if batch == 1:
            return self._told("POST", "/token", body)
        told = self._told("POST", "/tokens", {"tokens": [body] * batch})
        return Told(201, None, told.body["tokens"][0]) if told.status == 201 else told

    def use(self, token: str, facts: Mapping[str, str], key: str | None) -> Told:
        headers = {} if key is None else {"Idempotency-Key": key}
        return self._told("POST", "/use", {"token": token, **facts}, headers)

    def revoke(self, token_id: str) -> Told:
        return self._told("DELETE", f"/token/{token_id}", None)

    def _told(self, method: str, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Told:
        status, told, text = self._call(method, path, body, headers or {})
        parsed = json.loads(text) if text else None
        code = parsed["code"] if told.get("content-type") == problems.MEDIA_TYPE else None
        replayed = told.get("idempotent-replayed") == "true"
        return Told(status, code, parsed, told.get("retry-after"), replayed)


class Service:
    """`chalice local` as `make run` serves it, in a process of its own, and a client that may do everything.

    Args:
        environ: points it at its store.
        clients_at: where the client is made; past the faults.
    """

    def __init__(self, environ: Mapping[str, str], clients_at: ClientStore, log: Path) -> None:
        self._environ = dict(environ)
        self._log = log
        self._port = free_port()
        secret, kept = clients.new_secret(runtime.now())
        name = f"faults-{secret[:8]}"
        assert clients_at.add(Client(name, frozenset(Scope), (kept,), runtime.now()))
        self.password = secret
        self.user = name
        self.authorization = "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self._port

    @property
    def output(self) -> str:
        return self._log.read_text()

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        command = [sys.executable, "-m", "dev.gateway", "--stage", "local", "--no-autoreload"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--host", HOST, "--port", str(self._port)],
                cwd=ROOT,
                env={**os.environ, **self._environ, "STAGE": "local"},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while True:
            assert self._process.poll() is None, self.output[-2_000:]
            try:
                socket.create_connection((HOST, self._port), timeout=30).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: nothing in it gets to run any more."""
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        process.wait()
        leash.release(process)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            leash.stop(process, _STOPPED_WITHIN_SECONDS)

    def call(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], str]:
        """Send a request on a connection of its own.

        Raises:
            OSError, HTTPException: no answer came.
        """
        connection = http.client.HTTPConnection(HOST, self._port, timeout=60)
        try:
            raw = None if body is None else json.dumps(body)
            sent = {"Authorization": self.authorization, "Content-Type": "application/json", **headers}
            connection.request(method, BASE_PATH + path, raw, sent)
            response = connection.getresponse()
            text = response.read().decode()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, text
        finally:
            connection.close()


@contextmanager
def serving(environ: Mapping[str, str], clients_at: ClientStore, log: Path) -> Iterator[Service]:
    """A `Service` that runs for the length of the block."""
    service = Service(environ, clients_at, log)
    try:
        service.start()
        yield service
    finally:
        service.stop()
