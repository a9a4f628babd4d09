"""Requests and answers as types: text in, domain objects out, and back again."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib import addresses, tokens
from chalicelib.clients import CLIENT_ID
from chalicelib.http import conversion, parsing
from chalicelib.http.problems import MAX_ERRORS, Errors, InvalidRequest
from chalicelib.http.schemas import BatchRequest, IssueRequest, RevokeRequest, UseRequest
from chalicelib.tokens import Action, Document, Grant, Terms

NOW = datetime(2026, 11, 21, 12, 0, 0, 123_000, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TOKEN = "0123456789abcdef" * 4
NODE_ID = "must be a string of 1 to 1024 characters without control characters"
LEAVE_OUT = "; if it is not set, leave the field out"
REQUESTS = (IssueRequest, BatchRequest, UseRequest, RevokeRequest)


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def as_it_is(request: Any, errors: Errors) -> Any:
    """The request itself, without checks of its meaning."""
    return request


def parse(raw: bytes, into: type[Any]) -> Any:
    return parsing.parse_body(raw, into, as_it_is)


def parse_query(query: dict[str, list[str]]) -> Any:
    return parsing.parse_query(query, UseRequest, as_it_is)


def issue(**fields: Any) -> Terms:
    return parsing.parse_body(body(**{"nodeId": "n", **fields}), IssueRequest, partial(conversion.to_terms, now=NOW))


def issue_all(*entries: Any) -> list[Terms]:
    return parsing.parse_body(body(tokens=entries), BatchRequest, partial(conversion.to_terms_of_all, now=NOW))


def named(call: Any, *arguments: Any) -> list[str]:
    """The fields that an invalid request names."""
    with pytest.raises(InvalidRequest) as caught:
        call(*arguments)
    assert all(error.message for error in caught.value.errors)
    return [error.field for error in caught.value.errors]


def messages(call: Any, *arguments: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        call(*arguments)
    return {error.field: error.message for error in caught.value.errors}


def named_if_refused(call: Any, *arguments: Any) -> list[str] | None:
    """The fields that an invalid request names, at least one; None: it is a valid one."""
    try:
        call(*arguments)
    except InvalidRequest as invalid:
        return [error.field for error in invalid.errors]
    return None


characters = st.characters(exclude_categories=("Cs",), exclude_characters="\ufffd")
texts = st.text(characters, max_size=20)
node_ids = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffd"), min_size=1, max_size=40)
client_ids = st.from_regex(CLIENT_ID, fullmatch=True)
networks = st.one_of(
    st.ip_addresses(), st.sampled_from(["10.0.0.0/8", "2001:db8::/32", "::ffff:192.0.2.0/120", "0.0.0.0/0", "::/0"])
).map(str)
issue_bodies = st.fixed_dictionaries(
    {"nodeId": node_ids},
    optional={
        "actions": st.lists(st.sampled_from(list(Action)), min_size=1, unique=True).map(
            lambda of: [str(a) for a in of]
        ),
        "maxUses": st.integers(1, 100),
        "expiresIn": st.integers(1, 30 * 86_400),
        "user": node_ids,
        "ipAddresses": st.lists(networks, min_size=1, max_size=5, unique_by=addresses.parse_network),
        "audience": st.lists(client_ids, min_size=1, max_size=5, unique=True),
        "metadata": st.dictionaries(st.text(characters, min_size=1, max_size=20), texts, max_size=3),
    },
)


class TestIssue:
    def test_missing_fields_have_the_contracts_default(self) -> None:
        assert issue() == Terms(Document("n"), expires_at=NOW + timedelta(seconds=300))

    @given(issue_bodies)
    def test_every_valid_body_becomes_its_terms(self, said: dict[str, Any]) -> None:
        terms = issue(**said)
        assert terms.document == Document(said["nodeId"], said.get("metadata", {}))
        assert terms.max_uses == said.get("maxUses", 1)
        assert terms.actions == frozenset(said.get("actions", ["download"]))
        assert terms.expires_at - NOW == timedelta(seconds=said.get("expiresIn", 300))
        assert terms.user == (unicodedata.normalize("NFC", said["user"]) if "user" in said else None)
        assert terms.networks == {addresses.parse_network(text) for text in said.get("ipAddresses", ())}
        assert terms.audience == frozenset(said.get("audience", ()))

    @pytest.mark.parametrize("milliseconds", [-1, 0, 999, 1000, 1001, 30 * 86_400_000, 30 * 86_400_000 + 1])
    def test_an_expiry_is_taken_to_the_millisecond_or_named_outside_its_bounds(self, milliseconds: int) -> None:
        expiry = NOW + timedelta(milliseconds=milliseconds)
        if 1000 <= milliseconds <= 30 * 86_400_000:
            assert issue(expiresAt=expiry.isoformat()).expires_at == expiry
        else:
            assert named(lambda: issue(expiresAt=expiry.isoformat())) == ["expiresAt"]

    @given(st.integers(-14 * 60, 14 * 60))
    def test_the_zone_of_an_instant_does_not_matter(self, minutes: int) -> None:
        there = timezone(timedelta(minutes=minutes))
        expiry = NOW + timedelta(hours=1)
        terms = issue(expiresAt=expiry.astimezone(there).isoformat(), notBefore=NOW.astimezone(there).isoformat())
        assert (terms.expires_at, terms.not_before) == (expiry, NOW)
        assert terms.expires_at.tzinfo is UTC

    @given(st.datetimes(timezones=st.timezones() | st.just(timezone(timedelta(hours=14)))))
    def test_every_instant_that_can_be_written_is_taken_or_named(self, instant: datetime) -> None:
        text = instant.isoformat()
        for field in ("expiresAt", "notBefore"):
            assert named_if_refused(lambda field=field: issue(**{field: text})) in (None, [field])

    @given(st.text("0123456789", min_size=1, max_size=40) | st.sampled_from(["9" * n for n in range(1, 20)]))
    def test_an_instant_is_cut_to_the_millisecond_however_many_digits_it_has(self, digits: str) -> None:
        terms = issue(expiresAt=f"2026-11-21T13:00:00.{digits}Z", notBefore=f"2026-11-21t12:30:00.{digits}+00:00")
        cut = timedelta(milliseconds=int(digits[:3].ljust(3, "0")))
        assert terms.expires_at == datetime(2026, 11, 21, 13, tzinfo=UTC) + cut
        assert terms.not_before == datetime(2026, 11, 21, 12, 30, tzinfo=UTC) + cut

    @pytest.mark.parametrize(
        "metadata",
        [{"k": "x" * 2040}, {"k": "é" * 1020}, {"k": '"' * 1020}, {"k": "\n" * 1020}, {"k": "\x01" * 340}, {}],
    )
    def test_metadata_of_2048_bytes_is_taken_and_one_more_character_is_not(self, metadata: dict[str, str]) -> None:
        assert issue(metadata=metadata).document.metadata == metadata
        if metadata:
            longer = {"k": metadata["k"] + "x"}
            assert named(lambda: issue(metadata=longer)) == ["metadata"]


class TestBody:
    @settings(max_examples=300)
    @given(st.binary(max_size=200), st.sampled_from(REQUESTS))
    def test_any_bytes_are_a_request_or_an_invalid_request(self, raw: bytes, into: type[Any]) -> None:
        assert named_if_refused(parse, raw, into) != []

    @pytest.mark.parametrize(
        ("raw", "field", "message"),
        [
            (b"", "body", "is missing"),
            (b" \n", "body", "is missing"),
            (b"{", "body", "is not JSON (line 1, column 2)"),
            (b'{"nodeId":\n"n" 1}', "body", "is not JSON (line 2, column 5)"),
            (b'{"nodeId":1}{', "body", "is not JSON (line 1, column 13)"),
            (b'{"nodeId":"n","maxUses":NaN}', "maxUses", "must be a whole number from 1 to 100"),
            (b'{"nodeId":"n","x":Infinity}', "x", "there is no such field"),
            (b'\xef\xbb\xbf{"nodeId":"n"}', "body", "begins with a byte order mark; send UTF-8 without it"),
            ('{"nodeId":"n"}'.encode("utf-16-le"), "body", "is UTF-16-LE, must be UTF-8"),
            ('{"nodeId":"n"}'.encode("utf-16"), "body", "is UTF-16, must be UTF-8"),
            ('{"nodeId":"ü"}'.encode("latin-1"), "body", "is not UTF-8 (byte 12)"),
            (b"[" * 50_000, "body", "is nested too deeply"),
            (b"[]", "body", "must be a JSON object"),
            (b"null", "body", "must be a JSON object"),
            (b"{}", "nodeId", "is missing"),
            (b'{"nodeId":"n","x":1}', "x", "there is no such field"),
            (b'{"nodeId":"n","\\ud800":1}', "\\ud800", "there is no such field"),
            (b'{"nodeId":"n","%b":1}' % (b"a" * 65), "(a name of 65 characters)", "there is no such field"),
            (b'{"nodeId":"n","nodeId":"n"}', "nodeId", "given more than once"),
            (b'{"nodeId":"n","x":1,"x":1}', "x", "given more than once"),
            (b'{"nodeId":"n","metadata":{"a":"","a":""}}', "metadata.a", "given more than once"),
            (b'{"nodeId":1}', "nodeId", NODE_ID),
            (b'{"nodeId":null}', "nodeId", NODE_ID),
            (b'{"nodeId":"a\\n"}', "nodeId", f"{NODE_ID}; U+000A is a control character"),
            (b'{"nodeId":"\\ud83d"}', "nodeId", f"{NODE_ID}; U+D83D is half of a surrogate pair"),
            (b'{"nodeId":"n","maxUses":0}', "maxUses", "must be a whole number from 1 to 100"),
            (b'{"nodeId":"n","maxUses":1e%b}' % (b"9" * 50), "maxUses", "must be a whole number from 1 to 100"),
            (b'{"nodeId":"n","expiresIn":1e999}', "expiresIn", "must be a whole number from 1 to 2592000"),
            (b'{"nodeId":"n","actions":["print"]}', "actions[0]", "must be one of download, preview, edit"),
            (b'{"nodeId":"n","actions":"edit"}', "actions", "must be a list of 1 to 3 entries"),
            (b'{"nodeId":"n","metadata":[1]}', "metadata", "must be a JSON object of strings"),
            (b'{"nodeId":"n","metadata":{"a":1}}', "metadata[...]", "must be a string"),
            # DynamoDB refuses an item with an empty name in a map.
            (b'{"nodeId":"n","metadata":{"":"v"}}', "metadata", "must not hold an empty name"),
            (
                b'{"nodeId":"n","metadata":{"a":"\\udc00"}}',
                "metadata",
                "must hold text; U+DC00 is half of a surrogate pair",
            ),
            (b'{"nodeId":"n","user":null}', "user", NODE_ID.replace("1024", "256") + LEAVE_OUT),
            (b'{"nodeId":"n","audience":[]}', "audience", "must be a list of 1 to 16 entries" + LEAVE_OUT),
            (
                b'{"nodeId":"n","expiresAt":""}',
                "expiresAt",
                "must be a time with an offset, for example 2026-12-31T23:59:59Z (RFC 3339, no leap second)"
                + LEAVE_OUT,
            ),
        ],
    )
    def test_each_kind_of_error_has_its_own_message(self, raw: bytes, field: str, message: str) -> None:
        assert messages(parse, raw, IssueRequest) == {field: message}

    @pytest.mark.parametrize("text", ["1.0", "1e0", "1E+0", "10e-1", "0.1e1", "1.000000000000000000000"])
    @pytest.mark.parametrize(("field", "attribute"), [("maxUses", "max_uses"), ("expiresIn", "expires_in")])
    def test_a_whole_number_may_be_written_as_a_decimal(self, field: str, attribute: str, text: str) -> None:
        """Appian's numbers are decimals, and JSON Schema takes 1.0 for an integer."""
        raw = f'{{"nodeId":"n","{field}":{text}}}'.encode()
        number = getattr(parse(raw, IssueRequest), attribute)
        assert (number, type(number)) == (1, int)
        [entry] = parse(b'{"tokens":[' + raw + b"]}", BatchRequest).tokens
        assert entry == parse(raw, IssueRequest)

    @given(
        st.dictionaries(
            st.sampled_from([*IssueRequest.__struct_encode_fields__, "x"]),
            st.sampled_from(["n", "edit", "10.0.0.1", "", 1, 1.0, 2.5, 0, None, True, [], {}, {"": "v"}, {"a": "b"}])
            | st.lists(st.sampled_from(["edit", "preview", "a", "10.0.0.0/8", 1, None]), max_size=4),
        )
    )
    def test_the_second_reading_takes_what_msgspec_takes_but_for_decimals(self, said: dict[str, Any]) -> None:
        said = {"nodeId": "n", **said}
        whole = {name: int(value) if value == 1.0 and value is not True else value for name, value in said.items()}
        try:
            expected = msgspec.convert(whole, IssueRequest)
        except msgspec.ValidationError:
            assert named_if_refused(parse, body(**said), IssueRequest)
        else:
            assert parse(body(**said), IssueRequest) == expected
            # A decimal that changes nothing sends a good body through the second reading as well.
            assert parse(body(**{**said, "maxUses": 7.0}), IssueRequest) == msgspec.structs.replace(
                expected, max_uses=7
            )

    def test_every_kind_of_mistake_is_named_in_one_answer(self) -> None:
        raw = (
            b'{"maxUses":0,"expiresAt":"tomorrow","expiresIn":60,"notBefore":1,"ipAddresses":["10.0.0.1/8",5,"x"],'
            b'"actions":["edit","edit","print"],"metadata":{"a":"%b"},"user":"","user":"","surprise":null}'
        ) % (b"x" * 2048)
        read = partial(conversion.to_terms, now=NOW)
        assert sorted(named(parsing.parse_body, raw, IssueRequest, read)) == [
            *("actions", "actions[2]", "expiresAt", "expiresAt", "ipAddresses[0]", "ipAddresses[1]", "ipAddresses[2]"),
            *("maxUses", "metadata", "nodeId", "notBefore", "surprise", "user"),
        ]

    def test_what_is_wrong_by_its_type_is_not_judged_by_its_meaning(self) -> None:
        later = (NOW + timedelta(hours=1)).isoformat()
        assert named(lambda: issue(expiresIn=0, notBefore=later)) == ["expiresIn"]
        assert named(lambda: issue(expiresAt=1, notBefore=later)) == ["expiresAt"]
        assert named(lambda: issue_all({"nodeId": "n"}, None, {"nodeId": "n", "audience": ["a", "a"]}, 5)) == [
            *("tokens[1]", "tokens[3]", "tokens[2].audience"),
        ]
        for said in ({"nodeId": 1}, {"nodeId": 1, "user": "u"}, {"nodeId": "n", "user": None}, {"x": 1}):
            assert len(named(parsing.parse_body, body(**said), RevokeRequest, conversion.to_revocation)) == 1

    def test_no_more_than_fifty_mistakes_are_looked_for(self) -> None:
        for raw, into in (
            (body(**{f"x{n}": 1 for n in range(5_000)}), IssueRequest),
            (body(tokens=[{} for _ in range(100)]), BatchRequest),
            (body(tokens=[{"nodeId": "n", "ipAddresses": ["x", "y"]} for _ in range(100)]), BatchRequest),
        ):
            read: Any = partial(conversion.to_terms_of_all if into is BatchRequest else conversion.to_terms, now=NOW)
            assert len(named(parsing.parse_body, raw, into, read)) == MAX_ERRORS

    def test_a_list_that_is_too_long_is_refused_for_its_length_alone(self) -> None:
        assert messages(parse, body(tokens=[{}] * 101), BatchRequest) == {
            "tokens": "must be a list of 1 to 100 entries"
        }
        assert messages(parse, body(nodeId="n", ipAddresses=[1] * 17), IssueRequest) == {
            "ipAddresses": "must be a list of 1 to 16 entries"
        }

    @given(st.text(st.characters(exclude_categories=("Cs",)), min_size=9, max_size=40), st.sampled_from(REQUESTS))
    def test_values_that_were_sent_are_not_repeated(self, value: str, into: type[Any]) -> None:
        """A value may be a secret, so the message is the same for each."""

        def reported(sent: str) -> dict[str, str]:
            return messages(parse, body(**{name: [[sent]] for name in into.__struct_encode_fields__}), into)

        assert reported(value) == reported("another value")


