"""`tokenctl token`: show tokens, and revoke them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import click
import msgspec

from chalicelib import __version__
from chalicelib.audit import Audit
from chalicelib.clients import Scope
from chalicelib.http import conversion, parsing, schemas
from chalicelib.http.problems import InvalidRequest
from chalicelib.instants import now
from chalicelib.service import Caller, TokenService
from chalicelib.tokens import Document
from tokenctl.deployment import Deployment
from tokenctl.terminal import Terminal, common, fail, read_secret
from tokenctl.trail import Record, open_trail

_OPERATOR: Final = Caller("tokenctl", frozenset(Scope), "tokenctl")


@click.group()
def token() -> None:
    """Tokens: one, or all of a user or a document."""


def _token_id(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not schemas.TOKEN_ID.fullmatch(value):
        raise click.BadParameter("a token id is tok_ and 32 hex characters; never pass a token itself")
    return value


TOKEN_ID = click.argument("token_id", metavar="ID", callback=_token_id)


@token.command("show")
@TOKEN_ID
@common
def show(terminal: Terminal, token_id: str) -> None:
    """Show a token's limits and uses, never the token or the document's id."""
    with _service(terminal.deployment()) as service:
        status = service.status(_OPERATOR, token_id)
        facts = msgspec.to_builtins(conversion.status_answer(status, service.counts_as_revoked(status)))
    terminal.show(facts)


@token.command("revoke")
@click.argument("token_id", metavar="[ID]", callback=_token_id, required=False)
@click.option("--user", metavar="USER", help="Revoke every live token that is bound to this user.")
@click.option("--node", metavar="NODE", help="Revoke every live token of this document; '-' reads its id from input.")
@click.option(
    "--same-node-as",
    "sibling",
    metavar="ID",
    callback=_token_id,
    help="Revoke every live token of the document that this token is for. The document's id is not shown.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@common
def revoke(
    terminal: Terminal, *, token_id: str | None, user: str | None, node: str | None, sibling: str | None, yes: bool
) -> None:
    """Revoke a token, or all live tokens of a user or a document. Idempotent.

    A document's id is secret: '--node -' prompts for it, or reads it from a pipe, and keeps it out of the shell's
    history; '--same-node-as' does without it.
    """
    if sum(given is not None for given in (token_id, user, node, sibling)) != 1:
        raise click.UsageError("give one of ID, --user, --node and --same-node-as")
    if sibling is not None:
        stored = terminal.deployment().token_store().find(sibling) or _no_token(sibling)
        document = stored.terms.document
        _revoke_all(terminal, {"node_id": document.node_id if isinstance(document, Document) else document}, yes)
        return
    if token_id is None:
        _revoke_all(terminal, _whose(read_secret("Document id") if node == "-" else node, user), yes)
        return
    with _service(terminal.deployment()) as service:
        if not service.revoke(_OPERATOR, token_id):
            _no_token(token_id)
    terminal.show({"tokenId": token_id, "revoked": True}, f"{token_id} is revoked.")


def _no_token(token_id: str) -> NoReturn:
    fail(f"there is no token {token_id}; it may have been deleted, days after it expired")


def _whose(node_id: str | None, user: str | None) -> dict[str, str]:
    """Parse a document's id or a user as the API does."""
    given = {name: [value] for name, value in (("nodeId", node_id), ("user", user)) if value is not None}
    try:
        return parsing.parse_query(given, schemas.RevokeRequest, conversion.to_revocation)
    except InvalidRequest as invalid:
        raise click.UsageError(str(invalid)) from None


def _revoke_all(terminal: Terminal, whose: Mapping[str, Any], yes: bool) -> None:
    deployment = terminal.deployment()
    count = sum(1 for _ in deployment.token_store().find_unrevoked(**whose, issuer=None, now=now()))
    if count and not yes:
        terminal.confirm(f"Tokens to revoke, used up ones included: {count}. Revoke them?")
    revoked = 0
    with _service(deployment) as service, terminal.progress("Revoking", total=count) as advance:

        def go_on() -> bool:
            nonlocal revoked
            revoked += 1
            advance()
            return True

        done = service.revoke_all(_OPERATOR, **whose, time_left=go_on)
    text = f"Tokens revoked: {revoked}. Of these, {done.revoked} were live until now."
    terminal.show({"revoked": revoked, "live": done.revoked}, text)


@contextmanager
def _service(deployment: Deployment) -> Iterator[TokenService]:
    """Yield the service on the stage's store. At the end, the operator's audit events are added to the stage's log."""
    record = Record(lambda: open_trail(deployment), lambda line: click.echo(line, err=True))
    audit = Audit(deployment.stage, __version__, record.write)
    try:
        yield TokenService(
            deployment.token_store(),
            audit,
            now,
            deployment.settings.tokens_issued_after,
            logs_node_ids=deployment.settings.log_node_ids,
        )
    finally:
        record.flush()
