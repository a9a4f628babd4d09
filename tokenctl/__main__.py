"""`tokenctl`: clients, tokens and tables of a stage, from a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime

import click
import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from click.shell_completion import get_completion_class
from pynamodb.exceptions import PynamoDBException
from rich.console import Console

from chalicelib import __version__
from chalicelib.aws.errors import AwsError
from chalicelib.errors import ServiceError, StoreUnavailable
from chalicelib.http import problems
from chalicelib.instants import now
from tokenctl import doctor as doctor_
from tokenctl import logs as logs_
from tokenctl import resend as resend_
from tokenctl import restore as restore_
from tokenctl import splunk as splunk_
from tokenctl import tables as tables_
from tokenctl import tokens
from tokenctl.clients import client
from tokenctl.costs import command as costs
from tokenctl.deployment import LOCAL_STAGE, DeploymentError
from tokenctl.terminal import Instant, Terminal, common, facts_table, plain, table
from tokenctl.trouble import advice, cause

_PROGRAM = "tokenctl"
_COMPLETION = "_TOKENCTL_COMPLETE"
"""The variable by which a shell asks for completions; click makes its name from the program's."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name=_PROGRAM)
@common
@click.pass_context
def cli(context: click.Context) -> None:
    """Look after the token service: its clients, tokens and tables.

    The stage is `local` (what `make run` serves) unless STAGE or --stage says otherwise.
    """


@cli.group("tables")
def tables() -> None:
    """The tables of a stage."""


@tables.command("create")
@common
@click.pass_obj
def tables_create(terminal: Terminal) -> None:
    """Make the tables that are missing, with TTL, on-demand billing and point-in-time recovery."""
    done = tables_.create(terminal.deployment())
    terminal.show(done, lambda console: console.print(facts_table(done)))


@cli.group("logs")
def logs() -> None:
    """Log groups: search them; make what a stage by `chalice deploy` lacks."""


@logs.command("create")
@click.option(
    "--days",
    type=click.Choice([str(days) for days in logs_.RETENTIONS]),
    metavar="DAYS",
    help="How long log events are kept; else 90 days in prod and 14 elsewhere.",
)
@common
@click.pass_obj
def logs_create(terminal: Terminal, days: str | None) -> None:
    """Make the log groups and the failure bucket that are missing, before `chalice deploy`."""
    _show_done(terminal, logs_.create(terminal.deployment(), int(days) if days else None))


@logs.command("subscribe")
@common
@click.pass_obj
def logs_subscribe(terminal: Terminal) -> None:
    """Let the log forwarder have the logs, and keep what it fails at, after `chalice deploy`."""
    _show_done(terminal, logs_.subscribe(terminal.deployment()))


def _log_groups(_: click.Context, __: click.Parameter, value: str) -> list[str]:
    names = value.split(",")
    if not set(names) <= set(logs_.LOG_GROUPS):
        raise click.BadParameter(f"{value!r} is not one or more of {', '.join(logs_.LOG_GROUPS)}, with commas between")
    return names


@logs.command("query")
@click.argument("groups", metavar="GROUP[,GROUP…]", callback=_log_groups)
@click.argument("text", metavar="QUERY")
@click.option("--since", type=Instant(), default="1h", show_default=True, help="RFC 3339, or 30m, 2h, 3d ago.")
@click.option("--until", type=Instant(), help="The same; else now.")
@common
@click.pass_obj
def logs_query(terminal: Terminal, groups: Sequence[str], text: str, since: datetime, until: datetime | None) -> None:
    """Search log groups with a QUERY in the language of CloudWatch Logs Insights.

    A GROUP is 'access', 'api', 'authorizer', 'events' or 'forwarder'.
    """
    rows = logs_.query(terminal.deployment(), groups, text, since, until or now())
    columns = list(dict.fromkeys(name for row in rows for name in row))

    def human(console: Console) -> None:
        if rows:
            console.print(table(columns, [[row.get(name, "") for name in columns] for row in rows]))
        else:
            console.print("Nothing found.")

    terminal.show(rows, human)


@cli.command("doctor")
@click.option("--url", metavar="URL", help="Where the service answers, up to and without /tokenservice.")
@common
@click.pass_obj
def doctor(terminal: Terminal, url: str | None) -> None:
    """Look a stage over: tables, TTL, recovery, service, credentials."""
    findings = list(doctor_.examine(terminal.deployment(), url.rstrip("/") if url else None))

    def human(console: Console) -> None:
        for found in findings:
            mark = "[green]well[/]" if found.well else "[red]NOT WELL[/]"
            told = "" if found.well else f"\n          {found.advice}"
            console.print(f"{mark:>20}  ", plain(f"{found.what}: {found.seen}{told}"), sep="")

    terminal.show([msgspec.to_builtins(found) for found in findings], human)
    if not all(found.well for found in findings):
        sys.exit(1)


@cli.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands, options, stages and clients: source <(tokenctl completion bash)."""
    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - the choice knows no other
    click.echo(made(cli, {}, _PROGRAM, _COMPLETION).source())


for _command in (client, tokens.token, tokens.explain, tokens.stats, restore_.restore, costs.cost, splunk_.splunk):
    cli.add_command(_command)
splunk_.splunk.add_command(resend_.resend)


def _show_done(terminal: Terminal, done: Mapping[str, str]) -> None:
    """A line each and no table: that would break long names."""
    lines = [f"{name}: {what}" for name, what in done.items()]
    terminal.show(done, lambda console: console.print(plain("\n".join(lines))))


def main() -> None:
    """Run the command line; whatever goes wrong is told in one line, with what to do about it."""
    terminal = Terminal(stage=os.environ.get("STAGE", LOCAL_STAGE))
    try:
        cli(prog_name=_PROGRAM, obj=terminal)
    except DeploymentError as error:
        _end(str(error))
    except (StoreUnavailable, AwsError, PynamoDBException, BotoCoreError, ClientError) as error:
        _end(f"no response from the store ({cause(error)}): {advice(error, terminal.stage)}")
    except ServiceError as error:
        _end(problems.detail(error))
    except OSError as error:
        _end(f"{error.filename or 'input or output'}: {error.strerror}")


def _end(message: str) -> None:
    click.echo(f"Error: {message}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
