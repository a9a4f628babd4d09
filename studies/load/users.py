"""The callers, as a file for locust: what each one sends, and what must come back. `ladder.py` starts them.

A caller goes round: issue a token with one use, use it (200), use it once more (410), read the version. It sends the
next call as soon as the last one is answered. Every status and every body is checked, so a wrong answer is an error as
well as a missing one. locust sends a GET again where its connection was closed under it, but never a POST.

Environment: LOAD_USER and LOAD_PASSWORD, and LOAD_OUT, the file to which the level's results are written.
"""

from __future__ import annotations

import base64
import json
import os
import uuid
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from locust import FastHttpUser, constant, events, task
from locust.env import Environment

LIFETIME_SECONDS: Final = 3600
GIVE_UP_AFTER_SECONDS: Final = 60.0
SHARES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}

Wanted = Mapping[int, Mapping[str, Any]]
"""The statuses that are right, and the members of the body that each has to come with."""

ISSUE, USE, REFUSED, VERSION = "issue", "use", "refused use", "version"

tally: Counter[str] = Counter(calls=0, issued=0, granted=0, unanswered_issues=0, unanswered_uses=0)
errors: Counter[str] = Counter()


class Caller(FastHttpUser):
    """One caller on a connection of its own."""

    wait_time = constant(0)
    network_timeout = connection_timeout = GIVE_UP_AFTER_SECONDS

    def on_start(self) -> None:
        credentials = f"{os.environ['LOAD_USER']}:{os.environ['LOAD_PASSWORD']}".encode()
        self._headers = {
            "Authorization": f"Basic {base64.b64encode(credentials).decode()}",
            "Content-Type": "application/json",
        }

    @task
    def round(self) -> None:
        """Four calls; fewer where no token came."""
        node = str(uuid.uuid4())
        token = self._issue(node)
        if token is not None:
            granted = self._use(USE, token, {200: {"nodeId": node, "usesRemaining": 0}})
            spent: Wanted = {410: {"code": "token_exhausted"}}
            self._use(REFUSED, token, spent if granted else {**spent, 200: {}})
        self._call(VERSION, "GET", "/version", None, {200: {"service": "tokenservice"}})

    def _issue(self, node: str) -> str | None:
        body = {"nodeId": node, "expiresIn": LIFETIME_SECONDS}
        status, answer = self._call(ISSUE, "POST", "/token", body, {201: {"maxUses": 1}})
        tally["issued"] += status == 201
        tally["unanswered_issues"] += status not in range(200, 500)
        return str(answer["token"]) if status == 201 else None

    def _use(self, kind: str, token: str, wanted: Wanted) -> bool:
        status, _ = self._call(kind, "POST", "/use", {"token": token}, wanted)
        tally["granted"] += status == 200
        tally["unanswered_uses"] += status not in range(200, 500)
        return status == 200

    def _call(self, kind: str, method: str, path: str, body: Any, wanted: Wanted) -> tuple[int, Any]:
        """Status and body; status 0: there was no answer."""
        sent = None if body is None else json.dumps(body)
        with self.client.request(
            method, path, name=kind, data=sent, headers=self._headers, catch_response=True
        ) as response:
            status = int(response.status_code or 0)
            try:
                answer = json.loads(response.text or "null")
            except ValueError:
                answer = None
            if isinstance(answer, dict) and status in wanted and wanted[status].items() <= answer.items():
                response.success()
            else:
                # An answer whose status is no error has no such attribute.
                response.failure(_what_came(status, answer, getattr(response, "error", None)))
        return status, answer


def _what_came(status: int, answer: Any, error: BaseException | None) -> str:
    """In few words, so that equal failures count together; never a body, which may hold a token."""
    if not status:
        return type(error).__name__ if error is not None else "no answer"
    code = answer.get("code", "unexpected body") if isinstance(answer, dict) else "no JSON"
    return f"{status} {code}"


@events.request.add_listener
def count(name: str, exception: BaseException | None, **_: Any) -> None:
    """Count a call that ended. locust's own counts begin when all callers have."""
    tally["calls"] += 1
    if exception is not None:
        errors[f"{name}: {exception}"] += 1


@events.user_error.add_listener
def broke(exception: BaseException, **_: Any) -> None:
    """Count a caller that failed itself: its call is counted nowhere else."""
    errors[f"caller: {type(exception).__name__}"] += 1


@events.quitting.add_listener
def write(environment: Environment, **_: Any) -> None:
    """Write what came back."""
    total = environment.stats.total
    milliseconds = {name: total.get_response_time_percentile(share) for name, share in SHARES.items()}
    results = {
        **tally,
        "errors": dict(errors.most_common()),
        "timed": total.num_requests,
        "calls_per_second": round(total.total_rps, 1),
        "milliseconds": milliseconds | {"most": round(total.max_response_time)},
    }
    Path(os.environ["LOAD_OUT"]).write_text(json.dumps(results), "utf-8")
