"""`tokenctl`: clients, tokens and tables of a stage, from a terminal."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from pynamodb.exceptions import PynamoDBException
from rich.console import Console
from rich.table import Table

from chalicelib import __version__, clients, schemas
from chalicelib.audit import Audit, timestamp
from chalicelib.clients import Client, Scope
from chalicelib.problems import Problem, StoreUnavailable
from chalicelib.runtime import now
from chalicelib.service import Caller, TokenService
from tokenctl import doctor as doctor_
from tokenctl import logs as logs_
from tokenctl import openapi as openapi_
from tokenctl import splunk as splunk_
from tokenctl import tables as tables_
from tokenctl.costs import command as costs
from tokenctl.deployment import LOCAL_STAGE, Deployment, DeploymentError
from tokenctl.terminal import Terminal, common, plain

_DEFAULT_OVERLAP_HOURS = 24


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tokenctl")
@common
@click.pass_context
def cli(context: click.Context) -> None:
    """Look after the token service: its clients, tokens and tables.

    The stage is `local` (what `make run` serves) unless STAGE or --stage says otherwise.
    """


@cli.group()
def client() -> None:
    """Dependent applications and their secrets."""


def _client_id(_: click.Context, __: click.Parameter, value: str) -> str:
    if not clients.CLIENT_ID.fullmatch(value):
        raise click.BadParameter("1 to 64 letters, digits, '.', '_' and '-', not beginning with a sign")
    return value


_NAME = click.argument("name", callback=_client_id)


@client.command("add")
@_NAME
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="May be repeated.",
)
@common
@click.pass_obj
def client_add(terminal: Terminal, name: str, scopes: Sequence[str]) -> None:
    """Make a client. Its secret is printed once and kept nowhere."""
    instant = now()
    secret, kept = clients.new_secret(instant)
    made = Client(name, frozenset(Scope(scope) for scope in scopes), (kept,), instant)
    if not terminal.deployment().client_store().add(made):
        _fail(f"there is a client {name!r} already; 'tokenctl client rotate {name}' gives it a new secret")
    _show_secret(terminal, made, secret)


@client.command("list")
@common
@click.pass_obj
def client_list(terminal: Terminal) -> None:
    """List clients, their scopes and how many secrets are valid."""
    known = terminal.deployment().client_store().all()
    instant = now()
    facts = [_client_facts(each, instant) for each in known]

    def human(console: Console) -> None:
        rows = [
            (
                fact["clientId"],
                " ".join(fact["scopes"]),
                fact["state"],
                str(fact["validSecrets"]),
                fact["createdAt"],
            )
            for fact in facts
        ]
        console.print(_table(["client", "scopes", "state", "valid secrets", "created"], rows))

    terminal.show(facts, human)


def _a_number(_: click.Context, __: click.Parameter, value: float) -> float:
    if math.isnan(value):
        raise click.BadParameter("not a number")
    return value


@client.command("rotate")
@_NAME
@click.option(
    "--overlap",
    "hours",
    type=click.FloatRange(0, 24 * 30),
    callback=_a_number,
    default=_DEFAULT_OVERLAP_HOURS,
    show_default=True,
    help="Hours for which the old secret stays valid; 0: it ends now.",
)
@common
@click.pass_obj
def client_rotate(terminal: Terminal, name: str, hours: float) -> None:
    """Give a client a new secret. The old one stays valid for a while, so that nothing stops."""
    instant = now()
    secret, kept = clients.new_secret(instant)

    def rotate(known: Client) -> Client:
        return clients.rotated(known, kept, instant, timedelta(hours=hours))

    changed = terminal.deployment().client_store().change(name, rotate)
    _show_secret(terminal, _there(changed, name), secret)


@client.command("disable")
@_NAME
@common
@click.pass_obj
def client_disable(terminal: Terminal, name: str) -> None:
    """Refuse a client from now on; the gateway forgets what it allowed within AUTHORIZER_TTL_SECONDS."""
    instant = now()
    deployment = terminal.deployment()
    changed = deployment.client_store().change(
        name, lambda known: replace(known, disabled_at=known.disabled_at or instant)
    )
    facts = _client_facts(_there(changed, name), instant)
    seconds = deployment.settings.authorizer_ttl_seconds
    terminal.show(facts, lambda console: console.print(f"{name} is refused, at the latest in {seconds} seconds."))


@cli.group()
def token() -> None:
    """Single tokens."""


def _token_id(_: click.Context, __: click.Parameter, value: str) -> str:
    if not schemas.TOKEN_ID.fullmatch(value):
        raise click.BadParameter("a token id is tok_ and 32 hex characters; never give a token itself")
    return value


_TOKEN_ID = click.argument("token_id", metavar="ID", callback=_token_id)


@token.command("show")
@_TOKEN_ID
@common
@click.pass_obj
def token_show(terminal: Terminal, token_id: str) -> None:
    """Show a token's limits and uses; never the token, never the node id."""
    service = _service(terminal.deployment())
    found = service.status(_OPERATOR, token_id)
    facts = msgspec.to_builtins(schemas.status_answer(found, service.counts_as_revoked(found)))
    terminal.show(facts, lambda console: console.print(_facts_table(facts)))


