"""What the client sends and what it reads, without a service."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import pytest
from tokenservice_client import Claim, Introspection, Issued, Status, Terms, TokenServiceClient, Use, Version
from tokenservice_client.errors import UnexpectedAnswer
from tokenservice_client.transport import base_url, retry_after

from chalicelib.http import routes, schemas
from tests.unit.test_client_errors import OPENAPI

TOKEN = "ab" * 32
NODE = "f2f42052-6e24-4c54-bc15-1e0bb6dce9f7"
PASSWORD = "tss_" + "p" * 43
AT = datetime(2026, 11, 21, 4, 53, 32, 867000, tzinfo=UTC)
INSTANT = "2026-11-21T04:53:32.867Z"

SAMPLES: dict[str, Any] = {
    "IssueAnswer": {"token": TOKEN, "tokenId": "tok_1", "expiresAt": INSTANT, "maxUses": 1, "actions": ["download"]},
    "UseAnswer": {
        "tokenId": "tok_1",
        "nodeId": NODE,
        "actions": ["download"],
        "usesRemaining": 0,
        "expiresAt": INSTANT,
        "useId": "use_1",
        "user": "alice",
        "metadata": {"name": "Report.pdf"},
    },
    "IntrospectAnswer": {
        "active": True,
        "tokenId": "tok_1",
        "nodeId": NODE,
        "actions": ["download"],
        "usesRemaining": 1,
        "expiresAt": INSTANT,
        "user": "alice",
        "metadata": {},
        "reason": "token_expired",
    },
    "ClaimAnswer": {
        "useId": "use_1",
        "at": INSTANT,
        "clientId": "demo",
        "user": "alice",
        "ipAddress": "192.0.2.7",
        "action": "download",
    },
    "VersionAnswer": {"service": "tokenservice", "version": "0.1.0", "commit": "abc", "stage": "dev"},
}
SAMPLES["StatusAnswer"] = {
    "tokenId": "tok_1",
    "issuer": "demo",
    "issuedAt": INSTANT,
    "expiresAt": INSTANT,
    "actions": ["download"],
    "maxUses": 1,
    "usesRemaining": 0,
    "claims": [SAMPLES["ClaimAnswer"]],
    "mismatches": 0,
    "locked": False,
    "revoked": True,
    "revokedAt": INSTANT,
    "notBefore": INSTANT,
    "user": "alice",
    "ipAddresses": ["192.0.2.0/24"],
    "audience": ["records"],
}
READERS: dict[str, Any] = {
    "IssueAnswer": Issued.read,
    "UseAnswer": lambda found: Use.read(found, replayed=False),
    "IntrospectAnswer": Introspection.read,
    "StatusAnswer": Status.read,
    "ClaimAnswer": Claim.read,
    "VersionAnswer": Version.read,
}


@pytest.mark.parametrize("name", READERS)
def test_every_documented_member_is_read(name: str) -> None:
    schema = OPENAPI["components"]["schemas"][name]
    assert set(SAMPLES[name]) == set(schema["properties"])
    asked: set[str] = set()

    class Recorder(dict[str, Any]):
        def __contains__(self, member: object) -> bool:
            asked.add(str(member))
            return super().__contains__(member)

    READERS[name](Recorder(SAMPLES[name]))
    assert asked == set(schema["properties"])


@pytest.mark.parametrize("name", READERS)
def test_optional_members_may_be_missing_and_unknown_members_are_ignored(name: str) -> None:
    required = OPENAPI["components"]["schemas"][name]["required"]
    READERS[name]({member: SAMPLES[name][member] for member in required} | {"brandNew": [1]})


@pytest.mark.parametrize(
    ("name", "member"),
    [(name, member) for name in READERS for member in OPENAPI["components"]["schemas"][name]["required"]],
)
def test_a_missing_or_malformed_member_is_named_without_its_value(name: str, member: str) -> None:
    without = {key: value for key, value in SAMPLES[name].items() if key != member}
    with pytest.raises(UnexpectedAnswer, match=f"lacks {member}"):
        READERS[name](without)
    for wrong in (None, {"7x7": 1}, 7.5, [7], True if member != "active" else 1, "7x7" if "At" in member else 7.5):
        if isinstance(wrong, bool) and isinstance(SAMPLES[name][member], bool):
            continue
        with pytest.raises(UnexpectedAnswer) as refused:
            READERS[name]({**SAMPLES[name], member: wrong})
        assert "7" not in str(refused.value)
        assert refused.value.__context__ is None


@pytest.mark.parametrize("found", [None, [], "text", 7])
@pytest.mark.parametrize("name", READERS)
def test_an_answer_must_be_an_object(name: str, found: Any) -> None:
    with pytest.raises(UnexpectedAnswer):
        READERS[name](found)


def test_instants_are_aware_and_one_without_an_offset_is_unexpected() -> None:
    assert Issued.read(SAMPLES["IssueAnswer"]).expires_at == AT
    with pytest.raises(UnexpectedAnswer, match="expiresAt"):
        Issued.read({**SAMPLES["IssueAnswer"], "expiresAt": "2026-11-21T04:53:32"})


def test_no_repr_holds_a_token_a_password_or_a_document() -> None:
    client = TokenServiceClient("https://tokens.example", "demo", PASSWORD)
    shown = [repr(READERS[name](SAMPLES[name])) for name in READERS]
    shown += [repr(client), str(client), repr(Terms(node_id=NODE)), str(vars(client))]
    for text in shown:
        assert TOKEN not in text
        assert NODE not in text
        assert PASSWORD not in text
    assert repr(client) == "TokenServiceClient('https://tokens.example/tokenservice/services/api', 'demo')"


def test_all_terms_are_written_as_the_service_reads_them() -> None:
    terms = Terms(
        node_id=NODE,
        max_uses=2,
        expires_in=timedelta(minutes=2),
        not_before=AT,
        user="alice",
        ip_addresses=["192.0.2.7", ip_network("2001:db8::/32")],
        actions=["download", "edit"],
        audience=["records"],
        metadata={"name": "Report.pdf"},
    )
    written = terms.as_json()
    assert set(written) | {"expiresAt"} == set(OPENAPI["components"]["schemas"]["IssueRequest"]["properties"])
    read = schemas.msgspec.convert(written, schemas.IssueRequest)
    assert (read.expires_in, read.not_before, read.ip_addresses) == (
        120,
        AT.isoformat(),
        ["192.0.2.7", "2001:db8::/32"],
    )
    assert Terms(node_id=NODE).as_json() == {"nodeId": NODE}
    assert Terms(node_id=NODE, expires_at=AT).as_json()["expiresAt"] == "2026-11-21T04:53:32.867000+00:00"


@pytest.mark.parametrize(
    "wrong",
    [
        {"expires_at": datetime(2026, 1, 1)},  # noqa: DTZ001 - what is refused
        {"not_before": datetime(2026, 1, 1)},  # noqa: DTZ001 - without a zone on purpose
        {"expires_at": "2026-12-31T23:59:59Z"},
        {"expires_at": date(2026, 1, 1)},
        {"expires_at": 1_798_761_599},
        {"not_before": "tomorrow"},
        {"expires_in": "600"},
        {"expires_in": 600.0},
        {"expires_in": True},
        {"max_uses": True},
        {"max_uses": "1"},
        {"max_uses": 1.0},
        {"node_id": None},
        {"node_id": b"node"},
        {"node_id": UUID(NODE)},
        {"user": 7},
        {"user": ["alice"]},
        {"actions": "download"},
        {"actions": [None]},
        {"actions": 7},
        {"ip_addresses": "192.0.2.7"},
        {"ip_addresses": b"192.0.2.7"},
        {"ip_addresses": ip_network("10.0.0.0/8")},
        {"ip_addresses": [3221225991]},
        {"ip_addresses": (each for each in ["192.0.2.7"])},
        {"audience": "records"},
        {"audience": [b"records"]},
        {"metadata": [("a", "b")]},
        {"metadata": {"a": 1}},
        {"metadata": {1: "a"}},
        {"metadata": "a"},
    ],
)
def test_terms_that_mean_something_else_than_they_say_are_refused(wrong: dict[str, Any]) -> None:
    [(name, value)] = wrong.items()
    with pytest.raises(ValueError, match=name) as refused:
        Terms(**{"node_id": NODE, **wrong})
    assert value is None or repr(value) not in str(refused.value)
    client = TokenServiceClient("https://tokens.example", "demo", PASSWORD)
    with pytest.raises(ValueError, match=name):
        client.issue(**{"node_id": NODE, **wrong})


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("https://h.example", "https://h.example"),
        ("https://h.example/", "https://h.example"),
        ("https://h.example/tokenservice/services/api", "https://h.example"),
        ("https://h.example/tokenservice/services/api/", "https://h.example"),
        ("https://h.example:8443/prod", "https://h.example:8443/prod"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_an_address_is_taken_with_and_without_the_base_path(given: str, base: str) -> None:
    assert base_url(given) == base + "/tokenservice/services/api"


@pytest.mark.parametrize(
    "given",
    [
        *("", "h.example", "ftp://h.example", "https://", "https://h.example/?token=1", "https://h.example/#a"),
        *("https://demo:pass@h.example", "http://h.example", "http://10.0.0.1", "http://localhost.h.example"),
        *("https://h.example/a b", "https://h.exa\nmple", "https://[", "https://demo:pass@h\u2100.example"),
        *("https://h.example:0", "https://h.example:port", "https://h.example:70000"),
    ],
)
def test_an_insecure_or_invalid_address_is_rejected(given: str) -> None:
    with pytest.raises(ValueError, match=r"the service's URL|https") as refused:
        TokenServiceClient(given, "demo", PASSWORD)
    assert "pass@" not in str(refused.value)
    assert PASSWORD not in str(refused.value)


def test_plain_http_is_accepted_if_allowed() -> None:
    assert base_url("http://10.0.0.1", allow_insecure=True).startswith("http://10.0.0.1/")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"user": ""}, "client id"),
        ({"user": "a:b"}, "client id"),
        ({"user": "a\nb"}, "client id"),
        ({"password": ""}, "password"),
        ({"password": "secret\r\nX: y"}, "password"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"patience_seconds": -1}, "patience_seconds"),
        ({"patience_seconds": 301}, "patience_seconds"),
        ({"patience_seconds": float("nan")}, "patience_seconds"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds"),
        ({"ca_bundle": "/nonexistent.pem"}, "ca_bundle"),
        ({"ca_bundle": 7}, "ca_bundle"),
        ({"ca_bundle": True}, "ca_bundle"),
        ({"url": None}, "url"),
        ({"url": b"https://tokens.example"}, "url"),
        ({"user": None}, "user"),
        ({"password": b"secret"}, "password"),
        ({"password": None}, "password"),
        ({"timeout_seconds": "10"}, "timeout_seconds"),
        ({"timeout_seconds": True}, "timeout_seconds"),
        ({"patience_seconds": None}, "patience_seconds"),
        ({"connections": 0}, "connections"),
        ({"connections": "10"}, "connections"),
        ({"connections": True}, "connections"),
        ({"allow_insecure": "no"}, "allow_insecure"),
        ({"allow_insecure": 1}, "allow_insecure"),
    ],
)
def test_an_invalid_argument_is_named_without_a_secret(changed: dict[str, Any], named: str) -> None:
    arguments = {"url": "https://tokens.example", "user": "demo", "password": PASSWORD, **changed}
    with pytest.raises(ValueError, match=named) as refused:
        TokenServiceClient(**arguments)
    assert "secret" not in str(refused.value)


def test_invalid_values_are_rejected_before_sending() -> None:
    client = TokenServiceClient("https://tokens.example", "demo", PASSWORD)
    for token_id in (TOKEN, "tok_" + "A" * 32, "tok_1", f"tok_{'a' * 32}\n", "../version"):
        with pytest.raises(ValueError, match="token id"):
            client.status(token_id)
        with pytest.raises(ValueError, match="token id"):
            client.revoke(token_id)
    for key in ("", "a b", "ä", "a\n", "k" * 256):
        with pytest.raises(ValueError, match="idempotency_key"):
            client.use(TOKEN, idempotency_key=key)
    for whose in ({}, {"node_id": NODE, "user": "alice"}):
        with pytest.raises(ValueError, match="either"):
            client.revoke_all(**whose)


@pytest.mark.parametrize(
    ("call", "arguments", "name"),
    [
        ("use", {"token": None}, "token"),
        ("use", {"token": TOKEN.encode()}, "token"),
        ("use", {"token": TOKEN, "user": 7}, "user"),
        ("use", {"token": TOKEN, "action": ["download"]}, "action"),
        ("use", {"token": TOKEN, "ip_address": 3221225991}, "ip_address"),
        ("use", {"token": TOKEN, "ip_address": ip_network("192.0.2.7/32")}, "ip_address"),
        ("use", {"token": TOKEN, "idempotency_key": UUID(NODE)}, "idempotency_key"),
        ("use", {"token": TOKEN, "idempotency_key": 7}, "idempotency_key"),
        ("introspect", {"token": 7}, "token"),
        ("introspect", {"token": TOKEN, "user": b"alice"}, "user"),
        ("status", {"token_id": None}, "token_id"),
        ("revoke", {"token_id": b"tok_"}, "token_id"),
        ("revoke_all", {"node_id": UUID(NODE)}, "node_id"),
        ("revoke_all", {"user": 7}, "user"),
        ("issue_many", {"tokens": [{"node_id": NODE}]}, "tokens"),
        ("issue_many", {"tokens": [Terms(node_id=NODE), None]}, "tokens"),
    ],
)
def test_an_argument_of_another_kind_is_named_before_anything_is_sent(
    call: str, arguments: dict[str, Any], name: str
) -> None:
    client = TokenServiceClient("https://tokens.example", "demo", PASSWORD)
    with pytest.raises(ValueError, match=name) as refused:
        getattr(client, call)(**arguments)
    for secret in (TOKEN, NODE):
        assert secret not in str(refused.value)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        (" 0 ", 0.0),
        ("9" * 50, 999_999_999.0),
        ("Sat, 21 Nov 2026 10:00:05 GMT", 5.0),
        ("Sat, 21 Nov 2020 10:00:05 GMT", 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("٣", None),
    ],
)
def test_how_long_to_wait_is_read_from_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    now = datetime(2026, 11, 21, 10, tzinfo=UTC).timestamp()
    assert retry_after(header, lambda: now) == seconds


def test_every_route_has_a_method() -> None:
    methods = {name for name in vars(TokenServiceClient) if not name.startswith("_")} - {"close"}
    assert methods == {
        *("issue", "issue_many", "use", "introspect", "status", "revoke", "revoke_all", "version"),
    }
    # `GET /use` is kept for old callers, since a token in a URL ends up in logs.
    views = {route.view for route in routes.ROUTES} - {routes.use_token_by_query, routes.get_open_api}
    assert len(views) == len(methods)
