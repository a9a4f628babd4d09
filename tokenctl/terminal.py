"""What every command has in common: `--stage`, `--json`, and how a result is shown."""

from __future__ import annotations

import json
import re
import sys
import termios
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
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
    """What the options that every command has say."""

    stage: str = LOCAL_STAGE
    as_json: bool = False

    def deployment(self) -> Deployment:
        return open_stage(self.stage)

    def show(self, facts: Any, human: Callable[[Console], object]) -> None:
        """Print a result: as JSON for programs, or as a person likes to read it."""
        if self.as_json:
            click.echo(printable_json(json.dumps(facts, indent=2, ensure_ascii=False)))
        else:
            human(_console())

    def confirm(self, question: str) -> None:
        """Ask whether to go on; no ends the command.

        Raises:
            click.UsageError: there is nobody to ask.
        """
        if self.as_json:
            raise click.UsageError("--json can't ask whether to go on: add --yes")
        if not sys.stdin.isatty():
            raise click.UsageError("standard input is no terminal, so nobody can be asked whether to go on: add --yes")
        click.confirm(question, abort=True, err=True)

    @contextmanager
    def progress(self, what: str, total: int | None) -> Iterator[Advance]:
        """Show on standard error how far a long work is; programs see nothing of it.

        Args:
            what: is being done.
            total: how many steps there are, perhaps roughly; None: nobody knows.

        Yields:
            What is to be called after each step.
        """
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        shown = console.is_terminal and not self.as_json and total != 0
        with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
            task = bar.add_task(what, total=total)
            yield lambda: bar.advance(task)


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
    """Read a line of standard input. At a terminal, ask for it and do not show what is typed."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    with _without_echo():
        click.echo(f"{prompt}: ", nl=False, err=True)
        line = sys.stdin.readline()
    click.echo(err=True)
    return line.rstrip("\r\n")


@contextmanager
def _without_echo() -> Iterator[None]:
    """Not getpass: it discards what was typed or pasted before its prompt, and reads another input than `confirm`."""
    try:
        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
    except (OSError, termios.error):
        yield  # a terminal that can't hide anything
        return
    hidden = before.copy()
    hidden[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSADRAIN, hidden)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def tracked(steps: Iterable[T], advance: Advance) -> Iterator[T]:
    """The steps as they are, each told to the progress bar when it is done."""
    for step in steps:
        yield step
        advance()


def _console() -> Console:
    """Standard output. Lines are folded for a person's eyes alone: what goes into a pipe stays whole."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _ENDLESS
    return console


def plain(text: str, style: str = "") -> Text:
    """A text as it is: no markup in it counts, and no control character reaches the terminal."""
    return Text("".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text), style)


def printable_json(text: str) -> str:
    """The same JSON without a character that a terminal acts on; parsers read the same values from it."""
    return "".join(each if each.isprintable() or each == "\n" else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))


def table(head: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> Table:
    """Rows in columns, without the columns in which nothing stands.

    Args:
        head: a name for each column; all of them empty: the head is not shown.
    """
    used = [place for place in range(len(head)) if not rows or any(str(row[place]) for row in rows)]
    made = Table(box=None, pad_edge=False, show_header=any(head), header_style="bold")
    for place in used:
        made.add_column(head[place], overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else plain(cell) for cell in (row[place] for place in used)))
    return made


def facts_table(facts: Mapping[str, Any]) -> Table:
    """Names beside their values."""
    return table(
        ("", ""),
        [(plain(name, "bold"), _in_words(fact)) for name, fact in facts.items()],
    )


def _in_words(fact: Any) -> str:
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, list) and all(isinstance(each, str) for each in fact):
        return ", ".join(fact)
    return json.dumps(fact, ensure_ascii=False) if isinstance(fact, list) else str(fact)


def fail(message: str) -> NoReturn:
    """End the command with one line that says what is wrong, and what to do."""
    raise click.ClickException(message)


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command or group `--stage` and `--json`; what stands nearest to the command counts."""

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
    return stage(as_json(function))
