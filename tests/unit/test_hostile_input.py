"""Bad input gets the contract's answer, names what is wrong, and costs no call of the store."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib.http import routes
from tests.support.api import BASE_PATH, NODE, POSTS, Answer, Credentials, MemoryApi, gateway_event

USES = ("/use", "/introspect")
GOOD = ({"nodeId": NODE},) * 3
KILO = 1024


@dataclass
class Witness:
    """A live token that good requests would use, show or revoke."""

    api: MemoryApi
    client: Credentials
    token: str
    token_id: str

    def good_body(self, path: str) -> dict[str, Any]:
        """A body that the route accepts: it would store, spend or revoke something."""
        use = {"token": self.token, "user": "alice", "ipAddress": "10.0.0.1"}
        issue = {"nodeId": NODE}
        bodies = {"/token": issue, "/tokens": {"tokens": [issue] * 4}, "/revoke": {"nodeId": "another-node"}}
        return bodies.get(path, use)

    def refused(  # noqa: PLR0917 - a request and the problem that answers it
        self, status: int, code: str, fields: list[str], method: str, path: str, body: Any = None, **sent: Any
    ) -> Answer:
        """Send a request; the answer is this problem, names exactly these fields, and no store was called."""
        self.api.store.calls.clear()
        answer = self.api.call(method, path, self.client, body, **sent)
        request = (method, path, ascii(body)[:200])
        assert (answer.status, answer.code) == (status, code), (request, answer.text[:500])
        errors = answer.json.get("errors", [])
        assert [error["field"] for error in errors] == fields, request
        assert all(error["message"] for error in errors)
        assert answer.json["status"] == status
        assert answer.json["requestId"] == self.api.gateway.ids["requestId"]
        assert answer.headers["cache-control"] == "no-store"
        assert self.api.store.calls == [], request
        return answer

    def invalid(self, path: str, body: Any, *fields: str, **sent: Any) -> Answer:
        return self.refused(400, "invalid_request", list(fields), "POST", path, body, **sent)

    def invalid_query(self, query: Any, field: str, **sent: Any) -> Answer:
        return self.refused(400, "invalid_request", [field], "GET", "/use", query=query, **sent)


@pytest.fixture(scope="module")
def witness(api: MemoryApi, client: Credentials) -> Witness:
    issued = api.issue(client, user="alice", ipAddresses=["10.0.0.0/8"], expiresIn=86_400)
    return Witness(api, client, issued["token"], issued["tokenId"])


NO_JSON = [
    *(b"", b" \r\n\t ", b"[" * (64 * KILO), b"nodeId=n&token=x", b"{'nodeId':'n'}", b'{"nodeId":"n"}\x00'),
    *(b'{"maxUses":01}', b'{"nodeId":"a\nb"}', b'{"nodeId":"n",}', b'{"nodeId":"n"/* */}'),
    b'{"nodeId":"n"}{"nodeId":"n"}',
    # Invalid UTF-8, an overlong form, one cut short, one in a name, and a surrogate as it is
    *(b'{"nodeId":"\xff\xfe"}', b'{"nodeId":"\xc0\x80"}', b'{"nodeId":"\xe2\x82"}', b'{"\xff":"n"}'),
    b'{"nodeId":"\xed\xa0\x80"}',
    # UTF-16, and a byte order mark
    *('{"nodeId":"n"}'.encode("utf-16"), b'\xef\xbb\xbf{"nodeId":"n"}'),
]
NO_OBJECT = [b"[]", b'[{"nodeId":"n"}]', b'"nodeId"', b"1", b"false", b"null", b"NaN", b"9" * 5_000]


class TestBody:
    """The body as such, on every route that takes one."""

    @pytest.mark.parametrize("body", [*NO_JSON, *NO_OBJECT, None], ids=lambda body: ascii(body)[:30])
    def test_what_is_no_json_object_is_refused(self, witness: Witness, body: bytes | None) -> None:
        for path in POSTS:
            witness.invalid(path, body, "body")

    @pytest.mark.parametrize("path", POSTS)
    def test_an_unknown_a_repeated_and_a_null_field_are_named(self, witness: Witness, path: str) -> None:
        good = witness.good_body(path)
        once = json.dumps(good)[1:-1]
        witness.invalid(path, {**good, "surprise": 1}, "surprise")
        witness.invalid(path, {**good, "": None}, "")
        witness.invalid(path, rf'{{{once},"\ud800":1}}'.encode(), r"\ud800")
        for name, value in good.items():
            witness.invalid(path, {**good, name.upper(): value}, name.upper())
            witness.invalid(path, f'{{{once}, "{name}": {json.dumps(value)}}}'.encode(), name)
            escaped = f"\\u{ord(name[0]):04x}{name[1:]}"
            witness.invalid(path, f'{{"{escaped}": {json.dumps(value)}, {once}}}'.encode(), name)
        for name in POSTS[path].__struct_encode_fields__:
            witness.invalid(path, {**good, name: None}, name)

    @pytest.mark.parametrize(
        "media_type",
        [
            *("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"),
            *("application/jsonx", "application/problem+json", "application/xml", "json", "", "*/*", ";", "\xff"),
            "text/plain; application/json",
        ],
    )
    def test_another_media_type_is_unsupported(self, witness: Witness, media_type: str) -> None:
        for path in POSTS:
            body, headers = witness.good_body(path), {"Content-Type": media_type}
            witness.refused(415, "unsupported_media_type", [], "POST", path, body, headers=headers)

    @pytest.mark.parametrize("name", ["Content-Type", "content-type", "CONTENT-TYPE"])
    def test_json_is_accepted_however_its_media_type_is_written_and_also_without(
        self, api: MemoryApi, client: Credentials, name: str
    ) -> None:
        written = ("application/json", "Application/JSON; Charset=UTF-8", "APPLICATION/JSON ;charset=utf-8")
        for sent in ({}, *({name: media_type} for media_type in (*written, " application/json"))):
            headers = {"Authorization": client.header, **sent}
            response = api.gateway.handle_request("POST", BASE_PATH + "/token", headers, b'{"nodeId":"n"}')
            assert response["statusCode"] == 201, response["body"]


NO_INSTANTS = [
    *(0, True, "", "now", "1795269600", "2030-01-01", "2030-01-01T13:00Z", "2030-01-01T13:00:00"),
    *("2030-01-01T13:00:00.5", "2030-01-01T13:00:00.Z", "2030-01-01T13:00:00,5Z", "2030-01-01T24:00:00Z"),
    *("2030-01-01T13:60:00Z", "2030-02-29T13:00:00Z", "0000-01-01T13:00:00Z", "2030-01-01_13:00:00Z"),
    *("2030-01-01T13:00:00+24:00", "2030-01-01T13:00:00+01:60", "2030-01-01T13:00:00+01", "20300101T130000Z"),
    *("2030-W01-6T13:00:00Z", "2030-01-01T13:00:00Z\n", " 2030-01-01T13:00:00Z", "\u0662030-01-01T13:00:00Z"),
    *("+2030-01-01T13:00:00Z", "2030-01-01T13:00:00ZZ", "10000-01-01T00:00:00Z", "2030-01-01T13:00:00-0:00"),
    "2030-01-01T13:00:00 +00:00",
]
WRONG_VALUES: dict[str, list[Any]] = {
    # test_names.py has the other characters that no name holds.
    "nodeId": ["", 1, True, [], {}, ["n"], "x" * 1025, "𝄞" * 1025, "\n"],
    "maxUses": [
        *(0, -1, 101, 10**18, 10**30, -(10**30), 1.5, 0.5, 101.0, -0.0, 1e300, True, False, "1", [], {}),
    ],
    "expiresIn": [0, -1, 30 * 86_400 + 1, 2**63, 2**64, 59.5, 0.0, True, "60", "PT60S", [60]],
    "actions": [[], "download", {}, ["edit", "edit"], ["edit", "download", "preview", "edit"]],
    "user": ["", "u" * 257, 1, True, ["alice"], {"name": "alice"}],
    "ipAddresses": [[], "10.0.0.1", {}, ["10.0.0.1", "10.0.0.1"], [f"10.0.0.{n}" for n in range(17)]],
    "audience": [[], "records", ["a", "a"], [f"c{n}" for n in range(17)]],
    "metadata": [[], "x", 1, {"a": "\n" * 1024}, {str(n): "" for n in range(400)}],
    "expiresAt": [
        *(*NO_INSTANTS, 1_900_000_000, 1.5, "2020-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
        *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"),
        # Neither Python nor POSIX time has a leap second, and guessing its neighbour would move an expiry.
        "2027-06-30T23:59:60Z",
    ],
    "notBefore": [*NO_INSTANTS, "2030-12-31T23:59:60Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00"],
}
WRONG_ENTRIES: dict[str, list[Any]] = {
    "actions[0]": [["print"], ["Download"], [""], ["download\n"]],
    "actions[1]": [["download", 1], ["download", None], ["edit", ["edit"]]],
    # What is an address and what is not stands in test_addresses.py.
    "ipAddresses[0]": [
        *([wrong] for wrong in (1, None, "", 167_772_161, "10.0.0.1/8", "fe80::1%eth0", "localhost", "x" * 65)),
    ],
    "ipAddresses[2]": [["10.0.0.1", "10.0.0.2", "10.0.0.300"]],
    "audience[0]": [[wrong] for wrong in (1, "", "a b", "-a", "é", "a" * 65, "a\x00")],
    "audience[1]": [["a", "a\n"]],
    "metadata[...]": [{"a": wrong} for wrong in (1, None, True, {"b": "c"}, ["b"])],
}
FIELD_CASES = [(field, value) for field, values in (WRONG_VALUES | WRONG_ENTRIES).items() for value in values]


class TestIssue:
    @pytest.mark.parametrize(("field", "value"), FIELD_CASES, ids=lambda value: ascii(value)[:40])
    def test_a_value_that_is_out_of_bounds_or_of_another_type_is_named(
        self, witness: Witness, field: str, value: Any
    ) -> None:
        body = {"nodeId": NODE, field.partition("[")[0]: value}
        witness.invalid("/token", body, field)
        witness.invalid("/tokens", {"tokens": [*GOOD, body]}, f"tokens[3].{field}")

    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("nodeId", ["n", "x" * 1024, "𝄞" * 1024, " ", "a\u2028b", "../..", "'; --"]),
            ("maxUses", [1, 100, 1.0, 1e2]),
            ("expiresIn", [1, 30 * 86_400, 60.0, 2.592e6]),
            (
                "notBefore",
                ["2020-02-29T12:00:00Z", "2020-02-29t12:00:00z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"],
            ),
            ("actions", [["edit"], ["edit", "download", "preview"]]),
            ("user", ["u", "𝄞" * 256]),
            ("audience", [["a"], ["A" * 64], [f"c{n}" for n in range(16)]]),
            ("ipAddresses", [["0.0.0.0/0", "::/0"], ["::ffff:10.0.0.0/104"], [f"10.0.0.{n}" for n in range(16)]]),
            ("metadata", [{}, {" ": ""}, {"a\x00\n": "\x7f"}]),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_value_at_the_bound_is_accepted(
        self, api: MemoryApi, client: Credentials, name: str, values: list[Any]
    ) -> None:
        for value in values:
            assert api.issue(client, **{name: value})["token"]


WRONG_BODIES: list[tuple[str, Any, str]] = [
    ("/tokens", {}, "tokens"),
    *(("/tokens", {"tokens": wrong}, "tokens") for wrong in ([], [*GOOD] * 34, GOOD[0], {"0": GOOD[0]}, "n", 1)),
    *(("/tokens", {"tokens": [*GOOD, wrong]}, "tokens[3]") for wrong in (None, 1, "n", [], True)),
    ("/tokens", {"tokens": [*GOOD, {"maxUses": 1}]}, "tokens[3].nodeId"),
    ("/tokens", {"tokens": [*GOOD, {**GOOD[0], "surprise": 1}]}, "tokens[3].surprise"),
    ("/tokens", b'{"tokens":[{"nodeId":"a","nodeId":"b"}]}', "tokens[0].nodeId"),
    # One node or one user.
    *(("/revoke", wrong, "nodeId") for wrong in ({}, {"nodeId": NODE, "user": "alice"})),
    ("/revoke", {"token": "a" * 64}, "token"),
    *(("/revoke", {"nodeId": wrong}, "nodeId") for wrong in ("", NODE + "\n", "x" * 1025, [NODE], 1)),
    *(("/revoke", {"user": wrong}, "user") for wrong in ("", "u" * 257, ["alice"])),
]


@pytest.mark.parametrize(("path", "body", "field"), WRONG_BODIES, ids=lambda value: ascii(value)[:40])
def test_what_is_wrong_in_a_batch_or_a_revocation_is_named(witness: Witness, path: str, body: Any, field: str) -> None:
    witness.invalid(path, body, field)


BAD_USES: dict[str, list[Any]] = {
    "token": [
        *("", "x", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 63 + "\n", "a" * 64 + "\n", " " * 64, "\u0660" * 64),
        *(1, True, [], {}, ["a" * 64], int("1" * 64)),
    ],
    "action": ["", "Download", "print", "download ", "download,edit", 1, True, [], ["download"], {}],
    "user": ["", "u" * 257, 1, True, ["alice"], {}, "alice\n", "\x1b[2J", "\x85", "\ufffd"],
    "ipAddress": ["", "10.0.0.0/8", "10.0.0.256", "x" * 65, 1, True, ["10.0.0.1"], {}, 167_772_161],
}


class TestUse:
    @pytest.mark.parametrize(
        ("name", "value"), [(name, value) for name, values in BAD_USES.items() for value in values], ids=ascii
    )
    def test_a_value_that_is_out_of_bounds_or_of_another_type_is_named(
        self, witness: Witness, name: str, value: Any
    ) -> None:
        bad = {**witness.good_body("/use"), name: value}
        for path in USES:
            witness.invalid(path, bad, name)
        if isinstance(value, str):
            witness.invalid_query(bad, name)

    @pytest.mark.parametrize("name", ["token", "user", "ipAddress", "action", "surprise"])
    @pytest.mark.parametrize("times", [2, 100])
    def test_a_query_parameter_that_is_given_twice_is_named_though_both_say_the_same(
        self, witness: Witness, name: str, times: int
    ) -> None:
        query: dict[str, Any] = {**witness.good_body("/use"), "action": "download"}
        witness.invalid_query({**query, name: [query.get(name, "x")] * times}, name)

    @pytest.mark.parametrize("name", ["surprise", "Token", "token[]", "token\x00", "", "ipaddress", "Idempotency-Key"])
    def test_an_unknown_query_parameter_is_named(self, witness: Witness, name: str) -> None:
        witness.invalid_query({**witness.good_body("/use"), name: "x"}, name)


@pytest.mark.parametrize("key", ["", "a b", "é", "~" * 256, "a\n", "\x7f"], ids=ascii)
def test_a_key_is_1_to_255_visible_ascii_characters(witness: Witness, key: str) -> None:
    said, headers = witness.good_body("/use"), {"Idempotency-Key": key}
    for good in ("!", "~" * 255):
        assert witness.api.use(witness.client, "0" * 64, key=good).code == "token_not_found"
    witness.invalid("/use", said, "Idempotency-Key", headers=headers)
    witness.invalid_query(said, "Idempotency-Key", headers=headers)


ROUTES = [(route.method, route.path) for route in routes.ROUTES]


class TestHeadersGivenTwice:
    @pytest.mark.parametrize("name", ["Idempotency-Key", "Content-Type", "Authorization"])
    @pytest.mark.parametrize(("method", "path"), [*ROUTES, ("PUT", "/token"), ("OPTIONS", "/use")])
    def test_a_header_that_decides_something_is_refused_when_it_comes_twice_on_every_route(
        self, witness: Witness, method: str, path: str, name: str
    ) -> None:
        value = {"Authorization": witness.client.header, "Content-Type": "application/json"}.get(name, "key")
        body = witness.good_body(path) if method == "POST" else None
        query = witness.good_body("/use") if method == "GET" else None
        target = path.replace("{token_id}", witness.token_id)
        for headers in ({name: ["x", value]}, {name: [value] * 2}, {name.lower(): value, name.upper(): value}):
            witness.refused(400, "invalid_request", [name], method, target, body, query=query, headers=headers)

    def test_all_headers_that_came_twice_are_named(self, witness: Witness) -> None:
        headers = {"content-type": ["application/json"] * 3, "IDEMPOTENCY-KEY": ["k"] * 3}
        witness.invalid("/use", witness.good_body("/use"), "Content-Type", "Idempotency-Key", headers=headers)

    def test_other_headers_may_come_more_than_once(self, api: MemoryApi, client: Credentials) -> None:
        headers = {"X-Forwarded-For": ["10.0.0.1", "10.0.0.2"], "Accept": ["application/json", "*/*"]}
        assert api.call("GET", "/version", client, headers=headers).status == 200

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("Content-Type", "application/json, application/json"),
            ("Content-Type", "application/json; charset=utf-8,application/json"),
            ("Content-Type", "application/json; charset=utf-8, text/plain"),
            ("Idempotency-Key", "first, second"),
        ],
    )
    def test_two_values_that_a_proxy_joined_by_a_comma_are_two(self, witness: Witness, name: str, value: str) -> None:
        answer = witness.invalid("/use", witness.good_body("/use"), name, headers={name: value})
        assert f"{name}: given more than once" in answer.json["detail"]

    def test_a_comma_in_quotes_or_inside_a_key_joins_nothing(self, api: MemoryApi, client: Credentials) -> None:
        headers = {"Content-Type": 'application/json; profile="a,b"', "Idempotency-Key": "a,b"}
        body = {"token": api.issue(client)["token"]}
        assert api.call("POST", "/use", client, body, headers=headers).status == 200


def test_what_is_no_token_id_has_no_status_and_is_not_revoked(witness: Witness) -> None:
    """A token that was given for its id must not become a key in somebody's data events, nor too long a one."""
    token, good = witness.token, witness.token_id
    for wrong in [
        *(token, f"tok_{token}", good.upper(), good[:-1], good + "0", good.replace("_", "%5F"), "%74" + good[1:]),
        *(good + "%0A", good + "%00", good + "%20", "%2e%2e", "..", "*", "tok_", "tok_" + "g" * 32),
        *("%ED%A0%80", "%FF", "%", "tok_" + "0" * 5_000),
    ]:
        path = f"/token/{wrong}"
        for answer in (
            witness.refused(404, "token_not_found", [], "GET", path),
            witness.refused(400, "invalid_request", ["tokenId"], "DELETE", path),
        ):
            assert token not in answer.text


