"""What the client sends and what it reads, without a service."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import pytest
from tokenservice_client import Claim, Introspection, Issued, Status, Terms, TokenServiceClient, Use, Version
from tokenservice_client.errors import UnexpectedAnswer
from tokenservice_client.transport import BASE_PATH, base_url, retry_after

from chalicelib.http import routes, schemas
from tests.support import examples

TOKEN = "ab" * 32
NODE = "f2f42052-6e24-4c54-bc15-1e0bb6dce9f7"
PASSWORD = "tss_" + "p" * 43
AT = datetime(2026, 11, 21, 4, 53, 32, 867000, tzinfo=UTC)
INSTANT = "2026-11-21T04:53:32.867Z"

READERS: dict[str, Any] = {
    "IssueAnswer": Issued.read,
    "UseAnswer": lambda found: Use.read(found, replayed=False),
    "IntrospectAnswer": Introspection.read,
    "StatusAnswer": Status.read,
    "ClaimAnswer": Claim.read,
    "VersionAnswer": Version.read,
}


SCHEMAS: dict[str, Any] = examples.document()["components"]["schemas"]


def sample(schema: dict[str, Any], name: str = "") -> Any:
    """A value of a documented type, with every member."""
    if "$ref" in schema:
        return sample(SCHEMAS[schema["$ref"].rpartition("/")[2]], name)
    if "properties" in schema:
        return {member: sample(below, member) for member, below in schema["properties"].items()}
    if "items" in schema:
        return [sample(schema["items"])]
    text = {"token": TOKEN, "nodeId": NODE}.get(name, INSTANT if schema.get("format") == "date-time" else "text")
    kinds = {"string": text, "integer": 1, "boolean": True, "object": {"name": "Report.pdf"}}
    return kinds[schema["type"]]


SAMPLES = {name: sample(SCHEMAS[name]) for name in READERS}


@pytest.mark.parametrize("name", READERS)
def test_every_documented_member_is_read(name: str) -> None:
    asked: set[str] = set()

    class Recorder(dict[str, Any]):
        def __contains__(self, member: object) -> bool:
            asked.add(str(member))
            return super().__contains__(member)

    READERS[name](Recorder(SAMPLES[name]))
    assert asked == set(SAMPLES[name])


@pytest.mark.parametrize("name", READERS)
def test_optional_members_may_be_missing_and_unknown_members_are_ignored(name: str) -> None:
    required = SCHEMAS[name]["required"]
    READERS[name]({member: SAMPLES[name][member] for member in required} | {"brandNew": [1]})


@pytest.mark.parametrize(
    ("name", "member"),
    [(name, member) for name in READERS for member in SCHEMAS[name]["required"]],
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
def test_an_answer_must_be_an_object(found: Any) -> None:
    with pytest.raises(UnexpectedAnswer):
        Version.read(found)


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
    assert set(written) | {"expiresAt"} == set(SCHEMAS["IssueRequest"]["properties"])
    read = schemas.msgspec.convert(written, schemas.IssueRequest)
    assert (read.expires_in, read.not_before, read.ip_addresses) == (
        120,
        AT.isoformat(),
        ["192.0.2.7", "2001:db8::/32"],
    )
    assert Terms(node_id=NODE).as_json() == {"nodeId": NODE}
    assert Terms(node_id=NODE, expires_at=AT).as_json()["expiresAt"] == "2026-11-21T04:53:32.867000+00:00"


@pytest.mark.parametrize(
    ("given", "base"),
    [
        *((f"https://h.example{path}", "https://h.example") for path in ("", "/", BASE_PATH, f"{BASE_PATH}/")),
        ("https://h.example:8443/prod", "https://h.example:8443/prod"),
        *((local, local) for local in ("http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000")),
    ],
)
def test_an_address_is_taken_with_and_without_the_base_path(given: str, base: str) -> None:
    assert base_url(given) == base + BASE_PATH


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


GOOD: dict[str, dict[str, Any]] = {
    "TokenServiceClient": {"url": "https://tokens.example", "user": "demo", "password": PASSWORD},
    "Terms": {"node_id": NODE},
    "issue": {"node_id": NODE},
    "use": {"token": TOKEN},
    "introspect": {"token": TOKEN},
}
WRONG: dict[str, dict[str, list[Any]]] = {
    "TokenServiceClient": {
        "user": ["", "a:b", "a\nb", None],
        "password": ["", "secret\r\nX: y", b"secret", None],
        "url": [None, b"https://tokens.example"],
        "timeout_seconds": [0, float("nan"), "10", True],
        "patience_seconds": [-1, 301, float("nan"), None],
        "ca_bundle": ["/nonexistent.pem", 7, True],
        "connections": [0, "10", True],
        "allow_insecure": ["no", 1],
    },
    "Terms": {
        # The first is without a zone.
        "expires_at": [AT.replace(tzinfo=None), INSTANT, date(2026, 1, 1), 1_798_761_599],
        "not_before": [AT.replace(tzinfo=None), "tomorrow"],
        "expires_in": ["600", 600.0, True],
        "max_uses": ["1", 1.0, True],
        "node_id": [None, b"node", UUID(NODE)],
        "user": [7, ["alice"]],
        "actions": ["download", [None], 7],
        "ip_addresses": [*("192.0.2.7", b"192.0.2.7", ip_network("10.0.0.0/8"), [3221225991]), iter(["192.0.2.7"])],
        "audience": ["records", [b"records"]],
        "metadata": [[("a", "b")], {"a": 1}, {1: "a"}, "a"],
    },
    "issue": {"expires_at": [AT.replace(tzinfo=None)]},
    "use": {
        "token": [None, TOKEN.encode()],
        "ip_address": [3221225991, ip_network("192.0.2.7/32")],
        "idempotency_key": [UUID(NODE), 7, "", "a b", "ä", "a\n", "k" * 256],
        "user": [7],
        "action": [["download"]],
    },
    "introspect": {"token": [7], "user": [b"alice"]},
    "revoke_all": {"user": [7], "node_id": [UUID(NODE)]},
    "status": {"token_id": [None, TOKEN, "tok_" + "A" * 32, "tok_1", f"tok_{'a' * 32}\n", "../version"]},
    "revoke": {"token_id": [b"tok_", TOKEN]},
    "issue_many": {"tokens": [[{"node_id": NODE}], [Terms(node_id=NODE), None]]},
}


@pytest.mark.parametrize(
    ("call", "argument", "wrong"),
    [(call, name, wrong) for call, names in WRONG.items() for name, values in names.items() for wrong in values],
)
def test_an_invalid_argument_is_named_before_anything_is_sent(call: str, argument: str, wrong: Any) -> None:
    made = {"TokenServiceClient": TokenServiceClient, "Terms": Terms}.get(call)
    method = made or getattr(TokenServiceClient("https://tokens.example", "demo", PASSWORD), call)
    names = {"token_id": "token.id", "user": "user|client id"}
    with pytest.raises(ValueError, match=names.get(argument, argument)) as refused:
        method(**{**GOOD.get(call, {}), argument: wrong})
    for secret in (TOKEN, NODE, PASSWORD, "secret\r", "10.0.0", "3221225991"):
        assert secret not in str(refused.value)


@pytest.mark.parametrize("whose", [{}, {"node_id": NODE, "user": "alice"}])
def test_the_tokens_of_one_node_or_one_user_are_revoked(whose: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="either"):
        TokenServiceClient("https://tokens.example", "demo", PASSWORD).revoke_all(**whose)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        *(("3", 3.0), (" 0 ", 0.0), ("9" * 50, 999_999_999.0)),
        *(("Sat, 21 Nov 2026 10:00:05 GMT", 5.0), ("Sat, 21 Nov 2020 10:00:05 GMT", 0.0)),
        *((none, None) for none in (None, "", "soon", "-1", "٣")),
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
