"""The local gateway in this process, in front of an application in which everything goes wrong."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import pytest
from chalice import Chalice, Response
from chalice.config import Config
from waitress import wasyncore

from dev import gateway
from dev.engine import HOST, ROOT
from tests.support.raw_http import request


@pytest.fixture
def failing() -> Chalice:
    """An application in which everything goes wrong."""
    app = Chalice(app_name="failing", configure_logs=False)

    @app.authorizer()
    def broken(_: Any) -> Any:
        raise RuntimeError("authorizer's secret")

    @app.authorizer()
    def silent(_: Any) -> Any:
        return None

    @app.route("/broken", authorizer=broken)
    def behind_broken() -> str:
        return "never"

    @app.route("/silent", authorizer=silent)
    def behind_silent() -> str:
        return "never"

    @app.route("/unwritable")
    def unwritable() -> Response:
        return Response(object(), headers={"Content-Type": "text/plain"})

    return app


def config(app: Chalice) -> Config:
    return Config.create(chalice_app=app, project_dir=str(ROOT))


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/broken", 503, "store_unavailable"),
        ("/silent", 503, "store_unavailable"),
        ("/unwritable", 500, "internal_error"),
    ],
)
def test_a_failure_is_answered_without_its_words(failing: Chalice, path: str, status: int, code: str) -> None:
    answer = gateway.Gateway(failing, config(failing), HOST).answer("GET", path, {"authorization": "x"}, None)
    assert (int(answer.status[:3]), json.loads(answer.body)["code"]) == (status, code)
    assert b"secret" not in answer.body
    assert b"object" not in answer.body


def test_a_body_that_never_comes_is_not_waited_for(failing: Chalice) -> None:
    connections: dict[int, Any] = {}
    server = gateway.Server(failing, config(failing), HOST, 0, map=connections, channel_timeout=0, cleanup_interval=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    with socket.create_connection((HOST, int(server.effective_port)), timeout=30) as connection:
        connection.sendall(request("POST /unwritable HTTP/1.1", "Content-Length: 5"))
        assert connection.recv(1) == b""
    server.trigger.pull_trigger(lambda: wasyncore.close_all(connections))
    thread.join()
    server.task_dispatcher.shutdown()
