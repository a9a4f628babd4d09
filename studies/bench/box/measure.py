"""The life of one process: its start, its first call, its warm calls, and whether it answers rightly."""

from __future__ import annotations

import base64
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from studies.bench.box import build, events
from studies.bench.box.build import Built
from studies.bench.box.function import Function, Spent
from studies.bench.box.variants import Variant
from studies.bench.box.world import CLIENT_TABLE, TOKEN_TABLE, World

NOT_YET_WARM = 2
"""Calls of a kind that are made before they are counted."""
_PAUSE_SECONDS = 0.025  # longer than the period in which the share of a processor is handed out


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
    tls: bool
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


class Life(ABC):
    """A function from its start to its end, step by step, so that several can live side by side.

    Args:
        secret: of the client `events.CLIENT`.
    """

    def __init__(self, function: Function, variant: Variant, setting: Setting, secret: str) -> None:
        self._function = function
        self._name = variant.name
        self._setting = setting
        self._secret = secret
        self._warm: dict[str, list[Spent]] = {}
        self._init, self._first = self._begin()

    @abstractmethod
    def step(self) -> None:
        """Make one warm call of each kind."""

    @abstractmethod
    def _first_event(self) -> dict[str, Any]:
        """What the first call is given."""

    def _prove(self) -> None:  # noqa: B027 - not every function has something to refuse
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

    def _begin(self) -> tuple[Spent, Spent]:
        init = self._function.init()
        self._answer, first = self._function.call(self._first_event())
        self._answered_at = time.monotonic()
        return init, first

    def _call(self, kind: str, event: dict[str, Any]) -> Any:
        """One more call; where the processor is limited, when the share is whole again."""
        if self._setting.limited:
            time.sleep(max(0.0, self._answered_at + _PAUSE_SECONDS - time.monotonic()))
        answer, spent = self._function.call(event)
        self._answered_at = time.monotonic()
        self._warm.setdefault(kind, []).append(spent)
        return answer


class _Empty(Life):
    def _first_event(self) -> dict[str, Any]:
        return events.issue()

    def step(self) -> None:
        self._call("nothing", events.issue())


class _Api(Life):
    """Each token that was issued is used in the next step."""

    def _first_event(self) -> dict[str, Any]:
        return events.issue()

    def step(self) -> None:
        self._token = self._expect(self._answer, (201,))["token"]
        used = self._call("use", events.use(self._token))
        if self._expect(used, (200,)).get("nodeId") != events.NODE:
            raise WrongAnswer(f"{self._name}: a use returned another node: {used}")
        self._answer = self._call("issue", events.issue())

    def _prove(self) -> None:
        for event, status, code in (
            (events.use(self._token), (410,), "token_exhausted"),
            (events.use("0" * 64), (404,), "token_not_found"),
            (events.proxy("/use", {"token": 5}), (400, 422), None),
            (events.proxy("/token", {"nodeId": ""}), (400, 422), None),
        ):
            self._expect(self._function.call(event)[0], status, code)

    def _expect(self, answer: Any, status: tuple[int, ...], code: str | None = None) -> dict[str, Any]:
        """The body of an answer that has the wanted status and code."""
        text = answer.get("body") or "{}"
        body = json.loads(base64.b64decode(text) if answer.get("isBase64Encoded") else text)
        if answer.get("statusCode") not in status or (code is not None and body.get("code") != code):
            raise WrongAnswer(f"{self._name} answered {answer}, not {status[0]} {code or ''}".rstrip())
        return dict(body)


class _Authorizer(Life):
    def _first_event(self) -> dict[str, Any]:
        return events.authorize(events.CLIENT, self._secret)

    def step(self) -> None:
        answer = self._call("authorize", self._first_event())
        if _effect(answer) != "Allow" or answer["context"]["clientId"] != events.CLIENT:
            raise WrongAnswer(f"{self._name}: good credentials are refused: {answer}")

    def _prove(self) -> None:
        answer, _ = self._function.call(events.authorize(events.CLIENT, self._secret + "x"))
        if _effect(answer) != "Deny":
            raise WrongAnswer(f"{self._name}: wrong credentials are let through: {answer}")


def _effect(answer: Any) -> Any:
    return answer["policyDocument"]["Statement"][0]["Effect"]


_LIVES: Mapping[str, type[Life]] = {"api": _Api, "authorizer": _Authorizer, "none": _Empty}


class Box:
    """Starts functions in one world.

    Args:
        package: our deployment archive.
        folder: for logs, and for the certificate authorities that the functions trust.
    """

    def __init__(self, world: World, package: Path, folder: Path) -> None:
        self._world = world
        self._python = build.python()
        self._runtime = build.runtime()
        self._ours = build.our_environ(package)
        self._folder = folder
        self._numbers = count(1)

    @contextmanager
    def started(self, variant: Variant, built: Built, setting: Setting) -> Iterator[Life]:
        """A fresh process of a variant that has made its first call; it ends with the block.

        Raises:
            FunctionError: it failed.
        """
        with self.function(variant, built, setting) as function:
            yield _LIVES[variant.calls](function, variant, setting, self._world.secret)

    def function(self, variant: Variant, built: Built, setting: Setting, under: Sequence[str] = ()) -> Function:
        """A process of a variant that is not started yet; `under` as for `Function`."""
        name = f"{variant.name}-{next(self._numbers)}"
        trusted = self._folder / f"{name}.pem"
        trusted.write_bytes(built.authorities + b"\n" + self._world.authority)
        environ = {
            **self._world.credentials,
            "AWS_ENDPOINT_URL": self._world.tls_url if setting.tls else self._world.plain_url,
            "AWS_CA_BUNDLE": str(trusted),
            "TOKEN_TABLE": TOKEN_TABLE,
            "CLIENT_TABLE": CLIENT_TABLE,
            **(self._ours if variant.archive.peer is None else {}),
            **variant.environ,
        }
        return Function(
            built.task,
            self._runtime,
            variant.handler,
            environ,
            setting.memory_mb,
            log=self._folder / f"{name}.log",
            limited=setting.limited,
            python=self._python,
            under=under,
        )