class TestQuery:
    @given(
        st.dictionaries(texts | st.sampled_from(["token", "user", "action"]), st.lists(texts, max_size=3), max_size=4)
    )
    def test_any_query_is_a_request_or_an_invalid_request(self, query: dict[str, list[str]]) -> None:
        fields = named_if_refused(parse_query, query)
        assert fields != []
        assert set(fields or ()) <= {*query, "token"}

    def test_half_of_a_surrogate_pair_is_named(self) -> None:
        """Lambda reads its event as JSON, which can hold what no UTF-8 can."""
        for query in ({"token": [TOKEN], "user": ["a\ud800"]}, {"token": [TOKEN], "user": ["\udc00"]}):
            assert "half of a surrogate pair" in messages(parse_query, query)["user"]
        assert named(parse_query, {"token": [TOKEN], "\ud800": ["x"]}) == ["\\ud800"]
        assert named(parse_query, {"token": ["\ud800"]}) == ["token"]

    def test_everything_that_is_wrong_is_named(self) -> None:
        query = {"token": ["x"], "action": ["print"], "x": ["1"]}
        assert sorted(named(parse_query, query)) == ["action", "token", "x"]


def test_a_grant_without_a_claim_is_not_a_use() -> None:
    _, token = tokens.new_token("issuer", issue(), NOW)
    with pytest.raises(ValueError, match="not a use"):
        conversion.use_answer(Grant(token))
