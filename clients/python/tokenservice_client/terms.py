"""What an issuer requests, and its JSON."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any, Final, Literal, Union

Action = Literal["download", "preview", "edit"]
"""What a token may be used for."""
Address = Union[str, IPv4Address, IPv6Address]
Range = Union[Address, IPv4Network, IPv6Network]


_ADDRESSES: Final = (str, IPv4Address, IPv6Address)
_KINDS: Final[Mapping[str, tuple[Any, str]]] = {
    **dict.fromkeys(("max_uses", "connections"), (int, "a whole number")),
    **dict.fromkeys(("timeout_seconds", "patience_seconds"), ((int, float), "a number")),
    **dict.fromkeys(("expires_at", "not_before"), (datetime, "a datetime")),
    **dict.fromkeys(("ip_addresses", "actions", "audience"), (Collection, "a list")),
    "expires_in": ((int, timedelta), "a whole number of seconds or a timedelta"),
    "metadata": (Mapping, "a mapping"),
    "ip_address": (_ADDRESSES, "an address or a text"),
    "each of ip_addresses": ((*_ADDRESSES, IPv4Network, IPv6Network), "an address, a range or a text"),
    "ca_bundle": ((str, Path), "a path"),
}
"""Types of arguments, and their description. All others are texts."""


@dataclass(frozen=True)
class Terms:
    """The terms of a token. None means the service's default; its README has the limits.

    Attributes:
        node_id: the secret document id to hide.
        max_uses: how many uses are granted; the service's default is 1.
        expires_in: seconds or a timedelta; the service's default is 5 minutes.
        expires_at: instead of `expires_in`; aware.
        not_before: not to be used before; aware.
        user: the only user who may use it.
        ip_addresses: addresses and CIDR ranges it may be used from.
        actions: what it may be used for; the service's default is download.
        audience: ids of the clients that may use it.
        metadata: returned on use, 2 KB at most.

    Raises:
        ValueError: an argument is not of its annotated type, or an instant has no offset. The message names the
            argument and does not hold its value.
    """

    node_id: str = field(repr=False)
    max_uses: int | None = None
    expires_in: int | timedelta | None = None
    expires_at: datetime | None = None
    not_before: datetime | None = None
    user: str | None = None
    ip_addresses: Collection[Range] | None = None
    actions: Collection[Action] | None = None
    audience: Collection[str] | None = None
    metadata: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        check(**{**without_none(**vars(self)), "node_id": self.node_id})
        for name in ("expires_at", "not_before"):
            instant: datetime | None = getattr(self, name)
            if instant is not None and instant.utcoffset() is None:
                raise ValueError(f"{name} needs an offset, as in datetime.now(timezone.utc)")
        for name in ("ip_addresses", "actions", "audience"):
            values = getattr(self, name) or ()
            # A string is a collection of letters.
            if isinstance(values, (str, bytes)):
                raise ValueError(f"{name} must be a list")
            for value in values:
                check(**{f"each of {name}": value})
        for member in (self.metadata or {}).items():
            for text in member:
                check(**{"each name and value of metadata": text})

    def as_json(self) -> dict[str, Any]:
        """The body of the request, without the fields that are None."""
        in_seconds = self.expires_in
        if isinstance(in_seconds, timedelta):
            in_seconds = int(in_seconds.total_seconds())
        return without_none(
            nodeId=self.node_id,
            maxUses=self.max_uses,
            expiresIn=in_seconds,
            expiresAt=_instant(self.expires_at),
            notBefore=_instant(self.not_before),
            user=self.user,
            ipAddresses=_texts(self.ip_addresses),
            actions=_texts(self.actions),
            audience=_texts(self.audience),
            metadata=None if self.metadata is None else dict(self.metadata),
        )


def check(**arguments: Any) -> None:
    """Check the types of arguments, by their names. True and False are not numbers.

    Raises:
        ValueError: one is of another type. The message does not hold the value, which may be secret.
    """
    for name, value in arguments.items():
        kind, words = _KINDS.get(name, (str, "a text"))
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name} must be {words}, not {type(value).__name__}")


def without_none(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _instant(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()


def _texts(values: Collection[Any] | None) -> list[str] | None:
    return None if values is None else [str(value) for value in values]
