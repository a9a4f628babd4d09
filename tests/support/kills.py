"""The service process is killed when the store has done a write and the answer is not yet on its way."""

from __future__ import annotations

import http.client
import threading
from typing import Any

from chalicelib.storage.token_store import TokenStore
from tests.support.dynamodb_proxy import Proxy
from tests.support.fault_courses import Findings, look, record_use
from tests.support.fault_ways import OverHttp, Reply, Service
from tests.support.histories import Call, record


def kill_between_write_and_answer(service: Service, proxy: Proxy, truth: TokenStore, findings: Findings) -> None:
    """Issue a token with two uses, kill the service in the middle of the first, start it, and see what became of it."""
    way = OverHttp(service.call)
    issued: dict[str, Any] = way.issue({"nodeId": "n", "maxUses": 2}, 1).body
    history: list[Call] = []

    def use(key: str | None) -> Reply:
        return record_use(history, lambda: way.use(issued["token"], {"user": "alice"}, key), key=key)

    def use_killed() -> None:
        try:
            answer = way.use(issued["token"], {"user": "alice"}, "key")
            findings.violations.append(f"the service was killed and yet answered {answer}")
        except (OSError, http.client.HTTPException):
            findings.answers["killed"] += 1

    killed = _kill_when_written(service, proxy)
    record(history, "use", use_killed, key="key")
    killed.wait(60)
    service.start()
    look(history, truth, issued["tokenId"])
    first, second = use("key"), use("key")
    if not (first.status == 200 and first.body == second.body and first.replayed and second.replayed):
        findings.violations.append(f"the repetitions were answered {first} and {second}")
    findings.replays += first.replayed + second.replayed
    if [use(None).status for _ in range(2)] != [200, 410]:
        findings.violations.append("the second use was not granted, or a third one was")
    findings.check(history, max_uses=2)
    findings.courses += 1


def _kill_when_written(service: Service, proxy: Proxy) -> threading.Event:
    killed = threading.Event()

    def kill(operation: str) -> None:
        if operation == "UpdateItem":
            proxy.when_done = lambda _: None
            service.kill()
            killed.set()

    proxy.when_done = kill
    return killed
