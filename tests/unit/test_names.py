"""Names of users and documents: which spellings are one, which characters none holds, and what is kept as it came."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.api import NODE, Answer, Credentials, MemoryApi
from tests.support.spellings import FORMS, NAME, revoked, spelled

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
USES: dict[str, Callable[[MemoryApi, Credentials, dict[str, Any]], Answer]] = {
    "POST /use": lambda api, client, said: api.call("POST", "/use", client, said),
    "GET /use": lambda api, client, said: api.call("GET", "/use", client, query=said),
    "POST /introspect": lambda api, client, said: api.call("POST", "/introspect", client, said),
}


class TestSpellings:
    @pytest.mark.parametrize("use", USES.values(), ids=USES)
    @pytest.mark.parametrize("used", FORMS)
    @pytest.mark.parametrize("issued", FORMS)
    def test_a_user_is_the_same_in_each_spelling(
        self, api: MemoryApi, client: Credentials, issued: str, used: str, use: Callable[..., Answer]
    ) -> None:
        token = api.issue(client, user=spelled(issued))["token"]
        answer = use(api, client, {"token": token, "user": spelled(used)})
        assert answer.status == 200, answer.text
        assert answer.json.get("active", True) is True
        assert answer.json["user"] == spelled("NFC")

    def test_the_status_and_a_repetition_know_one_spelling(self, api: MemoryApi, client: Credentials) -> None:
        issued = api.issue(client, user=spelled("NFD"))
        first, again = (api.use(client, issued["token"], user=spelled(form), key="key") for form in ("NFD", "NFC"))
        assert (first.status, again.status, again.text) == (200, 200, first.text)
        assert again.headers["idempotent-replayed"] == "true"
        status = api.call("GET", f"/token/{issued['tokenId']}", client).json
        assert (status["user"], status["claims"][0]["user"]) == (spelled("NFC"), spelled("NFC"))

    @pytest.mark.parametrize(("issued", "asked"), [("NFC", "NFD"), ("NFD", "NFC")])
    @pytest.mark.parametrize("field", ["user", "nodeId"])
    def test_tokens_are_revoked_by_each_spelling(
        self, api: MemoryApi, client: Credentials, issued: str, asked: str, field: str
    ) -> None:
        name = f"{NAME} {field} {issued}"
        token = api.issue(client, **{field: spelled(issued, name)})["token"]
        assert revoked(api, client, **{field: spelled(asked, name)}) == 1
        assert api.use(client, token, user=name).code == "token_revoked"

    @pytest.mark.parametrize("other", ["jürgen", "JÜRGEN", "Jurgen", "Jürgen ", "Ju\u0308rgen\u0308", "\uff2aürgen"])
    def test_another_name_is_another_user_case_included(self, api: MemoryApi, client: Credentials, other: str) -> None:
        token = api.issue(client, user="Jürgen")["token"]
        assert api.use(client, token, user=other).code == "user_mismatch"
        assert api.use(client, token, user="Jürgen").status == 200
        token = api.issue(client, user="\u212b")["token"]  # the ångström sign, which Unicode holds for the letter
        assert api.use(client, token, user="Å").status == 200

    def test_a_node_id_and_metadata_come_back_as_they_were_sent(self, api: MemoryApi, client: Credentials) -> None:
        for form in FORMS:
            said = {"nodeId": spelled(form), "metadata": {spelled(form): spelled(form)}}
            used = api.use(client, api.issue(client, **said)["token"]).json
            assert {name: used[name] for name in said} == said

    @pytest.mark.parametrize("letter", ["u", "ü", "ễ", "한", "𝄞"])
    def test_the_length_of_a_user_is_counted_in_the_form_that_is_compared(
        self, api: MemoryApi, client: Credentials, letter: str
    ) -> None:
        for form in FORMS:
            user = unicodedata.normalize(form, letter * 256)
            token = api.issue(client, user=user)["token"]
            assert api.use(client, token, user=user).json["user"] == letter * 256
            longer = unicodedata.normalize(form, letter * 257)
            for path, body in (
                ("/token", {"nodeId": NODE, "user": longer}),
                ("/use", {"token": token, "user": longer}),
                ("/revoke", {"user": longer}),
            ):
                answer = api.call("POST", path, client, body)
                assert [error["field"] for error in answer.json["errors"]] == ["user"]

    def test_a_letter_that_grows_when_it_is_normalised_counts_as_what_it_becomes(
        self, api: MemoryApi, client: Credentials
    ) -> None:
        assert api.issue(client, user="\u0958" * 128)["token"]
        assert api.call("POST", "/token", client, {"nodeId": NODE, "user": "\u0958" * 129}).status == 400


NO_NAME = {
    **{f"U+{code:04X}": chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))},
    "U+FFFD": "\ufffd",
}


class TestCharacters:
    @pytest.mark.parametrize("character", NO_NAME.values(), ids=NO_NAME)
    def test_no_name_holds_a_control_character_or_a_replacement_character(
        self, api: MemoryApi, client: Credentials, character: str
    ) -> None:
        api.store.calls.clear()
        token, name = "a" * 64, f"a{character}b"
        for path, body, field in (
            ("/token", {"nodeId": NODE, "user": name}, "user"),
            ("/token", {"nodeId": name}, "nodeId"),
            ("/tokens", {"tokens": [{"nodeId": NODE, "user": name}]}, "tokens[0].user"),
            ("/use", {"token": token, "user": name}, "user"),
            ("/introspect", {"token": token, "user": name}, "user"),
            ("/revoke", {"user": name}, "user"),
            ("/revoke", {"nodeId": name}, "nodeId"),
        ):
            answer = api.call("POST", path, client, body)
            assert [error["field"] for error in answer.json["errors"]] == [field]
            assert f"U+{ord(character):04X}" in answer.json["detail"]
        answer = api.call("GET", "/use", client, query={"token": token, "user": name})
        assert [error["field"] for error in answer.json["errors"]] == ["user"]
        assert api.store.calls == []

    @pytest.mark.parametrize("text", ["J%FCrgen", "%FF", "alice%80", "%ED%A0%80", "%C3", "%EF%BF%BD"])
    def test_bytes_that_are_no_utf_8_in_a_query_are_refused(
        self, api: MemoryApi, client: Credentials, text: str
    ) -> None:
        """A gateway reads them as U+FFFD: another user's name may become the same."""
        api.store.calls.clear()
        answer = api.call("GET", f"/use?token={'a' * 64}&user={text}", client)
        assert (answer.status, answer.json["errors"][0]["field"]) == (400, "user")
        assert "U+FFFD stands for bytes that were not UTF-8" in answer.json["detail"]
        answer = api.call("GET", f"/use?token={'a' * 64}&{text}=alice", client)
        assert answer.status == 400
        assert api.store.calls == []

    @pytest.mark.parametrize("metadata", [{"title": "Gr\ufffd\ufffde"}, {"\ufffd": "v"}])
    def test_metadata_does_not_bring_it_into_the_store_either(
        self, api: MemoryApi, client: Credentials, metadata: dict[str, str]
    ) -> None:
        """API Gateway reads a body in Latin-1 as one that holds U+FFFD."""
        api.store.calls.clear()
        answer = api.call("POST", "/token", client, {"nodeId": NODE, "metadata": metadata})
        assert [error["field"] for error in answer.json["errors"]] == ["metadata"]
        assert api.store.calls == []

    def test_what_is_no_control_character_may_be_part_of_a_name(self, api: MemoryApi, client: Credentials) -> None:
        names = ("a\u00a0b", "a\u2028b", "\u200f\u05d0", "👩\u200d🚀", quote("ü"), "a b", "'; --", "\ufffc", "\ufeffa")
        for name in names:
            token = api.issue(client, nodeId=name, user=name)["token"]
            assert api.use(client, token, user=name).json["nodeId"] == name
