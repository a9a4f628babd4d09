"""Addresses and ranges, from text to the store: which are accepted, how they are read, and which are rejected."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import pytest

from chalicelib import addresses, tokens
from chalicelib.http import conversion, parsing
from chalicelib.http.problems import InvalidRequest
from chalicelib.http.schemas import IssueRequest, UseRequest
from chalicelib.tokens import Grant, Reason, Terms
from tests.support.api import Api, Credentials

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TOKEN = "0123456789abcdef" * 4


def read(body: dict[str, Any], into: type[Any]) -> Any:
    read: Any = partial(conversion.to_terms, now=NOW)
    if into is UseRequest:
        read = partial(conversion.to_use, client_id="app")
    return parsing.parse_body(msgspec.json.encode(body), into, read)


def terms_of(*ranges: str) -> Terms:
    terms: Terms = read({"nodeId": "n", "ipAddresses": ranges}, IssueRequest)
    return terms


def outcome(ranges: list[str], address: str | None) -> str:
    """What becomes of a use from an address, of a token that is bound to ranges: from text to decision."""
    secret, token = tokens.new_token("issuer", terms_of(*ranges), NOW)
    body: dict[str, Any] = {"token": secret} | ({} if address is None else {"ipAddress": address})
    decision = tokens.decide(token, read(body, UseRequest), NOW)
    return "granted" if isinstance(decision, Grant) else decision.reason


INSIDE = [
    # IPv4: one address, and prefixes from everything to one address
    (["192.0.2.7"], "192.0.2.7"),
    (["192.0.2.7/32"], "192.0.2.7"),
    (["192.0.2.6/31"], "192.0.2.7"),
    (["192.0.2.0/24"], "192.0.2.255"),
    (["10.0.0.0/8"], "10.255.255.255"),
    (["128.0.0.0/1"], "255.255.255.255"),
    (["0.0.0.0/0"], "0.0.0.0"),
    (["0.0.0.0/0"], "255.255.255.255"),
    # IPv6: the same, in any of its spellings
    (["2001:db8::1"], "2001:0DB8:0:0:0:0:0:1"),
    (["2001:DB8::1/128"], "2001:db8::1"),
    (["2001:db8::/127"], "2001:db8::1"),
    (["2001:db8::/32"], "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
    (["8000::/1"], "ffff::"),
    (["::/0"], "::"),
    (["::/0"], "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    (["::1"], "0::1"),
    (["64:ff9b::/96"], "64:ff9b::192.0.2.7"),
    (["fe80::/10"], "fe80::1"),
    # An IPv4-mapped IPv6 address or range is the IPv4 one that it maps, on either side
    (["192.0.2.7"], "::ffff:192.0.2.7"),
    (["192.0.2.7"], "::FFFF:c000:207"),
    (["192.0.2.0/24"], "::ffff:192.0.2.7"),
    (["::ffff:192.0.2.7"], "192.0.2.7"),
    (["::ffff:192.0.2.0/120"], "192.0.2.7"),
    (["::ffff:192.0.2.7/128"], "192.0.2.7"),
    (["::ffff:0:0/96"], "10.0.0.1"),
    (["0.0.0.0/0"], "::ffff:10.0.0.1"),
    # Lists: one that fits suffices
    (["192.0.2.7", "2001:db8::/32"], "2001:db8::9"),
    (["192.0.2.7", "2001:db8::/32", "10.0.0.0/8"], "10.1.2.3"),
    ([f"192.0.2.{n}" for n in range(16)], "192.0.2.15"),
]

OUTSIDE = [
    (["192.0.2.7"], "192.0.2.8"),
    (["192.0.2.7/32"], "192.0.2.6"),
    (["192.0.2.6/31"], "192.0.2.8"),
    (["192.0.2.0/24"], "192.0.3.0"),
    (["128.0.0.0/1"], "127.255.255.255"),
    (["2001:db8::/127"], "2001:db8::2"),
    (["2001:db8::1/128"], "2001:db8::"),
    (["8000::/1"], "7fff::"),
    # "All of IPv6" holds no IPv4 address, however that is written, and the other way round
    (["::/0"], "192.0.2.7"),
    (["::/0"], "::ffff:192.0.2.7"),
    (["0.0.0.0/0"], "2001:db8::1"),
    (["0.0.0.0/0"], "::"),
    # Only ::ffff:0:0/96 maps IPv4; other forms that hold an IPv4 address are IPv6
    (["192.0.2.7"], "::192.0.2.7"),
    (["192.0.2.7"], "64:ff9b::192.0.2.7"),
    (["192.0.2.7"], "2002:c000:207::"),
    (["::fffe:0:0/95"], "192.0.2.7"),
    (["192.0.2.7", "2001:db8::/32"], "2001:db9::"),
    (["192.0.2.7"], None),
    (["0.0.0.0/0", "::/0"], None),
]

NOT_ONE = [
    "", " ", "192.0.2", "192.0.2.7.1", "192.0.2.256", "192.0.2.-7", "192.0.2.7.", ".192.0.2.7", "3221225991",
    "0xc0000207", "0300.0.2.7", "192.0.02.7", "192.0.2.07", "00.0.0.0", "192.0.2.0x7", "1e1.0.0.1",
    " 192.0.2.7", "192.0.2.7 ", "192.0.2.7\n", "\t192.0.2.7", "192.0.2.7\u00a0", "192. 0.2.7", "192.0.2.7\x00",
    "192.0.2.7:80", "[192.0.2.7]", "[2001:db8::1]", "[2001:db8::1]:80", "2001:db8::1:80:",
    "192.0.2.7,192.0.2.8", "192.0.2.7;",
    "192.0.2.7 192.0.2.8", "192.0.2.1-192.0.2.9", "localhost", "example.org", "http://192.0.2.7", "*", "any",
    "192.0.2.*",
    "\u0661\u0669\u0662.0.2.7", "192.0.2.\uff17", "\uff11\uff19\uff12.0.2.7", "192\u30020\u30022\u30027",
    "2001:db8::\uff11", "\u00b2", "192.0.2.\u0667",
    ":", ":::", "1::2::3", "2001:db8", "12345::", "2001:db8::g", "::ffff:192.0.2.256", "::ffff:192.0.02.7",
    "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "::192.0.2", "2001:db8::-1", "+1::", "::+1",
    "fe80::1%eth0", "fe80::1%1", "fe80::1%25eth0", "fe80::1%", "::ffff:192.0.2.7%1", "192.0.2.7%eth0", "2001:db8::1%",
]  # fmt: skip

NO_ADDRESS_BUT_A_RANGE = ["192.0.2.0/24", "192.0.2.7/32", "0.0.0.0/0", "::/0", "2001:db8::1/128"]

NO_RANGE = [
    "192.0.2.7/24", "192.0.2.1/0", "10.0.0.1/8", "2001:db8::1/127", "::1/0", "::ffff:192.0.2.7/120",
    "192.0.2.0/33", "2001:db8::/129", "192.0.2.0/-1", "192.0.2.0/", "/24", "/", "192.0.2.0/24/24", "192.0.2.0//24",
    "192.0.2.0/ 24", "192.0.2.0 /24", "192.0.2.0/24 ", "192.0.2.0/+24", "192.0.2.0/\u0662\u0664",
    "192.0.2.0/\uff12\uff14", "192.0.2.0/\u00b2",
    "192.0.2.0/255.255.255.0", "192.0.2.0/0.0.0.255", "192.0.2.0/0x18", "192.0.2.0/2_4", "192.0.2.0/24.0",
    "fe80::%eth0/64", "fe80::/64%eth0", "192.0.2.0:80/24", "[2001:db8::]/32", "192.0.2/24", "192.0.2.0\\24",
]  # fmt: skip


@pytest.mark.parametrize(("ranges", "address"), INSIDE)
def test_an_address_in_one_of_the_ranges_is_granted(ranges: list[str], address: str) -> None:
    assert outcome(ranges, address) == "granted"


@pytest.mark.parametrize(("ranges", "address"), OUTSIDE)
def test_an_address_in_none_of_the_ranges_is_refused(ranges: list[str], address: str | None) -> None:
    assert outcome(ranges, address) == Reason.ADDRESS


@pytest.mark.parametrize("text", NOT_ONE)
def test_an_invalid_address_is_rejected_on_both_sides(text: str) -> None:
    for into, body in (
        (IssueRequest, {"nodeId": "n", "ipAddresses": [text]}),
        (UseRequest, {"token": TOKEN, "ipAddress": text}),
    ):
        with pytest.raises(InvalidRequest) as refused:
            read(body, into)
        assert [error.field for error in refused.value.errors] in (["ipAddresses[0]"], ["ipAddress"])


@pytest.mark.parametrize("text", NO_ADDRESS_BUT_A_RANGE)
def test_a_caller_has_one_address_and_no_range(text: str) -> None:
    assert terms_of(text).networks
    with pytest.raises(InvalidRequest):
        outcome(["0.0.0.0/0"], text)


@pytest.mark.parametrize("text", NO_RANGE)
def test_an_invalid_range_is_rejected(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        terms_of("10.0.0.0/8", text)
    assert [error.field for error in refused.value.errors] == ["ipAddresses[1]"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.0/24", "::ffff:192.0.2.0/120"),
        ("0.0.0.0/0", "::ffff:0:0/96"),
        ("2001:db8::1", "2001:DB8:0:0::1/128"),
        ("::", "0::0/128"),
    ],
)
def test_two_spellings_of_one_range_are_a_value_twice(one: str, other: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        terms_of(one, other)
    assert [(error.field, error.message) for error in refused.value.errors] == [("ipAddresses", "holds a value twice")]


@pytest.mark.parametrize(
    ("text", "bits"), [("203.0.113.77", 32), ("2001:db8:a5a5:5a5a:a5a5:5a5a:a5a5:5a5a", 128)], ids=["IPv4", "IPv6"]
)
def test_every_prefix_holds_its_first_and_last_address_and_not_its_neighbours(text: str, bits: int) -> None:
    """By arithmetic on whole numbers, not by the library that the service uses."""
    address = addresses.parse_address(text)
    kind = type(address)
    for prefix in range(bits + 1):
        size = 2 ** (bits - prefix)
        first = int(address) // size * size
        last = first + size - 1
        networks = terms_of(f"{kind(first)}/{prefix}").networks
        assert all(addresses.matches(kind(each), networks) for each in (first, last, int(address)))
        assert not any(addresses.matches(kind(each), networks) for each in (first - 1, last + 1) if 0 <= each < 2**bits)


def test_the_api_returns_a_mapped_address_as_the_ipv4_address_it_maps(api: Api, client: Credentials) -> None:
    issued = api.issue(client, ipAddresses=["::ffff:192.0.2.0/120", "2001:DB8::/32"], maxUses=2)
    for address in ("::ffff:192.0.2.7", "2001:DB8::7"):
        assert api.use(client, issued["token"], ipAddress=address).status == 200
    status = api.call("GET", f"/token/{issued['tokenId']}", client).json
    assert status["ipAddresses"] == ["192.0.2.0/24", "2001:db8::/32"]
    assert [claim["ipAddress"] for claim in status["claims"]] == ["192.0.2.7", "2001:db8::7"]
