"""`tokenctl explain`: a token's life, from the store and the log.

The store holds all uses; refusals are in the log alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import click
from rich.console import Console
from rich.text import Text

from chalicelib import tokens
from chalicelib.audit import timestamp
from chalicelib.http import problems, schemas
from chalicelib.instants import now
from chalicelib.tokens import KEPT_AFTER_EXPIRY, Grant, Reason, Token, Use
from tokenctl.terminal import Terminal, clock, common, facts_table, fail, plain, table
from tokenctl.tokens import TOKEN_ID
from tokenctl.trail import open_trail, read, show_unread

Moment = dict[str, str]
"""`at` (RFC 3339 in UTC), `event` (as in the log, and `token.expired`), and whichever of `_SHOWN` are known."""

LIVE: Final = "live"

ADVICE: Final[Mapping[str, str]] = {
    LIVE: "It can be used.",
    Reason.NOT_FOUND: "It was never issued in this stage, or was deleted 7 days or more after its expiry.",
    Reason.REVOKED: "Issue a new one if the document may still be opened.",
    Reason.LOCKED: "Find out who tried it: a bug in the application, or a shared link. Then issue a new one.",
    Reason.KEY_REUSED: "The application must send a new Idempotency-Key for each use, and the same for its retries.",
    Reason.EXPIRED: "Issue a new one, with a longer expiresIn if people often come too late.",
    Reason.NOT_YET_VALID: "Try again after its notBefore.",
    Reason.AUDIENCE: "The application is not in its audience. Issue the token for that application, too.",
    Reason.USER: "The application sent another user than the issuer, or none. Compare the spelling.",
    Reason.ADDRESS: "The person used another address, or the application sent a proxy's address, or none.",
    Reason.ACTION: "Issue the token with this action.",
    Reason.EXHAUSTED: "It was used before: by the person, who then clicked again, or by a program that follows links.",
}
"""What to do about a refused use, by reason."""

_SHOWN: Final = ("clientId", "user", "ipAddress", "action", "reason", "useId", "requestId")
_ISSUED: Final = "token.issued"
_USED: Final = "token.used"
_REFUSED: Final = "token.refused"
_REVOKED: Final = "token.revoked"
_EXPIRED: Final = "token.expired"  # no audit event: nobody is there to write it
_LONGEST_LIFE: Final = schemas.MAX_LIFETIME + KEPT_AFTER_EXPIRY
_STYLES: Final = {_USED: "green", _REFUSED: "red", "token.locked": "bold red", _REVOKED: "yellow"}


@click.command("explain")
@TOKEN_ID
@common
def explain(terminal: Terminal, token_id: str) -> None:
    """Show a token's life: issued, used, refused and why, and what to do.

    Uses come from the store, refusals from the log, as far back as it goes. Never the token, never the node id.
    """
    deployment = terminal.deployment()
    instant = now()
    stored = deployment.token_store().find(token_id)
    since = stored.issued_at if stored is not None else instant - _LONGEST_LIFE
    events, unread = read(terminal, open_trail(deployment), token_id, since)
    facts = life(token_id, stored, events, instant, deployment.settings.tokens_issued_after)
    if not facts["moments"]:
        fail(f"there is no token {token_id}, and no event of it in the log" + (f" ({unread})" if unread else ""))
    facts |= {"stored": stored is not None, "log": unread or "read"}
    terminal.show(facts, lambda console: _show(console, facts, stored, unread))


def state(token: Token | None, instant: datetime, issued_after: datetime | None) -> str:
    """Return what the rules decide now about the use that the issuer meant: `live`, or the reason of a refusal."""
    if token is None:
        return Reason.NOT_FOUND
    terms = token.terms
    meant = Use(
        token.digest,
        client_id=min(terms.audience, default=token.issuer),
        attempt="",
        claim_id="",
        user=terms.user,
        address=next((network.network_address for network in terms.networks), None),
    )
    decision = tokens.decide(token, meant, instant, issued_after)
    return LIVE if isinstance(decision, Grant) else decision.reason


def meaning(of: str) -> str:
    return "The token is live." if of == LIVE else problems.TABLE[of].detail


def life(
    token_id: str,
    token: Token | None,
    events: Iterable[Mapping[str, Any]],
    instant: datetime,
    issued_after: datetime | None = None,
) -> dict[str, Any]:
    """Combine what the store and the log hold of a token, as `--json` prints it. Never the document's id.

    Args:
        token: as it is stored; None means it is not, or no longer.
        events: audit events from the log; those of other tokens are left out.
        issued_after: tokens issued before this instant count as revoked; None means all count.

    Returns:
        `state` is `live`, or why the use it was issued for would be refused now. `moments` are in the order of time,
        `refusals` by reason, the most frequent first.
    """
    moments = [_logged(event) for event in events if event.get("tokenId") == token_id and "event" in event]
    refusals = Counter(moment.get("reason", "") for moment in moments if moment["event"] == _REFUSED)
    if token is not None:
        moments += _stored(token, moments, instant)
    now_is = state(token, instant, issued_after)
    return {
        "tokenId": token_id,
        "state": now_is,
        "meaning": meaning(now_is),
        "advice": ADVICE[now_is],
        "refusals": dict(refusals.most_common()),
        "moments": sorted(moments, key=lambda moment: moment["at"]),
    }


def _moment(at: str, event: str, **facts: Any) -> Moment:
    return {"at": at, "event": event, **{name: str(fact) for name, fact in facts.items() if fact}}


def _logged(event: Mapping[str, Any]) -> Moment:
    return _moment(str(event["time"]), str(event["event"]), **{name: event.get(name) for name in _SHOWN})


def _stored(token: Token, logged: Iterable[Moment], instant: datetime) -> Iterable[Moment]:
    """What the store holds and the log does not, or no longer."""
    names = {moment["event"] for moment in logged}
    uses = {moment.get("useId") for moment in logged if moment["event"] == _USED}
    if _ISSUED not in names:
        yield _moment(timestamp(token.issued_at), _ISSUED, clientId=token.issuer)
    for claim in token.claims:
        if claim.id not in uses:
            who = {"clientId": claim.client_id, "user": claim.user, "ipAddress": claim.address, "action": claim.action}
            yield _moment(timestamp(claim.at), _USED, **who, useId=claim.id)
    if token.revoked_at is not None and _REVOKED not in names:
        yield _moment(timestamp(token.revoked_at), _REVOKED)
    if instant >= token.terms.expires_at:
        yield _moment(timestamp(token.terms.expires_at), _EXPIRED)


def _show(console: Console, facts: Mapping[str, Any], stored: Token | None, unread: str | None) -> None:
    style = "bold green" if facts["state"] == LIVE else "bold red"
    console.print(plain(facts["tokenId"], "bold"), plain(facts["meaning"], style), facts["advice"])
    if stored is not None:
        console.print()
        console.print(facts_table(_terms(stored)))
    console.print()
    head = ("time (UTC)", "what", "by", "user", "address", "action", "reason or use")
    console.print(table(head, [_row(moment) for moment in facts["moments"]]))
    if facts["refusals"]:
        console.print()
        rows = [
            (plain(reason, "red"), str(times), f"{meaning(reason)} {ADVICE[reason]}")
            for reason, times in facts["refusals"].items()
        ]
        console.print(table(("refused", "times", ""), rows))
    show_unread(console, unread)


def _terms(stored: Token) -> dict[str, str]:
    terms = stored.terms
    shown = {
        "uses": f"{len(stored.claims)} of {terms.max_uses}",
        "actions": ", ".join(sorted(terms.actions)),
        "for the user": terms.user or "",
        "from addresses": ", ".join(sorted(map(str, terms.networks))),
        "by applications": ", ".join(sorted(terms.audience)),
        "not before": f"{clock(timestamp(terms.not_before))} UTC" if terms.not_before else "",
        "until": f"{clock(timestamp(terms.expires_at))} UTC",
    }
    return {name: text for name, text in shown.items() if text}


def _row(moment: Moment) -> tuple[str | Text, ...]:
    what = plain(moment["event"].removeprefix("token."), _STYLES.get(moment["event"], ""))
    who = (moment.get(name, "") for name in ("clientId", "user", "ipAddress", "action"))
    return (clock(moment["at"]), what, *who, moment.get("reason") or moment.get("useId", ""))
