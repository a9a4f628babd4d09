"""Courses of events under faults: one token each, issued, used, revoked; and what must hold afterwards.

A seed gives a course. In one of four the callers come at once, so that only their number and faults are repeatable.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from chalicelib.storage.token_store import TokenStore
from chalicelib.tokens import Reason
from tests.support.dynamodb_proxy import QUICK, Fault, Proxy
from tests.support.fault_ways import Reply
from tests.support.histories import Answer, Call, Held, record
from tests.support.linearizability import violation

ADDRESS: Final = "10.0.0.1"
_TRIES: Final = 60
_UNAVAILABLE: Final = 503


def record_use(history: list[Call], ask: Callable[[], Reply], **facts: Any) -> Reply:
    """Make a use, add it to a history, and return the reply."""
    replies: list[Reply] = []

    def answer() -> Answer:
        replies.append(ask())
        return replies[0].answer

    record(history, "use", answer, **facts)
    return replies[0]


def look(history: list[Call], store: TokenStore, token_id: str) -> None:
    """Add to a history what the store holds."""

    def held() -> Held:
        token = store.find(token_id)
        assert token is not None, "an issued token is not stored"
        return Held(tuple(claim.id for claim in token.claims), token.mismatches, token.revoked_at is not None)

    record(history, "look", held)


@dataclass
class Findings:
    """What a number of courses came to; `violations` must stay empty."""

    courses: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    replays: int = 0
    slowest_ms: float = 0.0
    slowest_503_ms: float = 0.0
    failed_seeds: list[int] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        """What others found at the same time."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            setattr(self, name, max(mine, value) if name.startswith("slowest") else mine + value)

    def check(self, history: Sequence[Call], max_uses: int) -> None:
        """Check all calls for one token, whose requests to the store may have been repeated."""
        if why := violation(history, max_uses, repeats=True):
            self.violations.append(why)


@dataclass
class _Caller:
    """One application instance that wants one use."""

    key: str | None
    facts: Mapping[str, str]
    replies: list[Reply] = field(default_factory=list)


