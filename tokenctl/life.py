"""A token's life: what the store holds of it and what the log tells, put together. Pure.

The store knows all uses; refusals stand in the log alone. Neither ever says what document it is about, here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from chalicelib import tokens
from chalicelib.audit import timestamp
from chalicelib.http import problems
from chalicelib.tokens import Grant, Reason, Token, Use

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
"""Advice to the operator, by reason of the refusal."""

_SHOWN: Final = ("clientId", "user", "ipAddress", "action", "reason", "useId", "requestId")
_ISSUED: Final = "token.issued"
_USED: Final = "token.used"
_REFUSED: Final = "token.refused"
_REVOKED: Final = "token.revoked"
_EXPIRED: Final = "token.expired"  # no audit event: nobody is there to write it


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened to a token.

    Attributes:
        at: RFC 3339 in UTC, milliseconds.
        event: as in the log, and `token.expired`.
        facts: whichever of `_SHOWN` are known.
    """

    at: str
    event: str
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Life:
    """What is known of a token.

    Attributes:
        state: `live`, or the reason for which the very use it is meant for would be refused now.
        moments: in the order of time.
        refusals: how often each reason was told, the most frequent first.
    """

    token_id: str
    state: str
    moments: tuple[Moment, ...]
    refusals: Mapping[str, int]

    def facts(self) -> dict[str, Any]:
        """As JSON shows it."""
        return {
            "tokenId": self.token_id,
            "state": self.state,
            "meaning": meaning(self.state),
            "advice": ADVICE[self.state],
            "refusals": dict(self.refusals),
            "moments": [{"at": moment.at, "event": moment.event, **moment.facts} for moment in self.moments],
        }


def state(token: Token | None, now: datetime, issued_after: datetime | None) -> str:
    """What the use that the issuer meant would get now: `live`, or a reason. It is asked of the rules themselves."""
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
    decision = tokens.decide(token, meant, now, issued_after)
    return LIVE if isinstance(decision, Grant) else decision.reason


def meaning(of: str) -> str:
    """One sentence for a state or a reason."""
    return "The token is live." if of == LIVE else problems.TABLE[of].detail


def life(
    token_id: str,
    token: Token | None,
    events: Iterable[Mapping[str, Any]],
    now: datetime,
    issued_after: datetime | None = None,
) -> Life:
    """Put a life together.

    Args:
        token: as it is stored; None: it is not, or no longer.
        events: audit events from the log; those of other tokens are left out.
        issued_after: tokens issued before this instant count as revoked; None: all count.
    """
    moments = [_told(event) for event in events if event.get("tokenId") == token_id and "event" in event]
    refusals = Counter(moment.facts.get("reason", "") for moment in moments if moment.event == _REFUSED)
    if token is not None:
        moments += _kept(token, moments, now)
    return Life(
        token_id,
        state(token, now, issued_after),
        tuple(sorted(moments, key=lambda moment: moment.at)),
        dict(refusals.most_common()),
    )


def _told(event: Mapping[str, Any]) -> Moment:
    return Moment(str(event["time"]), str(event["event"]), {name: str(event[name]) for name in _SHOWN if name in event})


def _kept(token: Token, told: Iterable[Moment], now: datetime) -> Iterable[Moment]:
    """What the store knows and the log does not tell, or no longer."""
    names = {moment.event for moment in told}
    uses = {moment.facts.get("useId") for moment in told if moment.event == _USED}
    if _ISSUED not in names:
        yield Moment(timestamp(token.issued_at), _ISSUED, {"clientId": token.issuer})
    for claim in token.claims:
        if claim.id not in uses:
            known = {"clientId": claim.client_id, "user": claim.user, "action": claim.action, "useId": claim.id}
            known["ipAddress"] = str(claim.address) if claim.address else None
            yield Moment(timestamp(claim.at), _USED, {name: str(fact) for name, fact in known.items() if fact})
    if token.revoked_at is not None and _REVOKED not in names:
        yield Moment(timestamp(token.revoked_at), _REVOKED, {})
    if now >= token.terms.expires_at:
        yield Moment(timestamp(token.terms.expires_at), _EXPIRED, {})
