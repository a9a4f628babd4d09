"""What every command has in common: `--stage`, `--json`, and how a result is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from tokenctl.deployment import LOCAL_STAGE, Deployment, open_stage


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
            click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        else:
            human(Console(soft_wrap=True, highlight=False))


def plain(text: str) -> Text:
    """A text as it is: no markup in it counts, and no control character reaches the terminal."""
    return Text("".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text))


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command or group `--stage` and `--json`; what stands nearest to the command counts."""

    def set_stage(context: click.Context, _: click.Parameter, value: str | None) -> None:
        terminal = context.ensure_object(Terminal)
        terminal.stage = value or terminal.stage

    def set_json(context: click.Context, _: click.Parameter, value: bool) -> None:
        terminal = context.ensure_object(Terminal)
        terminal.as_json = value or terminal.as_json

    stage = click.option("--stage", expose_value=False, callback=set_stage, metavar="NAME", help="Stage to work on.")
    as_json = click.option("--json", is_flag=True, expose_value=False, callback=set_json, help="Print JSON.")
    return stage(as_json(function))
