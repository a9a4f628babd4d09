"""`tokenctl token`, `explain` and `stats`: what became of tokens, and ending them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Final, NoReturn

import click
import msgspec
from rich.console import Console
from rich.text import Text

from chalicelib import __version__
from chalicelib.audit import Audit, timestamp
from chalicelib.clients import Scope
from chalicelib.http import conversion, parsing, schemas
from chalicelib.http.problems import InvalidRequest
from chalicelib.instants import now
from chalicelib.service import Caller, TokenService
from chalicelib.tokens import KEPT_AFTER_EXPIRY, Token
from tokenctl import census as census_
from tokenctl import life as life_
from tokenctl.census import Census
from tokenctl.deployment import Deployment
from tokenctl.life import ADVICE, LIVE, Life, Moment, meaning
from tokenctl.terminal import Terminal, common, facts_table, fail, plain, read_secret, table, tracked
from tokenctl.trail import Event, Record, Trail, TrailUnavailable, open_trail

_OPERATOR: Final = Caller("tokenctl", frozenset(Scope), "tokenctl")
_LONGEST_LIFE: Final = schemas.MAX_LIFETIME + KEPT_AFTER_EXPIRY

_STYLES: Final = {"token.used": "green", "token.refused": "red", "token.locked": "bold red", "token.revoked": "yellow"}


@click.group()
def token() -> None:
    """Single tokens, and all of a user or of a document."""


def _token_id(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not schemas.TOKEN_ID.fullmatch(value):
        raise click.BadParameter("a token id is tok_ and 32 hex characters; never give a token itself")
    return value


_TOKEN_ID = click.argument("token_id", metavar="ID", callback=_token_id)


@token.command("show")
@_TOKEN_ID
@common
@click.pass_obj
def show(terminal: Terminal, token_id: str) -> None:
    """Show a token's limits and uses; never the token, never the node id."""
    with _service(terminal.deployment()) as service:
        found = service.status(_OPERATOR, token_id)
        facts = msgspec.to_builtins(conversion.status_answer(found, service.counts_as_revoked(found)))
    terminal.show(facts, lambda console: console.print(facts_table(facts)))


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
@click.option("--yes", is_flag=True, help="Do not ask whether to revoke many.")
@common
@click.pass_obj
def revoke(
    terminal: Terminal, *, token_id: str | None, user: str | None, node: str | None, sibling: str | None, yes: bool
) -> None:
    """Revoke a token, or all live tokens of a user or of a document.

    It does not matter whether a token was revoked before. A document's id is secret: '--node -' asks for it, or reads
    it from a pipe, and keeps it out of the shell's history; '--same-node-as' does without it.
    """
    if sum(given is not None for given in (token_id, user, node, sibling)) != 1:
        raise click.UsageError("give one of ID, --user, --node and --same-node-as")
    if sibling is not None:
        found = terminal.deployment().token_store().find(sibling) or _no_token(sibling)
        _revoke_all(terminal, {"node_id": found.terms.node_id}, yes)
        return
    if token_id is None:
        _revoke_all(terminal, _whose(read_secret("Document id") if node == "-" else node, user), yes)
        return
    with _service(terminal.deployment()) as service:
        if not service.revoke(_OPERATOR, token_id):
            _no_token(token_id)
    terminal.show({"tokenId": token_id, "revoked": True}, lambda console: console.print(f"{token_id} is revoked."))


def _no_token(token_id: str) -> NoReturn:
    fail(f"there is no token {token_id}; it may have been deleted, days after it expired")


def _whose(node_id: str | None, user: str | None) -> Mapping[str, str]:
    """A document or a user, as the API would read it."""
    given = {name: [value] for name, value in (("nodeId", node_id), ("user", user)) if value is not None}
    try:
        return parsing.parse_query(given, schemas.RevokeRequest, conversion.to_revocation)
    except InvalidRequest as invalid:
        raise click.UsageError(str(invalid)) from None


def _revoke_all(terminal: Terminal, whose: Mapping[str, str], yes: bool) -> None:
    deployment = terminal.deployment()
    found = sum(1 for _ in deployment.token_store().find_unrevoked(**whose, issuer=None, now=now()))
    if found and not yes:
        terminal.confirm(f"Tokens to revoke, used up ones included: {found}. Revoke them?")
    revoked = 0
    with _service(deployment) as service, terminal.progress("Revoking", total=found) as advance:

        def go_on() -> bool:
            nonlocal revoked
            revoked += 1
            advance()
            return True

        done = service.revoke_all(_OPERATOR, **whose, time_left=go_on)
    text = f"Tokens revoked: {revoked}. Of these, {done.revoked} were live until now."
    terminal.show({"revoked": revoked, "live": done.revoked}, lambda console: console.print(text))


@click.command("explain")
@_TOKEN_ID
@common
@click.pass_obj
def explain(terminal: Terminal, token_id: str) -> None:
    """Tell a token's life: issued, used, refused and why, and what to do.

    Uses come from the store, refusals from the log, as far back as it goes. Never the token, never the node id.
    """
    deployment = terminal.deployment()
    instant = now()
    stored = deployment.token_store().find(token_id)
    since = stored.issued_at if stored is not None else instant - _LONGEST_LIFE
    events, unread = _read(terminal, open_trail(deployment), token_id, since)
    told = life_.life(token_id, stored, events, instant, deployment.settings.tokens_issued_after)
    if not told.moments:
        fail(f"there is no token {token_id}, and the log tells nothing of it" + (f" ({unread})" if unread else ""))
    facts = {**told.facts(), "stored": stored is not None, "log": unread or "read"}
    terminal.show(facts, lambda console: _show_life(console, told, stored, unread))


