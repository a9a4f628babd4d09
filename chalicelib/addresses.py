"""Addresses and ranges of addresses, as a token is bound to them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_MAPPED_PREFIX: Final = 96  # bits of ::ffff:0:0, behind which an IPv4 address is mapped (RFC 4291, section 2.5.5.2)


def matches(address: Address | None, networks: frozenset[Network]) -> bool:
    """Whether an address lies in one of the networks. No address lies in none."""
    return address is not None and any(address in network for network in networks)


def parse_address(text: str) -> Address:
    """Read an IPv4 or IPv6 address; an IPv4-mapped IPv6 address is the IPv4 address it maps.

    Raises:
        ValueError: not an address, or one with a port, a zone, leading zeros or white space.
    """
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ValueError("an address with a zone names an interface of one machine only")
        return address.ipv4_mapped or address
    return address


def parse_network(text: str) -> Network:
    """Read an address or a CIDR range; an IPv4-mapped IPv6 range is the IPv4 range it maps.

    Raises:
        ValueError: not a range, or one with bits set behind its prefix, a port, a zone or white space.
    """
    base, slash, prefix = text.partition("/")
    if slash and not (prefix.isascii() and prefix.isdigit()):
        raise ValueError("the prefix of a range is a number, for example 10.0.0.0/8")
    if "%" in base:
        raise ValueError("an address with a zone names an interface of one machine only")
    network = ip_network(text)
    if isinstance(network, IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= _MAPPED_PREFIX:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_PREFIX))
    return network
