"""`tokenctl stats`: how many tokens a stage holds, and what was done with them today."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from chalicelib.audit import timestamp
from chalicelib.instants import now
from chalicelib.tokens import Token
from tokenctl.deployment import Deployment
from tokenctl.explain import LIVE, state
from tokenctl.terminal import Terminal, clock, common, plain, table
from tokenctl.trail import open_trail, read, show_unread


@click.command("stats")
@common
def stats(terminal: Terminal) -> None:
    """Count tokens by state, and today's uses and refusals.

    It reads the whole table of tokens (a million: some minutes, and 0.1 million read units) and today's log.
    """
    deployment = terminal.deployment()
    instant = now()
    stored = terminal.tracked(deployment.token_store().all(), "Reading tokens", _about(deployment))
    facts = count(stored, instant, deployment.settings.tokens_issued_after)
    events, unread = read(terminal, open_trail(deployment), "token.refused", midnight(instant))
    if unread is None:
        facts["today"] |= count_refusals(events)
    facts = {"stage": deployment.stage, **facts, "log": unread or "read"}
    terminal.show(facts, lambda console: _show(console, facts, unread))


def count(stored: Iterable[Token], instant: datetime, issued_after: datetime | None) -> dict[str, Any]:
    """Count tokens, and the uses that they record, as `--json` prints it.

    Args:
        issued_after: tokens issued before this instant count as revoked; None means all count.

    Returns:
        `states` holds `live` or a reason to how many tokens are in it. `refused` and `refusals` are None: they are in
        the log alone.
    """
    today = midnight(instant)
    states: Counter[str] = Counter()
    issued = used = 0
    for token in stored:
        states[state(token, instant, issued_after)] += 1
        issued += token.issued_at >= today
        used += sum(claim.at >= today for claim in token.claims)
    return {
        "now": timestamp(instant),
        "stored": states.total(),
        "states": dict(states.most_common()),
        "today": {"since": timestamp(today), "issued": issued, "used": used, "refused": None, "refusals": None},
    }


def count_refusals(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Count refusals by reason; the events are those of the day."""
    reasons = Counter(str(event.get("reason")) for event in events if event.get("event") == "token.refused")
    return {"refused": reasons.total(), "refusals": dict(reasons.most_common())}


def midnight(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _about(deployment: Deployment) -> int | None:
    """About how many tokens there are: DynamoDB counts every six hours."""
    described = deployment.aws("dynamodb").describe_table(TableName=deployment.settings.token_table)
    return described["Table"].get("ItemCount") or None


def _show(console: Console, facts: Mapping[str, Any], unread: str | None) -> None:
    today = facts["today"]
    heading = f"at {clock(facts['now'])} UTC; a day begins at midnight UTC"
    console.print(plain(f"Stage {facts['stage']}", "bold"), heading, end="\n\n")
    states = {LIVE: 0, **facts["states"]}
    console.print(table(("tokens", f"{facts['stored']:,}"), [_row(name, states[name]) for name in states]))
    console.print()
    rows = [_row(name, today[name]) for name in ("issued", "used", "refused") if today[name] is not None]
    rows += [_row(f"  {reason}", times) for reason, times in (today["refusals"] or {}).items()]
    console.print(table(("today", ""), rows))
    show_unread(console, unread)


def _row(name: str, number: int) -> tuple[str | Text, str]:
    style = {LIVE: "green", "used": "green", "refused": "red"}.get(name, "")
    return plain(name, style), f"{number:,}"
