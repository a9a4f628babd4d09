"""The callers: what each one sends, and what must come back. Runs in `.venv`, where locust is.

```
LOAD_USER=… LOAD_PASSWORD=… .venv/bin/python -m studies.load.users --url http://127.0.0.1:8000/… --users 64 \
    --calls 20000 --seconds 300 --out level.json
```
A caller goes round: issue a token with one use, use it (200), use it once more (410), ask for the version. It sends the
next call as soon as the last one is answered. Every status and every body is checked, so a wrong answer is an error as
well as a missing one. Each half second a line says how many calls were answered, and how many of them wrongly.

locust sends a GET again where its connection was closed under it, but never a POST: three calls of four are POSTs.
"""

from __future__ import annotations

# locust first: it patches the standard library's sockets.
from locust import FastHttpUser, constant, task
from locust.env import Environment
from locust.exception import StopUser

# isort: split
import argparse
import base64
import json
import os
import resource
import sys
import time
import uuid
from array import array
from collections import Counter
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import gevent

LIFETIME_SECONDS: Final = 3600
TELL_EVERY_SECONDS: Final = 0.5
GIVE_UP_AFTER_SECONDS: Final = 60.0

ISSUE, USE, REFUSED, VERSION = "issue", "use", "refused use", "version"


class Tally:
    """What came back of one level.

    Args:
        calls: no round begins once that many calls were begun.
        deadline: nor at this instant of the monotonic clock.
    """

    def __init__(self, calls: int, deadline: float) -> None:
        self._left = calls
        self._deadline = deadline
        self.milliseconds: dict[str, array[float]] = {kind: array("d") for kind in (ISSUE, USE, REFUSED, VERSION)}
        self.errors: Counter[str] = Counter()
        self.issued = 0
        self.granted = 0
        self.unanswered_issues = 0
        self.unanswered_uses = 0

    def may_begin(self, calls: int) -> bool:
        """Whether another round may begin."""
        if self._left <= 0 or time.monotonic() >= self._deadline:
            return False
        self._left -= calls
        return True

    @property
    def calls(self) -> int:
        return sum(map(len, self.milliseconds.values()))

    def answered(self, name: str, response_time: float, exception: BaseException | None, **_: Any) -> None:
        """One call ended; locust's event."""
        self.milliseconds[name].append(response_time)
        if exception is not None:
            self.errors[f"{name}: {exception}"] += 1

    def broke(self, exception: BaseException, **_: Any) -> None:
        """A caller itself failed, and its call would be counted nowhere; locust's event."""
        self.errors[f"caller: {type(exception).__name__}"] += 1


