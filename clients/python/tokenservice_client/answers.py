"""What the service answers, as frozen values. Instants are aware. Secrets are left out of every `repr`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from tokenservice_client.errors import UnexpectedAnswer

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


class Members:
    """The members of one JSON object. Those that nobody asks for are passed over: a newer service may tell more."""

    def __init__(self, found: Any) -> None:
        if not isinstance(found, Mapping):
            raise UnexpectedAnswer("unexpected_answer", "the answer is no JSON object")
        self._found = found

    def get(self, name: str, read: Callable[[Any], T]) -> T:
        """Read a member.

        Raises:
            UnexpectedAnswer: it is missing, or is not of that kind.
        """
        if name not in self._found:
            raise UnexpectedAnswer("unexpected_answer", f"the answer lacks {name}")
        try:
            return read(self._found[name])
        except (TypeError, ValueError):
            # Without the value: it may be the token.
            pass
        raise UnexpectedAnswer("unexpected_answer", f"{name} in the answer is not what it should be")

    def find(self, name: str, read: Callable[[Any], T]) -> T | None:
        """The same, and None where it is missing."""
        return self.get(name, read) if name in self._found else None


def text(value: Any) -> str:
    """A text as it is."""
    if not isinstance(value, str):
        raise TypeError
    return value


def number(value: Any) -> int:
    """A whole number as it is."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def flag(value: Any) -> bool:
    """True or false as it is."""
    if not isinstance(value, bool):
        raise TypeError
    return value


def instant(value: Any) -> datetime:
    """RFC 3339 with an offset."""
    read = datetime.fromisoformat(text(value).replace("Z", "+00:00"))  # before Python 3.11 it reads no Z
    if read.utcoffset() is None:
        raise ValueError
    return read


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts."""
    if not isinstance(value, list):
        raise TypeError
    return tuple(text(each) for each in value)


def pairs(value: Any) -> Mapping[str, str]:
    """An object of texts."""
    if not isinstance(value, Mapping):
        raise TypeError
    return {text(name): text(each) for name, each in value.items()}


@dataclass(frozen=True)
class Issued:
    """A token that was issued. This is the only answer that holds it."""

    token: str = field(repr=False)
    token_id: str
    expires_at: datetime
    max_uses: int
    actions: tuple[str, ...]

    @classmethod
    def read(cls, found: Any) -> Self:
        """From JSON."""
        of = Members(found)
        return cls(
            of.get("token", text),
            of.get("tokenId", text),
            of.get("expiresAt", instant),
            of.get("maxUses", number),
            of.get("actions", texts),
        )


@dataclass(frozen=True)
class Use:
    """A use that was granted.

    Attributes:
        node_id: the document. Not in `repr`, because hiding it is what the token is for.
        user: whom the token is bound to; None: anybody.
        replayed: this repeats an earlier answer to the same idempotency key; nothing more was spent.
    """

    token_id: str
    node_id: str = field(repr=False)
    actions: tuple[str, ...]
    uses_remaining: int
    expires_at: datetime
    use_id: str
    user: str | None
    metadata: Mapping[str, str]
    replayed: bool

    @classmethod
    def read(cls, found: Any, replayed: bool) -> Self:
        """From JSON."""
        of = Members(found)
        return cls(
            of.get("tokenId", text),
            of.get("nodeId", text),
            of.get("actions", texts),
            of.get("usesRemaining", number),
            of.get("expiresAt", instant),
            of.get("useId", text),
            of.find("user", text),
            of.find("metadata", pairs) or {},
            replayed,
        )


@dataclass(frozen=True)
class Introspection:
    """What a use would return now, or why it would be refused.

    Attributes:
        active: whether a use would be granted. If not, `reason` says why and all else is empty.
    """

    active: bool
    reason: str | None
    token_id: str | None
    node_id: str | None = field(repr=False)
    actions: tuple[str, ...]
    uses_remaining: int | None
    expires_at: datetime | None
    user: str | None
    metadata: Mapping[str, str]

    @classmethod
    def read(cls, found: Any) -> Self:
        """From JSON."""
        of = Members(found)
        return cls(
            of.get("active", flag),
            of.find("reason", text),
            of.find("tokenId", text),
            of.find("nodeId", text),
            of.find("actions", texts) or (),
            of.find("usesRemaining", number),
            of.find("expiresAt", instant),
            of.find("user", text),
            of.find("metadata", pairs) or {},
        )


@dataclass(frozen=True)
class Claim:
    """One use that was granted."""

    use_id: str
    at: datetime
    client_id: str
    user: str | None
    ip_address: str | None
    action: str | None

    @classmethod
    def read(cls, found: Any) -> Self:
        """From JSON."""
        of = Members(found)
        return cls(
            of.get("useId", text),
            of.get("at", instant),
            of.get("clientId", text),
            of.find("user", text),
            of.find("ipAddress", text),
            of.find("action", text),
        )


@dataclass(frozen=True)
class Status:
    """What is known of a token; never the token, never the document."""

    token_id: str
    issuer: str
    issued_at: datetime
    expires_at: datetime
    actions: tuple[str, ...]
    max_uses: int
    uses_remaining: int
    claims: tuple[Claim, ...]
    mismatches: int
    locked: bool
    revoked: bool
    revoked_at: datetime | None
    not_before: datetime | None
    user: str | None
    ip_addresses: tuple[str, ...]
    audience: tuple[str, ...]

    @classmethod
    def read(cls, found: Any) -> Self:
        """From JSON."""
        of = Members(found)
        return cls(
            of.get("tokenId", text),
            of.get("issuer", text),
            of.get("issuedAt", instant),
            of.get("expiresAt", instant),
            of.get("actions", texts),
            of.get("maxUses", number),
            of.get("usesRemaining", number),
            tuple(Claim.read(each) for each in of.get("claims", list)),
            of.get("mismatches", number),
            of.get("locked", flag),
            of.get("revoked", flag),
            of.find("revokedAt", instant),
            of.find("notBefore", instant),
            of.find("user", text),
            of.find("ipAddresses", texts) or (),
            of.find("audience", texts) or (),
        )


@dataclass(frozen=True)
class Version:
    """What is deployed."""

    service: str
    version: str
    commit: str
    stage: str

    @classmethod
    def read(cls, found: Any) -> Self:
        """From JSON."""
        of = Members(found)
        return cls(*(of.get(name, text) for name in ("service", "version", "commit", "stage")))
