"""The service process is killed when the store has done a write and the answer is not yet on its way."""

from __future__ import annotations

import http.client
import threading
from typing import Any

from chalicelib.storage.token_store import TokenStore
from tests.support.dynamodb_proxy import Proxy
from tests.support.fault_courses import Findings
from tests.support.fault_ways import OverHttp, Service


def kill_between_write_and_answer(service: Service, proxy: Proxy, truth: TokenStore, findings: Findings) -> None:
    """Issue a token with two uses, kill the service in the middle of the first, start it, and see what became of it."""
    way = OverHttp(service.call)
    issued: dict[str, Any] = way.issue({"nodeId": "n", "maxUses": 2}, 1).body
    facts = {"user": "alice"}
    killed = _kill_when_written(service, proxy)
    try:
        reply = way.use(issued["token"], facts, "key")
        findings.wrong("wrong_answers", f"the service was killed and yet answered {reply}")
    except (OSError, http.client.HTTPException):
        findings.answers["killed"] += 1
    killed.wait(60)
    service.start()
    found = truth.find(issued["tokenId"])
    if found is None or len(found.claims) != 1:
        findings.wrong("wrong_answers", "the write was not done when the service was killed")
        return
    first, second = (way.use(issued["token"], facts, "key") for _ in range(2))
    findings.replays += first.replayed + second.replayed
    if not (first.status == 200 and first.replayed and first.body["useId"] == found.claims[0].id):
        findings.wrong("wrong_repetitions", f"the repetition was answered {first}")
    if second.body != first.body:
        findings.wrong("wrong_repetitions", f"the second repetition was answered {second}")
    if (reply := way.use(issued["token"], facts, None)).status != 200:
        findings.wrong("false_refusals", f"the second use was answered {reply}")
    if (reply := way.use(issued["token"], facts, None)).code != "token_exhausted":
        findings.wrong("extra_grants", f"the third use was answered {reply}")
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
