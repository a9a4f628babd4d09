"""What all commands share: `--stage`, `--json`, and how results are printed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from chalicelib.instants import now
from tokenctl.deployment import LOCAL_STAGE, Deployment, open_stage, stages

_ENDLESS: Final = 100_000  # columns
_AGO: Final = re.compile(r"([0-9]{1,6})([mhd])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}

T = TypeVar("T")
Advance: TypeAlias = Callable[[], object]


@dataclass(slots=True)
class Terminal:
    """The options that all commands have."""

    stage: str = LOCAL_STAGE
    as_json: bool = False
    failure_status: int = 1
    """The exit status after an error."""

    def deployment(self) -> Deployment:
        return open_stage(self.stage)

    def show(self, facts: Any, human: Callable[[Console], object] | str | None = None) -> None:
        """Print facts with `--json`; else what `human` prints, or its text, or a table of the facts."""
        if self.as_json:
            click.echo(printable_json(json.dumps(facts, indent=2, ensure_ascii=False)))
        elif callable(human):
            human(_console())
        else:
            _console().print(facts_table(facts) if human is None else plain(human))

    def confirm(self, question: str) -> None:
        """Ask for confirmation; "no" ends the command.

        Raises:
            click.UsageError: nobody can answer.
        """
        if self.as_json:
            raise click.UsageError("--json can't ask for confirmation: add --yes")
        if not sys.stdin.isatty():
            raise click.UsageError("standard input is no terminal, so nobody can confirm: add --yes")
        click.confirm(question, abort=True, err=True)

    @contextmanager
    def progress(self, what: str, total: int | None) -> Iterator[Advance]:
        """Show the progress of long work on standard error, at a terminal only.

        Args:
            what: label.
            total: number of steps, perhaps roughly; None means unknown.

        Yields:
            The function to call after each step.
        """
        console = Console(stderr=True)
        shown = console.is_terminal and not self.as_json and total != 0
        with Progress(console=console, transient=True, disable=not shown) as bar:
            task = bar.add_task(escape(what), total=total)
            yield lambda: bar.advance(task)

    def tracked(self, steps: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """Yield the steps, and show how far they are."""
        with self.progress(what, total) as advance:
            for step in steps:
                yield step
                advance()


class Instant(click.ParamType[datetime]):
    """RFC 3339 with an offset, or how long ago: `30m`, `2h`, `3d`."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        ago = _AGO.fullmatch(str(value))
        try:
            instant = now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])}) if ago else datetime.fromisoformat(str(value))
        except (ValueError, OverflowError):
            instant = None
        if instant is None or instant.tzinfo is None:
            self.fail("give an instant as 2026-01-31T12:00:00Z, or how long ago it was as 30m, 2h or 3d", param, ctx)
        return instant


def read_secret(prompt: str) -> str:
    """Read a line of standard input. At a terminal, prompt for it and turn the echo off."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    return str(click.prompt(prompt, default="", hide_input=True, show_default=False, err=True))


def _console() -> Console:
    """Return standard output. Lines are wrapped at a terminal only."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _ENDLESS
    return console


def plain(text: str, style: str = "") -> Text:
    """Return a text without markup, its control characters escaped."""
    return Text("".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text), style)


def printable_json(text: str) -> str:
    """Escape in JSON each character that a terminal acts on; parsers read the same values."""
    return "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))


def table(head: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> Table:
    """Return rows in columns, without empty columns.

    Args:
        head: a name for each column; if all are empty, no head is printed.
    """
    used = [place for place in range(len(head)) if not rows or any(str(row[place]) for row in rows)]
    grid = Table(box=None, pad_edge=False, show_header=any(head), header_style="bold")
    for place in used:
        grid.add_column(head[place], overflow="fold")
    for row in rows:
        grid.add_row(*(cell if isinstance(cell, Text) else plain(cell) for cell in (row[place] for place in used)))
    return grid


def facts_table(facts: Mapping[str, Any]) -> Table:
    return table(
        ("", ""),
        [(plain(name, "bold"), _in_words(fact)) for name, fact in facts.items()],
    )


def _in_words(fact: Any) -> str:
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, list) and all(isinstance(member, str) for member in fact):
        return ", ".join(fact)
    return json.dumps(fact, ensure_ascii=False) if isinstance(fact, list) else str(fact)


def clock(at: str) -> str:
    """Return a time stamp for people, still in UTC."""
    return at.replace("T", " ").removesuffix("Z")


def fail(message: str) -> NoReturn:
    """End the command with one line: what is wrong, and what to do."""
    raise click.ClickException(message)


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--stage` and `--json` to a command or group, and pass the terminal; the nearest option counts."""

    def set_stage(context: click.Context, _: click.Parameter, value: str | None) -> None:
        terminal = context.ensure_object(Terminal)
        terminal.stage = value or terminal.stage

    def set_json(context: click.Context, _: click.Parameter, value: bool) -> None:
        terminal = context.ensure_object(Terminal)
        terminal.as_json = value or terminal.as_json

    stage = click.option(
        "--stage",
        expose_value=False,
        callback=set_stage,
        metavar="NAME",
        help="Stage to work on.",
        shell_complete=lambda _context, _option, begun: [name for name in stages() if name.startswith(begun)],
    )
    as_json = click.option("--json", is_flag=True, expose_value=False, callback=set_json, help="Print JSON.")
    return stage(as_json(click.pass_obj(function)))
