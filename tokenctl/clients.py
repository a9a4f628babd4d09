"""`tokenctl client`: dependent applications and their secrets."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import click
from rich.console import Console

from chalicelib import clients
from chalicelib.audit import timestamp
from chalicelib.clients import Client, Scope
from chalicelib.runtime import now
from tokenctl.deployment import LOCAL_STAGE
from tokenctl.terminal import Terminal, common, fail, plain, table

_DEFAULT_OVERLAP_HOURS = 24


@click.group()
def client() -> None:
    """Dependent applications and their secrets."""


def _client_id(_: click.Context, __: click.Parameter, value: str) -> str:
    if not clients.CLIENT_ID.fullmatch(value):
        raise click.BadParameter("1 to 64 letters, digits, '.', '_' and '-', not beginning with a sign")
    return value


def _names(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """The clients of the stage, where a shell asks for them; it can't be told what went wrong."""
    try:
        known = Terminal(stage=os.environ.get("STAGE", LOCAL_STAGE)).deployment().client_store().all()
    except Exception:  # noqa: BLE001 - whatever it is, there is nothing to complete
        return []
    return [each.id for each in known if each.id.startswith(begun)]


_NEW_NAME = click.argument("name", callback=_client_id)
_NAME = click.argument("name", callback=_client_id, shell_complete=_names)


@client.command("add")
@_NEW_NAME
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
        fail(f"there is a client {name!r} already; 'tokenctl client rotate {name}' gives it a new secret")
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
                plain(fact["state"], "green" if fact["state"] == "active" else "red"),
                str(fact["validSecrets"]),
                fact["createdAt"],
            )
            for fact in facts
        ]
        console.print(table(["client", "scopes", "state", "valid secrets", "created"], rows))

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
    # `make run` has no gateway that keeps what the authorizer said.
    seconds = 0 if deployment.stage == LOCAL_STAGE else deployment.settings.authorizer_ttl_seconds
    when = f"at the latest in {seconds} seconds" if seconds else "from now on"
    terminal.show(facts, lambda console: console.print(f"{name} is refused, {when}."))


def _there(found: Client | None, name: str) -> Client:
    if found is None:
        fail(f"there is no client {name!r}; 'tokenctl client list' shows all")
    return found


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
