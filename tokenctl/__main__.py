"""`tokenctl`: clients, tokens and tables of a stage, from a terminal."""

from __future__ import annotations

import os
import sys

import click
from botocore.exceptions import BotoCoreError, ClientError
from click.shell_completion import get_completion_class
from pynamodb.exceptions import PynamoDBException

from chalicelib import __version__
from chalicelib.aws.errors import AwsError
from chalicelib.errors import ServiceError, StoreUnavailable
from chalicelib.http import problems
from chalicelib.splunk.errors import SplunkError
from tokenctl import doctor, explain, logs, restore, splunk, stats, tables, tokens
from tokenctl.audit import audit
from tokenctl.clients import client
from tokenctl.cost import cost
from tokenctl.deployment import LOCAL_STAGE
from tokenctl.errors import DeploymentError, advice, described
from tokenctl.terminal import Terminal, common

_PROGRAM = "tokenctl"
_COMPLETION = "_TOKENCTL_COMPLETE"
"""The variable by which a shell asks for completions; click makes its name from the program's."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name=_PROGRAM)
@common
def cli(_: Terminal) -> None:
    """Operate the token service: its clients, tokens and tables.

    STAGE or --stage names the stage. Default: `local`, which `make run` serves.
    """


@cli.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print SHELL's completion of commands, options, stages and clients: source <(tokenctl completion bash)."""
    completion_class = get_completion_class(shell)
    assert completion_class is not None  # noqa: S101 - the choice knows no other
    click.echo(completion_class(cli, {}, _PROGRAM, _COMPLETION).source())


for _command in (
    *(client, tokens.token, explain.explain, stats.stats, audit, tables.tables, logs.logs, splunk.splunk),
    *(doctor.doctor, restore.restore, cost),
):
    cli.add_command(_command)


def main() -> None:
    """Run the command line; print each error as one line that says what to do about it."""
    terminal = Terminal(stage=os.environ.get("STAGE", LOCAL_STAGE))
    try:
        cli(prog_name=_PROGRAM, obj=terminal)
    except (DeploymentError, SplunkError) as error:
        _end(str(error), terminal)
    except (StoreUnavailable, AwsError, PynamoDBException, BotoCoreError, ClientError) as error:
        _end(f"no response from the store: {described(error)}; {advice(error, terminal.stage)}", terminal)
    except ServiceError as error:
        _end(problems.detail(error), terminal)
    except OSError as error:
        _end(f"{error.filename or 'input or output'}: {error.strerror}", terminal)


def _end(message: str, terminal: Terminal) -> None:
    click.echo(f"Error: {message}", err=True)
    sys.exit(terminal.failure_status)


if __name__ == "__main__":
    main()
