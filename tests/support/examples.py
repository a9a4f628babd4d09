"""The examples of the README, the documents and the API reference, unchanged."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from deploy.reference import DOCUMENT
from dev.engine import ROOT

WITHOUT_NODE = "not run with Node: "
SHOWN_AT = "http://127.0.0.1:8000"
"""Where `make run` serves; the tests put their own address in its place."""

_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_PROGRAM = re.compile(r"^```(python|java)\n(.*?)^```\n(?:```\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Program:
    """A program of a document.

    Attributes:
        where: file or operation, for the message of a failure.
        shown: its output, if the document has it.
    """

    where: str
    language: str
    source: str
    shown: str | None = None

    @property
    def class_name(self) -> str:
        """What a Java program is called."""
        found = re.search(r"^class (\w+)", self.source, re.MULTILINE)
        assert found is not None, self.where
        return found[1]


@dataclass(frozen=True)
class Session:
    """Commands in order, and the output of the terminal."""

    where: str
    commands: list[str]
    shown: str


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each block of code."""
    for _, language, block in _BLOCK.findall(path.read_text("utf-8")):
        yield language, textwrap.dedent(block)


def sessions() -> list[Session]:
    """The console of each document that has one: all its blocks, in their order."""
    typed = {path: "".join(text for language, text in blocks(path) if language == "console") for path in documents()}
    return [_session(path, text) for path, text in typed.items() if text]


def _session(path: Path, typed: str) -> Session:
    commands: list[str] = []
    shown = ""
    for step in re.split(r"^\$ ", typed.replace("\\\n> ", "\\\n"), flags=re.MULTILINE)[1:]:
        lines = step.split("\n")
        last = next(place for place, line in enumerate(lines) if not line.endswith("\\"))
        commands += lines[: last + 1]
        shown += "".join(f"{line}\n" for line in lines[last + 1 :] if line)
    return Session(str(path.relative_to(ROOT)), commands, shown)


def programs() -> list[Program]:
    """The programs of the documents, each with the output that follows it."""
    return [
        Program(str(path.relative_to(ROOT)), language, source, shown or None)
        for path in documents()
        for language, source, shown in _PROGRAM.findall(path.read_text("utf-8"))
    ]


def samples() -> list[Program]:
    """The samples of the API reference, in the order of its operations."""
    return [
        Program(f"{operation['operationId']}, {sample['label']}", sample["lang"].lower(), sample["source"])
        for operation in operations()
        for sample in operation["x-codeSamples"]
    ]


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document as its readers have it."""
    loaded: dict[str, Any] = json.loads(DOCUMENT.read_text("utf-8"))
    return loaded


def operations() -> Iterator[dict[str, Any]]:
    for methods in document()["paths"].values():
        yield from methods.values()
