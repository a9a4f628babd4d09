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
from typing import Any, Final, Protocol

from chalicelib.storage.token_store import TokenStore
from chalicelib.tokens import Token
from tests.support.dynamodb_proxy import QUICK, Fault, Proxy

ADDRESS: Final = "10.0.0.1"
_TRIES: Final = 60
_UNAVAILABLE: Final = 503


@dataclass(frozen=True)
class Reply:
    """One answer; `code` is the problem's, None for a success."""

    status: int
    code: str | None
    body: Any
    retry_after: str | None = None
    replayed: bool = False


class Way(Protocol):
    """How the callers of a course reach the service."""

    def issue(self, body: Mapping[str, Any], batch: int) -> Reply: ...

    def use(self, token: str, facts: Mapping[str, str], key: str | None) -> Reply: ...

    def revoke(self, token_id: str) -> Reply: ...


@dataclass
class Findings:
    """What a number of courses came to; the first five must stay 0."""

    extra_grants: int = 0
    false_refusals: int = 0
    wrong_repetitions: int = 0
    wrong_answers: int = 0
    not_recovered: int = 0
    courses: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    replays: int = 0
    slowest_ms: float = 0.0
    slowest_503_ms: float = 0.0
    failed_seeds: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def violations(self) -> int:
        return (
            self.extra_grants + self.false_refusals + self.wrong_repetitions + self.wrong_answers + self.not_recovered
        )

    def add(self, other: Findings) -> None:
        """What others found at the same time."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            setattr(self, name, max(mine, value) if name.startswith("slowest") else mine + value)

    def wrong(self, kind: str, why: str, times: int = 1) -> None:
        setattr(self, kind, getattr(self, kind) + times)
        self.reasons.append(f"{kind}: {why}")


@dataclass
class _Caller:
    """One application instance that wants one use."""

    user: str
    key: str | None
    facts: Mapping[str, str]
    replies: list[Reply] = field(default_factory=list)


class Course:
    """One course of events.

    Args:
        way: on which the service is reached; its store lies behind the proxy.
        truth: the same store, past the proxy.
        faults: those that may happen.
    """

    def __init__(
        self,
        seed: int,
        way: Way,
        proxy: Proxy,
        truth: TokenStore,
        *,
        findings: Findings,
        faults: Sequence[Fault] = QUICK,
    ) -> None:
        self._seed = seed
        self._way = way
        self._proxy = proxy
        self._truth = truth
        self._findings = findings
        self._faults = faults
        self._random = random.Random(f"course {seed}")
        self._max_uses = self._random.choice([1, 2, 5])
        self._bound = self._random.random() < 0.3
        self._code = ""
        self._id = ""
        self._revoked = False

    def run(self) -> None:
        before = self._findings.violations
        luck, rate = random.Random(f"faults {self._seed}"), self._random.choice([0.1, 0.3, 0.5, 0.8])
        self._proxy.plan = lambda _: luck.choice(self._faults) if luck.random() < rate else None
        try:
            if self._issue():
                self._use_and_check()
        finally:
            self._proxy.plan = lambda _: None
            self._proxy.settle()
        self._findings.courses += 1
        if self._findings.violations > before:
            self._findings.failed_seeds.append(self._seed)

    def _use_and_check(self) -> None:
        callers = [self._caller(number) for number in range(self._random.randint(1, self._max_uses + 2))]
        if self._random.random() < 0.25:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(self._let_use, callers))
        else:
            for caller in callers:
                self._let_use(caller)
        mismatches = self._mismatch()
        if self._random.random() < 0.2:
            self._revoke()
        self._proxy.plan = lambda _: None
        self._proxy.settle()
        found = self._truth.find(self._id)
        if found is None:
            self._findings.wrong("wrong_answers", f"{self._seed}: an issued token is not stored")
            return
        if found.mismatches < mismatches:
            self._findings.wrong("wrong_answers", f"{self._seed}: a mismatch was returned and not counted")
        self._check_grants(found, callers)
        self._check_refusals(found, callers)
        self._check_repetitions(callers)
        self._check_recovery()

    def _issue(self) -> bool:
        body: dict[str, Any] = {"nodeId": f"node-{self._seed}", "maxUses": self._max_uses}
        if self._bound:
            body["ipAddresses"] = ["10.0.0.0/8"]
        batch = self._random.choice([1, 1, 3])
        reply = self._until_answered(lambda: self._way.issue(body, batch))
        if reply.status != 201:
            self._findings.wrong("wrong_answers", f"{self._seed}: issuing was answered {reply}")
            return False
        self._code, self._id = reply.body["token"], reply.body["tokenId"]
        return True

    def _caller(self, number: int) -> _Caller:
        user = f"caller-{number}"
        facts = {"user": user, **({"ipAddress": ADDRESS} if self._bound else {})}
        return _Caller(user, f"key-{number}" if self._random.random() < 0.7 else None, facts)

    def _let_use(self, caller: _Caller) -> None:
        """A caller with a key retries until it gets an answer. One without calls once: a lost answer is a lost use."""
        for _ in range(_TRIES if caller.key else 1):
            caller.replies.append(self._timed(lambda: self._way.use(self._code, caller.facts, caller.key)))
            if caller.replies[-1].status != _UNAVAILABLE:
                break

    def _mismatch(self) -> int:
        """Ask for what the token does not allow, at most twice: repeated by the SDK that is four times, and no lock."""
        mismatches = 0
        for _ in range(self._random.choice([0, 0, 1, 2])):
            facts = {"user": "mallory", "action": "edit", **({"ipAddress": ADDRESS} if self._bound else {})}
            answer = self._timed(lambda facts=facts: self._way.use(self._code, facts, None))
            mismatches += answer.code == "action_not_permitted"
            if answer.status == 200:
                self._findings.wrong("extra_grants", f"{self._seed}: an action that is not allowed was granted")
            elif answer.code not in ("action_not_permitted", "store_unavailable"):
                self._findings.wrong("wrong_answers", f"{self._seed}: a mismatch was answered {answer}")
        return mismatches

    def _revoke(self) -> None:
        reply = self._until_answered(lambda: self._way.revoke(self._id))
        self._revoked = reply.status == 204
        if not self._revoked:
            self._findings.wrong("wrong_answers", f"{self._seed}: revoking was answered {reply}")
        facts = {"user": "too-late", **({"ipAddress": ADDRESS} if self._bound else {})}
        reply = self._until_answered(lambda: self._way.use(self._code, facts, None))
        if reply.code != "token_revoked":
            self._findings.wrong("extra_grants", f"{self._seed}: after its revocation a token was answered {reply}")

    def _check_grants(self, found: Token, callers: Sequence[_Caller]) -> None:
        claimed = {claim.id for claim in found.claims}
        granted = {reply.body["useId"] for caller in callers for reply in caller.replies if reply.status == 200}
        if len(claimed | granted) > self._max_uses:
            much = len(claimed | granted) - self._max_uses
            self._findings.wrong("extra_grants", f"{self._seed}: {much} more than {self._max_uses}", much)
        elif granted - claimed:
            self._findings.wrong("extra_grants", f"{self._seed}: a grant is not kept, so it could be made again")

    def _check_refusals(self, found: Token, callers: Sequence[_Caller]) -> None:
        owners = {claim.user for claim in found.claims}
        for caller in callers:
            for reply in caller.replies:
                if reply.status in (200, _UNAVAILABLE):
                    continue
                if reply.code != "token_exhausted":
                    self._findings.wrong("wrong_answers", f"{self._seed}: {caller.user} was answered {reply}")
                elif caller.user in owners or len(found.claims) < self._max_uses:
                    self._findings.wrong("false_refusals", f"{self._seed}: {caller.user} got {reply.code}")

    def _check_repetitions(self, callers: Sequence[_Caller]) -> None:
        """What was granted to a key is granted to it again, and looks the same."""
        for caller in callers:
            granted = [reply for reply in caller.replies if reply.status == 200]
            if caller.key is None or not granted:
                continue
            facts, key = caller.facts, caller.key
            # A caller who gets no answer from a busy machine asks again, as here.
            again = self._until_answered(lambda: self._way.use(self._code, facts, key))  # noqa: B023 - called at once
            good = again.code == "token_revoked" if self._revoked else again.body == granted[0].body and again.replayed
            self._findings.replays += again.replayed
            if not good:
                self._findings.wrong("wrong_repetitions", f"{self._seed}: {granted[0]}, then {again}")

    def _check_recovery(self) -> None:
        """Without faults the next caller gets the remaining uses, and no caller gets more."""
        found = self._truth.find(self._id)
        assert found is not None
        facts = {"user": "next", **({"ipAddress": ADDRESS} if self._bound else {})}
        left = found.uses_remaining
        for number in range(left + 1):
            reply = self._way.use(self._code, facts, None)
            expected = "token_revoked" if self._revoked else None if number < left else "token_exhausted"
            if reply.code != expected:
                kind = "extra_grants" if reply.status == 200 else "not_recovered"
                self._findings.wrong(kind, f"{self._seed}: afterwards {reply}, not {expected}")

    def _until_answered(self, ask: Callable[[], Reply]) -> Reply:
        for _ in range(_TRIES):
            reply = self._timed(ask)
            if reply.status != _UNAVAILABLE:
                break
        return reply

    def _timed(self, ask: Callable[[], Reply]) -> Reply:
        started = time.perf_counter()
        reply = ask()
        milliseconds = (time.perf_counter() - started) * 1000
        findings = self._findings
        findings.answers[reply.code or str(reply.status)] += 1
        findings.slowest_ms = max(findings.slowest_ms, milliseconds)
        if reply.status == _UNAVAILABLE:
            findings.slowest_503_ms = max(findings.slowest_503_ms, milliseconds)
            if reply.retry_after is None:
                findings.wrong("wrong_answers", f"{self._seed}: 503 without Retry-After")
        return reply
