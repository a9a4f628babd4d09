"""`tokenctl client`: client applications and their secrets."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import click
from rich.console import Console

from chalicelib import clients
from chalicelib.audit import timestamp
from chalicelib.clients import Client, Scope
from chalicelib.instants import now
from tokenctl import usage_plan
from tokenctl.deployment import LOCAL_STAGE, Deployment
from tokenctl.errors import aws_errors
from tokenctl.terminal import Terminal, common, fail, plain, table


@click.group()
def client() -> None:
    """Client applications and their secrets."""


def _client_id(_: click.Context, __: click.Parameter, value: str) -> str:
    if not clients.CLIENT_ID.fullmatch(value):
        raise click.BadParameter("1 to 64 letters, digits, '.', '_' and '-', not beginning with a sign")
    return value


def _scopes(_: click.Context, __: click.Parameter, names: Sequence[str]) -> frozenset[Scope]:
    return frozenset(map(Scope, names))


def _names(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """Complete names of the stage's clients; none if they can't be read, since a shell shows no error."""
    try:
        known = Terminal(stage=os.environ.get("STAGE", LOCAL_STAGE)).deployment().client_store().all()
    except Exception:  # noqa: BLE001 - with any error there is nothing to complete
        return []
    return [client.id for client in known if client.id.startswith(begun)]


_NEW_NAME = click.argument("name", callback=_client_id)
_NAME = click.argument("name", callback=_client_id, shell_complete=_names)
_SCOPES = click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    callback=_scopes,
    type=click.Choice([scope.value for scope in Scope]),
    help="A right of the client; repeatable. 'introspect' returns document ids without spending a use.",
)


@client.command("add")
@_NEW_NAME
@_SCOPES
@common
def client_add(terminal: Terminal, name: str, scopes: frozenset[Scope]) -> None:
    """Add a client and print its secret. The secret is printed once and not stored."""
    instant = now()
    secret, stored = clients.new_secret(instant)
    added = Client(name, scopes, (stored,), instant)
    if not terminal.deployment().client_store().add(added):
        fail(f"client {name!r} exists; 'tokenctl client rotate {name}' gives it a new secret")
    _show_secret(terminal, added, secret, instant)


@client.command("list")
@common
def client_list(terminal: Terminal) -> None:
    """List clients, and when their old secrets expire."""
    known = terminal.deployment().client_store().all()
    instant = now()
    facts = [_client_facts(client, instant) for client in known]

    rows = [
        (
            fact["clientId"],
            " ".join(fact["scopes"]),
            plain(fact["state"], "green" if fact["state"] == "active" else "red"),
            f"{fact['oldSecretEndsAt'][:16]}Z" if "oldSecretEndsAt" in fact else "",  # to the minute
        )
        for fact in facts
    ]
    head = ("client", "scopes", "state", "old secret ends")
    terminal.show(facts, lambda console: console.print(table(head, rows)))


@client.command("show")
@_NAME
@common
def client_show(terminal: Terminal, name: str) -> None:
    """Show a client's scopes, state and secrets' dates, never a secret."""
    facts = _client_facts(_existing(terminal.deployment().client_store().find(name), name), now())
    terminal.show(facts)


@client.command("change")
@_NAME
@_SCOPES
@common
def client_change(terminal: Terminal, name: str, scopes: frozenset[Scope]) -> None:
    """Replace a client's scopes."""
    result = f"{name} has the scopes {' '.join(sorted(scopes))}"
    _change(terminal, name, lambda known: known._replace(scopes=scopes), result)


@client.command("rotate")
@_NAME
@click.option(
    "--overlap",
    "hours",
    type=click.IntRange(0, 24 * 30),
    default=24,
    show_default=True,
    help="Hours for which the old secret stays valid; 0 revokes it now.",
)
@common
def client_rotate(terminal: Terminal, name: str, hours: int) -> None:
    """Give a client a new secret. The old one stays valid for a while.

    Enable a disabled client first.
    """
    instant = now()
    secret, stored = clients.new_secret(instant)

    def rotate(known: Client) -> Client:
        if known.disabled_at is not None:
            fail(f"client {name!r} is disabled: run 'tokenctl client enable {name}' first")
        return clients.rotated(known, stored, instant, timedelta(hours=hours))

    changed = terminal.deployment().client_store().change(name, rotate)
    _show_secret(terminal, _existing(changed, name), secret, instant)