@dataclass
class Course:
    """One course of events.

    Attributes:
        way: of `fault_ways`, on which the service is reached; its store lies behind the proxy.
        truth: the same store, past the proxy.
        faults: those that may happen.
    """

    seed: int
    way: Any
    proxy: Proxy
    truth: TokenStore
    findings: Findings
    faults: Sequence[Fault] = QUICK

    def __post_init__(self) -> None:
        self._random = random.Random(f"course {self.seed}")
        self._max_uses = self._random.choice([1, 2, 5])
        self._bound = self._random.random() < 0.3
        self._code = ""
        self._id = ""
        self._history: list[Call] = []

    def run(self) -> None:
        before = len(self.findings.violations)
        luck, rate = random.Random(f"faults {self.seed}"), self._random.choice([0.1, 0.3, 0.5, 0.8])
        self.proxy.plan = lambda _: luck.choice(self.faults) if luck.random() < rate else None
        try:
            if self._issue():
                self._use_and_check()
        finally:
            self.proxy.plan = lambda _: None
            self.proxy.settle()
        self.findings.courses += 1
        if len(self.findings.violations) > before:
            self.findings.failed_seeds.append(self.seed)

    def _use_and_check(self) -> None:
        callers = [self._caller(number) for number in range(self._random.randint(1, self._max_uses + 2))]
        if self._random.random() < 0.25:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(self._let_use, callers))
        else:
            for caller in callers:
                self._let_use(caller)
        self._mismatch()
        if self._random.random() < 0.2:
            self._revoke()
        self.proxy.plan = lambda _: None
        self.proxy.settle()
        look(self._history, self.truth, self._id)
        self._repeat(callers)
        self._use_what_is_left()
        look(self._history, self.truth, self._id)
        self.findings.check(self._history, self._max_uses)

    def _issue(self) -> bool:
        body: dict[str, Any] = {"nodeId": f"node-{self.seed}", "maxUses": self._max_uses}
        if self._bound:
            body["ipAddresses"] = ["10.0.0.0/8"]
        batch = self._random.choice([1, 1, 3])
        reply = self._until_answered(lambda: self._timed(lambda: self.way.issue(body, batch)))
        if reply.status != 201:
            self._wrong(f"issuing was answered {reply}")
            return False
        self._code, self._id = reply.body["token"], reply.body["tokenId"]
        return True

    def _caller(self, number: int) -> _Caller:
        user = f"caller-{number}"
        return _Caller(f"key-{number}" if self._random.random() < 0.7 else None, self._facts(user))

    def _let_use(self, caller: _Caller) -> None:
        """A caller with a key retries until it gets an answer. One without calls once: a lost answer is a lost use."""
        for _ in range(_TRIES if caller.key else 1):
            caller.replies.append(self._use(caller.facts, caller.key))
            if caller.replies[-1].status != _UNAVAILABLE:
                break

    def _mismatch(self) -> None:
        """Ask for what the token does not allow, at most twice: repeated by the SDK that is four times, and no lock."""
        for _ in range(self._random.choice([0, 0, 1, 2])):
            self._use(self._facts("mallory") | {"action": "edit"}, None, Reason.ACTION)

    def _revoke(self) -> None:
        def revoke() -> Answer:
            reply = self._until_answered(lambda: self._timed(lambda: self.way.revoke(self._id)))
            if reply.status != 204:
                self._wrong(f"revoking was answered {reply}")
            return reply.status == 204 or None

        record(self._history, "revoke", revoke)
        self._until_answered(lambda: self._use(self._facts("too-late"), None))

    def _repeat(self, callers: Sequence[_Caller]) -> None:
        """What was granted to a key is granted to it again, and looks the same."""
        for caller in callers:
            granted = [reply for reply in caller.replies if reply.status == 200]
            if caller.key is None or not granted:
                continue
            # A caller who gets no answer from a busy machine asks again, as here.
            again = self._until_answered(partial(self._use, caller.facts, caller.key))
            self.findings.replays += again.replayed
            if again.status == 200 and again.body != granted[0].body:
                self._wrong(f"{granted[0]}, then {again}")

    def _use_what_is_left(self) -> None:
        """Without faults the next callers get the remaining uses, and no caller gets more."""
        for _ in range(self._max_uses + 1):
            if self._until_answered(lambda: self._use(self._facts("next"), None)).status != 200:
                break

    def _facts(self, user: str) -> dict[str, str]:
        return {"user": user, **({"ipAddress": ADDRESS} if self._bound else {})}

    def _use(self, facts: Mapping[str, str], key: str | None, against: Reason | None = None) -> Reply:
        reply = record_use(
            self._history, lambda: self._timed(lambda: self.way.use(self._code, facts, key)), key=key, against=against
        )
        if reply.status == 500:
            self._wrong(f"a use was answered {reply}")
        return reply

    def _wrong(self, why: str) -> None:
        self.findings.violations.append(f"{self.seed}: {why}")

    def _until_answered(self, ask: Callable[[], Reply]) -> Reply:
        for _ in range(_TRIES):
            reply = ask()
            if reply.status != _UNAVAILABLE:
                break
        return reply

    def _timed(self, ask: Callable[[], Reply]) -> Reply:
        started = time.perf_counter()
        reply = ask()
        milliseconds = (time.perf_counter() - started) * 1000
        findings = self.findings
        findings.answers[reply.code or str(reply.status)] += 1
        findings.slowest_ms = max(findings.slowest_ms, milliseconds)
        if reply.status == _UNAVAILABLE:
            findings.slowest_503_ms = max(findings.slowest_503_ms, milliseconds)
            if reply.retry_after is None:
                self._wrong("503 without Retry-After")
        return reply