class Caller(FastHttpUser):
    """One caller on a connection of its own."""

    wait_time = constant(0)
    network_timeout = GIVE_UP_AFTER_SECONDS
    connection_timeout = GIVE_UP_AFTER_SECONDS

    tally: Tally
    base_path: str
    authorization: str

    @task
    def round(self) -> None:
        """Four calls; fewer where no token came."""
        if not self.tally.may_begin(4):
            raise StopUser
        node = str(uuid.uuid4())
        token = self._issue(node)
        if token is not None:
            was_granted = self._use(token, node)
            self._use_again(token, may_be_unused=not was_granted)
        self._call(
            VERSION, "GET", "/version", None, lambda status, body: status == 200 and body["service"] == "tokenservice"
        )

    def _issue(self, node: str) -> str | None:
        def is_right(status: int, answer: Any) -> bool:
            return status == 201 and len(answer["token"]) == 64 and answer["maxUses"] == 1

        body = {"nodeId": node, "expiresIn": LIFETIME_SECONDS}
        status, answer = self._call(ISSUE, "POST", "/token", body, is_right)
        if status == 201:
            self.tally.issued += 1
            return str(answer["token"])
        self.tally.unanswered_issues += status not in range(400, 500)
        return None

    def _use(self, token: str, node: str) -> bool:
        def is_right(status: int, answer: Any) -> bool:
            return status == 200 and answer["nodeId"] == node and answer["usesRemaining"] == 0

        status, _ = self._call(USE, "POST", "/use", {"token": token}, is_right)
        self.tally.granted += status == 200
        self.tally.unanswered_uses += status not in range(200, 500)
        return status == 200

    def _use_again(self, token: str, *, may_be_unused: bool) -> None:
        def is_right(status: int, answer: Any) -> bool:
            if may_be_unused and status == 200:
                return True
            return status == 410 and answer["code"] == "token_exhausted"

        status, _ = self._call(REFUSED, "POST", "/use", {"token": token}, is_right)
        self.tally.granted += status == 200
        self.tally.unanswered_uses += status not in range(200, 500)

    def _call(self, kind: str, method: str, path: str, body: Any, is_right: Any) -> tuple[int, Any]:
        """Status and body; status 0: there was no answer."""
        headers = {"Authorization": self.authorization}
        if body is not None:
            headers["Content-Type"] = "application/json"
        sent = None if body is None else json.dumps(body)
        with self.client.request(
            method, self.base_path + path, name=kind, data=sent, headers=headers, catch_response=True
        ) as response:
            status = int(response.status_code or 0)
            try:
                answer = json.loads(response.text or "null")
                fits = is_right(status, answer)
            except (ValueError, KeyError, TypeError):
                answer, fits = None, False
            if fits:
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


def run(users: int, per_second: float, url: str, tally: Tally) -> dict[str, Any]:
    """Run that many callers until the tally ends them; returns the time and this process's processor time."""
    parts = urlsplit(url)
    credentials = f"{os.environ['LOAD_USER']}:{os.environ['LOAD_PASSWORD']}"
    Caller.tally = tally
    Caller.base_path = parts.path
    Caller.authorization = "Basic " + base64.b64encode(credentials.encode()).decode()
    environment = Environment(user_classes=[Caller], host=f"{parts.scheme}://{parts.netloc}")
    environment.events.request.add_listener(tally.answered)
    environment.events.user_error.add_listener(lambda user_instance, exception, **_: tally.broke(exception))
    runner = environment.create_local_runner()
    begun, cpu = time.monotonic(), _cpu_seconds()
    runner.start(users, spawn_rate=per_second)
    while not runner.spawning_greenlet.ready() or runner.user_count:
        gevent.sleep(TELL_EVERY_SECONDS)
        print(tally.calls, sum(tally.errors.values()), flush=True)
    seconds = time.monotonic() - begun
    runner.quit()
    return {"seconds": round(seconds, 2), "cpu_seconds": round(_cpu_seconds() - cpu, 2)}


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def percentiles(values: array[float]) -> dict[str, float]:
    """p50, p99, p99.9 and the most, in milliseconds."""
    ordered = sorted(values)
    if not ordered:
        return {}
    values = {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] for name, share in _SHARES.items()}
    return {name: round(value, 1) for name, value in (values | {"most": ordered[-1]}).items()}


_SHARES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def main() -> int:
    """Run one level and write what came back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="of the service, with its base path")
    parser.add_argument("--users", type=int, required=True)
    parser.add_argument(
        "--per-second", type=float, help="how many callers begin in a second; all, where it is not given"
    )
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    tally = Tally(options.calls, time.monotonic() + options.seconds)
    cost = run(options.users, options.per_second or options.users, options.url, tally)
    every = array("d")
    for values in tally.milliseconds.values():
        every.extend(values)
    options.out.write_text(
        json.dumps(
            {
                "calls": tally.calls,
                **cost,
                "milliseconds": percentiles(every),
                "errors": dict(tally.errors.most_common()),
                "issued": tally.issued,
                "granted": tally.granted,
                "unanswered_issues": tally.unanswered_issues,
                "unanswered_uses": tally.unanswered_uses,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
