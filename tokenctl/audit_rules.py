"""The rules that `tokenctl audit` holds a log against, one token at a time. Pure: no clock, no files, no table.

A breach is what no order of events, no lost line and no difference of clocks explains. All else that is odd is a gap.
Instants are milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from operator import attrgetter
from typing import Final

from msgspec import Struct

from chalicelib import addresses, tokens
from chalicelib.audit import timestamp
from chalicelib.http.schemas import MAX_LIFETIME
from chalicelib.instants import EPOCH
from chalicelib.log_names import Event
from chalicelib.tokens import KEPT_AFTER_EXPIRY

_BREACHES: Final = {
    "use_beyond_allowance": "more uses than the issue allows",
    "use_after_expiry": "a use at or after the expiry",
    "use_before_start": "a use before notBefore",
    "use_after_revocation": "a use after the revocation",
    "use_after_lock": "a use after the lock",
    "use_without_issue": "a use of a token that was never issued, or not yet",
    "use_by_other_user": "a use for another user than the issue names",
    "use_from_other_address": "a use from another address than the issue allows",
    "use_by_other_client": "a use by an application that is not in the audience",
    "use_for_other_action": "a use for an action that the issue does not allow",
    "number_repeated": "two uses with the same running number",
    "event_altered": "an event that does not fit the digest in the one after it",
    "event_without_claim": "a use that the table does not record",
    "claim_without_event": "a use in the table that is not in the log",
}
_GAPS: Final = {
    "issue_before_log": "the token was issued before the log begins",
    "uses_missing": "the events of some uses are missing",
    "limits_unknown": "the event of the issue names no limits",
    "unreadable": "a line that can't be read",
}
MEANING: Final[Mapping[str, str]] = {**_BREACHES, **_GAPS}

TOLERANCE: Final = timedelta(seconds=3)
"""A call to the store ends within three seconds (`chalicelib.storage.model.Meta`) after the instant that is logged."""
_LONGEST_REQUEST_MS: Final = 30_000
MAX_LIFE_MS: Final = MAX_LIFETIME // timedelta(milliseconds=1)
_KEPT_MS: Final = KEPT_AFTER_EXPIRY // timedelta(milliseconds=1)
_UNNUMBERED: Final = 1_000_000
_AT: Final = attrgetter("at")
ISSUED: Final = Event.ISSUED.value
_USED: Final = Event.USED.value
_ENDS: Final = {Event.REVOKED.value: "use_after_revocation", Event.LOCKED.value: "use_after_lock"}
_REDACTED: Final = ("[tok_", "[secret]", "[credentials]")


class Fact(Struct, frozen=True, array_like=True, gc=False):
    """One audit event of a token.

    Attributes:
        user: for whom the token was used; of an issue, for whom alone it may be.
        replayed: a use that was made before and is repeated.
        uses: how many uses the token had after it; of a use, its running number.
        previous: digest of the token's use or issue before it.
        issued_at: when the token was issued, if a use says so.
        max_uses, expires_at, not_before, actions, networks, audience: what an issue allows; None and empty mean that it
            does not say.
    """

    event: str
    at: int
    client_id: str = ""
    user: str | None = None
    address: str | None = None
    action: str | None = None
    use_id: str = ""
    replayed: bool = False
    uses: int | None = None
    previous: str | None = None
    issued_at: int | None = None
    max_uses: int | None = None
    expires_at: int | None = None
    not_before: int | None = None
    actions: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()


class Stored(Struct, frozen=True, array_like=True, gc=False):
    """A token in the table: what its issue allows, and its claims as id to instant."""

    issue: Fact
    claims: dict[str, int]


class Log(Struct, frozen=True):
    """What the log covers.

    Attributes:
        begin: every event from here on should be in it.
        settled: every event up to here should be in it.
        read_at: when the table was read; None means that it was not.
        longest_life: of the tokens in it.
    """

    begin: int
    settled: int
    tolerance: int = TOLERANCE // timedelta(milliseconds=1)
    read_at: int | None = None
    longest_life: int = MAX_LIFE_MS


class Finding(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """A breach or a gap; `time` is RFC 3339 in UTC."""

    kind: str
    token_id: str | None = None
    use_id: str | None = None
    time: str | None = None
    why: str

    @property
    def is_gap(self) -> bool:
        return self.kind in _GAPS


def judge(token_id: str, facts: Iterable[Fact], stored: Stored | None, log: Log) -> Iterator[Finding]:
    """Hold the events of one token against the rules, in whatever order and however often they come.

    Args:
        stored: the token in the table; None if it is not there, or the table was not read.
    """
    token = _Token(token_id, facts, stored, log)
    if token.uses:
        yield from token.without_issue()
        yield from token.outside_limits()
        yield from token.after_its_end()
    yield from token.numbers()
    yield from token.digests()
    yield from token.claims()


class _Token:
    """The events of one token, by what they report."""

    def __init__(self, token_id: str, facts: Iterable[Fact], stored: Stored | None, log: Log) -> None:
        self.id, self.stored, self.log = token_id, stored, log
        self.facts = sorted(facts, key=_AT)
        self.issue: Fact | None = None
        self.grants: list[Fact] = []
        self.replays: list[Fact] = []
        self.ends: dict[str, Fact] = {}
        for fact in self.facts:
            if fact.event == _USED:
                (self.replays if fact.replayed else self.grants).append(fact)
            elif fact.event == ISSUED:
                self.issue = self.issue or fact
            elif fact.event in _ENDS:
                self.ends.setdefault(_ENDS[fact.event], fact)
        # One use is one id, however often it is reported. A replay alone shows that there was one.
        by_id: dict[str, Fact] = {}
        for fact in (*self.grants, *self.replays):
            by_id.setdefault(fact.use_id, fact)
        self.uses = sorted(by_id.values(), key=lambda use: (use.uses or _UNNUMBERED, use.at))
        self.limits = self.issue
        if stored and (self.issue is None or self.issue.expires_at is None):
            self.limits = stored.issue

    def found(self, kind: str, fact: Fact, why: str) -> Finding:
        return Finding(kind=kind, token_id=self.id, use_id=fact.use_id or None, time=_text(fact.at), why=why)

    def without_issue(self) -> Iterator[Finding]:
        if self.issue is not None:
            for use in self.grants:
                if use.at < self.issue.at - self.log.tolerance:
                    yield self.found("use_without_issue", use, f"issued later, at {_text(self.issue.at)}")
            return
        known = next((use.issued_at for use in self.uses if use.issued_at is not None), None)
        issued_at = self.stored.issue.at if self.stored else known
        first = min(self.uses, key=lambda use: use.at)
        begin = f"the log begins at {_text(self.log.begin)}"
        if issued_at is None and first.at - self.log.longest_life < self.log.begin:
            life = timedelta(milliseconds=self.log.longest_life)
            yield self.found("issue_before_log", first, f"{begin}, and tokens live up to {life}")
        elif issued_at is not None and issued_at < self.log.begin:
            yield self.found("issue_before_log", first, f"issued at {_text(issued_at)}; {begin}")
        else:
            for use in self.uses:
                yield self.found("use_without_issue", use, f"no event of an issue, and {begin}")

    def outside_limits(self) -> Iterator[Finding]:
        limits = self.limits
        if limits is None:
            return
        if self.issue is not None and (limits.max_uses is None or limits.expires_at is None):
            yield self.found("limits_unknown", self.issue, "the event names no maxUses or no expiresAt")
        for count, use in enumerate(self.uses, 1):
            number = max(count, use.uses or 0)
            if limits.max_uses is not None and number > limits.max_uses:
                yield self.found("use_beyond_allowance", use, f"use {number} of {limits.max_uses}")
        for use in self.grants:
            # An expiry is compared with the instant that the event carries: no tolerance.
            if limits.expires_at is not None and use.at >= limits.expires_at:
                yield self.found("use_after_expiry", use, f"expired at {_text(limits.expires_at)}")
            if limits.not_before is not None and use.at < limits.not_before:
                yield self.found("use_before_start", use, f"valid from {_text(limits.not_before)}")
            yield from self._bound(use, limits)

    def _bound(self, use: Fact, limits: Fact) -> Iterator[Finding]:
        is_known = not _redacted(limits.user) and not _redacted(use.user)
        if limits.user and is_known and tokens.canonical(use.user or "") != tokens.canonical(limits.user):
            yield self.found("use_by_other_user", use, f"issued for {limits.user!r}, used for {use.user!r}")
        if limits.audience and use.client_id not in limits.audience:
            yield self.found("use_by_other_client", use, f"used by {use.client_id!r}")
        if limits.actions and use.action and use.action not in limits.actions:
            yield self.found("use_for_other_action", use, f"used for {use.action!r}")
        if limits.networks and not _within(use.address, limits.networks):
            yield self.found("use_from_other_address", use, f"used from {use.address}")

    def after_its_end(self) -> Iterator[Finding]:
        for kind, end in self.ends.items():
            for use in (*self.grants, *self.replays):
                if self._is_after(use, end):
                    yield self.found(kind, use, f"{end.event} at {_text(end.at)}{_count(end)}")

    def _is_after(self, use: Fact, end: Fact) -> bool:
        """Say whether a use came after an end: by their numbers, whatever the clocks say; without numbers, by these."""
        if use.replayed or use.uses is None or end.uses is None:
            return use.at > end.at + self.log.tolerance
        return use.uses > end.uses or use.at > end.at + max(self.log.tolerance, _LONGEST_REQUEST_MS)

    def numbers(self) -> Iterator[Finding]:
        seen: dict[int, Fact] = {}
        for use in self.uses:
            if use.uses is None or use.replayed:
                continue
            if (other := seen.setdefault(use.uses, use)) is not use:
                yield self.found("number_repeated", use, f"use {use.uses} is also {other.use_id}")
        last = max(self.facts, key=lambda fact: fact.uses or 0, default=None)
        if last is None or last.uses is None:
            return
        # Without the issue, what came before the first use that is there lies before the log.
        first = 1 if self.issue is not None else min(seen, default=last.uses + 1)
        missing = [str(number) for number in range(first, last.uses + 1) if number not in seen]
        if missing:
            why = f"{last.event} at {_text(last.at)} knows of {last.uses} uses; missing: {', '.join(missing)}"
            yield Finding(kind="uses_missing", token_id=self.id, time=_text(last.at), why=why)

    def digests(self) -> Iterator[Finding]:
        """Compare each digest with what it was made of, as far as that is known."""
        carried: dict[int, list[Fact]] = {}
        for fact in self.facts:
            if fact.previous is not None and fact.uses is not None:
                carried.setdefault(fact.uses - (fact.event == _USED), []).append(fact)
        if not carried:
            return
        made = {use.uses: use for use in reversed(self.grants)}
        digest = tokens.link(self.id, self.issue.at, self.issue.client_id) if self.issue else None
        for number in range(max(carried) + 1):
            if number:
                use = made.get(number)
                digest = _linked(digest, use) if digest and use and not _redacted(use.user) else None
            for fact in carried.get(number, ()):
                if digest is None:
                    digest = fact.previous
                elif digest != fact.previous:
                    yield self.found("event_altered", fact, "an earlier event of the token is not as it was written")

    def claims(self) -> Iterator[Finding]:
        if self.log.read_at is None:
            return
        if self.stored is None:
            expires_at = self.limits.expires_at if self.limits else None
            if expires_at is not None and self.log.read_at < expires_at + _KEPT_MS:
                for use in self.uses:
                    yield self.found("event_without_claim", use, "the token is not in the table")
            return
        for use in self.uses:
            if use.use_id not in self.stored.claims:
                yield self.found("event_without_claim", use, "the token in the table has no such claim")
        reported = {use.use_id for use in self.uses}
        for use_id, at in self.stored.claims.items():
            if use_id not in reported and self.log.begin <= at <= self.log.settled:
                why = "the table has the claim, the log no use"
                yield Finding(kind="claim_without_event", token_id=self.id, use_id=use_id, time=_text(at), why=why)


def _linked(digest: str, use: Fact) -> str:
    return tokens.link(digest, use.at, use.client_id, use.use_id, use.user, use.address, use.action)


def _within(address: str | None, networks: Iterable[str]) -> bool:
    try:
        parsed = addresses.parse_address(address or "")
    except ValueError:
        return False
    return addresses.matches(parsed, frozenset(map(addresses.parse_network, networks)))


def _redacted(text: str | None) -> bool:
    return text is not None and "[" in text and any(mark in text for mark in _REDACTED)


def _text(at: int) -> str:
    return timestamp(EPOCH + timedelta(milliseconds=at))


def _count(fact: Fact) -> str:
    return "" if fact.uses is None else f", after {fact.uses} uses"