@click.command("stats")
@common
@click.pass_obj
def stats(terminal: Terminal) -> None:
    """Count tokens by state, and today's uses and refusals.

    It reads the whole table of tokens (a million: some minutes, and 0.1 million read units) and today's log.
    """
    deployment = terminal.deployment()
    instant = now()
    with terminal.progress("Reading tokens", total=_about(deployment)) as advance:
        stored = tracked(deployment.token_store().all(), advance)
        counted = census_.count(stored, instant, deployment.settings.tokens_issued_after)
    events, unread = _read(terminal, open_trail(deployment), "token.refused", counted.today)
    if unread is None:
        counted.refused = census_.count_refusals(events)
    facts = {"stage": deployment.stage, **counted.facts(), "log": unread or "read"}
    terminal.show(facts, lambda console: _show_census(console, deployment.stage, counted, unread))


def _about(deployment: Deployment) -> int | None:
    """About how many tokens there are: DynamoDB counts every six hours."""
    described = deployment.aws("dynamodb").describe_table(TableName=deployment.settings.token_table)
    return described["Table"].get("ItemCount") or None


def _read(terminal: Terminal, trail: Trail, term: str, since: datetime) -> tuple[list[Event], str | None]:
    """The events, or as many as could be read and why there are no more."""
    events: list[Event] = []
    try:
        with terminal.progress(f"Reading {trail.place}", total=None) as advance:
            # What was read before an error stays in the list.
            events.extend(tracked(trail.events(term, since), advance))
    except TrailUnavailable as error:
        return events, str(error)
    return events, None


def _show_life(console: Console, told: Life, stored: Token | None, unread: str | None) -> None:
    style = "bold green" if told.state == LIVE else "bold red"
    console.print(plain(told.token_id, "bold"), plain(meaning(told.state), style), ADVICE[told.state])
    if stored is not None:
        console.print()
        console.print(facts_table(_terms(stored)))
    console.print()
    console.print(
        table(
            ("time (UTC)", "what", "by", "user", "address", "action", "reason or use"),
            [_row(each) for each in told.moments],
        )
    )
    if told.refusals:
        console.print()
        rows = [
            (plain(reason, "red"), str(times), f"{meaning(reason)} {ADVICE[reason]}")
            for reason, times in told.refusals.items()
        ]
        console.print(table(("refused", "times", ""), rows))
    _tell_unread(console, unread)


def _terms(stored: Token) -> dict[str, str]:
    terms = stored.terms
    shown = {
        "uses": f"{len(stored.claims)} of {terms.max_uses}",
        "actions": ", ".join(sorted(terms.actions)),
        "for the user": terms.user or "",
        "from addresses": ", ".join(sorted(map(str, terms.networks))),
        "by applications": ", ".join(sorted(terms.audience)),
        "not before": f"{_clock(timestamp(terms.not_before))} UTC" if terms.not_before else "",
        "until": f"{_clock(timestamp(terms.expires_at))} UTC",
    }
    return {name: text for name, text in shown.items() if text}


def _row(moment: Moment) -> tuple[str | Text, ...]:
    facts = moment.facts
    what = plain(moment.event.removeprefix("token."), _STYLES.get(moment.event, ""))
    more = facts.get("reason") or facts.get("useId", "")
    return (
        _clock(moment.at),
        what,
        *(facts.get(name, "") for name in ("clientId", "user", "ipAddress", "action")),
        more,
    )


def _clock(at: str) -> str:
    """An instant as people read it, still in UTC."""
    return at.replace("T", " ").removesuffix("Z")


def _show_census(console: Console, stage: str, counted: Census, unread: str | None) -> None:
    facts = counted.facts()
    today = facts["today"]
    console.print(plain(f"Stage {stage}", "bold"), f"at {_clock(facts['now'])} UTC; a day begins at midnight UTC")
    console.print()
    states = [LIVE, *(name for name in facts["states"] if name != LIVE)]
    console.print(table(("tokens", f"{counted.stored:,}"), [_count(name, counted.states[name]) for name in states]))
    console.print()
    rows = [_count("issued", today["issued"]), _count("used", today["used"])]
    if counted.refused is not None:
        rows.append(_count("refused", today["refused"]))
        rows += [_count(f"  {reason}", times) for reason, times in today["refusals"].items()]
    console.print(table(("today", ""), rows))
    if counted.clients:
        console.print()
        console.print(
            table(
                ("client", "live", "issued today", "used today"),
                [(name, *(f"{number:,}" for number in each.values())) for name, each in facts["clients"].items()],
            )
        )
    _tell_unread(console, unread)


def _count(name: str, number: int) -> tuple[str | Text, str]:
    style = {LIVE: "green", "used": "green", "refused": "red"}.get(name, "")
    return plain(name, style), f"{number:,}"


def _tell_unread(console: Console, unread: str | None) -> None:
    if unread:
        console.print()
        console.print(plain(f"Refusals are missing. {unread}", "yellow"))


@contextmanager
def _service(deployment: Deployment) -> Iterator[TokenService]:
    """The service's own rules on the stage's store.

    Audit events of what the operator does go into the stage's log, as those of all others do; however the block ends.
    """
    record = Record(lambda: open_trail(deployment), lambda line: click.echo(line, err=True))
    audit = Audit(deployment.stage, __version__, record.write)
    try:
        yield TokenService(deployment.token_store(), audit, now, deployment.settings.tokens_issued_after)
    finally:
        record.flush()
