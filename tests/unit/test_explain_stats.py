"""A token's life for an operator, from the store and the log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from chalicelib import addresses, tokens
from chalicelib.audit import timestamp
from chalicelib.tokens import Action, Claim, Document, Reason, Terms, Token
from tokenctl import stats
from tokenctl.explain import ADVICE, LIVE, life, meaning, state

NOW = datetime(2026, 11, 21, 12, 0, 0, 0, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


def token(**terms: Any) -> Token:
    facts = {"document": Document("hidden"), "expires_at": NOW + HOUR, **terms}
    return tokens.new_token("records", Terms(**facts), NOW)[1]


def claim(number: int, at: datetime, **facts: Any) -> Claim:
    return Claim(f"use_{number:032}", "attempt", at, "viewer", **facts)


def event(of: Token, name: str, at: datetime, **facts: str) -> dict[str, str]:
    return {"event": name, "time": timestamp(at), "tokenId": of.id, "nodeId": "hidden", "stage": "dev", **facts}


def names(facts: dict[str, Any]) -> list[str]:
    return [moment["event"].removeprefix("token.") for moment in facts["moments"]]


BOUND = {
    "user": "alice",
    "networks": frozenset({addresses.parse_network("10.0.0.0/8")}),
    "audience": frozenset({"viewer", "other"}),
    "actions": frozenset({Action.EDIT}),
}


@pytest.mark.parametrize("terms", [{}, BOUND], ids=["free", "bound"])
@pytest.mark.parametrize(
    ("changes", "later", "issued_after", "expected"),
    [
        ({}, 0, None, LIVE),
        ({"claims": (claim(1, NOW),)}, 0, None, Reason.EXHAUSTED),
        ({}, 2, None, Reason.EXPIRED),
        ({"mismatches": 5}, 0, None, Reason.LOCKED),
        ({"mismatches": 4}, 0, None, LIVE),
        ({"revoked_at": NOW}, 0, None, Reason.REVOKED),
        ({}, 0, NOW + SECOND, Reason.REVOKED),
        ({}, 0, NOW, LIVE),
    ],
)
def test_the_state_is_what_the_use_that_was_meant_would_get(
    terms: dict[str, Any], changes: dict[str, Any], later: int, issued_after: datetime | None, expected: str
) -> None:
    assert state(replace(token(**terms), **changes), NOW + later * HOUR, issued_after) == expected
    assert state(None, NOW, None) == Reason.NOT_FOUND


@pytest.mark.parametrize("reason", [LIVE, *Reason])
def test_every_state_has_a_meaning_and_something_to_do(reason: str) -> None:
    assert meaning(reason).endswith(".")
    assert ADVICE[reason].endswith(".")


def test_the_store_alone_yields_issue_uses_revocation_and_expiry_in_order() -> None:
    first = claim(1, NOW + SECOND, user="alice", address=addresses.parse_address("10.1.2.3"), action=Action.EDIT)
    stored = replace(
        token(max_uses=3), claims=(first, claim(2, NOW + 2 * SECOND)), revoked_at=NOW + 3 * SECOND, mismatches=1
    )
    known = life(stored.id, stored, [], NOW + 2 * HOUR)
    assert names(known) == ["issued", "used", "used", "revoked", "expired"]
    used = {"at": timestamp(NOW + SECOND), "event": "token.used", "clientId": "viewer", "useId": first.id}
    assert known["moments"][:4] == [
        {"at": timestamp(NOW), "event": "token.issued", "clientId": "records"},
        {**used, "user": "alice", "action": "edit", "ipAddress": "10.1.2.3"},
        {**used, "at": timestamp(NOW + 2 * SECOND), "useId": "use_" + "2".zfill(32)},
        {"at": timestamp(NOW + 3 * SECOND), "event": "token.revoked"},
    ]
    assert names(life(stored.id, stored, [], NOW + HOUR))[-1] == "expired"
    assert names(life(stored.id, stored, [], NOW + HOUR - SECOND)) == ["issued", "used", "used", "revoked"]


def test_events_of_both_sources_appear_once_with_the_facts_of_the_log() -> None:
    used = claim(1, NOW + SECOND)
    stored = replace(token(max_uses=2), claims=(used, claim(2, NOW + 2 * SECOND)), revoked_at=NOW + 5 * SECOND)
    log = [
        event(stored, "token.revoked", NOW + 5 * SECOND, clientId="tokenctl", requestId="r5"),
        event(stored, "token.used", NOW + SECOND, clientId="viewer", useId=used.id, requestId="r1"),
        event(stored, "token.used", NOW + 3 * SECOND, useId=used.id, requestId="r3", reason="replayed"),
        event(stored, "token.issued", NOW, clientId="records", user="alice", requestId="r0"),
    ]
    known = life(stored.id, stored, log, NOW + 6 * SECOND)
    assert names(known) == ["issued", "used", "used", "used", "revoked"]
    assert [moment.get("requestId") for moment in known["moments"]] == ["r0", "r1", None, "r3", "r5"]


def test_refusals_of_this_token_are_counted_by_reason_and_neither_document_nor_digest_is_shown() -> None:
    stored, other = token(document=Document("hidden", {"title": "hidden"}), user="alice"), token()
    log: list[dict[str, Any]] = [
        event(stored, "token.refused", NOW + SECOND, reason=Reason.EXHAUSTED),
        *(event(stored, "token.refused", NOW + n * SECOND, reason=Reason.USER, user="bob") for n in range(3)),
        event(stored, "token.locked", NOW + 9 * SECOND, reason=Reason.USER),
        event(other, "token.refused", NOW, reason=Reason.LOCKED),
        {"tokenId": stored.id, "time": timestamp(NOW), "no": "event"},
    ]
    known = life(stored.id, stored, log, NOW)
    assert list(known["refusals"].items()) == [("user_mismatch", 3), ("token_exhausted", 1)]
    assert names(known)[-1] == "locked"
    assert "hidden" not in repr(known)
    assert stored.digest not in repr(known)


def test_today_begins_at_midnight_utc() -> None:
    midnight = NOW - timedelta(hours=12)
    yesterday = midnight - timedelta(milliseconds=1)
    claims = claim(1, yesterday), claim(2, midnight), claim(3, NOW)
    old = replace(token(max_uses=3), issued_at=yesterday, claims=claims)
    counted = stats.count([old, replace(token(), issued_at=midnight)], NOW, None)
    assert (counted["stored"], counted["today"]["issued"], counted["today"]["used"]) == (2, 1, 2)
    assert stats.midnight(NOW) == midnight
