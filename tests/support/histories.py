"""Histories: the calls for one token, with their answers and instants, as `linearizability` checks them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeAlias

from chalicelib import instants
from chalicelib.tokens import Reason


class Granted(NamedTuple):
    """The answer to a use that was granted."""

    use_id: str
    remaining: int
    replayed: bool = False


class Held(NamedTuple):
    """What the token holds, as the answer to a look at it: the ids of its claims, in their order, and what ends it."""

    claims: tuple[str, ...]
    mismatches: int = 0
    revoked: bool = False


Answer: TypeAlias = Granted | Reason | Held | Literal[True] | None
"""`True` from a revocation. None: no answer came, and the call may take effect at any time from its begin, or never."""


class Call(NamedTuple):
    """One call and its answer.

    Attributes:
        begun, ended: seconds on one clock.
        kind: "use", "revoke" or "look".
        key: the idempotency key.
        against: the reason for which the terms refuse this use; such a refusal counts as a mismatch.
        late: whether the caller's clock was at or after the expiry; None if the expiry passed during the call.
    """

    begun: float
    ended: float
    kind: str
    answer: Answer
    key: str | None = None
    against: Reason | None = None
    late: bool | None = False


def record(
    history: list[Call], kind: str, ask: Callable[[], Answer], *, expires_at: datetime | None = None, **facts: Any
) -> Answer:
    """Make a call, add it to a history with its instants, and return its answer.

    Args:
        expires_at: when the token expires, if the service reads this machine's clock.
        facts: the other attributes of the `Call`.
    """
    begun, before = time.monotonic(), instants.now()
    answer = ask()
    if expires_at is not None:
        facts["late"] = before >= expires_at or (None if instants.now() >= expires_at else False)
    history.append(Call(begun, time.monotonic(), kind, answer, **facts))
    return answer
