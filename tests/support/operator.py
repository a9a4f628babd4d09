"""What an operator types, and how `tokenctl` answers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

ABSENT_ID: Final = "tok_" + "0" * 32


@dataclass(frozen=True)
class Run:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def assert_refused(self, *words: str, code: int = 1) -> None:
        """It failed with one line on standard error that says these words, and printed nothing else."""
        assert self.code == code, self.out + self.err
        assert self.out == ""
        lines = [line for line in self.err.splitlines() if line]
        if code == 2:  # click tells the usage before
            lines = [line for line in lines if not line.startswith(("Usage:", "Try "))]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("Error: ")
        for word in words:
            assert word in lines[0]


Tokenctl = Callable[..., Run]


class Typed(io.StringIO):
    """What a person types at a terminal."""

    def isatty(self) -> bool:
        return True


def switch_ttl(dynamodb: Any, table: str, *, on: bool) -> None:
    specification = {"Enabled": on, "AttributeName": "purge_at"}
    dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=specification)
