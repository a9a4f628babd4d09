"""The person who sends a request: their address, and their name if a trusted proxy sends it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

MAX_USER: Final = 256
_WITH_PORT: Final = re.compile(r"\[(?P<v6>[^\]]+)\](?::\d+)?|(?P<v4>[0-9.]+):\d+")


class UntrustedWay(Exception):
    """The request did not come through the proxies of the settings; its headers can't be trusted."""


class Person(NamedTuple):
    """A person, as the token service gets them.

    Attributes:
        address: IPv4 or IPv6, as text.
        user: None if unknown.
    """

    address: str
    user: str | None


def person(environ: Mapping[str, Any], trusted_hops: int, user_header: str | None) -> Person:
    """Read address and user from a WSGI environment.

    Each trusted proxy writes the address that it sees at the end of X-Forwarded-For. With n of them, the n-th entry
    from the end was written by the outermost one; the person can write all before it.

    Args:
        trusted_hops: proxies of ours that every request passes. 0: the address is the socket's.
        user_header: the header in which the nearest of them sends the person's name.

    Raises:
        UntrustedWay: a header is missing or malformed.
    """
    if not trusted_hops:
        return Person(_address(environ["REMOTE_ADDR"]), None)
    passed = [entry for entry in environ.get("HTTP_X_FORWARDED_FOR", "").split(",") if entry.strip()]
    if len(passed) < trusted_hops:
        raise UntrustedWay("X-Forwarded-For has fewer entries than there are trusted proxies")
    return Person(_address(passed[-trusted_hops].strip()), _user(environ, user_header) if user_header else None)


def _address(text: str) -> str:
    """The address without a port, which some proxies write behind it, and without a scope."""
    if with_port := _WITH_PORT.fullmatch(text):
        text = with_port["v6"] or with_port["v4"]
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        raise UntrustedWay("X-Forwarded-For holds no address where a trusted proxy writes it") from None


def _user(environ: Mapping[str, Any], header: str) -> str | None:
    sent = environ.get("HTTP_" + header.upper().replace("-", "_"), "")
    try:
        # WSGI hands bytes on as Latin-1 (PEP 3333); proxies write UTF-8.
        user: str = sent.encode("latin-1").decode("utf-8").strip()
    except UnicodeError:
        raise UntrustedWay("the user's name is not UTF-8") from None
    if len(user) > MAX_USER or not user.isprintable():
        raise UntrustedWay("the user's name is too long or holds control characters")
    return user or None
