"""How many tokens a stage holds, and what was done with them today. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from chalicelib.audit import timestamp
from chalicelib.tokens import Token
from tokenctl.life import LIVE, state


@dataclass(slots=True)
class ClientCount:
    """What one client issued and used; `live` counts what it issued."""

    live: int = 0
    issued: int = 0
    used: int = 0


@dataclass(slots=True)
class Census:
    """What is in the store. `today` begins at midnight UTC.

    Attributes:
        states: `live` or a reason, to how many tokens are in it.
        refused: reason to how often it was told today; None: the log can't be read.
    """

    now: datetime
    stored: int = 0
    issued: int = 0
    used: int = 0
    states: Counter[str] = field(default_factory=Counter)
    clients: dict[str, ClientCount] = field(default_factory=dict)
    refused: Counter[str] | None = None

    @property
    def today(self) -> datetime:
        return midnight(self.now)

    def facts(self) -> dict[str, Any]:
        """As JSON shows it."""
        refused = self.refused
        return {
            "now": timestamp(self.now),
            "stored": self.stored,
            "states": dict(self.states.most_common()),
            "today": {
                "since": timestamp(self.today),
                "issued": self.issued,
                "used": self.used,
                "refused": None if refused is None else refused.total(),
                "refusals": None if refused is None else dict(refused.most_common()),
            },
            "clients": {
                name: {"live": count.live, "issuedToday": count.issued, "usedToday": count.used}
                for name, count in sorted(self.clients.items())
            },
        }


def midnight(now: datetime) -> datetime:
    """The beginning of the day in UTC."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def count(stored: Iterable[Token], now: datetime, issued_after: datetime | None) -> Census:
    """Count tokens, and the uses that they record.

    Args:
        issued_after: tokens issued before this instant count as revoked; None: all count.
    """
    census = Census(now)
    for token in stored:
        census.stored += 1
        found = state(token, now, issued_after)
        census.states[found] += 1
        issuer = census.clients.setdefault(token.issuer, ClientCount())
        issuer.live += found == LIVE
        if token.issued_at >= census.today:
            census.issued += 1
            issuer.issued += 1
        for claim in token.claims:
            if claim.at >= census.today:
                census.used += 1
                census.clients.setdefault(claim.client_id, ClientCount()).used += 1
    return census


def count_refusals(events: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """How often each reason was told; the events are those of the day."""
    return Counter(str(event.get("reason")) for event in events if event.get("event") == "token.refused")
