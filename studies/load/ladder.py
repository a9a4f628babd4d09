"""Rising concurrency, level by level: locust's callers against `chalice local` or the package in the local AWS."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from json import loads
from pathlib import Path
from typing import Any, Final

import psutil

from chalicelib.http.routes import BASE_PATH
from dev.engine import Engine
from studies import page
from tests.support.api import Credentials
from tests.support.fault_ways import Service
from tests.support.local_aws import Package, Stack, local_aws
from tests.support.store_engines import DYNAMODB_LOCAL, MINISTACK, OPEN, StoreEngine, with_tables

USERS: Final = Path(__file__).with_name("users.py")
_PATIENCE_SECONDS: Final = 60
_ROLES: Final = {
    "dev.gateway": "service",
    "lambda": "functions",
    "dev.engine_process": "engine",
    "DynamoDBLocal.jar": "engine",
}
"""Whose processor time counts for what, by a part of the command."""


@dataclass(frozen=True)
class Stored:
    """What the token table holds.

    Attributes:
        overspent: tokens with more claims than uses.
    """

    tokens: int
    claims: int
    overspent: int


@dataclass(frozen=True)
class Target:
    """A running service.

    Attributes:
        url: with the base path.
        stored: counts what is in the token table now.
        callers_per_second: how fast it can take in new callers; 0: all at once. The local AWS starts a process for
            each call at once, and each of these takes a processor for a third of a second.
    """

    url: str
    credentials: Credentials
    stored: Callable[[], Stored]
    callers_per_second: float = 0


def stored(dynamodb: Any, table: str) -> Stored:
    """Read the whole table."""
    found: Counter[str] = Counter()
    pages = dynamodb.get_paginator("scan").paginate(
        TableName=table, ConsistentRead=True, ProjectionExpression="claims, max_uses"
    )
    for each in pages:
        for item in each["Items"]:
            claims = len(item["claims"]["M"])
            found.update(tokens=1, claims=claims, overspent=claims > int(item["max_uses"]["N"]))
    return Stored(found["tokens"], found["claims"], found["overspent"])


@contextmanager
def local_on_ministack(scratch: Path) -> Iterator[Target]:
    """What `make run` serves: the state is kept on disk, too."""
    with (
        Engine(state_dir=scratch / "state", log=scratch / "ministack.log") as engine,
        _served(with_tables(MINISTACK, engine.client_environ), scratch) as target,
    ):
        yield target


@contextmanager
def local_on_dynamodb_local(scratch: Path) -> Iterator[Target]:
    with OPEN[DYNAMODB_LOCAL](scratch) as engine, _served(engine, scratch) as target:
        yield target


@contextmanager
def _served(engine: StoreEngine, scratch: Path) -> Iterator[Target]:
    with Service(engine.environ, engine.client_store(), scratch / "service.log") as service:
        yield Target(
            service.endpoint_url + BASE_PATH,
            Credentials(service.user, service.password),
            lambda: stored(engine.dynamodb(), engine.token_table),
        )


@contextmanager
def deployed(scratch: Path) -> Iterator[Target]:
    """Gateway, authorizer and functions as CloudFormation makes them of the package, IAM enforced; without a Splunk."""
    with local_aws(scratch / "local-aws.log") as aws:
        stack = Stack(aws, Package.of("dev", scratch / "packages"))
        yield Target(
            stack.url + BASE_PATH,
            stack.add_client("load", "issue", "use", "manage"),
            lambda: stored(aws.client("dynamodb"), stack.outputs["TokenTableName"]),
            callers_per_second=2,
        )


OPEN_TARGET: Final[Mapping[str, Callable[[Path], Any]]] = {
    "local-ministack": local_on_ministack,
    "local-dynamodb-local": local_on_dynamodb_local,
    "deployed": deployed,
}
"""By part: starts everything below the folder, and stops it at the end of the block."""


def climb(part: str, levels: Sequence[int], seconds: float, sound_up_to: int, scratch: Path) -> dict[str, Any]:
    """Run the levels of a target.

    Args:
        levels: callers at once.
        seconds: how long each level takes, when all its callers have begun.
        sound_up_to: callers up to which every answer has to be right. Beyond it the first level with a wrong answer
            is the last one.
    """
    with OPEN_TARGET[part](scratch) as target:
        _level(target, 1, 1, scratch)  # not counted: `make run` calls each operation before it is ready, too
        before, results = target.stored(), []
        for users in levels:
            print(f"{part}: {users} callers", file=sys.stderr)
            results.append(_level(target, users, seconds, scratch))
            if results[-1]["errors"] and users >= sound_up_to:
                break
        return {
            "sound_up_to": sound_up_to,
            "levels": results,
            "verdict": verdict(results, before, target.stored()),
        }


def _level(target: Target, users: int, seconds: float, scratch: Path) -> dict[str, Any]:
    rate, out = target.callers_per_second or users, scratch / f"level-{users}.json"
    command = [sys.executable, "-m", "locust", "--locustfile", str(USERS), "--headless", "--only-summary"]
    command += ["--reset-stats", "--stop-timeout", str(_PATIENCE_SECONDS), "--exit-code-on-error", "0"]
    command += ["--loglevel", "WARNING", "--host", target.url, "--users", str(users), "--spawn-rate", str(rate)]
    command += ["--run-time", f"{round(users / rate + seconds)}s"]
    credentials = {"LOAD_USER": target.credentials.user, "LOAD_PASSWORD": target.credentials.password}
    before, log = cpu_seconds(), scratch / "callers.log"
    with log.open("wb") as file:
        environ = {**os.environ, **credentials, "LOAD_OUT": str(out)}
        run = subprocess.run(command, env=environ, stdout=file, stderr=file, check=False)
    assert run.returncode == 0, log.read_text()[-2000:]
    used, results = cpu_seconds() - before, loads(out.read_text("utf-8"))
    per_call = 1000 / max(1, results["calls"])
    return {
        "users": users,
        **results,
        "cpu_ms_per_call": {role: round(spent * per_call, 2) for role, spent in used.items()},
    }


def cpu_seconds() -> Counter[str]:
    """The processor time of all that this process has started, by role.

    A process whose command names no role has that of its nearest ancestor. One that has ended counts for its parent.
    """
    found: Counter[str] = Counter()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            commands = (" ".join(each.cmdline()) for each in (process, *process.parents()))
            roles = (role for command in commands for part, role in _ROLES.items() if part in command)
            found[next(roles, "others")] += sum(process.cpu_times()[:4])
    return found


def verdict(levels: Sequence[Mapping[str, Any]], before: Stored, after: Stored) -> dict[str, Any]:
    """Whether the table agrees with the answers, which no single answer shows."""
    total: Counter[str] = Counter()
    for level in levels:
        for name in ("calls", "issued", "granted", "unanswered_issues", "unanswered_uses"):
            total[name] += level[name]
        total["errors"] += sum(level["errors"].values())
    tokens, claims = after.tokens - before.tokens, after.claims - before.claims
    return {
        **total,
        "tokens_stored": tokens,
        "claims_stored": claims,
        "overspent": after.overspent,
        # A call without an answer may have been carried out or not; both are right.
        "agrees": after.overspent == 0
        and total["issued"] <= tokens <= total["issued"] + total["unanswered_issues"]
        and total["granted"] <= claims <= total["granted"] + total["unanswered_uses"]
        and claims <= tokens,
    }


def failures(part: Mapping[str, Any]) -> list[str]:
    """A wrong answer where none was expected, and a table that holds something else than was answered, in words."""
    found = [
        f"{sum(level['errors'].values())} wrong answers at {level['users']} callers"
        for level in part["levels"]
        if level["errors"] and level["users"] <= part["sound_up_to"]
    ]
    return found + ["the table holds something else than was answered"] * (not part["verdict"]["agrees"])


def as_markdown(part: Mapping[str, Any]) -> str:
    """The levels, what was wrong, and the verdict."""
    times, roles = ("p50", "p99", "p99.9", "most"), ("service", "functions", "engine")
    head = ["callers", "calls", "wrong", "calls a second", *(f"{name} ms" for name in times)]
    head += ["CPU ms a call: service", *roles[1:]]
    rows = [
        [
            *(level["users"], level["timed"], sum(level["errors"].values()), level["calls_per_second"]),
            *(level["milliseconds"][name] for name in times),
            *(level["cpu_ms_per_call"].get(role, "-") for role in roles),
        ]
        for level in part["levels"]
    ]
    wrong = [
        f"Wrong at {level['users']} callers: {', '.join(f'{name} {number:,}' for name, number in errors.items())}."
        for level in part["levels"]
        if (errors := level["errors"])
    ]
    found = part["verdict"]
    agrees = "agrees with the answers" if found["agrees"] else "DOES NOT AGREE with the answers"
    summary = (
        f"{found['calls']:,} calls, {found['errors']:,} of them answered wrongly. {found['issued']:,} tokens of one "
        f"use were issued and {found['granted']:,} uses granted. The table, read afterwards, holds "
        f"{found['tokens_stored']:,} tokens with {found['claims_stored']:,} claims, and {found['overspent']:,} tokens "
        f"with more claims than uses: it {agrees}."
    )
    return "\n\n".join([page.table(head, rows), *wrong, summary])