@client.command("limit")
@click.argument("names", nargs=-1, shell_complete=_names)
@common
def client_limit(terminal: Terminal, names: Sequence[str]) -> None:
    """Put clients under the stage's limits for each client, all of them if none is named.

    The stage has such limits if it was deployed with ClientRate. A client without a key is then refused (429).
    """
    deployment = terminal.deployment()
    store = deployment.client_store()
    known = [_existing(store.find(name), name) for name in names] if names else store.all()
    with aws_errors("usage plan of the API"):
        limited = usage_plan.enrol(deployment, [client.id for client in known])
    facts = [{"clientId": client.id, "added": client.id in limited} for client in known]
    terminal.show(facts, f"{len(known)} clients have limits of their own, {len(limited)} of them new.")


@client.command("disable")
@_NAME
@common
def client_disable(terminal: Terminal, name: str) -> None:
    """Reject a client's calls until 'enable'.

    The gateway caches the authorizer's decision for AUTHORIZER_TTL_SECONDS.
    """
    instant = now()
    result = f"{name} is disabled"
    _change(terminal, name, lambda known: known._replace(disabled_at=known.disabled_at or instant), result)


@client.command("enable")
@_NAME
@common
def client_enable(terminal: Terminal, name: str) -> None:
    """Accept a disabled client's calls again, with the same scopes and secrets.

    If it was disabled for a leaked secret, rotate at once: 'tokenctl client rotate NAME --overlap 0'.
    """
    _change(terminal, name, lambda known: known._replace(disabled_at=None), f"{name} is enabled")


@client.command("delete")
@_NAME
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@common
def client_delete(terminal: Terminal, name: str, yes: bool) -> None:
    """Delete a client for good; 'disable' can be undone.

    Its tokens stay valid until they expire, and only clients with the scope admin can revoke them. A new client of the
    same name manages them again.
    """
    deployment = terminal.deployment()
    store = deployment.client_store()
    known = _existing(store.find(name), name)
    facts = _client_facts(known, now())
    if not yes:
        terminal.confirm(
            f"Client {name}: {facts['state']}, scopes {' '.join(facts['scopes'])}. Its secrets end with it; the tokens "
            "that it issued do not. Delete it?"
        )
    if not store.delete(known):
        fail(f"client {name!r} was changed in the meantime and is still there: look at it again, then repeat")
    terminal.show({"clientId": name, "deleted": True}, f"{name} is deleted, {_when(deployment)}.")


def _change(terminal: Terminal, name: str, to: Callable[[Client], Client], result: str) -> None:
    deployment = terminal.deployment()
    facts = _client_facts(_existing(deployment.client_store().change(name, to), name), now())
    terminal.show(facts, f"{result}, {_when(deployment)}.")


def _when(deployment: Deployment) -> str:
    """Say when a change of a client takes effect: `make run` has no gateway that caches the authorizer's decision."""
    seconds = 0 if deployment.stage == LOCAL_STAGE else deployment.settings.authorizer_ttl_seconds
    return f"at the latest in {seconds} seconds" if seconds else "from now on"


def _existing(client: Client | None, name: str) -> Client:
    if client is None:
        fail(f"there is no client {name!r}; 'tokenctl client list' shows all")
    return client


def _client_facts(known: Client, instant: datetime) -> dict[str, Any]:
    valid = [secret for secret in known.secrets if secret.valid(instant)]
    facts: dict[str, Any] = {
        "clientId": known.id,
        "scopes": sorted(known.scopes),
        "state": "disabled" if known.disabled_at else "active",
        "validSecrets": len(valid),
        "createdAt": timestamp(known.created_at),
        "secretCreatedAt": timestamp(known.secrets[0].created_at),
    }
    ends = [secret.expires_at for secret in valid if secret.expires_at]
    if ends:
        facts["oldSecretEndsAt"] = timestamp(max(ends))
    if known.disabled_at:
        facts["disabledAt"] = timestamp(known.disabled_at)
    return facts


def _show_secret(terminal: Terminal, known: Client, secret: str, instant: datetime) -> None:
    facts = _client_facts(known, instant)

    def human(_: Console) -> None:
        click.echo(f"client: {known.id}\nscopes: {' '.join(facts['scopes'])}\nsecret: {secret}")
        click.echo("The secret is printed once and not stored.", err=True)
        if "oldSecretEndsAt" in facts:
            click.echo(f"The old secret is valid until {facts['oldSecretEndsAt']}.", err=True)

    terminal.show({**facts, "secret": secret}, human)
