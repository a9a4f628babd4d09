"""Whether the answers to calls that overlapped could come from one token that takes one call at a time.

A history is linearizable if every call can be given an instant between its begin and its end so that the calls, made
one after the other at these instants, get the answers that were recorded. The rules are stated here again, in the few
words that a history needs: `decide()` is what is under test, together with the write.

Source: Wing and Gong, "Testing and verifying concurrent objects", 1993; Lowe, "Testing for linearizability", 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final, TypeAlias

import msgspec

from chalicelib.tokens import Reason
from tests.support.histories import Answer, Call, Granted, Held

LOCKED_AT: Final = 5
ATTEMPTS: Final = 2  # how often the service sends a request to its store
_REVOKED, _LOCKED, _EXPIRED, _EXHAUSTED = Reason.REVOKED, Reason.LOCKED, Reason.EXPIRED, Reason.EXHAUSTED  # faster


class _Step(msgspec.Struct, gc=False):
    """A call that happens at one instant, or a part of a call that does."""

    begun: float
    ended: float
    kind: str
    answer: Answer
    owner: str = ""  # of the claim: the use's id, or "?" and more if no answer named it
    against: Reason | None = None
    late: bool = False
    optional: bool = False  # it may never happen, and nobody saw its answer
    follows: int | None = None  # the place of the step that must come before


_State: TypeAlias = tuple[tuple[str, ...], int, bool]  # owners of the claims, mismatches, revoked


def violation(history: Sequence[Call], max_uses: int, *, repeats: bool = False) -> str | None:
    """Search an order of the calls that explains all answers.

    Args:
        history: all calls for one token since it was issued.
        repeats: the service may have sent a request to its store twice; then a mismatch may count twice.

    Returns:
        None if there is one; else the point that the search could not pass.
    """
    steps = _steps(sorted(history, key=lambda call: call.begun), repeats)
    after = _precedence(steps)
    required = sum(1 << place for place, step in enumerate(steps) if not step.optional)
    before_the_last_use = sum(1 << place for place, step in enumerate(steps) if step.answer is not _EXHAUSTED)
    stack: list[tuple[_State, int]] = [(((), 0, False), (1 << len(steps)) - 1)]
    seen: set[tuple[_State, int]] = set()
    while stack:
        state, undone = stack.pop()
        changes: list[tuple[int, _State]] = []
        possible = undone if len(state[0]) >= max_uses else undone & before_the_last_use  # few of a race's steps
        waiting, size = [place for place in range(len(steps)) if possible >> place & 1], 0
        while len(waiting) != size:
            size, blocked = len(waiting), []
            for place in waiting:
                if undone & after[place]:
                    blocked.append(place)
                    continue
                changed, answer = _take(state, step := steps[place], max_uses)
                if changed != state and (step.optional or answer == step.answer):
                    changes.append((place, changed))
                elif step.optional or answer == step.answer:
                    undone ^= 1 << place  # it changes nothing and, if optional, never will: it can happen now
            waiting = blocked
        if not undone & required:
            return None
        if (state, undone) in seen:
            continue
        seen.add((state, undone))
        changes.sort(key=lambda change: (steps[change[0]].optional, steps[change[0]].ended), reverse=True)
        stack += [(changed, undone ^ 1 << place) for place, changed in changes]
    state, undone = min(seen, key=lambda reached: (reached[1] & required).bit_count())
    stuck = [step for place, step in enumerate(steps) if undone & required & 1 << place and not undone & after[place]]
    wants = "; ".join(f"{step.kind} got {step.answer}, not {_take(state, step, max_uses)[1]}" for step in stuck[:3])
    return f"with claims {state[0]}, {state[1]} mismatches{', revoked' * state[2]}: {wants}"


def _take(state: _State, step: _Step, max_uses: int) -> tuple[_State, Answer]:
    """The rules: the token after a step, and the answer."""
    (claims, mismatches, revoked), after = state, state
    answer: Answer = True
    if step.kind == "look":
        answer = Held(tuple("?" if owner[0] == "?" else owner for owner in claims), mismatches, revoked)
    elif step.kind != "use":
        after = (claims, min(mismatches + (step.kind == "count"), LOCKED_AT), revoked or step.kind == "revoke")
    elif revoked or mismatches >= LOCKED_AT:
        answer = _REVOKED if revoked else _LOCKED
    elif step.owner in claims:
        answer = Granted(step.owner, max_uses - 1 - claims.index(step.owner), True)
    elif step.late or step.against or len(claims) >= max_uses:
        answer = _EXPIRED if step.late else step.against or _EXHAUSTED
    else:
        after = ((*claims, step.owner), mismatches, revoked)
        answer = Granted(step.owner, max_uses - 1 - len(claims))
    return after, answer


def _steps(history: Sequence[Call], repeats: bool) -> list[_Step]:
    """The calls as steps. Optional ones with the same effect follow each other: their order makes no difference."""
    named = {call.key or n: call.answer.use_id for n, call in enumerate(history) if isinstance(call.answer, Granted)}
    reported = set(named.values())
    answered = {call.key for call in history if call.key and call.answer not in (None, _REVOKED, _LOCKED)}
    # A refusal that shows no claim of its key: what has not been answered took no effect before.
    refused = {call.key: call.begun for call in history if call.key and call.answer in (_EXHAUSTED, _EXPIRED)}
    offered: set[str] = set()
    last: dict[str, int] = {}
    steps: list[_Step] = []
    for number, (begun, ended, kind, answer, key, against, late) in enumerate(history):
        owner = named.get(key or number, f"?{key or number}")
        is_late = answer is _EXPIRED if late is None else late
        if isinstance(answer, Held):
            claims = tuple(claim if claim in reported else "?" for claim in answer.claims)
            steps.append(_Step(begun, ended, kind, answer._replace(claims=claims)))
        elif answer:
            steps.append(_Step(begun, ended, kind, answer, owner, against, is_late))
        unseen = [] if answer else ["count"] * ATTEMPTS if against else [kind]
        if against and answer is against:
            steps.append(_Step(begun, ended, "count", True, follows=len(steps) - 1))
            unseen = ["count"] * repeats
        for part in unseen:
            if part != "use" or not (is_late or owner in offered):
                alike = part if part != "use" or key not in answered else owner
                since = max(begun, refused.get(key, begun))
                steps.append(_Step(since, inf, part, None, owner, optional=True, follows=last.get(alike)))
                offered |= {owner} if part == "use" else set()
                last[alike] = len(steps) - 1
    return steps


def _precedence(steps: Sequence[_Step]) -> list[int]:
    """For each step the bits of those that must come before it."""
    by_end = sorted(range(len(steps)), key=lambda place: steps[place].ended, reverse=True)
    ended, after = 0, [0 if step.follows is None else 1 << step.follows for step in steps]
    for place in sorted(range(len(steps)), key=lambda place: steps[place].begun):
        while steps[by_end[-1]].ended < steps[place].begun:
            ended |= 1 << by_end.pop()
        after[place] |= ended
    return after