@pytest.mark.parametrize(
    ("body", "binary", "status"),
    [
        ('{"nodeId":"n"}', False, 201),
        (base64.b64encode(b'{"nodeId":"n"}').decode(), True, 201),
        ('{"nodeId":"Größe"}', False, 201),
        (None, False, 400),
        ("", False, 400),
        ("\ud800", False, 400),
        ("!!!", True, 400),
        ("YQ=", True, 400),
        ("ä", True, 400),
        (base64.b64encode(b"\xff").decode(), True, 400),
        ("é" * 32 * KILO, False, 400),
        ("é" * 32 * KILO + "x", False, 413),
        (base64.b64encode(b" " * 64 * KILO).decode(), True, 400),
        (base64.b64encode(b" " * (64 * KILO + 1)).decode(), True, 413),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_text_and_base64_are_both_read_and_measured_in_bytes(
    api: MemoryApi, client: Credentials, body: object, binary: bool, status: int
) -> None:
    """API Gateway hands the body over as text, or in base64 where it takes it for binary."""
    event = gateway_event(client, "POST", "/token", body, isBase64Encoded=binary)
    api.store.calls.clear()
    response = api.app(event, SimpleNamespace(aws_request_id="request-1"))
    assert response["statusCode"] == status, response["body"]
    if status != 201:
        answer = json.loads(response["body"])
        assert answer["requestId"] == "request-1"
        assert [error["field"] for error in answer.get("errors", [])] == (["body"] if status == 400 else [])
        assert api.store.calls == []
