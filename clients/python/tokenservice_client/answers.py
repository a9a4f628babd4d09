"""Responses of the service as frozen values. Instants are aware. Secrets are left out of every `repr`.

The annotation of a field decides how its member is read, and a member may be missing if its field has a default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tokenservice_client.errors import UnexpectedAnswer

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Answer:
    """Base of all responses."""

    @classmethod
    def read(cls, body: Any, **values: Any) -> Self:
        """Read a JSON object. Members without a field are ignored, since a newer service may send more.

        Args:
            values: of fields that are not members.

        Raises:
            UnexpectedAnswer: it is not an object, or a member is missing or of another type.
        """
        if not isinstance(body, Mapping):
            raise UnexpectedAnswer("unexpected_answer", "the response is not a JSON object")
        for one in fields(cls):
            first, *words = one.name.split("_")
            name = first + "".join(word.capitalize() for word in words)
            if one.name in values:
                continue
            if name in body:
                values[one.name] = _value(name, body[name], _READERS[str(one.type).replace(" | None", "")])
            elif one.default is MISSING and one.default_factory is MISSING:
                raise UnexpectedAnswer("unexpected_answer", f"the response lacks {name}")
        return cls(**values)


@dataclass(frozen=True)
class Issued(Answer):
    """An issued token. No other response holds it."""

    token: str = field(repr=False)
    token_id: str
    expires_at: datetime
    max_uses: int
    actions: tuple[str, ...]


@dataclass(frozen=True)
class Batch(Answer):
    """Tokens that were issued together, in the order of the request."""

    tokens: tuple[Issued, ...]


@dataclass(frozen=True)
class Use(Answer):
    """A granted use.

    Attributes:
        node_id: the document. Not in `repr`, because the token exists to hide it.
        user: the only user who may use the token; None means any user.
        replayed: the response repeats an earlier one to the same idempotency key; nothing more was spent.
    """

    token_id: str
    node_id: str = field(repr=False)
    actions: tuple[str, ...]
    uses_remaining: int
    expires_at: datetime
    use_id: str
    user: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    replayed: bool = False


@dataclass(frozen=True)
class Introspection(Answer):
    """What a use would return now, or why it would be refused.

    Attributes:
        active: whether a use would be granted. If not, `reason` is set and all other fields are empty.
    """

    active: bool
    reason: str | None = None
    token_id: str | None = None
    node_id: str | None = field(default=None, repr=False)
    actions: tuple[str, ...] = ()
    uses_remaining: int | None = None
    expires_at: datetime | None = None
    user: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim(Answer):
    """A granted use, as the status of its token shows it."""

    use_id: str
    at: datetime
    client_id: str
    user: str | None = None
    ip_address: str | None = None
    action: str | None = None


@dataclass(frozen=True)
class Status(Answer):
    """Limits and uses of a token; never the token, never the document."""

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
    revoked_at: datetime | None = None
    not_before: datetime | None = None
    user: str | None = None
    ip_addresses: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()


@dataclass(frozen=True)
class Revocation(Answer):
    """How many live tokens one call revoked, and whether there are more."""

    revoked: int
    more: bool


@dataclass(frozen=True)
class Version(Answer):
    """What is deployed."""

    service: str
    version: str
    commit: str
    stage: str


def _value(name: str, value: Any, read: Callable[[Any], Any]) -> Any:
    try:
        return read(value)
    except (TypeError, ValueError):
        pass
    # Outside the handler, whose error may hold the value, and that may be the token.
    raise UnexpectedAnswer("unexpected_answer", f"{name} in the response has another type or form")


def _exactly(kind: type) -> Callable[[Any], Any]:
    """Returns a reader of values of a type; True and False are not numbers."""

    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise TypeError
        return value

    return read


def _tuple_of(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: tuple(read(entry) for entry in _list(value))


def _instant(value: Any) -> datetime:
    """Read RFC 3339 with an offset."""
    instant = datetime.fromisoformat(_text(value).replace("Z", "+00:00"))  # Python before 3.11 reads no Z
    if instant.utcoffset() is None:
        raise ValueError
    return instant


_text, _list, _object = _exactly(str), _exactly(list), _exactly(dict)
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "str": _text,
    "int": _exactly(int),
    "bool": _exactly(bool),
    "datetime": _instant,
    "tuple[str, ...]": _tuple_of(_text),
    "tuple[Claim, ...]": _tuple_of(Claim.read),
    "tuple[Issued, ...]": _tuple_of(Issued.read),
    "Mapping[str, str]": lambda value: {_text(name): _text(text) for name, text in _object(value).items()},
}
