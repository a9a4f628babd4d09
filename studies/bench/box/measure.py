"""Alternating rounds: in each, a fresh process of every variant, from its start to proof that it answers rightly.

The speed of a machine drifts, and on a shared one it jumps. So all are started in turn, every other round in the
opposite order; then they live side by side and are called in turn, and ratios are taken within a round.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from studies.bench.box import build, events, function
from studies.bench.box.build import Built
from studies.bench.box.function import Function, FunctionError, Spent
from studies.bench.box.variants import Variant
from studies.bench.box.world import World

NOT_YET_WARM = 2
"""Calls of a kind that are made before they are counted."""
_PAUSE_SECONDS = 0.025  # longer than the period in which the share of a processor is handed out
_TRIES = 3


class WrongAnswer(Exception):
    """A function grants what it must refuse, or refuses what it must grant."""


@dataclass(frozen=True)
class Setting:
    """The limits and the extent of a run.

    Attributes:
        calls: warm calls of each kind in each process.
        limited: in a control group. If False, nothing is limited and no call waits for its share.
    """

    memory_mb: int
    calls: int
    limited: bool


@dataclass(frozen=True)
class Sample:
    """The measurements of one process.

    Attributes:
        warm: by kind of call, in the order in which they were made.
        peak_mb: the most memory that was resident by then.
    """

    init: Spent
    first: Spent
    warm: dict[str, list[Spent]]
    peak_mb: float


Round = dict[str, Sample]
"""The sample of each variant, by its name."""


class Life:
    """A function from its start to its end, step by step, so that several can live side by side.

    This one answers anything; the others are below.

    Args:
        secret: of the client `events.CLIENT`.
    """

    def __init__(self, function: Function, variant: Variant, setting: Setting, secret: str) -> None:
        self._function = function
        self._name = variant.name
        self._setting = setting
        self._secret = secret
        self._warm: dict[str, list[Spent]] = {}
        self._init = function.init()
        self._answer, self._first = function.call(self._event())
        self._answered_at = time.monotonic()

    def step(self) -> None:
        """Make one warm call of each kind."""
        self._call("nothing", self._event())

    def _event(self) -> dict[str, Any]:
        """What the first call is given."""
        return events.issue()

    def _prove(self) -> None:
        """Send it what it must refuse."""

    def end(self) -> Sample:
        """Its measurements.

        Raises:
            WrongAnswer: it grants what it must refuse.
        """
        peak_mb = self._function.peak_mb()
        self._prove()
        warm = {kind: spent[NOT_YET_WARM:] for kind, spent in self._warm.items()}
        return Sample(self._init, self._first, warm, peak_mb)

    def _call(self, kind: str, event: dict[str, Any]) -> Any:
        """One more call; where the processor is limited, when the share is whole again."""
        if self._setting.limited:
            time.sleep(max(0.0, self._answered_at + _PAUSE_SECONDS - time.monotonic()))
        answer, spent = self._function.call(event)
        self._answered_at = time.monotonic()
        self._warm.setdefault(kind, []).append(spent)
        return answer


class _Api(Life):
    """Each token that was issued is used in the next step."""

    def step(self) -> None:
        self._token = self._expect(self._answer, 201)["token"]
        used = self._call("use", events.use(self._token))
        if self._expect(used, 200).get("nodeId") != events.NODE:
            raise WrongAnswer(f"{self._name}: a use returned another node: {used}")
        self._answer = self._call("issue", events.issue())

    def _prove(self) -> None:
        for event, status, code in (
            (events.use(self._token), 410, "token_exhausted"),
            (events.use("0" * 64), 404, "token_not_found"),
            (events.proxy("/use", {"token": 5}), 400, None),
            (events.proxy("/token", {"nodeId": ""}), 400, None),
        ):
            self._expect(self._function.call(event)[0], status, code)

    def _expect(self, answer: Any, status: int, code: str | None = None) -> dict[str, Any]:
        """The body of an answer that has the wanted status and code."""
        text = answer.get("body") or "{}"
        body = json.loads(base64.b64decode(text) if answer.get("isBase64Encoded") else text)
        if answer.get("statusCode") != status or (code is not None and body.get("code") != code):
            raise WrongAnswer(f"{self._name} answered {answer}, not {status} {code or ''}".rstrip())
        return dict(body)


class _Authorizer(Life):
    def _event(self) -> dict[str, Any]:
        return events.authorize(events.CLIENT, self._secret)

    def step(self) -> None:
        answer = self._call("authorize", self._event())
        if _effect(answer) != "Allow" or answer["context"]["clientId"] != events.CLIENT:
            raise WrongAnswer(f"{self._name}: good credentials are refused: {answer}")

    def _prove(self) -> None:
        answer, _ = self._function.call(events.authorize(events.CLIENT, self._secret + "x"))
        if _effect(answer) != "Deny":
            raise WrongAnswer(f"{self._name}: wrong credentials are let through: {answer}")


def _effect(answer: Any) -> Any:
    return answer["policyDocument"]["Statement"][0]["Effect"]


LIVES: Mapping[str, type[Life]] = {"api": _Api, "authorizer": _Authorizer, "none": Life}


class Box:
    """Starts functions in one world.

    Args:
        package: our deployment archive.
        built: the archives, by name.
        folder: for logs, and for the certificate authorities that the functions trust.
    """

    def __init__(self, world: World, package: Path, built: Mapping[str, Built], folder: Path) -> None:
        self.built = built
        self.folder = folder
        self.secret = world.secret
        self._environ = world.environ
        self._authority = world.authority
        self._python = build.python()
        self._runtime = build.runtime()
        self._ours = build.our_environ(package)
        self._numbers = count(1)

    def function(
        self, variant: Variant, setting: Setting, under: Sequence[str] = ()
    ) -> AbstractContextManager[Function]:
        """A process of a variant that is not started yet; `under` as for `function.opened()`."""
        name, archive = f"{variant.name}-{next(self._numbers)}", self.built[variant.archive.name]
        trusted = self.folder / f"{name}.pem"
        trusted.write_bytes(archive.authorities + b"\n" + self._authority)
        ours = self._ours if variant.archive.peer is None else {}
        return function.opened(
            archive.task,
            self._runtime,
            variant.handler,
            {**self._environ, "AWS_CA_BUNDLE": str(trusted), **ours, **variant.environ},
            setting.memory_mb,
            log=self.folder / f"{name}.log",
            limited=setting.limited,
            python=self._python,
            under=under,
        )


@dataclass
class Run:
    """The rounds of one setting.

    Attributes:
        repeated: rounds that were repeated because a process failed: on a busy machine calls time out.
    """

    setting: Setting
    variants: Sequence[Variant]
    rounds: list[Round] = field(default_factory=list)
    repeated: int = 0

    def samples(self, variant: Variant) -> list[Sample]:
        return [each[variant.name] for each in self.rounds]

    def add(self, box: Box, rounds: int, progress: Callable[[str], object] = lambda _: None) -> None:
        """Add rounds; `progress` is called with a text before each step."""
        for _ in range(rounds):
            for tries_left in reversed(range(_TRIES)):
                try:
                    self.rounds.append(self._round(box, progress))
                    break
                except FunctionError:
                    if not tries_left:
                        raise
                    self.repeated += 1

    def _round(self, box: Box, progress: Callable[[str], object]) -> Round:
        nth, setting = len(self.rounds), self.setting
        with ExitStack() as living:
            lives: dict[str, Life] = {}
            for variant in self.variants if nth % 2 == 0 else reversed(self.variants):
                progress(f"round {nth + 1}: start of {variant.title}, {setting.memory_mb} MB")
                started = living.enter_context(box.function(variant, setting))
                lives[variant.name] = LIVES[variant.calls](started, variant, setting, box.secret)
            progress(f"round {nth + 1}: warm calls, {setting.memory_mb} MB")
            for step in range(NOT_YET_WARM + setting.calls):
                for life in lives.values() if step % 2 == 0 else reversed(lives.values()):
                    life.step()
            return {name: life.end() for name, life in lives.items()}