@token.command("revoke")
@_TOKEN_ID
@common
@click.pass_obj
def token_revoke(terminal: Terminal, token_id: str) -> None:
    """Revoke a token; it does not matter whether it was revoked before."""
    if not _service(terminal.deployment()).revoke(_OPERATOR, token_id):
        _fail(f"there is no token {token_id}; it may have been deleted, days after it expired")
    terminal.show({"tokenId": token_id, "revoked": True}, lambda console: console.print(f"{token_id} is revoked."))


@cli.group("tables")
def tables() -> None:
    """The tables of a stage."""


@tables.command("create")
@common
@click.pass_obj
def tables_create(terminal: Terminal) -> None:
    """Make the tables that are missing, with TTL, on-demand billing and point-in-time recovery."""
    done = tables_.create(terminal.deployment())
    terminal.show(done, lambda console: console.print(_facts_table(done)))


@cli.group("logs")
def logs() -> None:
    """The logs of a stage that `chalice deploy` makes; CloudFormation's stages have it all."""


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
            advice = "" if found.well else f"\n          {found.advice}"
            console.print(f"{mark:>20}  ", plain(f"{found.what}: {found.seen}{advice}"), sep="")

    terminal.show([msgspec.to_builtins(found) for found in findings], human)
    if not all(found.well for found in findings):
        sys.exit(1)


@cli.command("openapi")
@click.argument("path", type=click.Path(dir_okay=False, writable=True, path_type=Path), required=False)
def openapi(path: Path | None) -> None:
    """Write the OpenAPI document to PATH, or print it."""
    text = openapi_.document_text()
    if path is None:
        click.echo(text, nl=False)
    else:
        path.write_text(text, "utf-8")


cli.add_command(costs.cost)
cli.add_command(splunk_.splunk)


_OPERATOR = Caller("tokenctl", frozenset(Scope), "tokenctl")


def _service(deployment: Deployment) -> TokenService:
    """The service's own rules on the stage's store; audit events of what an operator does go to standard error."""
    audit = Audit(deployment.stage, __version__, lambda line: click.echo(line, err=True))
    return TokenService(deployment.token_store(), audit, now, deployment.settings.tokens_issued_after)


def _there(found: Client | None, name: str) -> Client:
    if found is None:
        _fail(f"there is no client {name!r}; 'tokenctl client list' shows all")
    return found


def _fail(message: str) -> NoReturn:
    raise click.ClickException(message)


def _client_facts(known: Client, instant: datetime) -> dict[str, Any]:
    valid = [kept for kept in known.secrets if kept.valid(instant)]
    return {
        "clientId": known.id,
        "scopes": sorted(known.scopes),
        "state": "disabled" if known.disabled_at else "active",
        "validSecrets": len(valid),
        "createdAt": timestamp(known.created_at),
    }


def _show_secret(terminal: Terminal, known: Client, secret: str) -> None:
    def human(_: Console) -> None:
        click.echo(f"client: {known.id}\nscopes: {' '.join(sorted(known.scopes))}\nsecret: {secret}")
        click.echo("The secret is shown this once and kept nowhere.", err=True)

    terminal.show({**_client_facts(known, now()), "secret": secret}, human)


def _show_done(terminal: Terminal, done: Mapping[str, str]) -> None:
    """A line each and no table: that would cut long names off."""
    lines = [f"{name}: {what}" for name, what in done.items()]
    terminal.show(done, lambda console: console.print(plain("\n".join(lines))))


def _facts_table(facts: Mapping[str, Any]) -> Table:
    return _table(
        [],
        [(name, json.dumps(fact) if isinstance(fact, list) else str(fact)) for name, fact in facts.items()],
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*head, show_header=bool(head), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(plain(cell) for cell in row))
    return table


def main() -> None:
    """Run the command line; whatever goes wrong is told in one line."""
    try:
        cli(prog_name="tokenctl", obj=Terminal(stage=os.environ.get("STAGE", LOCAL_STAGE)))
    except DeploymentError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except (StoreUnavailable, PynamoDBException, BotoCoreError, ClientError) as error:
        click.echo(f"Error: the store gave no answer ({_cause(error)}); 'tokenctl doctor' looks further", err=True)
        sys.exit(1)
    except Problem as error:
        click.echo(f"Error: {error.detail}", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"Error: {error.filename or 'input or output'}: {error.strerror}", err=True)
        sys.exit(1)


def _cause(error: BaseException) -> str:
    """What lies at the bottom: DynamoDB's own word for it, or the name of the error."""
    while below := getattr(error, "cause", None) or error.__cause__:
        error = below
    code: str = getattr(error, "response", {}).get("Error", {}).get("Code", "")
    return code or type(error).__name__


if __name__ == "__main__":
    main()
